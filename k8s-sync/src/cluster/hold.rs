//! Who holds an address from when to when, and the rules by which one of several is meant.
//!
//! A claim lasts for as long as the API says so; of several that last, the one that began last has
//! the address, because an address is only given to a new pod when the old one has lost it, however
//! long the API goes on about the old one. Starts are compared as the API dated them, so that no
//! local clock has a say in it.

use crate::cluster::record::{At, Node, Pod, Service};
use flow_model::Workload;
use std::sync::Arc;
use std::time::Duration;

pub(super) const OPEN: At = At::MAX;

/// In which way an address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Before `until` too much happened to be remembered.
    Floor,
    /// A pod's own.
    Pod,
    /// A port of a node that a pod on the node's network listens on.
    HostPort,
    Node,
    ClusterIp,
    /// One port of an address that leads to a Service from outside, or port 0 for all.
    ExternalIp,
    NodePort,
}

#[derive(Clone, Debug)]
pub(super) enum Who {
    Nobody,
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    Service(Arc<Service>),
}

impl Who {
    pub(super) fn is(&self, other: &Who) -> bool {
        match (self, other) {
            (Who::Nobody, Who::Nobody) => true,
            (Who::Pod(a), Who::Pod(b)) => a.uid() == b.uid(),
            (Who::Node(a), Who::Node(b)) => Arc::ptr_eq(a, b),
            (Who::Service(a), Who::Service(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    pub(super) fn workload(&self, at: At) -> Option<Arc<Workload>> {
        match self {
            Who::Nobody => None,
            Who::Pod(pod) => Some(pod.workload()),
            Who::Node(node) => Some(node.workload()),
            Who::Service(service) => Some(service.served_by(at)),
        }
    }
}

/// How well the beginning of a hold is known, in a byte: the logarithm of the doubt in milliseconds, and two flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Certainty(u8);

impl Certainty {
    const EVER: u8 = 0x80;
    const GUESSED: u8 = 0x40;
    /// Clocks are slewed by 500 ppm: that is no doubt.
    const NEGLIGIBLE: Duration = Duration::from_millis(500);

    pub(super) fn doubt(doubt: Duration) -> Certainty {
        let millis = u64::try_from(doubt.as_millis()).unwrap_or(u64::MAX);
        Certainty(if doubt < Self::NEGLIGIBLE { 0 } else { (64 - millis.leading_zeros()) as u8 & 0x3f })
    }

    /// The API does not tell the beginning.
    pub(super) fn guessed(self) -> Certainty {
        Certainty(self.0 | Self::GUESSED)
    }

    /// Before its beginning, too, unless somebody else was known to have the address.
    pub(super) fn ever(self) -> Certainty {
        Certainty(self.0 | Self::EVER)
    }

    pub(super) fn is_ever(self) -> bool {
        self.0 & Self::EVER != 0
    }

    fn is_guessed(self) -> bool {
        self.0 & Self::GUESSED != 0
    }

    /// From when on there is none, for something that began at `from` at the earliest.
    fn sure(self, from: At) -> At {
        match self.0 & 0x3f {
            0 => from,
            bits => from.saturating_add((1_i64 << bits.min(43)).saturating_mul(1_000_000)),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Hold {
    /// 0: all.
    pub(super) port: u16,
    pub(super) role: Role,
    pub(super) certainty: Certainty,
    /// When it began by the API's clocks, in seconds since 1970: of two the later one is right.
    pub(super) rank: u32,
    pub(super) from: At,
    /// Exclusive.
    pub(super) until: At,
    pub(super) who: Who,
}

impl Hold {
    pub(super) fn is_open(&self) -> bool {
        self.until == OPEN
    }

    pub(super) fn covers(&self, at: At) -> bool {
        self.from <= at && at < self.until
    }
}

/// Of several holds of one address or port.
#[derive(Debug)]
pub(super) enum Found<'a> {
    None,
    One(&'a Hold),
    /// It cannot be told which.
    Several,
}

/// The holder at `at` among holds of the same address and port.
pub(super) fn holder<'a>(holds: impl Iterator<Item = &'a Hold> + Clone, at: At) -> Found<'a> {
    let mut covering = holds.clone().filter(|hold| hold.covers(at));
    let Some(mut best) = covering.next() else {
        let ever = holds.filter(|hold| hold.certainty.is_ever() && at < hold.from);
        return ever.min_by_key(|hold| hold.from).map_or(Found::None, Found::One);
    };
    let mut tied = false;
    for other in covering {
        let is_guess = best.certainty.is_guessed() || other.certainty.is_guessed();
        let order =
            if is_guess { (other.rank, other.from).cmp(&(best.rank, best.from)) } else { other.rank.cmp(&best.rank) };
        match order {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => tied |= !other.who.is(&best.who),
            std::cmp::Ordering::Greater => (best, tied) = (other, false),
        }
    }
    let in_doubt = || at < best.certainty.sure(best.from);
    let by_others = |hold: &Hold| hold.covers(at) && !hold.who.is(&best.who);
    match tied || (in_doubt() && holds.clone().any(by_others)) {
        true => Found::Several,
        false => Found::One(best),
    }
}
