//! The namespace that the agent runs in: the cgroups of its containers and of the node's services, each with a slot like a namespace has one. Decides what is
//! attached to and when; `jobs` does it.

pub mod hierarchy;
mod jobs;
pub mod services;

pub use jobs::{Attached, Jobs, Why, find_hierarchy, services_of};

use super::news::Reads;
use crate::run::scan::NodeSockets;
use agent_api as api;
use flow_model::{FiveTuple, FlowSeed, Identity, Slot, Workload, WorkloadKind};
use golden_metrics::{Loss, Losses};
use k8s_sync::IdentityIndex;
use k8s_sync::cluster::object::Uid;
use services::Watch;
use shim_plugin::{LAST_SLOT, LocalName, Report};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After news of services: several start at once, and a process is in its cgroup a moment after that is made.
const GATHER: Duration = Duration::from_millis(300);
/// After the first attachment, the sockets of the node are looked at: for all that were attached until then.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Longest wait of that look for other containers to be attached, whose names the connections' other ends have.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Tries of a service that has no process or could not be attached to.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];

#[derive(Debug)]
pub struct NodeCgroups {
    enabled: bool,
    loopback: bool,
    jobs: Arc<Jobs>,
    slots: BTreeMap<Slot, Cgroup>,
    /// Slots of services by name.
    services: BTreeMap<String, Slot>,
    last: u32,
    watch: Option<Watch>,
    list_at: Option<Instant>,
    look_at: Option<Instant>,
    /// Why services are not seen.
    trouble: String,
    full: Loss,
    left_out: u64,
    dirty: bool,
}

#[derive(Debug)]
struct Cgroup {
    /// Of a service: its name and how often it was tried.
    service: Option<(String, usize)>,
    asked: Instant,
    workload: Option<Arc<Workload>>,
    state: State,
}

#[derive(Debug)]
enum State {
    Attaching,
    Attached {
        attached: Attached,
        took: Duration,
        seeded: bool,
    },
    Failed(String),
    Unobserved(String),
    /// A service that is not the node's, or has no process; with the time of the next try.
    Hidden(Option<Instant>),
}

impl NodeCgroups {
    /// `loopback`: its addresses are looked at, too.
    pub fn new(enabled: bool, loopback: bool, jobs: Jobs, losses: &Losses) -> NodeCgroups {
        NodeCgroups {
            enabled,
            loopback,
            jobs: Arc::new(jobs),
            slots: BTreeMap::new(),
            services: BTreeMap::new(),
            last: LAST_SLOT.0,
            watch: None,
            list_at: None,
            look_at: None,
            trouble: String::new(),
            full: losses.place("attach", "services_full", "services of the node that are not observed"),
            left_out: 0,
            dirty: true,
        }
    }

    /// READY was said: the node's services are looked for.
    pub fn release(&mut self, reads: &mut Reads) {
        if self.enabled {
            reads.services(self.jobs.clone(), true);
        }
    }

    /// A container that lives in the node's namespace is to be attached to by the cgroup of `pid`.
    pub fn attach(&mut self, slot: Slot, pid: u32, reads: &mut Reads) {
        self.dirty = true;
        let new = || Cgroup { service: None, asked: Instant::now(), workload: None, state: State::Attaching };
        self.slots.entry(slot).or_insert_with(new).state = State::Attaching;
        reads.attach_container(self.jobs.clone(), slot, pid);
    }

    /// True when the slot is one of ours.
    pub fn identify(&mut self, slot: Slot, name: &LocalName, identities: &mut IdentityIndex) -> bool {
        let Some(cgroup) = self.slots.get_mut(&slot) else { return false };
        cgroup.workload = Some(name.workload.clone());
        identities.set_slot(slot, Identity::Known(name.workload.clone()), Uid::parse(&name.pod_uid));
        self.dirty = true;
        true
    }

    /// What came of an attach; of a container's, with what is to be reported of it.
    pub fn attached(
        &mut self,
        slot: Slot,
        outcome: Result<Attached, Why>,
        now: Instant,
        identities: &mut IdentityIndex,
    ) -> Option<Report> {
        // Gone meanwhile: its links go, too, where that may take a while.
        let Some(cgroup) = self.slots.get_mut(&slot) else {
            if let Ok(attached) = outcome {
                tokio::task::spawn_blocking(move || drop(attached));
            }
            return None;
        };
        self.dirty = true;
        let container = cgroup.service.is_none();
        let (state, report) = match outcome {
            Ok(attached) => {
                self.look_at.get_or_insert(now + LOOK_AFTER);
                if !container {
                    let name = attached.name.as_str().into();
                    let kind = WorkloadKind::Process;
                    let workload = Arc::new(Workload { namespace: "".into(), name, kind, pod: "".into() });
                    identities.set_slot(slot, Identity::Known(workload.clone()), None);
                    cgroup.workload = Some(workload);
                }
                let took = now.saturating_duration_since(cgroup.asked);
                (State::Attached { attached, took, seeded: false }, Report::Attached { slot, mode: "cgroup" })
            }
            Err(Why::Never(reason)) => (State::Unobserved(reason.clone()), Report::NotAttachable { slot, reason }),
            Err(Why::Failed(reason)) if container => {
                (State::Failed(reason.clone()), Report::AttachFailed { slot, reason })
            }
            Err(why) => {
                let tries = cgroup.service.as_mut().map_or(AGAIN.len(), |(_, tries)| {
                    *tries += 1;
                    *tries - 1
                });
                let again = AGAIN.get(tries).filter(|_| why != Why::Elsewhere).map(|after| now + *after);
                let state = match why {
                    Why::Failed(reason) if again.is_none() => State::Failed(reason),
                    _ => State::Hidden(again),
                };
                (state, Report::NotAttachable { slot, reason: String::new() })
            }
        };
        cgroup.state = state;
        container.then_some(report)
    }

    /// The services that there are; some have come, some are gone.
    pub fn listed(
        &mut self,
        listed: Result<(Option<Watch>, BTreeSet<String>), String>,
        reads: &mut Reads,
    ) -> Vec<Slot> {
        self.dirty = true;
        let names = match listed {
            Ok((watch, names)) => {
                self.watch = watch.or(self.watch.take());
                names
            }
            Err(reason) => {
                self.trouble = reason;
                return Vec::new();
            }
        };
        let gone: Vec<String> = self.services.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let gone = gone.iter().filter_map(|name| self.services.remove(name)).collect();
        for name in names {
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
            self.services.insert(name.clone(), slot);
            let service = Some((name.clone(), 0));
            let state = State::Attaching;
            self.slots.insert(slot, Cgroup { service, asked: Instant::now(), workload: None, state });
            reads.attach_service(self.jobs.clone(), slot, name);
        }
        self.full.set_total(self.left_out);
        gone
    }

    /// To be called a few times a second. True when the sockets of the node are to be looked at.
    pub fn tick(&mut self, settled: bool, now: Instant, reads: &mut Reads) -> bool {
        if self.watch.as_ref().is_some_and(Watch::changed) {
            self.list_at.get_or_insert(now + GATHER);
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            reads.services(self.jobs.clone(), false);
        }
        for (slot, cgroup) in &mut self.slots {
            if let (State::Hidden(Some(at)), Some((name, _))) = (&cgroup.state, &cgroup.service)
                && *at <= now
            {
                reads.attach_service(self.jobs.clone(), *slot, name.clone());
                cgroup.state = State::Attaching;
            }
        }
        let due =
            self.look_at.is_some_and(|at| at <= now && (settled || now.saturating_duration_since(at) > LOOK_WITHIN));
        if due {
            self.look_at = None;
        }
        due
    }

    /// The container or service is over: true when it was one of ours. Its programs go, where that may take a while.
    pub fn gone(&mut self, slot: Slot) -> bool {
        let Some(cgroup) = self.slots.remove(&slot) else { return false };
        self.dirty = true;
        if let State::Attached { attached, .. } = cgroup.state {
            tokio::task::spawn_blocking(move || drop(attached));
        }
        true
    }

    /// Connections of a look at the node's sockets that are older than their cgroup's programs. Each cgroup has its own once.
    pub fn seeds(&mut self, found: &NodeSockets) -> Vec<FlowSeed> {
        let mut fresh: HashMap<u64, Slot> = HashMap::new();
        for (slot, cgroup) in &mut self.slots {
            if let State::Attached { attached, seeded, .. } = &mut cgroup.state
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

impl Cgroup {
    fn shown(&self, slot: Slot) -> Option<api::Cgroup> {
        let (state, reason, took, path) = match &self.state {
            State::Attaching => ("attaching", "", None, String::new()),
            State::Attached { attached, took, .. } => {
                ("attached", "", Some(*took), attached.path.display().to_string())
            }
            State::Failed(reason) => ("failed", reason.as_str(), None, String::new()),
            State::Unobserved(reason) => ("unobserved", reason.as_str(), None, String::new()),
            State::Hidden(_) => return None,
        };
        let (namespace, workload) = match (&self.workload, &self.service) {
            (Some(workload), _) => (workload.namespace.to_string(), workload.name.to_string()),
            (None, Some((name, _))) => (String::new(), name.clone()),
            (None, None) => Default::default(),
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
