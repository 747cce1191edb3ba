//! Who held one address, and when. Pure: a few spans of time, and a question about one moment.

use flow_model::{Identity, Ts, Unknown, Workload};
use std::sync::Arc;

/// Spans kept per address: a node reuses an address a few times at most within the minutes that the past is kept.
pub(crate) const MAX_SPANS: usize = 8;

#[derive(Clone, Debug)]
struct Span {
    id: u64,
    from: Ts,
    /// Exclusive.
    until: Option<Ts>,
    who: Arc<Workload>,
}

impl Span {
    fn holds(&self, at: Ts) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Holders of one address. What it answers is right or `Unknown`, also about times that it had to forget.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    spans: Vec<Span>,
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
    /// The address has too many holders at once: it is ambiguous until this one has left.
    Refused,
}

impl History {
    pub(crate) fn bind(&mut self, id: u64, who: Arc<Workload>, from: Ts) -> Bound {
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
        self.spans.push(Span { id, from, until: None, who });
        outcome
    }

    /// Ends the span that `bind` began as `id`.
    pub(crate) fn release(&mut self, id: u64, at: Ts) {
        if let Some(span) = self.spans.iter_mut().find(|s| s.id == id) {
            span.until = Some(at.max(span.from));
        } else if self.unrecorded > 0 {
            self.unrecorded -= 1;
            if let (0, Some((from, until))) = (self.unrecorded, &mut self.blurred) {
                *until = Some(at.max(*from));
            }
        }
    }

    /// Whether `forget` would change anything.
    pub(crate) fn has_ended(&self, before: Ts) -> bool {
        let ended = |until: Option<Ts>| until.is_some_and(|until| until < before);
        self.spans.iter().any(|s| ended(s.until)) || self.blurred.is_some_and(|(_, until)| ended(until))
    }

    /// Drops what ended before `before`. Returns how many spans.
    pub(crate) fn forget(&mut self, before: Ts) -> usize {
        let had = self.spans.len();
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
        had - self.spans.len()
    }

    /// Nobody holds the address, and nothing of its past is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.blurred.is_none()
    }

    /// (who, from, until) of what is kept, in no order.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&Arc<Workload>, Ts, Option<Ts>)> {
        self.spans.iter().map(|span| (&span.who, span.from, span.until))
    }

    pub(crate) fn at(&self, at: Ts) -> Identity {
        if at < self.floor {
            return Identity::Unknown(Unknown::NotFound);
        }
        if self.blurred.is_some_and(|(from, until)| at >= from && until.is_none_or(|until| at < until)) {
            return Identity::Unknown(Unknown::Ambiguous);
        }
        let mut holders = self.spans.iter().filter(|span| span.holds(at));
        let Some(first) = holders.next() else { return Identity::Unknown(Unknown::NotFound) };
        match holders.all(|other| other.who == first.who) {
            true => Identity::Known(first.who.clone()),
            false => Identity::Unknown(Unknown::Ambiguous),
        }
    }
}
