//! Which workloads have a pod on which node, or had one in the last half hour: whose series a node can
//! tell of. Told what watches tell, and the time; keeps no texts, only their hashes.
//!
//! A series is of a stranger where its workload has pods, and none of them here. One that no pod of the
//! cluster belongs to is nobody's: a container of Docker, a static pod that the API does not know, a name
//! by DNS. And nobody is judged by what is not known well: before everything was listed, while the API
//! server is away, and for moments after that, in which the last of pods that have ended comes in.

use flow_model::WorkloadKind;
use golden_metrics::End;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use k8s_sync::cluster::object::{Job, Object, Pod, Resource, Uid};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A pod that has ended counts as long. An agent keeps an idle series for ten minutes.
pub const LATELY: Duration = Duration::from_secs(30 * 60);
/// The last that is counted of a pod that has ended comes within this: its connections end with it, and
/// two pushes later all of it is here.
const TRAIL: Duration = Duration::from_secs(30);
/// What is wrong is told after two looks of an agent, at what happened up to a minute before.
const LOOKS: Duration = Duration::from_secs(2 * 60);
/// What was true so long ago judges nobody: a pod may have begun meanwhile.
const OLD: Duration = Duration::from_secs(5);
/// Pods and Jobs that have ended and are remembered: 200 a second.
const ENDED: usize = 400_000;

/// What is known of the end at which a series was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough.
    Unjudged,
    /// It has a pod on the node, or had one.
    Here,
    /// No pod of the cluster belongs to it, or it has no name.
    Nobodys,
    /// It has pods elsewhere, or is nothing that a node could see from within.
    Stranger,
}

#[derive(Debug, PartialEq, Eq)]
struct Put {
    node: Arc<str>,
    /// What its agent may call it: its workload, and itself.
    names: [u64; 2],
}

/// Of a name on a node.
#[derive(Debug, Default)]
struct Uses {
    pods: u32,
    /// Of which `ended` tells.
    ended: u32,
}

#[derive(Debug)]
enum Past {
    Pod(Put),
    Job(Made),
}

/// A Job of a CronJob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    job: u64,
    cron_job: u64,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RanCounts {
    /// Whether series are judged.
    pub judges: bool,
    /// Pods that run.
    pub pods: u64,
    /// Pods and Jobs that ended in the last half hour.
    pub ended: u64,
    /// Of these, which there was no room for. Nobody is judged for half an hour after one.
    pub forgotten: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Ran {
    now: Duration,
    /// Since when all is known.
    since: Option<Duration>,
    is_old: bool,
    /// Something was forgotten; nobody is judged before this.
    unsure: Duration,
    pods: Map<Uid, Put>,
    nodes: Map<Arc<str>, Map<u64, Uses>>,
    /// Nodes that have a name.
    anywhere: Map<u64, u32>,
    jobs: Map<Uid, Made>,
    below: Map<u64, Map<u64, u32>>,
    ended: VecDeque<(Duration, Past)>,
    most: usize,
    forgotten: u64,
    /// Nobody outside can choose names that meet in it.
    hasher: RandomState,
}

impl Default for Ran {
    fn default() -> Ran {
        Ran::with_room(ENDED)
    }
}

impl Ran {
    /// For so many that have ended.
    #[must_use]
    pub fn with_room(most: usize) -> Ran {
        Ran {
            now: Duration::ZERO,
            since: None,
            is_old: false,
            unsure: Duration::ZERO,
            pods: Map::default(),
            nodes: Map::default(),
            anywhere: Map::default(),
            jobs: Map::default(),
            below: Map::default(),
            ended: VecDeque::new(),
            most,
            forgotten: 0,
            hasher: RandomState::new(),
        }
    }

    /// It is `now`, and what is told is as old as `age`.
    pub fn tick(&mut self, now: Duration, age: Duration) {
        self.now = self.now.max(now);
        match (age > OLD, self.is_old) {
            (true, _) => self.is_old = true,
            // What came and went meanwhile nobody has told.
            (false, true) => {
                self.is_old = false;
                self.since = self.since.map(|_| self.now);
            }
            (false, false) => {}
        }
        while let Some((at, _)) = self.ended.front()
            && self.now.saturating_sub(*at) > LATELY
        {
            self.forget();
        }
    }

    /// Everything was listed.
    pub fn set_complete(&mut self) {
        self.since.get_or_insert(self.now);
    }

    /// How much is kept.
    #[must_use]
    pub fn counts(&self) -> RanCounts {
        let (pods, ended) = (self.pods.len() as u64, self.ended.len() as u64);
        RanCounts { judges: self.is_sure(false), pods, ended, forgotten: self.forgotten }
    }

    fn hash(&self, namespace: &str, kind: WorkloadKind, name: &str) -> u64 {
        self.hasher.hash_one((namespace, kind.as_str(), name))
    }

    /// It is as it is told here.
    pub fn put(&mut self, object: &Object) {
        match object {
            Object::Pod(pod) => self.put_pod(pod),
            Object::Job(job) => self.put_job(job),
            Object::EndpointSlice(_) | Object::Service(_) | Object::Node(_) => {}
        }
    }

    fn put_pod(&mut self, pod: &Pod) {
        let Pod { uid, namespace, name, node, ended, .. } = pod;
        // One that is to be deleted runs until it is gone.
        let Some(node) = node.as_deref().filter(|_| !ended) else { return self.remove(Resource::Pods, *uid) };
        let (kind, workload) = pod.workload();
        let names = [self.hash(namespace, kind, workload), self.hash(namespace, WorkloadKind::Pod, name)];
        let node = self.nodes.get_key_value(node).map_or_else(|| node.into(), |(known, _)| Arc::clone(known));
        let put = Put { node, names };
        if self.pods.get(uid) == Some(&put) {
            return;
        }
        self.remove(Resource::Pods, *uid);
        let Ran { nodes, anywhere, .. } = self;
        let on_node = nodes.entry(put.node.clone()).or_default();
        for name in names {
            let uses = on_node.entry(name).or_insert_with(|| {
                *anywhere.entry(name).or_default() += 1;
                Uses::default()
            });
            uses.pods += 1;
        }
        self.pods.insert(*uid, put);
    }

    fn put_job(&mut self, job: &Job) {
        let Job { uid, namespace, name, cron_job } = job;
        let made = cron_job.as_ref().map(|cron_job| Made {
            job: self.hash(namespace, WorkloadKind::Job, name),
            cron_job: self.hash(namespace, WorkloadKind::CronJob, cron_job),
        });
        if self.jobs.get(uid) == made.as_ref() {
            return;
        }
        self.remove(Resource::Jobs, *uid);
        if let Some(made) = made {
            *self.below.entry(made.cron_job).or_default().entry(made.job).or_default() += 1;
            self.jobs.insert(*uid, made);
        }
    }

    /// It exists no more.
    pub fn remove(&mut self, resource: Resource, uid: Uid) {
        let past = match resource {
            Resource::Pods => self.pods.remove(&uid).map(Past::Pod),
            Resource::Jobs => self.jobs.remove(&uid).map(Past::Job),
            Resource::Services | Resource::EndpointSlices | Resource::Nodes => None,
        };
        let Some(past) = past else { return };
        if let Past::Pod(Put { node, names }) = &past
            && let Some(on_node) = self.nodes.get_mut(node)
        {
            for name in names {
                if let Some(uses) = on_node.get_mut(name) {
                    (uses.pods, uses.ended) = (uses.pods.saturating_sub(1), uses.ended + 1);
                }
            }
        }
        self.ended.push_back((self.now, past));
        if self.ended.len() > self.most {
            self.forget();
            self.forgotten += 1;
            self.unsure = self.now + LATELY;
        }
    }

    /// The one that ended first.
    fn forget(&mut self) {
        match self.ended.pop_front() {
            Some((_, Past::Pod(Put { node, names }))) => {
                let Some(on_node) = self.nodes.get_mut(&node) else { return };
                for name in names {
                    let Entry::Occupied(mut entry) = on_node.entry(name) else { continue };
                    let uses = entry.get_mut();
                    uses.ended = uses.ended.saturating_sub(1);
                    if uses.ended == 0 && uses.pods == 0 {
                        entry.remove();
                        less(&mut self.anywhere, name);
                    }
                }
                if on_node.is_empty() {
                    self.nodes.remove(&node);
                }
            }
            Some((_, Past::Job(Made { job, cron_job }))) => {
                if let Some(below) = self.below.get_mut(&cron_job) {
                    less(below, job);
                    if below.is_empty() {
                        self.below.remove(&cron_job);
                    }
                }
            }
            None => {}
        }
    }

    /// `is_first`: it is judged by all that ran of late.
    fn is_sure(&self, is_first: bool) -> bool {
        let needed = if is_first { LATELY } else { TRAIL };
        let is_known = self.since.is_some_and(|since| self.now.saturating_sub(since) >= needed);
        is_known && !self.is_old && self.now >= self.unsure
    }

    /// The node of a pod.
    #[must_use]
    pub fn node(&self, pod: Uid) -> Option<&str> {
        self.pods.get(&pod).map(|put| &*put.node)
    }

    /// Whether no such pod runs, as far as that is known.
    #[must_use]
    pub fn is_missing(&self, pod: Uid) -> bool {
        self.since.is_some() && !self.is_old && !self.pods.contains_key(&pod)
    }

    /// Whether an agent of the node may tell of what `end` did. `is_first`: nobody knows when it did so;
    /// else it was of late.
    #[must_use]
    pub fn verdict(&self, node: &str, end: &End, is_first: bool) -> Verdict {
        let End { workload, namespace, kind } = end;
        if !self.is_sure(is_first) {
            return Verdict::Unjudged;
        }
        let Some(kind) = WorkloadKind::ALL.into_iter().find(|known| known.as_str() == *kind) else {
            // Without a name.
            return if namespace.is_empty() { Verdict::Nobodys } else { Verdict::Stranger };
        };
        match kind {
            // containerd has namespaces of its own.
            WorkloadKind::Container => Verdict::Nobodys,
            WorkloadKind::Process | WorkloadKind::External | WorkloadKind::Address if namespace.is_empty() => {
                Verdict::Nobodys
            }
            WorkloadKind::Node if namespace.is_empty() && **workload == *node => Verdict::Here,
            // Nobody has packets of these on an interface.
            WorkloadKind::Service
            | WorkloadKind::Node
            | WorkloadKind::Process
            | WorkloadKind::External
            | WorkloadKind::Address => Verdict::Stranger,
            WorkloadKind::CronJob => {
                let below = self.below.get(&self.hash(namespace, kind, workload));
                self.among(node, below.into_iter().flatten().map(|(job, _)| *job))
            }
            WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::Job
            | WorkloadKind::ReplicaSet
            | WorkloadKind::Pod
            | WorkloadKind::Rollout
            | WorkloadKind::CloneSet => self.among(node, std::iter::once(self.hash(namespace, kind, workload))),
        }
    }

    /// Whether an agent of the node may tell what has been wrong with this workload, of which it says no
    /// kind, since then. What was wrong before everything was listed may be of a pod that had ended by then.
    #[must_use]
    pub fn verdict_of(&self, node: &str, namespace: &str, name: &str, since: Duration) -> Verdict {
        let is_first = self.since.is_none_or(|listed| since < listed + LOOKS);
        if !self.is_sure(is_first) {
            return Verdict::Unjudged;
        }
        let below = self.below.get(&self.hash(namespace, WorkloadKind::CronJob, name));
        let below = below.into_iter().flatten().map(|(job, _)| *job);
        let kinds = WorkloadKind::ALL.into_iter().map(|kind| self.hash(namespace, kind, name));
        self.among(node, kinds.chain(below))
    }

    fn among(&self, node: &str, names: impl Iterator<Item = u64>) -> Verdict {
        let (on_node, mut is_anywhere) = (self.nodes.get(node), false);
        for name in names {
            if on_node.is_some_and(|on_node| on_node.contains_key(&name)) {
                return Verdict::Here;
            }
            is_anywhere |= self.anywhere.contains_key(&name);
        }
        if is_anywhere { Verdict::Stranger } else { Verdict::Nobodys }
    }
}

fn less(counts: &mut Map<u64, u32>, name: u64) {
    if let Entry::Occupied(mut count) = counts.entry(name) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests;
