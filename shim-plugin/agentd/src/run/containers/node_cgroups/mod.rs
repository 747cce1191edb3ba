//! The namespace that the agent runs in: the cgroups of its containers and of the node's services,
//! each with a slot like a namespace has one. Decides what is attached to and when, and keeps
//! trying; `jobs` does it. Pure but for the one look at inotify in `tick`.

mod endings;
pub mod hierarchy;
mod jobs;
pub mod services;

pub use jobs::{Attached, Job, Jobs, LinksOf, Rest, Why, find_hierarchy, let_go, services_of};

use crate::run::scan::NodeSockets;
use agent_api as api;
use capture_engine::attach::Retries;
use endings::Endings;
use flow_model::{FiveTuple, FlowSeed, Identity, Slot, Workload, WorkloadKind};
use golden_metrics::{Loss, Losses};
use k8s_sync::IdentityIndex;
use k8s_sync::cluster::object::Uid;
use services::Watch;
use shim_plugin::{LAST_SLOT, LocalName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After news of services: several start at once, and a process is in its cgroup a moment after that is made.
const GATHER: Duration = Duration::from_millis(300);
/// After the first attachment, the sockets of the node are looked at: for all that were attached until then.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Longest wait of that look for other containers to be attached, whose names the connections' other ends have.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether our programs are still where they were put, as for interfaces.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Tries of a service that has no process or could not be attached to. A container's have no end.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

#[derive(Debug)]
pub struct NodeCgroups {
    enabled: bool,
    loopback: bool,
    slots: BTreeMap<Slot, Cgroup>,
    /// Slots of services by name, and the kernel's number of each one's cgroup.
    services: BTreeMap<String, (Slot, u64)>,
    last: u32,
    endings: Endings,
    watch: Option<Watch>,
    list_at: Option<Instant>,
    look_at: Option<Instant>,
    /// Why services are not seen.
    trouble: String,
    full: Loss,
    left_out: u64,
    /// When the links were looked at last, and how often somebody had taken some off.
    looked_at: Option<Instant>,
    removed: Loss,
    dirty: bool,
}

#[derive(Debug)]
struct Cgroup {
    whose: Whose,
    asked: Instant,
    workload: Option<Arc<Workload>>,
    state: CgroupState,
}

/// Whose it is, and how often it was tried.
#[derive(Debug)]
enum Whose {
    Container { pid: u32, retries: Retries },
    Service { name: String, tries: usize },
}

#[derive(Debug)]
enum CgroupState {
    Attaching,
    Attached {
        attached: Attached,
        took: Duration,
        seeded: bool,
    },
    /// With the time of the next try; none for a service that was tried enough.
    Failed(String, Option<Instant>),
    Unobserved(String),
    /// A service that is not the node's, or has no process; with the time of the next try.
    Hidden(Option<Instant>),
}

/// What became of a new list of the node's services.
#[derive(Debug, Default)]
pub struct Listed {
    pub gone: Vec<Slot>,
    pub jobs: Vec<Job>,
}

/// What time has brought.
#[derive(Debug)]
pub struct Due {
    pub jobs: Vec<Job>,
    /// The sockets of the node are to be looked at.
    pub look: bool,
    /// To be asked whether they are in place: [`NodeCgroups::taken_off`] wants to know which are not.
    pub links: Vec<LinksOf>,
    /// The same of those that are over: [`NodeCgroups::looked`] wants to know what is left of each.
    pub endings: Vec<LinksOf>,
}

/// What is over.
#[derive(Debug)]
pub enum Over {
    /// Its sockets may have something to say yet. It comes back later.
    Waits,
    /// To be settled, with its programs if it has any; to let go of them may take a while.
    Now(Option<Attached>),
}

impl NodeCgroups {
    /// `loopback`: its addresses are looked at, too.
    pub fn new(enabled: bool, loopback: bool, losses: &Losses) -> NodeCgroups {
        NodeCgroups {
            enabled,
            loopback,
            slots: BTreeMap::new(),
            services: BTreeMap::new(),
            last: LAST_SLOT.0,
            endings: Endings::default(),
            watch: None,
            list_at: None,
            look_at: None,
            trouble: String::new(),
            full: losses.place("attach", "services_full", "services of the node that are not observed"),
            left_out: 0,
            looked_at: None,
            removed: losses.place(
                "attach",
                "cgroup_removed",
                "times that somebody had taken our programs off a cgroup",
            ),
            dirty: true,
        }
    }

    /// READY was said: the node's services are looked for.
    pub fn release(&self) -> Option<Job> {
        self.enabled.then_some(Job::List { watch: true })
    }

    /// A container that lives in the node's namespace is to be attached to by the cgroup of `pid`.
    pub fn attach(&mut self, slot: Slot, pid: u32, now: Instant) -> Job {
        self.dirty = true;
        let whose = Whose::Container { pid, retries: Retries::default() };
        self.slots.insert(slot, Cgroup { whose, asked: now, workload: None, state: CgroupState::Attaching });
        Job::Container { slot, pid }
    }

    /// True when the slot is one of ours.
    pub fn identify(&mut self, slot: Slot, name: &LocalName, identities: &mut IdentityIndex) -> bool {
        let Some(cgroup) = self.slots.get_mut(&slot) else { return false };
        cgroup.workload = Some(name.workload.clone());
        identities.set_slot(slot, Identity::Known(name.workload.clone()), Uid::parse(&name.pod_uid));
        self.dirty = true;
        true
    }

    /// What came of an attach. Gives back what nobody waits for any more; to let go of it may take
    /// a while.
    #[must_use]
    pub fn attached(
        &mut self,
        slot: Slot,
        outcome: Result<Attached, Why>,
        now: Instant,
        identities: &mut IdentityIndex,
    ) -> Option<Attached> {
        let Some(cgroup) = self.slots.get_mut(&slot) else { return outcome.ok() };
        self.dirty = true;
        cgroup.state = match (outcome, &mut cgroup.whose) {
            (Ok(attached), whose) => {
                self.look_at.get_or_insert(now + LOOK_AFTER);
                if let Whose::Service { .. } = whose {
                    let name = attached.name.as_str().into();
                    let kind = WorkloadKind::Process;
                    let workload = Arc::new(Workload { namespace: "".into(), name, kind, pod: "".into() });
                    identities.set_slot(slot, Identity::Known(workload.clone()), None);
                    cgroup.workload = Some(workload);
                }
                let took = now.saturating_duration_since(cgroup.asked);
                CgroupState::Attached { attached, took, seeded: false }
            }
            (Err(Why::Never(reason)), _) => CgroupState::Unobserved(reason),
            (Err(Why::Failed(reason)), Whose::Container { retries, .. }) => {
                CgroupState::Failed(reason, Some(now + retries.failed()))
            }
            // Said of services only.
            (Err(Why::Empty | Why::Elsewhere), Whose::Container { .. }) => CgroupState::Hidden(None),
            (Err(why), Whose::Service { tries, .. }) => {
                let again = AGAIN.get(*tries).filter(|_| why != Why::Elsewhere).map(|after| now + *after);
                *tries += 1;
                match why {
                    Why::Failed(reason) if again.is_none() => CgroupState::Failed(reason, None),
                    _ => CgroupState::Hidden(again),
                }
            }
        };
        None
    }

    /// The services that there are; some have come, some are gone, some have begun anew.
    pub fn listed(&mut self, listed: Result<(Option<Watch>, BTreeMap<String, u64>), String>, now: Instant) -> Listed {
        self.dirty = true;
        let there = match listed {
            Ok((watch, there)) => {
                self.watch = watch.or(self.watch.take());
                there
            }
            Err(reason) => {
                self.trouble = reason;
                return Listed::default();
            }
        };
        let gone = self.services.extract_if(.., |name, (_, cgroup)| there.get(name) != Some(cgroup));
        let gone = gone.map(|(_, (slot, _))| slot).collect();
        let mut jobs = Vec::new();
        for (name, cgroup) in there {
            if self.services.contains_key(&name) {
                continue;
            }
            let free = self.last.checked_add(1).filter(|next| *next < u32::MAX);
            let (true, Some(next)) = (self.services.len() < services::MOST, free) else {
                self.left_out += 1;
                continue;
            };
            self.last = next;
            let slot = Slot(next);
            self.services.insert(name.clone(), (slot, cgroup));
            let whose = Whose::Service { name: name.clone(), tries: 0 };
            self.slots.insert(slot, Cgroup { whose, asked: now, workload: None, state: CgroupState::Attaching });
            jobs.push(Job::Service { slot, name });
        }
        self.full.set_total(self.left_out);
        Listed { gone, jobs }
    }

    /// To be called a few times a second; `settled` while no other container waits for its attach.
    pub fn tick(&mut self, settled: bool, now: Instant) -> Due {
        let mut jobs = Vec::new();
        if self.watch.as_ref().is_some_and(Watch::changed) {
            self.list_at.get_or_insert(now + GATHER);
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            jobs.push(Job::List { watch: false });
        }
        for (slot, cgroup) in &mut self.slots {
            if let CgroupState::Failed(_, Some(at)) | CgroupState::Hidden(Some(at)) = cgroup.state
                && at <= now
            {
                jobs.push(cgroup.whose.job(*slot));
                cgroup.state = CgroupState::Attaching;
                self.dirty = true;
            }
        }
        let look =
            self.look_at.is_some_and(|at| at <= now && (settled || now.saturating_duration_since(at) > LOOK_WITHIN));
        if look {
            self.look_at = None;
        }
        Due { jobs, look, links: self.links(now), endings: self.endings.due() }
    }

    /// All of them, when they were not looked at for long.
    fn links(&mut self, now: Instant) -> Vec<LinksOf> {
        if now.saturating_duration_since(*self.looked_at.get_or_insert(now)) < LOOK_AGAIN {
            return Vec::new();
        }
        self.looked_at = Some(now);
        let of = |(slot, cgroup): (&Slot, &Cgroup)| match &cgroup.state {
            CgroupState::Attached { attached, .. } => Some((*slot, Arc::clone(&attached.links))),
            _ => None,
        };
        self.slots.iter().filter_map(of).collect()
    }

    /// Somebody has taken our programs off these cgroups: they are attached to again at once. What
    /// passed meanwhile nobody knows. Gives back what is left of them, as above.
    #[must_use]
    pub fn taken_off(&mut self, off: Vec<LinksOf>, now: Instant) -> Vec<Attached> {
        let mut left = Vec::new();
        for (slot, links) in off {
            let Some(cgroup) = self.slots.get_mut(&slot) else { continue };
            if matches!(&cgroup.state, CgroupState::Attached { attached, .. } if Arc::ptr_eq(&attached.links, &links)) {
                let failed = CgroupState::Failed("somebody took our programs off its cgroup".to_owned(), Some(now));
                if let CgroupState::Attached { attached, .. } = std::mem::replace(&mut cgroup.state, failed) {
                    left.push(attached);
                }
                self.removed.add(1);
                self.dirty = true;
            }
        }
        left
    }

    /// The container or service is over, or not to be observed any more (then it has not `ended`):
    /// some when it was one of ours.
    #[must_use]
    pub fn gone(&mut self, slot: Slot, ended: bool, now: Instant) -> Option<Over> {
        let cgroup = self.slots.remove(&slot)?;
        self.dirty = true;
        Some(match cgroup.state {
            CgroupState::Attached { attached, .. } if ended => match self.endings.add(slot, attached, now) {
                None => Over::Waits,
                refused => Over::Now(refused),
            },
            CgroupState::Attached { attached, .. } => Over::Now(Some(attached)),
            _ => Over::Now(None),
        })
    }

    /// What is left of those that are over; gives back those that are to be settled now.
    #[must_use]
    pub fn looked(&mut self, rests: &[(Slot, Rest)], now: Instant) -> Vec<(Slot, Attached)> {
        self.endings.looked(rests, now)
    }

    /// Those that were over in a cgroup that somebody else has now.
    #[must_use]
    pub fn pass_on(&mut self, cgroup: u64) -> Vec<(Slot, Attached)> {
        self.endings.pass_on(cgroup)
    }

    /// Whose sockets were not done in time, and those that found no room to wait.
    pub fn ended(&self) -> [u64; 2] {
        self.endings.counts()
    }

    /// Connections of a look at the node's sockets that are older than their cgroup's programs.
    /// Each cgroup has its own once.
    pub fn seeds(&mut self, found: &NodeSockets) -> Vec<FlowSeed> {
        let mut fresh: HashMap<u64, Slot> = HashMap::new();
        for (slot, cgroup) in &mut self.slots {
            if let CgroupState::Attached { attached, seeded, .. } = &mut cgroup.state
                && !*seeded
                && attached.at < found.at
            {
                *seeded = true;
                fresh.insert(attached.links.id(), *slot);
            }
        }
        if fresh.is_empty() {
            return Vec::new();
        }
        let owners: HashMap<FiveTuple, Slot> =
            found.sockets.iter().filter_map(|socket| Some((socket.tuple, *fresh.get(&socket.cgroup_id)?))).collect();
        let inside = |tuple: &FiveTuple| tuple.local.ip.is_loopback() || tuple.remote.ip.is_loopback();
        let mut seeds = netns_scanner::seeds(Slot(0), &found.sockets);
        seeds.retain_mut(|seed| match owners.get(&seed.tuple) {
            Some(slot) if self.loopback || !inside(&seed.tuple) => {
                seed.slot = *slot;
                true
            }
            _ => false,
        });
        seeds
    }

    /// For the status, when it changed.
    pub fn shown(&mut self) -> Option<api::Node> {
        std::mem::take(&mut self.dirty).then(|| api::Node {
            observed: self.enabled,
            detail: if self.enabled { self.trouble.clone() } else { "attach.node is false".to_owned() },
            cgroups: self.slots.iter().filter_map(|(slot, cgroup)| cgroup.shown(*slot)).collect(),
        })
    }
}

impl Whose {
    fn job(&self, slot: Slot) -> Job {
        match self {
            Whose::Container { pid, .. } => Job::Container { slot, pid: *pid },
            Whose::Service { name, .. } => Job::Service { slot, name: name.clone() },
        }
    }
}

impl Cgroup {
    fn shown(&self, slot: Slot) -> Option<api::Cgroup> {
        let (state, reason, took, path) = match &self.state {
            CgroupState::Attaching => ("attaching", "", None, String::new()),
            CgroupState::Attached { attached, took, .. } => {
                ("attached", "", Some(*took), attached.path.display().to_string())
            }
            CgroupState::Failed(reason, _) => ("failed", reason.as_str(), None, String::new()),
            CgroupState::Unobserved(reason) => ("unobserved", reason.as_str(), None, String::new()),
            CgroupState::Hidden(_) => return None,
        };
        let (namespace, workload) = match (&self.workload, &self.whose) {
            (Some(workload), _) => (workload.namespace.to_string(), workload.name.to_string()),
            (None, Whose::Service { name, .. }) => (String::new(), name.clone()),
            (None, Whose::Container { .. }) => Default::default(),
        };
        Some(api::Cgroup {
            slot: slot.0,
            path,
            state: state.to_owned(),
            reason: reason.to_owned(),
            namespace,
            workload,
            attach_ms: took.map(|took| took.as_secs_f64() * 1e3),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_sync::Limits;

    const SLOT: Slot = Slot::FIRST_OF_NODE;

    struct Story {
        node: NodeCgroups,
        identities: IdentityIndex,
        now: Instant,
    }

    impl Story {
        fn new() -> Story {
            let node = NodeCgroups::new(true, false, &Losses::default());
            Story { node, identities: IdentityIndex::new(Limits::default()), now: Instant::now() }
        }

        fn fails(&mut self, slot: Slot, why: Why) {
            assert!(self.node.attached(slot, Err(why), self.now, &mut self.identities).is_none());
        }

        /// Seconds until it is tried again.
        fn waits(&mut self) -> Option<u64> {
            for second in 1..=120 {
                self.now += Duration::from_secs(1);
                if !self.node.tick(true, self.now).jobs.is_empty() {
                    return Some(second);
                }
            }
            None
        }

        fn shown(&mut self) -> String {
            let shown = self.node.shown().expect("it changed").cgroups;
            shown.iter().map(|cgroup| format!("{} {}", cgroup.state, cgroup.reason)).collect()
        }
    }

    #[test]
    fn a_cgroup_of_a_container_that_failed_is_tried_again_after_growing_waits_and_says_why() {
        let mut story = Story::new();
        assert_eq!(story.node.attach(SLOT, 42, story.now), Job::Container { slot: SLOT, pid: 42 });
        let mut waits = Vec::new();
        for _ in 0..8 {
            story.fails(SLOT, Why::Failed("no memory".to_owned()));
            assert_eq!(story.shown(), "failed no memory");
            waits.extend(story.waits());
            assert_eq!(story.shown(), "attaching ");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_container_without_a_cgroup_of_its_own_is_not_tried_again() {
        let mut story = Story::new();
        let _ = story.node.attach(SLOT, 42, story.now);
        story.fails(SLOT, Why::Never("it is in the root".to_owned()));
        assert_eq!((story.waits(), story.shown()), (None, "unobserved it is in the root".to_owned()));
    }

    #[test]
    fn a_container_that_ends_while_its_cgroup_waits_for_another_try_is_forgotten_at_once() {
        let mut story = Story::new();
        let _ = story.node.attach(SLOT, 42, story.now);
        story.fails(SLOT, Why::Failed("no memory".to_owned()));
        let mut gone = || story.node.gone(SLOT, true, story.now);
        assert!(matches!(gone(), Some(Over::Now(None))) && gone().is_none());
        assert_eq!((story.waits(), story.shown()), (None, String::new()));
    }

    #[test]
    fn a_service_that_cannot_be_attached_to_is_given_up_after_three_more_tries() {
        let mut story = Story::new();
        let listed = story.node.listed(Ok((None, BTreeMap::from([("ssh".to_owned(), 7)]))), story.now);
        let [Job::Service { slot, .. }] = &listed.jobs[..] else { panic!("{listed:?}") };
        let mut waits = Vec::new();
        for _ in 0..4 {
            story.fails(*slot, Why::Failed("no memory".to_owned()));
            waits.extend(story.waits());
        }
        assert_eq!((waits, story.shown()), (vec![1, 10, 60], "failed no memory".to_owned()));
        let listed = story.node.listed(Ok((None, BTreeMap::new())), story.now);
        assert_eq!(listed.gone, [*slot]);
    }

    #[derive(Debug)]
    struct On;

    use jobs::Links;

    impl Links for On {
        fn id(&self) -> u64 {
            7
        }

        fn in_place(&self) -> bool {
            false
        }

        fn rest(&self) -> Rest {
            Rest::Nothing
        }
    }

    #[test]
    fn programs_that_somebody_takes_off_a_cgroup_are_looked_for_and_put_back() {
        let mut story = Story::new();
        let attached = || {
            let at = flow_model::Ts(1);
            Ok(Attached { links: Arc::new(On), path: "/a/cgroup".into(), name: String::new(), at })
        };
        assert!(story.node.tick(true, story.now).links.is_empty());
        let _ = story.node.attach(SLOT, 42, story.now);
        assert!(story.node.attached(SLOT, attached(), story.now, &mut story.identities).is_none());
        let mut looks = Vec::new();
        for second in 1..=60 {
            story.now += Duration::from_secs(1);
            looks.extend((!story.node.tick(true, story.now).links.is_empty()).then_some(second));
        }
        assert_eq!((looks, story.shown()), (vec![30, 60], "attached ".to_owned()));
        story.now += LOOK_AGAIN;
        let off = story.node.tick(true, story.now).links;
        assert_eq!(story.node.taken_off(off.clone(), story.now).len(), 1);
        assert_eq!(story.shown(), "failed somebody took our programs off its cgroup");
        assert_eq!(story.node.taken_off(off.clone(), story.now).len(), 0, "that is known");
        let Due { jobs, links, .. } = story.node.tick(true, story.now);
        assert_eq!((jobs, links.len()), (vec![Job::Container { slot: SLOT, pid: 42 }], 0));
        assert!(story.node.attached(SLOT, attached(), story.now, &mut story.identities).is_none());
        assert_eq!(story.node.taken_off(off, story.now).len(), 0, "that was of the links before");
        assert_eq!(story.shown(), "attached ");
    }

    #[test]
    fn a_service_that_restarts_between_two_lists_is_attached_to_anew() {
        let mut story = Story::new();
        let mut list = |cgroup| {
            let there = BTreeMap::from([("ssh".to_owned(), cgroup), ("cron".to_owned(), 1)]);
            let Listed { gone, jobs } = story.node.listed(Ok((None, there)), story.now);
            (gone.len(), jobs.len())
        };
        assert_eq!([list(7), list(7), list(8), list(8)], [(0, 2), (0, 0), (1, 1), (0, 0)]);
    }
}
