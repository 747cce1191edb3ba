//! Names that pods learnt from the DNS answers they received, and those by which they spoke TLS with
//! addresses of which no answer was seen. Owned by the pipeline, which sees both.

use crate::class::Class;
use flow_model::{Slot, Ts, Workload, WorkloadKind};
use lru::LruCache;
use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Addresses remembered per pod; a pod of a crawler talks to more, most to a few dozen.
const PER_SLOT: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Pods with names: as many as a node may run, tenfold.
const SLOTS: NonZeroUsize = NonZeroUsize::new(2_048).unwrap();
/// A program connects some time after it asked, and load balancers answer with a TTL of zero.
const MIN_TTL: Duration = Duration::from_secs(30);
/// RFC 8767 section 4: longer ones are lowered to a day.
const MAX_TTL: Duration = Duration::from_secs(86_400);
/// RFC 1035 section 2.3.4, as text.
const MAX_NAME: usize = 253;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Dns,
    /// The pod itself: it names an outside server, never a Service.
    Tls,
}

#[derive(Debug)]
struct Learnt {
    who: Arc<Workload>,
    by: By,
    from: Ts,
    until: Ts,
}

#[derive(Debug)]
pub(crate) struct DnsNames {
    slots: LruCache<Slot, LruCache<IpAddr, Learnt>>,
    /// Counts what could give a flow another name.
    pub(crate) version: u64,
    pub(crate) names: u64,
    pub(crate) evicted: u64,
}

impl Default for DnsNames {
    fn default() -> Self {
        DnsNames { slots: LruCache::sparse(SLOTS), version: 0, names: 0, evicted: 0 }
    }
}

impl DnsNames {
    /// The last answer that named an address is the one that the pod most likely acts upon.
    pub(crate) fn learn(&mut self, slot: Slot, name: &str, ips: &[IpAddr], ttl: Duration, at: Ts) {
        if name.is_empty() || name.len() > MAX_NAME {
            return;
        }
        let until = at.plus(ttl.clamp(MIN_TTL, MAX_TTL));
        // Resolvers vary the case to make forging harder (0x20); names are equal without it (RFC 4343).
        let name = match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        self.make_room(slot);
        let Some(known) = self.slots.get_mut(&slot) else { return };
        let mut who: Option<Arc<Workload>> = None;
        for ip in ips.iter().map(IpAddr::to_canonical).filter(|ip| Class::of(*ip).can_be_named()) {
            if let Some(same) = known.get_mut(&ip).filter(|k| k.who.name.as_ref() == name.as_ref() && at <= k.until) {
                if same.by == By::Tls {
                    same.by = By::Dns;
                    self.version += 1;
                }
                same.until = same.until.max(until);
                continue;
            }
            let who = who.get_or_insert_with(|| external(&name)).clone();
            let replaced = known.push(ip, Learnt { who, by: By::Dns, from: at, until });
            match replaced {
                None => self.names += 1,
                Some((old, _)) => self.evicted += u64::from(old != ip),
            }
            self.version += 1;
        }
    }

    fn make_room(&mut self, slot: Slot) {
        if !self.slots.contains(&slot)
            && let Some((_, evicted)) = self.slots.push(slot, LruCache::sparse(PER_SLOT))
        {
            self.evicted += evicted.len() as u64;
            self.names -= evicted.len() as u64;
        }
    }

    /// A pod asked a server at `ip` for `name`, in a connection that began at `since`, and was
    /// answered. A name by DNS stays while it is good, and its place while it may be.
    pub(crate) fn learn_by_tls(&mut self, slot: Slot, name: &str, ip: IpAddr, since: Ts, at: Ts) {
        let ip = ip.to_canonical();
        if name.is_empty() || name.len() > MAX_NAME || !Class::of(ip).can_be_named() {
            return;
        }
        let until = at.plus(MIN_TTL);
        self.make_room(slot);
        let Some(known) = self.slots.get_mut(&slot) else { return };
        let oldest = known.peek_lru().filter(|_| known.len() >= PER_SLOT.get());
        let is_taken = oldest.is_some_and(|(_, oldest)| oldest.by == By::Dns && at <= oldest.until);
        match known.get_mut(&ip) {
            Some(same) if same.who.name.eq_ignore_ascii_case(name) => {
                // Older connections keep it.
                let from = same.from.min(since);
                self.version += u64::from(from < same.from || same.until < at);
                if same.until < since {
                    // The answer is too old to say that it is a Service.
                    same.by = By::Tls;
                }
                (same.from, same.until) = (from, same.until.max(until));
                return;
            }
            Some(other) if other.by == By::Dns && since <= other.until => return,
            Some(_) => {}
            None if is_taken => {
                self.evicted += 1;
                return;
            }
            None => {}
        }
        let learnt = Learnt { who: external(&name.to_ascii_lowercase()), by: By::Tls, from: since, until };
        match known.push(ip, learnt) {
            None => self.names += 1,
            Some((old, _)) => self.evicted += u64::from(old != ip),
        }
        self.version += 1;
    }

    /// (pod, name, from, until) of every pod that learnt a name of `ip`.
    pub(crate) fn all(&self, ip: IpAddr) -> impl Iterator<Item = (Slot, Arc<Workload>, Ts, Ts)> + '_ {
        self.slots.iter().filter_map(move |(slot, known)| {
            let Learnt { who, by: _, from, until } = known.peek(&ip)?;
            Some((*slot, who.clone(), *from, *until))
        })
    }

    pub(crate) fn name(&self, slot: Slot, ip: IpAddr, at: Ts) -> Option<(&Arc<Workload>, By)> {
        let learnt = self.slots.peek(&slot)?.peek(&ip)?;
        (learnt.from <= at && at <= learnt.until).then_some((&learnt.who, learnt.by))
    }
}

fn external(name: &str) -> Arc<Workload> {
    Arc::new(Workload { namespace: "".into(), name: name.into(), kind: WorkloadKind::External, pod: "".into() })
}
