//! The table of who is where: one writer (the daemon), read without locks by the pipeline.

use crate::cluster::object::Uid;
use crate::history::{Bound, History, Origin, Span, Wish};
use crate::sharded::Sharded;
use flow_model::{Identity, Slot, Ts, Unknown, Workload};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of the table, and how long its past is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Addresses with a holder or a past. 250,000: the pods and services of the largest clusters
    /// that Kubernetes supports (150,000 pods, 10,000 services), and their churn.
    pub addresses: usize,
    /// Namespaces with a name or pending; a node has at most some hundred pods, churn keeps some more.
    pub slots: usize,
    /// How long it is remembered who held an address. Longer than the longest that an observation takes to be reported.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { addresses: 250_000, slots: 16_384, keep: Duration::from_secs(10 * 60) }
    }
}

/// An address as it is bound: all ports of an IP, or one (several pods on a node's own address).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    ip: IpAddr,
    /// 0: all.
    port: u16,
}

impl Address {
    /// All ports; IPv4 mapped into IPv6 is taken as IPv4.
    #[must_use]
    pub fn ip(ip: IpAddr) -> Address {
        Address { ip: ip.to_canonical(), port: 0 }
    }

    /// More specific than the IP: asked first.
    #[must_use]
    pub fn port(ip: IpAddr, port: u16) -> Address {
        Address { ip: ip.to_canonical(), port }
    }
}

/// A workload's hold on an address; give it back to `release`.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "without it the address cannot be released"]
pub struct Binding {
    address: Address,
    id: u64,
    origin: Origin,
}

/// Who claims an address, and by what right.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose traffic it is.
    pub who: Arc<Workload>,
    /// The pod by the API's uid, where it is one: the API may know better.
    pub pod: Option<Uid>,
    /// How the address came to it.
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub(crate) struct SlotEntry {
    identity: Identity,
    /// Of the pod that lives there: the API may know it better.
    pod: Option<Uid>,
    gone: Option<Ts>,
}

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Shared {
    addresses: Sharded<Address, Arc<History>>,
    slots: Sharded<Slot, SlotEntry>,
    version: AtomicU64,
    /// Namespaces whose name or addresses are on their way.
    pub(crate) coming: AtomicU64,
    pub(crate) stats: Stats,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) addresses: AtomicU64,
    pub(crate) spans: AtomicU64,
    pub(crate) slots: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) contested: AtomicU64,
    pub(crate) dns_names: AtomicU64,
    pub(crate) dns_evicted: AtomicU64,
}

impl Shared {
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn slot(&self, slot: Slot) -> (Identity, Option<Uid>) {
        // A packet told of this namespace before containerd did.
        let pending = (Identity::Unknown(Unknown::Pending), None);
        self.slots.get(&slot, |entry| (entry.identity.clone(), entry.pod)).unwrap_or(pending)
    }

    pub(crate) fn history<R>(&self, address: Address, read: impl FnOnce(&History) -> R) -> Option<R> {
        self.addresses.get(&address, |history| read(history))
    }

    /// The holder by what this node saw, without those claims that are void.
    pub(crate) fn address(&self, ip: IpAddr, port: u16, at: Ts, is_void: impl Fn(&Span) -> bool) -> Identity {
        let ask = |address: Address| self.addresses.get(&address, |history| history.at(at, &is_void));
        match ask(Address { ip, port }) {
            Some(found) if found != Identity::Unknown(Unknown::NotFound) => found,
            _ => ask(Address { ip, port: 0 }).unwrap_or(Identity::Unknown(Unknown::NotFound)),
        }
    }

    /// The claim is not followed, because the address is somebody else's. Counted once a claim.
    pub(crate) fn contest(&self, span: &Span) {
        self.stats.contested.fetch_add(u64::from(span.contest()), Ordering::Relaxed);
    }
}

/// The writing side. Times are those of the observations: the kernel's monotonic clock.
#[derive(Debug)]
pub struct IdentityIndex {
    shared: Arc<Shared>,
    limits: Limits,
    next: u64,
}

impl IdentityIndex {
    /// Empty; the bounds hold for as long as it lives.
    #[must_use]
    pub fn new(limits: Limits) -> IdentityIndex {
        // 512 shards: at 250,000 addresses a write copies 500 entries of 32 bytes, some microseconds.
        let shared = Shared {
            addresses: Sharded::new(512),
            slots: Sharded::new(64),
            version: AtomicU64::new(0),
            coming: AtomicU64::new(0),
            stats: Stats::default(),
        };
        IdentityIndex { shared: Arc::new(shared), limits, next: 0 }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// `who` was given `address` and holds it from `from` on. Bind the new holder of a reused
    /// address whenever it is known: if the old one is not released yet, the address is `Ambiguous`
    /// from `from` until it is, and never has the wrong name. A binding for which there is no room
    /// (counted) leaves the address unknown or ambiguous.
    pub fn bind(&mut self, address: Address, who: Arc<Workload>, from: Ts) -> Binding {
        self.claim(address, Claim { who, pod: None, origin: Origin::Given }, from)
    }

    /// The same by any right. What was taken is its own only while nobody was given it, and of
    /// several that took it the first one's. Claims that come to nothing are counted.
    pub fn claim(&mut self, address: Address, claim: Claim, from: Ts) -> Binding {
        self.next += 1;
        let id = self.next;
        let Claim { who, pod, origin } = claim;
        let shared = &self.shared;
        let stats = &shared.stats;
        let has_room = stats.addresses.load(Ordering::Relaxed) < self.limits.addresses as u64;
        let bound = shared.addresses.write(&address, |shard| {
            let is_new = !shard.contains_key(&address);
            if is_new && !has_room {
                return Bound::Refused;
            }
            stats.addresses.fetch_add(u64::from(is_new), Ordering::Relaxed);
            let history = Arc::make_mut(shard.entry(address).or_default());
            let bound = history.bind(Wish { id, who, pod, origin, from });
            history.losers().for_each(|span| shared.contest(span));
            bound
        });
        match bound {
            Bound::Kept => stats.spans.fetch_add(1, Ordering::Relaxed),
            Bound::Evicted => stats.evicted.fetch_add(1, Ordering::Relaxed),
            Bound::Refused => stats.refused.fetch_add(1, Ordering::Relaxed),
        };
        self.shared.changed();
        Binding { address, id, origin }
    }

    /// A better name of the holder became known. It is the same holder, and had that name before.
    pub fn rename(&mut self, binding: &Binding, who: Arc<Workload>, pod: Option<Uid>) {
        self.shared.addresses.write(&binding.address, |shard| {
            if let Some(history) = shard.get_mut(&binding.address) {
                Arc::make_mut(history).rename(binding.id, who, pod);
            }
        });
        self.shared.changed();
    }

    /// Claims of containers that came to nothing, because the address is somebody else's.
    #[must_use]
    pub fn contested(&self) -> u64 {
        self.shared.stats.contested.load(Ordering::Relaxed)
    }

    /// The hold ended at `at`: observations before it keep the name, as long as the past is kept.
    pub fn release(&mut self, binding: Binding, at: Ts) {
        let Binding { address, id, origin } = binding;
        self.shared.addresses.write(&address, |shard| {
            if let Some(history) = shard.get_mut(&address) {
                Arc::make_mut(history).release(id, origin, at);
            }
        });
        self.shared.changed();
    }

    /// What lives in a namespace, `Pending` until its labels are known; `pod` joins it with what
    /// the API tells. Returns false when there is no room (counted): its traffic then stays
    /// `Pending`.
    pub fn set_slot(&mut self, slot: Slot, identity: Identity, pod: Option<Uid>) -> bool {
        let stats = &self.shared.stats;
        let has_room = stats.slots.load(Ordering::Relaxed) < self.limits.slots as u64;
        let kept = self.shared.slots.write(&slot, |shard| {
            let is_new = !shard.contains_key(&slot);
            if is_new && !has_room {
                return false;
            }
            stats.slots.fetch_add(u64::from(is_new), Ordering::Relaxed);
            shard.insert(slot, SlotEntry { identity, pod, gone: None });
            true
        });
        stats.refused.fetch_add(u64::from(!kept), Ordering::Relaxed);
        self.shared.changed();
        kept
    }

    /// The namespace is gone. Its name is kept for what is still to be reported, then forgotten.
    pub fn release_slot(&mut self, slot: Slot, at: Ts) {
        self.shared.slots.write(&slot, |shard| {
            if let Some(entry) = shard.get_mut(&slot) {
                entry.gone = Some(at);
            }
        });
    }

    /// Forgets what ended longer than `Limits::keep` ago. Call it every minute or so.
    pub fn forget(&mut self, now: Ts) {
        let before = Ts(now.0.saturating_sub(u64::try_from(self.limits.keep.as_nanos()).unwrap_or(u64::MAX)));
        let stats = &self.shared.stats;
        self.shared.addresses.retain(
            |history| history.has_ended(before),
            |history| {
                if history.has_ended(before) {
                    let spans = Arc::make_mut(history).forget(before);
                    stats.spans.fetch_sub(spans as u64, Ordering::Relaxed);
                }
                stats.addresses.fetch_sub(u64::from(history.is_empty()), Ordering::Relaxed);
                !history.is_empty()
            },
        );
        let is_over = |entry: &SlotEntry| entry.gone.is_some_and(|gone| gone < before);
        self.shared.slots.retain(is_over, |entry| {
            stats.slots.fetch_sub(u64::from(is_over(entry)), Ordering::Relaxed);
            !is_over(entry)
        });
        self.shared.changed();
    }
}
