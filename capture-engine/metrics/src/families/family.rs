//! What a family of exchanges says of itself: names, labels and their sets, which metrics.

use super::value::{Described, ERROR, Set, Value};
use crate::labels::{ERROR_TYPE, Reporter, UNANSWERED};
use flow_model::{Outcome, Transport};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Family {
    /// In rows of edges, in `pilotfish_metrics_series`, and in what is kept for the next process:
    /// never changed.
    pub(crate) name: &'static str,
    /// Its metrics are named even where none of it was ever seen.
    pub(crate) always: bool,
    /// Whose bytes and connections are shown with it, where an edge has both.
    pub(crate) transport: Transport,
    /// In the order in which they are shown; `error_type` follows.
    pub(crate) labels: &'static [Label],
    /// Values of `error_type`, beside `unanswered`.
    pub(crate) errors: Set,
    pub(crate) durations: &'static [Duration],
    pub(crate) counters: &'static [Counter],
}

#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) name: &'static str,
    pub(crate) set: Set,
    /// Stays on the series that stand in for those over the cap; all others become `_OTHER` there.
    pub(crate) over_cap: bool,
}

/// A histogram of seconds.
#[derive(Debug)]
pub(crate) struct Duration {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) seen: Seen,
}

/// OpenTelemetry has a metric of some families for each end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Anywhere,
    AtClient,
    /// At the server. A replayed capture was seen from neither end; it tells what the server did.
    AtServer,
}

impl Seen {
    pub(crate) fn by(self, reporter: Reporter) -> bool {
        match self {
            Seen::Anywhere => true,
            Seen::AtClient => reporter == Reporter::Client,
            Seen::AtServer => reporter != Reporter::Client,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) cell: Cell,
}

/// What is counted of every series beside its durations. A family shows those that mean something
/// for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    RequestBytes,
    ResponseBytes,
    /// Exchanges that asked for no answer: they have no duration.
    OneWay,
    ClientMessages,
    ServerMessages,
}

impl Cell {
    pub(crate) const ALL: [Cell; 5] =
        [Cell::RequestBytes, Cell::ResponseBytes, Cell::OneWay, Cell::ClientMessages, Cell::ServerMessages];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The name in what is kept for the next process.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Cell::RequestBytes => "request_bytes",
            Cell::ResponseBytes => "response_bytes",
            Cell::OneWay => "one_way",
            Cell::ClientMessages => "client_messages",
            Cell::ServerMessages => "server_messages",
        }
    }

    /// Whether series that have none of it say so: most series never have any of the others.
    pub(crate) fn is_shown_at_zero(self) -> bool {
        matches!(self, Cell::RequestBytes | Cell::ResponseBytes)
    }
}

/// `error_type` of an exchange: that it got no answer, else what the answer says.
#[inline]
pub(super) fn error(outcome: Outcome, said: Value<'_>) -> Value<'_> {
    match outcome {
        Outcome::Answered => said,
        Outcome::Unanswered => Value::Unanswered,
        Outcome::OneWay => Value::None,
    }
}

impl Family {
    /// Where each label is in what is described, its name, its values; `error_type` last.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, &'static str, &Set)> {
        let labels = self.labels.iter().enumerate().map(|(place, label)| (place, label.name, &label.set));
        labels.chain([(ERROR, ERROR_TYPE, &self.errors)])
    }

    /// The labels that were shown, as they were described; `None` where one is not of this family
    /// or not of its set.
    pub(crate) fn read<'a>(&self, shown: &'a BTreeMap<String, String>) -> Option<Described<'a>> {
        let mut described = Described::new([], Value::None);
        let mut left = shown.len();
        for (place, name, set) in self.places() {
            if let Some(text) = shown.get(name) {
                let unanswered = place == ERROR && text == UNANSWERED;
                described.set(place, if unanswered { Value::Unanswered } else { set.read(text)? });
                left -= 1;
            }
        }
        (left == 0).then_some(described)
    }

    /// The labels of the series that stands in for the ones over the cap.
    pub(crate) fn over_cap<'a>(&self, described: &Described<'a>) -> Described<'a> {
        let mut kept = *described;
        for (place, label) in self.labels.iter().enumerate() {
            if !label.over_cap {
                kept.set(place, kept.value(place).other());
            }
        }
        if let error @ Value::Free(_) = kept.value(ERROR) {
            kept.set(ERROR, error.other());
        }
        kept
    }
}
