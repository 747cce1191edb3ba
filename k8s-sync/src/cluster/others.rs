//! Nodes and Jobs come, change and go.

use crate::cluster::claim::{Claim, HoldTarget, settle};
use crate::cluster::clock::{Moment, mono};
use crate::cluster::entry::{JobEntry, NodeEntry};
use crate::cluster::hold::{Role, Who};
use crate::cluster::object::{self, Resource, Uid};
use crate::cluster::record::{Key, distinct};
use crate::cluster::writer::Cluster;
use flow_model::WorkloadKind;
use std::sync::Arc;

const MOST_ADDRESSES: usize = 64;

fn targets(addresses: &[Key]) -> Vec<HoldTarget> {
    addresses.iter().map(|key| HoldTarget { key: *key, port: 0, role: Role::Node }).collect()
}

impl Cluster {
    pub(super) fn put_node(&mut self, node: object::Node, now: Moment) -> bool {
        let object::Node { uid, name, addresses } = node;
        let addresses = distinct(addresses.into_iter().map(Key::of), MOST_ADDRESSES).into_boxed_slice();
        let found = self.nodes.get(&uid).map(|before| before.found);
        let found = found.unwrap_or_else(|| self.clock.guess(now));
        self.put_node_entry(uid, &name, addresses, found, now)
    }

    pub(super) fn put_node_entry(
        &mut self,
        uid: Uid,
        name: &str,
        addresses: Box<[Key]>,
        found: u32,
        now: Moment,
    ) -> bool {
        let slot = self.words.node(name);
        let (node, other) = (slot.node.clone(), slot.object.filter(|other| *other != uid));
        // A name is used again: the old one is gone, whether that was told or not.
        let removed = other.is_some_and(|other| self.remove_node(other, now));
        let seen = self.list(Resource::Nodes);
        if let Some(before) = self.nodes.get_mut(&uid) {
            if Arc::ptr_eq(&before.node, &node) && before.addresses == addresses {
                before.seen = seen;
                return removed;
            }
        } else if !self.has_room(Resource::Nodes, self.limits.nodes) {
            return removed;
        }
        let before = self.nodes.remove(&uid);
        let mut keys: Vec<Key> = addresses.to_vec();
        keys.extend(before.iter().flat_map(|before| before.addresses.iter()));
        let claim = Claim {
            who: Who::Node(node.clone()),
            rank: found,
            began: None,
            first: self.is_first(Resource::Nodes),
            redate: false,
        };
        settle(&self.shared, self.limits.holds, &keys, &targets(&addresses), &claim, mono(now));
        self.words.node(name).object = Some(uid);
        self.nodes.insert(uid, NodeEntry { node, addresses, found, seen });
        self.count(Resource::Nodes, self.nodes.len());
        true
    }

    pub(super) fn remove_node(&mut self, uid: Uid, now: Moment) -> bool {
        let Some(NodeEntry { node, addresses, found, seen: _ }) = self.nodes.remove(&uid) else { return false };
        self.count(Resource::Nodes, self.nodes.len());
        let who = Who::Node(node.clone());
        let claim = Claim { who, rank: found, began: None, first: false, redate: false };
        settle(&self.shared, self.limits.holds, &addresses, &[], &claim, mono(now));
        self.words.node(&node.name).object = None;
        true
    }

    pub(super) fn put_job(&mut self, job: object::Job) -> bool {
        let object::Job { uid, namespace, name, cron_job } = job;
        match cron_job {
            Some(cron_job) => self.put_job_of(uid, &namespace, &name, &cron_job),
            None => {
                self.jobs.remove(&uid);
                self.count(Resource::Jobs, self.jobs.len());
                // One of the same name may have been a CronJob's.
                let known = self.words.find_owner(&namespace, &name, WorkloadKind::Job);
                known.is_some_and(|job| job.above.swap(None).is_some())
            }
        }
    }

    pub(super) fn put_job_of(&mut self, uid: Uid, namespace: &str, name: &str, cron_job: &str) -> bool {
        let seen = self.list(Resource::Jobs);
        let job = self.words.owner(namespace, name, WorkloadKind::Job);
        let cron_job = self.words.owner(namespace, cron_job, WorkloadKind::CronJob);
        if !self.jobs.contains_key(&uid) && !self.has_room(Resource::Jobs, self.limits.jobs) {
            return false;
        }
        let was = job.above.swap(Some(cron_job.clone()));
        let changed = was.is_none_or(|was| !Arc::ptr_eq(&was, &cron_job));
        self.jobs.insert(uid, JobEntry { job, cron_job, seen });
        self.count(Resource::Jobs, self.jobs.len());
        changed
    }

    /// Its pods, which may be there a little longer, keep the CronJob's name.
    pub(super) fn remove_job(&mut self, uid: Uid) -> bool {
        self.jobs.remove(&uid);
        self.count(Resource::Jobs, self.jobs.len());
        false
    }
}
