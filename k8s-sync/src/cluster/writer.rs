//! The writing side: one task feeds it with what the watches tell, in their order.

use crate::cluster::clock::{Clock, Moment, nanos};
use crate::cluster::entry::{JobEntry, NodeEntry, ServiceEntry, SliceEntry};
use crate::cluster::intern::Interns;
use crate::cluster::names::ClusterNames;
use crate::cluster::object::{Change, Object, Resource, Uid};
use crate::cluster::record::{At, Pod};
use crate::cluster::shared::Shared;
use crate::cluster::standing::Standing;
use crate::metrics::TableMetric;
use flow_model::Ts;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bounds of the table. What does not fit is refused and counted; what it would have named stays unknown.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pods that exist; those that are gone are kept for `keep` besides.
    pub pods: usize,
    /// Services of all types, headless ones and ExternalName among them.
    pub services: usize,
    /// EndpointSlices; a Service has one for each 100 endpoints and address family.
    pub slices: usize,
    /// Nodes, ready or not.
    pub nodes: usize,
    /// Only those of CronJobs count.
    pub jobs: usize,
    /// Addresses in all EndpointSlices.
    pub endpoints: usize,
    /// Spans of time in which somebody holds an address or a port, those that are over but not forgotten among them.
    pub holds: usize,
    /// How long it is remembered who held an address. Longer than the longest that an observation takes to be reported.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // The largest cluster that Kubernetes supports has 150,000 pods, 10,000 Services and 5,000 nodes.
        Limits {
            pods: 200_000,
            services: 20_000,
            slices: 50_000,
            nodes: 10_000,
            jobs: 50_000,
            endpoints: 400_000,
            holds: 600_000,
            keep: Duration::from_secs(10 * 60),
        }
    }
}

/// The lists of one resource.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lists {
    /// Number of the one that began last; objects carry that of the last one that had them.
    pub(super) current: u32,
    open: bool,
    ended: bool,
}

/// The one writer of the table. Feed it with what the watches tell; it never reads a clock and never waits.
///
/// It may be told of a part: with the pods of one node only, peers elsewhere have no name here, and
/// a Service with endpoints elsewhere is not resolved to a workload. Its rules, and why they are
/// so, are in `docs/decisions/0009-the-clusters-table.md`.
#[derive(Debug)]
pub struct Cluster {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) words: Interns,
    pub(super) services: HashMap<Uid, ServiceEntry, RandomState>,
    pub(super) slices: HashMap<Uid, SliceEntry, RandomState>,
    pub(super) nodes: HashMap<Uid, NodeEntry, RandomState>,
    pub(super) jobs: HashMap<Uid, JobEntry, RandomState>,
    /// Pods that exist no more, until they are forgotten, by the time of their end.
    pub(super) gone_pods: VecDeque<(At, Arc<Pod>)>,
    lists: [Lists; 5],
    /// It began with a snapshot.
    pub(super) loaded: bool,
}

impl Cluster {
    /// Empty: it knows nothing until the first lists. `load` makes one of a snapshot.
    #[must_use]
    pub fn new(limits: Limits) -> Cluster {
        Cluster {
            shared: Arc::new(Shared::new(limits.pods)),
            limits,
            clock: Clock::new(limits.keep),
            words: Interns::default(),
            services: HashMap::default(),
            slices: HashMap::default(),
            nodes: HashMap::default(),
            jobs: HashMap::default(),
            gone_pods: VecDeque::new(),
            lists: Default::default(),
            loaded: false,
        }
    }

    /// Of pods of this node it is kept by when they are to be gone, and what the kubelet asks them for.
    /// Once, before anything is applied.
    pub fn follow_node(&self, node: &str) {
        self.shared.leaving.set_node(node);
        self.shared.probes.set_node(node);
    }

    /// Takes in what a watch told at `now`. Objects may come in any order, and more than once.
    pub fn apply(&mut self, change: Change, now: Moment) {
        self.clock.note(now);
        match change {
            Change::ListBegun(resource) => {
                let lists = &mut self.lists[resource as usize];
                // The last number is that of what is gone.
                lists.current = (lists.current + 1) % u32::MAX;
                lists.open = true;
            }
            Change::Listed(object) | Change::Applied(object) => self.put(object, now),
            Change::ListEnded(resource) => self.list_ended(resource, now),
            Change::Deleted(resource, uid) => {
                if self.remove(resource, uid, now) {
                    self.shared.changed();
                }
            }
        }
    }

    fn put(&mut self, object: Object, now: Moment) {
        let changed = match object {
            Object::Pod(pod) => self.put_pod(pod, now),
            Object::Service(service) => self.put_service(service, now),
            Object::EndpointSlice(slice) => self.put_slice(slice, now),
            Object::Node(node) => self.put_node(node, now),
            Object::Job(job) => self.put_job(job),
        };
        if changed {
            self.shared.changed();
        }
    }

    fn remove(&mut self, resource: Resource, uid: Uid, now: Moment) -> bool {
        match resource {
            Resource::Pods => self.remove_pod(uid, now),
            Resource::Services => self.remove_service(uid, now),
            Resource::EndpointSlices => self.remove_slice(uid, now),
            Resource::Nodes => self.remove_node(uid, now),
            Resource::Jobs => self.remove_job(uid),
        }
    }

    fn list_ended(&mut self, resource: Resource, now: Moment) {
        let was_ready = self.is_ready();
        let lists = &mut self.lists[resource as usize];
        let (list, open) = (lists.current, lists.open);
        (lists.open, lists.ended) = (false, true);
        self.shared.set_stale(resource, false);
        let mut changed = false;
        if open {
            for uid in self.not_seen_in(resource, list) {
                changed |= self.remove(resource, uid, now);
            }
        }
        if !was_ready && self.is_ready() {
            changed |= self.back_all(now);
        }
        if changed {
            self.shared.changed();
        }
    }

    fn not_seen_in(&self, resource: Resource, list: u32) -> Vec<Uid> {
        let mut unseen = Vec::new();
        match resource {
            Resource::Pods => self.shared.each_pod(|pod| {
                if pod.seen() != list && !pod.is_gone() {
                    unseen.push(pod.uid());
                }
            }),
            Resource::Services => {
                unseen.extend(self.services.iter().filter(|(_, e)| e.seen != list).map(|(uid, _)| uid))
            }
            Resource::EndpointSlices => {
                unseen.extend(self.slices.iter().filter(|(_, e)| e.seen != list).map(|(uid, _)| uid));
            }
            Resource::Nodes => unseen.extend(self.nodes.iter().filter(|(_, e)| e.seen != list).map(|(uid, _)| uid)),
            Resource::Jobs => unseen.extend(self.jobs.iter().filter(|(_, e)| e.seen != list).map(|(uid, _)| uid)),
        }
        unseen
    }

    pub(super) fn list(&self, resource: Resource) -> u32 {
        self.lists[resource as usize].current
    }

    /// Nothing is known of the time before this list.
    pub(super) fn is_first(&self, resource: Resource) -> bool {
        !self.loaded && !self.lists[resource as usize].ended
    }

    /// Pods and slices are complete: only then it can be said that all endpoints of a Service are of one workload.
    pub(super) fn is_ready(&self) -> bool {
        let ended = |resource: Resource| self.lists[resource as usize].ended;
        self.loaded || (ended(Resource::Pods) && ended(Resource::EndpointSlices))
    }

    /// Counts `resource`'s objects as `now`; tells whether there is room for another.
    pub(super) fn has_room(&self, resource: Resource, most: usize) -> bool {
        let stats = &self.shared.stats;
        let has_room = stats.objects[resource as usize].load(Ordering::Relaxed) < most as u64;
        if !has_room {
            stats.refused[resource as usize].fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    pub(super) fn count(&self, resource: Resource, objects: usize) {
        self.shared.stats.objects[resource as usize].store(objects as u64, Ordering::Relaxed);
    }

    /// Forgets what ended longer than `Limits::keep` ago. Call it every minute or so.
    pub fn forget(&mut self, now: Ts) {
        let now = At::try_from(now.0).unwrap_or(At::MAX);
        let before = now.saturating_sub(nanos(self.limits.keep));
        let mut changed = false;
        while self.gone_pods.front().is_some_and(|(gone, _)| *gone < before) {
            changed |= self.forget_oldest();
        }
        let stats = &self.shared.stats;
        let holds = self.shared.holds.drop_items(|hold| hold.until < before);
        stats.holds.fetch_sub(holds as u64, Ordering::Relaxed);
        let endpoints = self.shared.endpoints.drop_items(|row| row.until < before);
        stats.endpoints.fetch_sub(endpoints as u64, Ordering::Relaxed);
        self.words.tidy();
        stats.workloads.store(self.words.owners() as u64, Ordering::Relaxed);
        if changed || holds + endpoints > 0 {
            self.shared.changed();
        }
        self.shrink();
    }

    /// Gives back what a much larger past took.
    fn shrink(&mut self) {
        let is_roomy = |len: usize, capacity: usize| capacity > 64 + 4 * len;
        macro_rules! shrink {
            ($($table:ident)*) => {
                $(if is_roomy(self.$table.len(), self.$table.capacity()) {
                    self.$table.shrink_to_fit();
                })*
            };
        }
        shrink!(services slices nodes jobs gone_pods);
    }

    /// Says how the API stands. The watches do so themselves where they feed the table.
    pub fn stand(&mut self, standing: Standing) {
        self.names().stand(standing);
    }

    /// A reader that follows the table; it stays valid when the writer is gone.
    #[must_use]
    pub fn names(&self) -> ClusterNames {
        ClusterNames { shared: self.shared.clone() }
    }

    /// As `ClusterNames::metrics`.
    #[must_use]
    pub fn metrics(&self) -> Vec<TableMetric> {
        self.names().metrics()
    }

    /// How many of them are in the table.
    #[must_use]
    pub fn objects(&self, resource: Resource) -> usize {
        self.names().objects(resource)
    }
}
