//! A node tells of workloads that have a pod there, and of no others.

use crate::bed::{Agent, at, fleet};
use crate::figures::{api, on, service, told};
use companion::{Figure, Fleet, KEPT, LATELY, Measure, Only, Ran};
use k8s_sync::cluster::object::{Controller, Object, Pod, Resource, Uid};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

pub fn uid(n: u32) -> Uid {
    Uid::parse(&format!("{n:032x}")).unwrap()
}

/// One of shop/api.
pub fn pod(n: u32, node: &str) -> Object {
    let controller = Some(Controller { kind: "ReplicaSet".into(), name: "api-5d4c".into() });
    let (namespace, name, template_hash) = ("shop".into(), format!("api-5d4c-{node}"), Some("5d4c".into()));
    Object::Pod(Pod {
        uid: uid(n),
        namespace,
        name,
        controller,
        template_hash,
        node: Some(node.into()),
        ..Pod::default()
    })
}

/// Time goes by for those who are told.
pub struct World {
    pub fleet: Fleet,
    pub ran: Arc<Mutex<Ran>>,
    pub now: u64,
}

impl World {
    /// Half an hour after a companion that knows these pods began.
    pub fn new(mut fleet: Fleet, pods: &[Object]) -> World {
        let ran = Arc::new(Mutex::new(Ran::default()));
        pods.iter().for_each(|pod| ran.lock().put(pod));
        ran.lock().set_complete();
        fleet.set_ran(ran.clone());
        let mut world = World { fleet, ran, now: 0 };
        world.pass(LATELY);
        world
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time.as_secs();
        self.ran.lock().tick(at(self.now), Duration::ZERO);
    }

    /// Each answers so many requests a second.
    pub fn run(&mut self, agents: &mut [(&mut Agent, u64)], seconds: u64) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            for (agent, times) in agents.iter_mut() {
                agent.answers(*times, 200, 10);
                agent.run(at(self.now), &mut self.fleet);
            }
            self.fleet.tick(at(self.now));
        }
    }

    /// Requests to api in the last minute.
    fn requests(&mut self) -> u64 {
        let table = self.fleet.table(at(self.now));
        table.workloads().iter().filter(|row| row.row.workload.name == "api").map(|row| row.row.golden.requests).sum()
    }

    fn strangers(&self, node: &str) -> usize {
        let agents = self.fleet.agents(at(self.now));
        agents.iter().find(|agent| agent.node == node).map_or(0, |agent| agent.strangers)
    }

    /// What a scraper gets of a node.
    fn page(&self, node: &str) -> usize {
        let only = Only { node: Some(node.to_owned()), namespace: Some("shop".to_owned()) };
        format!("{:?}", self.fleet.rows(&only)).matches("EdgeName").count()
    }
}

#[test]
fn a_node_that_lies_about_anothers_workload_changes_nothing_and_is_named() {
    let (mut honest, mut liar) = (Agent::new("n1", 11), Agent::new("n2", 12));
    let mut world = World::new(told(), &[pod(1, "n1")]);
    world.run(&mut [(&mut honest, 10), (&mut liar, 1_000)], 120);
    let requests = world.requests();
    assert!((500..=800).contains(&requests), "{requests}");
    for answering in [api(), service("api")] {
        let figure = world.fleet.figure(at(world.now), &answering, Measure::Rate, &on(&["n1"]));
        assert!(figure.is_ok_and(|Figure { value }| (9.0..11.0).contains(&value)), "{answering:?}");
    }
    assert_eq!((world.strangers("n1"), world.page("n2")), (0, 0));
    assert!(world.strangers("n2") > 0 && world.page("n1") > 0 && world.fleet.counts().stranger > 0);
    let metrics = companion::serve::self_metrics(&world.fleet, at(world.now));
    let shown = metrics.iter().find(|metric| metric.name == "pilotfish_companion_stranger_series");
    assert_eq!(shown.map(|metric| metric.value as usize), Some(world.strangers("n2")));
    // Its series end with it, and leave nothing behind.
    world.pass(KEPT + Duration::from_secs(20));
    world.fleet.tick(at(world.now));
    assert_eq!((world.strangers("n2"), world.fleet.memory()), (0, (0, 0)));
}

#[test]
fn a_pod_that_is_heard_of_late_loses_nothing() {
    let (mut first, mut second) = (Agent::new("n1", 11), Agent::new("n2", 12));
    let mut world = World::new(told(), &[pod(1, "n1")]);
    world.run(&mut [(&mut first, 10), (&mut second, 0)], 60);
    // Its agent has met it; the API server tells of it 25 s later.
    world.run(&mut [(&mut first, 0), (&mut second, 10)], 25);
    assert!(world.strangers("n2") > 0 && world.page("n2") == 0);
    world.ran.lock().put(&pod(2, "n2"));
    world.run(&mut [(&mut first, 0), (&mut second, 10)], 35);
    assert_eq!((world.strangers("n2"), world.fleet.counts().stranger), (0, 0));
    let requests = world.requests();
    assert!((500..=800).contains(&requests) && world.page("n2") > 0, "{requests}");
}

#[test]
fn a_rollout_from_node_to_node_is_counted_whole() {
    let mut agents = [Agent::new("n1", 11), Agent::new("n2", 12), Agent::new("n3", 13)];
    let mut world = World::new(told(), &[pod(1, "n1")]);
    for round in 0..9_u32 {
        let (from, to) = (round % 3, (round + 1) % 3);
        let node = |n: u32| format!("n{}", n + 1);
        world.ran.lock().put(&pod(100 + round, &node(to)));
        let mut shares: Vec<(&mut Agent, u64)> = agents.iter_mut().zip([0, 0, 0]).collect();
        (shares[from as usize].1, shares[to as usize].1) = (5, 5);
        world.run(&mut shares, 20);
        world.ran.lock().remove(Resource::Pods, uid(if round == 0 { 1 } else { 99 + round }));
    }
    let requests = world.requests();
    assert!((500..=800).contains(&requests), "{requests}");
    assert_eq!(world.fleet.counts().stranger, 0);
}

#[test]
fn a_companion_that_has_just_begun_takes_what_it_cannot_know() {
    let mut moved = Agent::new("n1", 11);
    let ran = Arc::new(Mutex::new(Ran::default()));
    // It ran at n1 until a moment before the companion began.
    ran.lock().put(&pod(2, "n2"));
    ran.lock().set_complete();
    let mut fleet = told();
    fleet.set_ran(ran.clone());
    let mut world = World { fleet, ran, now: 0 };
    moved.answers(1_000, 200, 10);
    world.run(&mut [(&mut moved, 0)], 60);
    assert_eq!((world.strangers("n1"), world.fleet.counts().stranger), (0, 0));
    // What it had counted is shown; nobody knows when it did so.
    assert!(world.page("n1") > 0 && world.requests() == 0);
    // What it says now is judged.
    world.run(&mut [(&mut moved, 10)], 120);
    assert!(world.strangers("n1") > 0 && world.requests() == 0 && world.page("n1") == 0);
}

#[test]
fn who_is_told_of_no_pods_takes_everything() {
    let mut agent = Agent::new("n1", 11);
    let mut fleet = fleet();
    for second in 0..60 {
        agent.answers(10, 200, 10);
        agent.run(at(second), &mut fleet);
        fleet.tick(at(second));
    }
    assert!(fleet.table(at(60)).workloads().iter().any(|row| row.row.golden.requests > 300));
}
