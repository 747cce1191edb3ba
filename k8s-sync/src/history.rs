//! Who held one address, and when. Pure: a few spans of time, and a question about one moment.

use crate::cluster::object::Uid;
use flow_model::{Identity, Ts, Unknown, Workload};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Spans kept per address: a node reuses an address a few times at most within the minutes that the past is kept.
pub(crate) const MAX_SPANS: usize = 8;
/// Claims by containers themselves kept per address. Who comes later gets nothing anyway.
pub(crate) const MAX_TAKEN: usize = 4;

/// How an address came to its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// By whoever made its namespace, before anything ran there; or it is the node's own.
    Given,
    /// It was added later, by the container itself for all that is known: it takes no address from
    /// anybody.
    Taken,
}

/// One that holds, held or wants an address.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    id: u64,
    from: Ts,
    /// Exclusive.
    until: Option<Ts>,
    pub(crate) who: Arc<Workload>,
    pub(crate) pod: Option<Uid>,
    pub(crate) origin: Origin,
    /// Shared by all copies: somebody else was found to have the address.
    contested: Arc<AtomicBool>,
}

impl Span {
    fn holds(&self, at: Ts) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }

    /// Whether this is the first time that it is said.
    pub(crate) fn contest(&self) -> bool {
        !self.contested.swap(true, Ordering::Relaxed)
    }
}

/// Who wants an address, and from when on.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) id: u64,
    pub(crate) who: Arc<Workload>,
    pub(crate) pod: Option<Uid>,
    pub(crate) origin: Origin,
    pub(crate) from: Ts,
}

impl Wish {
    fn span(self) -> Span {
        let Wish { id, who, pod, origin, from } = self;
        Span { id, from, until: None, who, pod, origin, contested: Arc::default() }
    }
}

/// Holders of one address. What it answers is right or `Unknown`, also about times that it had to forget.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    spans: Vec<Span>,
    /// In the order in which they came. They hold the address only while nobody in `spans` does.
    taken: Vec<Span>,
    /// Nothing is known before: a span that ended here was dropped.
    floor: Ts,
    /// Holders that found no room and have not left.
    unrecorded: u32,
    /// While there were such holders, (from, until): no single name can be right then.
    blurred: Option<(Ts, Option<Ts>)>,
}

/// What became of a `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Kept,
    /// An older span of this address was dropped for it.
    Evicted,
    /// The address has too many holders at once: it is ambiguous until this one has left, or stays
    /// theirs where this one took it.
    Refused,
}

impl History {
    pub(crate) fn bind(&mut self, wish: Wish) -> Bound {
        if wish.origin == Origin::Taken {
            return self.take(wish);
        }
        let from = wish.from;
        let mut outcome = Bound::Kept;
        if self.spans.len() >= MAX_SPANS {
            let oldest = self.spans.iter().enumerate().filter_map(|(i, s)| Some((s.until?, i))).min();
            let Some((until, oldest)) = oldest else {
                self.unrecorded += 1;
                let earliest = self.blurred.map_or(from, |(earlier, _)| earlier.min(from));
                self.blurred = Some((earliest, None));
                return Bound::Refused;
            };
            self.spans.swap_remove(oldest);
            self.floor = self.floor.max(until);
            outcome = Bound::Evicted;
        }
        self.spans.push(wish.span());
        outcome
    }

    /// Nothing that others have or had is dropped or made uncertain for it.
    fn take(&mut self, wish: Wish) -> Bound {
        let mut outcome = Bound::Kept;
        if self.taken.len() >= MAX_TAKEN {
            let Some(ended) = self.taken.iter().position(|span| span.until.is_some()) else { return Bound::Refused };
            self.taken.remove(ended);
            outcome = Bound::Evicted;
        }
        self.taken.push(wish.span());
        outcome
    }

    /// Those that have the address now and lose it to others: all that took it while somebody else
    /// has it.
    pub(crate) fn losers(&self) -> impl Iterator<Item = &Span> {
        let first = self.spans.iter().chain(&self.taken).find(|span| span.until.is_none());
        let others = move |span: &&Span| first.is_some_and(|first| first.id != span.id && first.who != span.who);
        self.taken.iter().filter(|span| span.until.is_none()).filter(others)
    }

    /// The holder of `id` is called so from now on, and was so before.
    pub(crate) fn rename(&mut self, id: u64, who: Arc<Workload>, pod: Option<Uid>) {
        if let Some(span) = self.spans.iter_mut().chain(&mut self.taken).find(|span| span.id == id) {
            (span.who, span.pod) = (who, pod);
        }
    }

    /// Ends the span that `bind` began as `id`.
    pub(crate) fn release(&mut self, id: u64, origin: Origin, at: Ts) {
        if let Some(span) = self.spans.iter_mut().chain(&mut self.taken).find(|s| s.id == id) {
            span.until = Some(at.max(span.from));
        } else if self.unrecorded > 0 && origin == Origin::Given {
            self.unrecorded -= 1;
            if let (0, Some((from, until))) = (self.unrecorded, &mut self.blurred) {
                *until = Some(at.max(*from));
            }
        }
    }

    /// Whether `forget` would change anything.
    pub(crate) fn has_ended(&self, before: Ts) -> bool {
        let ended = |until: Option<Ts>| until.is_some_and(|until| until < before);
        self.all().any(|s| ended(s.until)) || self.blurred.is_some_and(|(_, until)| ended(until))
    }

    /// Drops what ended before `before`. Returns how many spans.
    pub(crate) fn forget(&mut self, before: Ts) -> usize {
        let had = self.spans.len() + self.taken.len();
        self.taken.retain(|span| span.until.is_none_or(|until| until >= before));
        let floor = &mut self.floor;
        let mut keep = |until: Option<Ts>| match until {
            Some(until) if until < before => {
                *floor = (*floor).max(until);
                false
            }
            _ => true,
        };
        self.spans.retain(|span| keep(span.until));
        self.blurred = self.blurred.filter(|(_, until)| keep(*until));
        had - self.spans.len() - self.taken.len()
    }

    fn all(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().chain(&self.taken)
    }

    /// Nobody holds the address, and nothing of its past is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.taken.is_empty() && self.blurred.is_none()
    }

    /// (who, from, until) of what is kept, in no order.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&Arc<Workload>, Ts, Option<Ts>)> {
        self.all().map(|span| (&span.who, span.from, span.until))
    }

    /// The holder at `at`, not counting those whose claim `is_void`: of those that were given the
    /// address the only one, else the first that took it.
    pub(crate) fn at(&self, at: Ts, is_void: impl Fn(&Span) -> bool) -> Identity {
        if at < self.floor {
            return Identity::Unknown(Unknown::NotFound);
        }
        if self.blurred.is_some_and(|(from, until)| at >= from && until.is_none_or(|until| at < until)) {
            return Identity::Unknown(Unknown::Ambiguous);
        }
        let valid = |span: &&Span| span.holds(at) && !is_void(span);
        let mut given = self.spans.iter().filter(valid);
        let Some(first) = given.next() else {
            let first = self.taken.iter().find(valid);
            return first.map_or(Identity::Unknown(Unknown::NotFound), |first| Identity::Known(first.who.clone()));
        };
        match given.all(|other| other.who == first.who) {
            true => Identity::Known(first.who.clone()),
            false => Identity::Unknown(Unknown::Ambiguous),
        }
    }
}
