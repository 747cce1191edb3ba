//! Pods come, change and go.

use crate::cluster::claim::{Claim, HoldTarget, settle};
use crate::cluster::clock::{Moment, mono, seconds};
use crate::cluster::hold::{OPEN, Role, Who};
use crate::cluster::object::{self, Resource, Uid};
use crate::cluster::record::{Key, Pod, PodParts, distinct};
use crate::cluster::shared::Shared;
use crate::cluster::workload;
use crate::cluster::writer::Cluster;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A pod has one address per family; what has more is no pod.
const MOST_IPS: usize = 16;
const MOST_PORTS: usize = 256;

impl Cluster {
    pub(super) fn put_pod(&mut self, pod: object::Pod, now: Moment) -> bool {
        self.shared.leaving.see(&pod);
        self.shared.probes.see(&pod);
        let object::Pod {
            uid,
            static_uid,
            namespace,
            name,
            node,
            ips,
            host_network,
            ended,
            deleted_by: _,
            started,
            controller,
            template_hash,
            rollout_hash,
            ports,
            probes: _,
        } = pod;
        let before = self.shared.pod(uid).filter(|pod| !pod.is_gone());
        let (kind, owner) = workload::of(controller.as_ref(), template_hash.as_deref(), rollout_hash.as_deref());
        let owner = self.words.owner(&namespace, owner, kind);
        let (started, guessed) = match (started, &before) {
            (Some(started), _) => (seconds(started), false),
            (None, Some(before)) => (before.started, before.guessed),
            (None, None) => (self.clock.guess(now), true),
        };
        let node = node.map(|name| self.words.node(&name).node.clone());
        let parts = PodParts {
            uid,
            name,
            owner,
            node,
            started,
            guessed,
            ips: distinct(ips.into_iter().map(Key::of), MOST_IPS),
            // Only on the node's network they tell anything.
            ports: if host_network { distinct(ports.into_iter(), MOST_PORTS) } else { Vec::new() },
            static_uid,
            host_network,
            ended,
        };
        self.put_parts(parts, before, now)
    }

    pub(super) fn put_parts(&mut self, parts: PodParts, before: Option<Arc<Pod>>, now: Moment) -> bool {
        let list = self.list(Resource::Pods);
        let pod = Pod::new(parts, list);
        if let Some(before) = &before
            && before.is_same(&pod)
        {
            before.set_seen(list);
            return false;
        }
        if before.is_none() && !self.has_room(Resource::Pods, self.limits.pods) {
            return false;
        }
        let pod = Arc::new(pod);
        let uid = pod.uid();
        self.shared.put_pod(uid, Some(pod.clone()));
        if let Some(alias) = pod.static_uid() {
            self.shared.statics.replace(&alias, vec![uid]);
        }
        if before.is_none() {
            self.count(Resource::Pods, self.objects(Resource::Pods) + 1);
        }
        self.claim_for(&pod, before.as_deref(), now);
        let is_news = |before: &Arc<Pod>| {
            !Arc::ptr_eq(&before.owner, &pod.owner)
                || !before.ips().eq(pod.ips())
                || before.host_network != pod.host_network
        };
        if before.as_ref().is_none_or(is_news) {
            self.back_those_of(&pod, now);
        }
        true
    }

    /// Brings the addresses that `pod` holds in line with it.
    pub(super) fn claim_for(&mut self, pod: &Arc<Pod>, before: Option<&Pod>, now: Moment) -> bool {
        let mut keys: Vec<Key> = before.iter().flat_map(|before| before.ips()).collect();
        // An address beyond its first ones was given to it later: its sandbox was made anew.
        let moved =
            before.is_some_and(|before| !before.ended && before.ips().next().is_some() && !before.ips().eq(pod.ips()));
        keys.extend(pod.ips());
        let dated = !pod.guessed && !moved;
        let claim = Claim {
            who: Who::Pod(pod.clone()),
            rank: if moved { self.clock.guess(now) } else { pod.started },
            began: dated.then(|| self.clock.began(pod.started, now)),
            first: self.is_first(Resource::Pods),
            redate: !moved && before.is_some_and(|b| (b.started, b.guessed) != (pod.started, pod.guessed)),
        };
        settle(&self.shared, self.limits.holds, &keys, &targets(&self.shared, pod), &claim, mono(now))
    }

    pub(super) fn remove_pod(&mut self, uid: Uid, now: Moment) -> bool {
        let Some(pod) = self.shared.pod(uid).filter(|pod| !pod.is_gone()) else { return false };
        pod.set_gone();
        self.count(Resource::Pods, self.objects(Resource::Pods).saturating_sub(1));
        let keys: Vec<Key> = pod.ips().collect();
        let who = Who::Pod(pod.clone());
        let claim = Claim { who, rank: pod.started, began: None, first: false, redate: false };
        settle(&self.shared, self.limits.holds, &keys, &[], &claim, mono(now));
        self.gone_pods.push_back((mono(now), pod));
        // The past may take half as much room as the present.
        if self.gone_pods.len() > self.limits.pods / 2 {
            self.shared.stats.holds_evicted.fetch_add(1, Ordering::Relaxed);
            self.forget_oldest();
        }
        true
    }

    /// Forgets the pod that has been gone for longest.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some((_, pod)) = self.gone_pods.pop_front() else { return false };
        // It came back under its uid.
        let is_there = self.shared.pod(pod.uid()).is_some_and(|known| Arc::ptr_eq(&known, &pod));
        if is_there {
            let uid = pod.uid();
            self.shared.put_pod(uid, None);
            if let Some(alias) = pod.static_uid() {
                let of_others = |pods: &[Uid]| pods.iter().filter(|pod| **pod != uid).copied().collect();
                self.shared.statics.replace(&alias, self.shared.statics.read(&alias, of_others));
            }
        }
        is_there
    }
}

/// Where the pod can be reached, by itself: its addresses, or on the node's network the ports that
/// it declares and those under which a Service lists it.
fn targets(shared: &Shared, pod: &Pod) -> Vec<HoldTarget> {
    if pod.ended {
        return Vec::new();
    }
    if !pod.host_network {
        return pod.ips().map(|key| HoldTarget { key, port: 0, role: Role::Pod }).collect();
    }
    let mut targets = Vec::new();
    for key in pod.ips() {
        let listed: Vec<u16> = shared.endpoints.read(&key, |rows| {
            let of_pod = rows.iter().filter(|row| row.until == OPEN && row.pod == pod.fold());
            of_pod.flat_map(|row| row.slice.ports.iter().copied()).collect()
        });
        let ports = distinct(pod.ports().iter().copied().chain(listed), MOST_PORTS);
        targets.extend(ports.into_iter().map(|port| HoldTarget { key, port, role: Role::HostPort }));
    }
    targets
}
