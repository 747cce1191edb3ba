//! The table against a list of everything that ever happened, which is walked for each answer.

use crate::bed::{Bed, replica, service, slice, started};
use k8s_sync::cluster::object::{Pod, Resource};
use proptest::prelude::*;

const SERVICE: u32 = 1_000_000;
const SLICE: u32 = 1_000_001;
const CLUSTER_IP: &str = "172.16.0.1";
const ADDRESSES: u8 = 4;

#[derive(Clone, Debug)]
enum Act {
    /// A pod is heard of that started a while ago.
    Start {
        address: u8,
        deployment: bool,
        ago: u64,
    },
    /// Its phase is Succeeded.
    End {
        nth: usize,
    },
    Delete {
        nth: usize,
    },
    /// Something that no answer depends on, or nothing at all, changes.
    Touch {
        nth: usize,
        node: bool,
    },
    /// The Service has these pods, by their number; some may be gone, or not there yet.
    Serve {
        pods: Vec<usize>,
    },
    /// A list that lacks some and has some that were not heard of.
    List {
        lacks: Vec<usize>,
        new: Vec<(u8, bool, u64)>,
        turned: bool,
    },
    Forget,
}

fn act() -> impl Strategy<Value = Act> {
    let new = || (0..ADDRESSES, any::<bool>(), 0..30_u64);
    prop_oneof![
        6 => new().prop_map(|(address, deployment, ago)| Act::Start { address, deployment, ago }),
        1 => any::<usize>().prop_map(|nth| Act::End { nth }),
        4 => any::<usize>().prop_map(|nth| Act::Delete { nth }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(nth, node)| Act::Touch { nth, node }),
        3 => prop::collection::vec(0..40_usize, 0..4).prop_map(|pods| Act::Serve { pods }),
        2 => (prop::collection::vec(any::<usize>(), 0..3), prop::collection::vec(new(), 0..3), any::<bool>())
            .prop_map(|(lacks, new, turned)| Act::List { lacks, new, turned }),
        1 => Just(Act::Forget),
    ]
}

/// One pod, from its start until it is heard that it is over.
#[derive(Clone, Debug)]
struct Life {
    number: u32,
    address: u8,
    deployment: &'static str,
    start: u64,
    until: Option<u64>,
    /// The API has it, ended or not.
    exists: bool,
    node: bool,
}

impl Life {
    fn pod(&self) -> Pod {
        let pod = started(self.start, replica(self.number, self.deployment, &address(self.address)));
        let node = if self.node { "n1" } else { "n2" };
        Pod { ended: self.exists && self.until.is_some(), node: Some(node.to_owned()), ..pod }
    }

    fn name(&self) -> String {
        format!("Deployment {0} {0}-5d4f-x{1}", self.deployment, self.number)
    }
}

fn address(number: u8) -> String {
    format!("10.0.0.{number}")
}

#[derive(Default)]
struct Model {
    lives: Vec<Life>,
    served: Vec<u32>,
    behind: Option<&'static str>,
}

impl Model {
    fn start(&mut self, (address, deployment, ago): (u8, bool, u64), now: u64) -> Pod {
        let deployment = if deployment { "blue" } else { "green" };
        let number = self.lives.len() as u32;
        let life = Life { number, address, deployment, start: now - ago, until: None, exists: true, node: true };
        self.lives.push(life);
        self.lives[number as usize].pod()
    }

    /// One of those that exist.
    fn existing(&mut self, nth: usize) -> Option<&mut Life> {
        let count = self.lives.iter().filter(|life| life.exists).count();
        self.lives.iter_mut().filter(|life| life.exists).nth(nth.checked_rem(count)?)
    }

    fn holder(&self, address: u8, at: u64) -> String {
        let holds =
            |life: &&Life| life.address == address && life.start <= at && life.until.is_none_or(|until| at < until);
        let last = self.lives.iter().filter(holds).map(|life| life.start).max();
        let mut newest = self.lives.iter().filter(holds).filter(|life| Some(life.start) == last);
        match (newest.next(), newest.next()) {
            (None, _) => "NotFound".to_owned(),
            (Some(only), None) => only.name(),
            _ => "Ambiguous".to_owned(),
        }
    }

    /// Without endpoints what was behind it stays.
    fn settle(&mut self) {
        let lives: Vec<_> = self.served.iter().map(|number| self.lives.get(*number as usize)).collect();
        if !lives.is_empty() {
            let first = lives[0].map(|life| life.deployment);
            let agree = lives.iter().all(|life| life.is_some() && life.map(|life| life.deployment) == first);
            self.behind = first.filter(|_| agree);
        }
    }

    fn service(&self, address: u8, at: u64) -> &'static str {
        let holder = self.holder(address, at);
        let is_served =
            |life: &Life| life.address == address && life.name() == holder && self.served.contains(&life.number);
        if self.lives.iter().any(is_served) { "api" } else { "-" }
    }
}

fn act_on(bed: &mut Bed, model: &mut Model, act: Act) {
    let now = bed.now;
    match act {
        Act::Start { address, deployment, ago } => {
            bed.apply(model.start((address, deployment, ago), now));
        }
        Act::End { nth } => {
            if let Some(life) = model.existing(nth) {
                life.until.get_or_insert(now);
                bed.apply(life.pod());
            }
        }
        Act::Delete { nth } => {
            if let Some(life) = model.existing(nth) {
                life.until.get_or_insert(now);
                life.exists = false;
                bed.delete(Resource::Pods, life.number);
            }
        }
        Act::Touch { nth, node } => {
            if let Some(life) = model.existing(nth) {
                let before = bed.names.version();
                let same = life.node == node;
                life.node = node;
                bed.apply(life.pod());
                assert_eq!(bed.names.version() == before, same);
            }
        }
        Act::Serve { pods } => {
            // An address that the pod has, or will have: then it is numbered like this.
            model.served = pods.iter().map(|pod| *pod as u32).collect();
            let of = |number: &u32| model.lives.get(*number as usize).map_or(0, |life| life.address);
            let addresses: Vec<_> = model.served.iter().map(|number| address(of(number))).collect();
            let known: Vec<_> = model.served.iter().copied().zip(addresses.iter().map(String::as_str)).collect();
            // What is not there yet is named by the address that it is given below.
            bed.apply(slice(SLICE, "api", &known));
            let unknown = |number: &u32| *number as usize >= model.lives.len();
            if model.served.iter().any(unknown) {
                model.served.retain(|number| !unknown(number));
                let known: Vec<_> = known.into_iter().filter(|(number, _)| !unknown(number)).collect();
                assert_eq!(bed.who(CLUSTER_IP, 80, now), "Service api", "a pod is not known");
                bed.apply(slice(SLICE, "api", &known));
                model.behind = None;
            }
        }
        Act::List { lacks, new, turned } => {
            for nth in lacks {
                if let Some(life) = model.existing(nth) {
                    life.until.get_or_insert(now);
                    life.exists = false;
                }
            }
            for pod in new {
                model.start(pod, now);
            }
            let mut listed: Vec<Pod> = model.lives.iter().filter(|life| life.exists).map(Life::pod).collect();
            if turned {
                listed.reverse();
            }
            let count = listed.len();
            bed.list(Resource::Pods, listed);
            assert_eq!(bed.cluster.objects(Resource::Pods), count, "equal to the list");
        }
        Act::Forget => bed.cluster.forget(crate::bed::ts(now)),
    }
    model.settle();
}

proptest! {
    #[test]
    fn the_table_answers_as_the_list_of_all_that_happened(acts in prop::collection::vec((act(), 1_u64..12), 1..40)) {
        let mut bed = Bed::new();
        bed.apply(service(SERVICE, "api", CLUSTER_IP));
        let mut model = Model::default();
        for (act, pause) in acts {
            bed.now += pause;
            act_on(&mut bed, &mut model, act);
            let now = bed.now;
            for number in 0..ADDRESSES {
                for at in [now, now - 1, now - 5, now - 17, now - 31, now - 60] {
                    prop_assert_eq!(bed.who(&address(number), 80, at), model.holder(number, at), "{} at {}", number, at);
                }
                prop_assert_eq!(bed.service(&address(number), 8080, now), model.service(number, now));
            }
            let behind = model.behind.map_or("Service api".to_owned(), |name| format!("Deployment {name}"));
            prop_assert_eq!(bed.who(CLUSTER_IP, 80, now), behind);
        }
    }
}
