//! Services come, change and go.

use crate::cluster::claim::{Claim, HoldTarget, settle};
use crate::cluster::clock::{Moment, mono, seconds};
use crate::cluster::entry::ServiceEntry;
use crate::cluster::hold::{Role, Who};
use crate::cluster::object::{self, Resource, Uid};
use crate::cluster::record::{Key, Service, distinct};
use crate::cluster::shared::{Called, hash_of_external, hash_of_service};
use crate::cluster::writer::Cluster;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const MOST_TARGETS: usize = 1_024;

impl Cluster {
    pub(super) fn put_service(&mut self, service: object::Service, now: Moment) -> bool {
        let object::Service {
            uid,
            namespace,
            name,
            cluster_ips,
            external_ips,
            ports,
            node_ports,
            external_name,
            created,
        } = service;
        let mut targets: Vec<HoldTarget> = Vec::new();
        targets.extend(cluster_ips.into_iter().map(|ip| HoldTarget {
            key: Key::of(ip),
            port: 0,
            role: Role::ClusterIp,
        }));
        for key in external_ips.into_iter().map(Key::of) {
            let role = Role::ExternalIp;
            match ports.is_empty() {
                true => targets.push(HoldTarget { key, port: 0, role }),
                false => targets.extend(ports.iter().map(|port| HoldTarget { key, port: *port, role })),
            }
        }
        let of_nodes = |port| HoldTarget { key: Key::node_port(port), port, role: Role::NodePort };
        targets.extend(node_ports.into_iter().map(of_nodes));
        let before = self.services.get(&uid);
        let (created, guessed) = match (created, before) {
            (Some(created), _) => (seconds(created), false),
            (None, Some(before)) => (before.created, before.guessed),
            (None, None) => (self.clock.guess(now), true),
        };
        let targets = distinct(targets.into_iter(), MOST_TARGETS).into_boxed_slice();
        let external = external_name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase().into());
        let slot = self.words.service(&namespace, &name);
        let (service, other) = (slot.service.clone(), slot.object.filter(|other| *other != uid));
        // A name is used again: the old one is gone, whether that was told or not.
        let removed = other.is_some_and(|other| self.remove_service(other, now));
        let seen = self.list(Resource::Services);
        self.put_entry(uid, ServiceEntry { service, targets, external, created, guessed, seen }, now) || removed
    }

    pub(super) fn put_entry(&mut self, uid: Uid, entry: ServiceEntry, now: Moment) -> bool {
        let before = self.services.get_mut(&uid);
        let is_new = before.is_none();
        if let Some(before) = before {
            let ServiceEntry { service, targets, external, created, guessed, seen } = &entry;
            if Arc::ptr_eq(&before.service, service)
                && (&before.targets, &before.external) == (targets, external)
                && (before.created, before.guessed) == (*created, *guessed)
            {
                before.seen = *seen;
                return false;
            }
        } else if !self.has_room(Resource::Services, self.limits.services) {
            return false;
        }
        let before = self.services.remove(&uid);
        let mut keys: Vec<Key> = entry.targets.iter().map(|target| target.key).collect();
        keys.extend(before.iter().flat_map(|before| before.targets.iter()).map(|target| target.key));
        let service = &entry.service;
        service.exists.store(true, Ordering::Relaxed);
        let has_address = entry.targets.iter().any(|target| target.role == Role::ClusterIp);
        service.has_address.store(has_address, Ordering::Relaxed);
        // What it did not have at first was given to it later.
        let dated = !entry.guessed && is_new;
        let claim = Claim {
            who: Who::Service(service.clone()),
            rank: if is_new { entry.created } else { self.clock.guess(now) },
            began: dated.then(|| self.clock.began(entry.created, now)),
            first: self.is_first(Resource::Services),
            redate: false,
        };
        settle(&self.shared, self.limits.holds, &keys, &entry.targets, &claim, mono(now));
        self.call(&entry.service, before.as_ref(), Some(&entry));
        let slot = self.words.service(&entry.service.namespace, &entry.service.name);
        slot.object = Some(uid);
        self.services.insert(uid, entry);
        self.count(Resource::Services, self.services.len());
        true
    }

    pub(super) fn remove_service(&mut self, uid: Uid, now: Moment) -> bool {
        let Some(entry) = self.services.remove(&uid) else { return false };
        self.count(Resource::Services, self.services.len());
        self.call(&entry.service, Some(&entry), None);
        let service = &entry.service;
        service.exists.store(false, Ordering::Relaxed);
        service.has_address.store(false, Ordering::Relaxed);
        let keys: Vec<Key> = entry.targets.iter().map(|target| target.key).collect();
        let who = Who::Service(service.clone());
        let claim = Claim { who, rank: entry.created, began: None, first: false, redate: false };
        settle(&self.shared, self.limits.holds, &keys, &[], &claim, mono(now));
        self.words.service(&service.namespace, &service.name).object = None;
        true
    }

    /// Makes the names that lead to `service` those of `after`, each at a stroke: nobody finds it
    /// without one meanwhile.
    fn call(&self, service: &Arc<Service>, before: Option<&ServiceEntry>, after: Option<&ServiceEntry>) {
        let own = hash_of_service(&service.namespace, &service.name);
        let external = |entry: Option<&ServiceEntry>| entry.and_then(|entry| entry.external.clone());
        let hash = |name: Option<Arc<str>>| name.map(|name| hash_of_external(&name));
        let hashes = [Some(own), hash(external(before)), hash(external(after))];
        for (i, hash) in hashes.iter().enumerate().filter(|(i, hash)| !hashes[..*i].contains(hash)) {
            let Some(hash) = hash else { continue };
            let external = if i == 0 { None } else { external(after).filter(|name| hash_of_external(name) == *hash) };
            let leads = after.is_some() && (i == 0 || external.is_some());
            let new = leads.then(|| Called { external, service: service.clone() });
            let rows = self.shared.called.read(hash, |rows| {
                let of_others = rows.iter().filter(|row| !Arc::ptr_eq(&row.service, service));
                of_others.cloned().chain(new).collect()
            });
            self.shared.called.replace(hash, rows);
        }
    }
}
