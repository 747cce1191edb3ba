//! Names that pods learnt from the DNS answers they received. Owned by the pipeline, which sees the answers.

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

#[derive(Debug)]
struct Learnt {
    who: Arc<Workload>,
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
        if !self.slots.contains(&slot)
            && let Some((_, evicted)) = self.slots.push(slot, LruCache::sparse(PER_SLOT))
        {
            self.evicted += evicted.len() as u64;
            self.names -= evicted.len() as u64;
        }
        let Some(known) = self.slots.get_mut(&slot) else { return };
        let mut who: Option<Arc<Workload>> = None;
        for ip in ips.iter().map(IpAddr::to_canonical).filter(|ip| Class::of(*ip).can_be_named()) {
            if let Some(same) = known.get_mut(&ip).filter(|k| k.who.name.as_ref() == name.as_ref() && at <= k.until) {
                same.until = same.until.max(until);
                continue;
            }
            let who = who.get_or_insert_with(|| external(&name)).clone();
            let replaced = known.push(ip, Learnt { who, from: at, until });
            match replaced {
                None => self.names += 1,
                Some((old, _)) => self.evicted += u64::from(old != ip),
            }
            self.version += 1;
        }
    }

    /// (pod, name, from, until) of every pod that learnt a name of `ip`.
    pub(crate) fn all(&self, ip: IpAddr) -> impl Iterator<Item = (Slot, Arc<Workload>, Ts, Ts)> + '_ {
        self.slots.iter().filter_map(move |(slot, known)| {
            let Learnt { who, from, until } = known.peek(&ip)?;
            Some((*slot, who.clone(), *from, *until))
        })
    }

    pub(crate) fn name(&self, slot: Slot, ip: IpAddr, at: Ts) -> Option<&Arc<Workload>> {
        let learnt = self.slots.peek(&slot)?.peek(&ip)?;
        (learnt.from <= at && at <= learnt.until).then_some(&learnt.who)
    }
}

fn external(name: &str) -> Arc<Workload> {
    Arc::new(Workload { namespace: "".into(), name: name.into(), kind: WorkloadKind::External, pod: "".into() })
}
