//! EndpointSlices come, change and go, and with them the workload behind a Service.

use crate::cluster::clock::{Moment, mono};
use crate::cluster::entry::{End, Ends, SliceEntry};
use crate::cluster::hold::OPEN;
use crate::cluster::object::{self, Resource, Uid};
use crate::cluster::record::{At, Backing, Behind, Key, Pod, Service, Slice, distinct};
use crate::cluster::shared::Listed;
use crate::cluster::writer::Cluster;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The API takes 100 ports.
const MOST_PORTS: usize = 100;

/// A pod is behind a few Services, a node's address behind those of the pods on its network; more
/// than these lose their past early.
const ROWS_PER_ADDRESS: usize = 64;

impl Cluster {
    pub(super) fn put_slice(&mut self, slice: object::EndpointSlice, now: Moment) -> bool {
        let object::EndpointSlice { uid, namespace, service, endpoints, ports } = slice;
        let Some(service) = service else { return self.remove_slice(uid, now) };
        let mut ends: Vec<End> = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let pod = endpoint.pod.map_or(0, Uid::fold);
            ends.extend(endpoint.addresses.into_iter().map(|ip| (Key::of(ip), pod)));
        }
        ends.sort_unstable();
        ends.dedup();
        let mut ports = distinct(ports.into_iter(), MOST_PORTS);
        ports.sort_unstable();
        let service = self.words.service(&namespace, &service).service.clone();
        self.put_ends(uid, Slice { service, ports: ports.into() }, ends, now)
    }

    pub(super) fn put_ends(&mut self, uid: Uid, slice: Slice, ends: Vec<End>, now: Moment) -> bool {
        let seen = self.list(Resource::EndpointSlices);
        let before = self.slices.get_mut(&uid);
        let is_alike = |old: &Slice| Arc::ptr_eq(&old.service, &slice.service) && old.ports == slice.ports;
        let kept = before.as_ref().filter(|before| is_alike(&before.slice)).map(|before| before.slice.clone());
        if let Some(before) = before
            && kept.is_some()
            && before.ends.iter().eq(ends.iter().copied())
        {
            before.seen = seen;
            return false;
        }
        let of_others = self.slices.get(&uid).map_or(0, |before| before.ends.len());
        let total = self.shared.stats.endpoints.load(Ordering::Relaxed) as usize;
        if total.saturating_sub(of_others) + ends.len() > self.limits.endpoints {
            self.shared.stats.refused[Resource::EndpointSlices as usize].fetch_add(1, Ordering::Relaxed);
            // What it said before is no longer so.
            return self.remove_slice(uid, now);
        }
        if !self.slices.contains_key(&uid) && !self.has_room(Resource::EndpointSlices, self.limits.slices) {
            return false;
        }
        let before = self.slices.remove(&uid);
        let slice = kept.clone().unwrap_or_else(|| Arc::new(slice));
        let mut touched = Vec::new();
        let old: Vec<End> = before.iter().flat_map(|before| before.ends.iter()).collect();
        let stays = |end: &End| kept.is_some() && old.binary_search(end).is_ok() && ends.binary_search(end).is_ok();
        // What begins comes first: an endpoint that another slice takes over is nobody's at no time.
        for end in ends.iter().filter(|end| !stays(end)) {
            self.begin_endpoint(&slice, *end);
            touched.push(*end);
        }
        if let Some(before) = &before {
            for end in old.iter().filter(|end| !stays(end)) {
                self.end_endpoint(&before.slice, *end, mono(now));
                touched.push(*end);
            }
        }
        let service = slice.service.clone();
        let slot = self.words.service(&service.namespace, &service.name);
        if !slot.slices.contains(&uid) {
            slot.slices.reserve_exact(1);
            slot.slices.push(uid);
        }
        self.slices.insert(uid, SliceEntry { slice, ends: Ends::of(&ends), seen });
        self.count(Resource::EndpointSlices, self.slices.len());
        self.claim_for_hosts(&touched, now);
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(&before.slice.service, &service)) {
            self.unlink(uid, &before.slice.service);
            self.back(&before.slice.service, now);
        }
        self.back(&service, now);
        true
    }

    pub(super) fn remove_slice(&mut self, uid: Uid, now: Moment) -> bool {
        let Some(entry) = self.slices.remove(&uid) else { return false };
        self.count(Resource::EndpointSlices, self.slices.len());
        let ends: Vec<End> = entry.ends.iter().collect();
        for end in &ends {
            self.end_endpoint(&entry.slice, *end, mono(now));
        }
        self.unlink(uid, &entry.slice.service);
        self.claim_for_hosts(&ends, now);
        self.back(&entry.slice.service, now);
        true
    }

    fn unlink(&mut self, uid: Uid, service: &Service) {
        self.words.service(&service.namespace, &service.name).slices.retain(|slice| *slice != uid);
    }

    fn begin_endpoint(&self, slice: &Arc<Slice>, (key, pod): End) {
        let row = Listed { pod, until: OPEN, slice: slice.clone() };
        let rows: Vec<_> = self.shared.endpoints.read(&key, |rows| {
            // Back again: one row says both.
            let is_same = |old: &&Listed| old.pod == pod && Arc::ptr_eq(&old.slice, slice);
            rows.iter().filter(|old| !is_same(old)).cloned().chain([row]).collect()
        });
        self.store_endpoints(key, rows);
    }

    fn end_endpoint(&self, slice: &Arc<Slice>, (key, pod): End, now: At) {
        let mut rows = self.shared.endpoints.read(&key, <[Listed]>::to_vec);
        for row in &mut rows {
            if row.pod == pod && row.until == OPEN && Arc::ptr_eq(&row.slice, slice) {
                row.until = now;
            }
        }
        // The past of an address that many slices name one after the other.
        let over = rows.len().saturating_sub(ROWS_PER_ADDRESS);
        let past = rows.iter().filter(|row| row.until != OPEN).map(|row| row.until);
        let mut past: Vec<At> = past.collect();
        past.sort_unstable();
        if let Some(oldest) = over.checked_sub(1).and_then(|last| past.get(last.min(past.len().saturating_sub(1)))) {
            rows.retain(|row| row.until > *oldest);
        }
        self.store_endpoints(key, rows);
    }

    fn store_endpoints(&self, key: Key, rows: Vec<Listed>) {
        let (had, has) = (self.shared.endpoints.read(&key, <[_]>::len), rows.len());
        self.shared.endpoints.replace(&key, rows);
        let count = &self.shared.stats.endpoints;
        count.fetch_add(has as u64, Ordering::Relaxed);
        count.fetch_sub(had as u64, Ordering::Relaxed);
    }

    /// A pod on its node's network holds the ports under which a slice lists it.
    fn claim_for_hosts(&mut self, touched: &[End], now: Moment) {
        for (_, fold) in touched {
            let pod = self.shared.pod_by_fold(*fold).filter(|pod| pod.host_network && !pod.is_gone());
            if let Some(pod) = pod {
                self.claim_for(&pod, None, now);
            }
        }
    }

    /// Of the Services that list `pod` among their endpoints.
    pub(super) fn back_those_of(&mut self, pod: &Pod, now: Moment) {
        let mut services: Vec<Arc<Service>> = Vec::new();
        for key in pod.ips() {
            self.shared.endpoints.read(&key, |rows| {
                for row in rows.iter().filter(|row| row.pod == pod.fold() && row.until == OPEN) {
                    if !services.iter().any(|known| Arc::ptr_eq(known, &row.slice.service)) {
                        services.push(row.slice.service.clone());
                    }
                }
            });
        }
        for service in services {
            self.back(&service, now);
        }
    }

    pub(super) fn back_all(&mut self, now: Moment) -> bool {
        let services: Vec<Arc<Service>> = self.words.service_slots().map(|slot| slot.service.clone()).collect();
        let mut changed = false;
        for service in services {
            changed |= self.back(&service, now);
        }
        changed
    }

    /// Finds the one workload that all endpoints of `service` belong to. A Service without
    /// endpoints keeps what was behind it: a Deployment of one pod has none for a moment whenever
    /// that pod is replaced.
    fn back(&mut self, service: &Arc<Service>, now: Moment) -> bool {
        if !self.is_ready() {
            return false;
        }
        let slices = &self.words.service(&service.namespace, &service.name).slices;
        let ends = slices.iter().filter_map(|uid| self.slices.get(uid)).flat_map(|entry| entry.ends.iter());
        let mut found: Option<Behind> = None;
        let mut is_one = None;
        for (_, fold) in ends {
            // An endpoint that names no pod, or one that is not known, may be anybody's.
            let pod = self.shared.pod_by_fold(fold).filter(|_| fold != 0);
            let behind = pod.as_ref().map(Behind::of);
            let agrees = match (&found, &behind) {
                (None, Some(_)) => true,
                (Some(found), Some(behind)) => found.is_same(behind),
                (_, None) => false,
            };
            is_one = Some(agrees);
            if !agrees {
                break;
            }
            found = behind;
        }
        let Some(is_one) = is_one else { return false };
        let new = found.filter(|_| is_one);
        let old = service.backing.load_full();
        let (was, before) = old.as_ref().map_or((None, None), |old| (old.now.as_ref(), old.before.as_ref()));
        let is_same = match (was, &new) {
            (None, None) => true,
            (Some(was), Some(new)) => was.is_same(new),
            _ => false,
        };
        if is_same {
            return false;
        }
        // The first that was found has been there since before it was.
        let since = if was.is_none() && before.is_none() { At::MIN } else { mono(now) };
        service.backing.store(Some(Arc::new(Backing { now: new, since, before: was.cloned() })));
        true
    }
}
