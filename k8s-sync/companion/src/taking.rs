//! What becomes of a series that a node pushes: it gets a name, is judged by who saw it, and is counted.

use crate::loops::Loops;
use crate::names::{Name, Names};
use crate::ran::{Ran, Verdict};
use crate::strangers::{Since, Strangers};
use golden_metrics::{Cluster, RowKey, RowValue, Served};
use join::{Changes, Was};
use std::time::Duration;

/// Values that were not counted.
#[derive(Debug, Default)]
pub(crate) struct Uncounted {
    pub(crate) unreadable: u64,
    pub(crate) stranger: u64,
}

/// Gives names to what a replica keeps, and adds up what is counted.
pub(crate) struct Taking<'a> {
    pub(crate) now: Duration,
    pub(crate) node: &'a str,
    pub(crate) names: &'a mut Names,
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) loops: &'a mut Loops,
    pub(crate) served: Option<&'a mut Served>,
    /// Where pods ran; `None`: nobody tells.
    pub(crate) ran: Option<&'a Ran>,
    pub(crate) strangers: &'a mut Strangers,
    pub(crate) uncounted: Uncounted,
}

impl Taking<'_> {
    /// By the ends at which it was seen, of which all but those of a replayed capture have one.
    fn verdict(&self, key: &RowKey, was: Was<'_>) -> Verdict {
        let Some(ran) = self.ran else { return Verdict::Unjudged };
        let is_first = matches!(was, Was::Unknown);
        let verdicts = key.seen_at().map(|end| ran.verdict(self.node, end, is_first));
        verdicts.reduce(|a, b| if a == Verdict::Stranger { a } else { b }).unwrap_or(Verdict::Nobodys)
    }

    fn count(&mut self, name: &Name, key: &RowKey, was: Was<'_>, value: &[u8], verdict: Verdict) {
        let was = match was {
            Was::Value(was) => RowValue::read(was).map(Some),
            Was::New => Some(None),
            // Nobody knows how much of it is of late.
            Was::Unknown => None,
        };
        match (was, RowValue::read(value)) {
            (Some(was), Some(value)) => {
                self.cluster.count(self.now, key, was.as_ref(), &value);
                self.loops.count(self.now, name, was.as_ref(), &value);
                // What scales is pods of the cluster.
                if let Some(served) = self.served.as_mut().filter(|_| verdict != Verdict::Nobodys) {
                    served.count(key, was.as_ref(), &value);
                }
            }
            (None, Some(_)) => {}
            (_, None) => self.uncounted.unreadable += 1,
        }
    }
}

impl Changes for Taking<'_> {
    type Name = Name;

    fn named(&mut self, key: &[u8]) -> Option<Name> {
        self.names.get(key)
    }

    fn changed(&mut self, name: &Name, was: Was<'_>, value: &[u8]) {
        let Some(key) = name.row() else { return };
        // What it has not counted of late says nothing of where it runs now.
        if matches!(was, Was::Value(was) if was == value) && !self.strangers.has(name) {
            return;
        }
        let verdict = self.verdict(key, was);
        if verdict == Verdict::Stranger {
            self.uncounted.stranger += self.strangers.hold(self.now, name, was, value);
            return;
        }
        match self.strangers.release(name) {
            None => self.count(name, key, was, value, verdict),
            Some(Since::Value(was)) => self.count(name, key, Was::Value(&was), value, verdict),
            Some(Since::New) => self.count(name, key, Was::New, value, verdict),
        }
    }

    fn gone(&mut self, name: &Name, _: &[u8]) {
        self.uncounted.stranger += self.strangers.ended(name);
    }
}

/// Who has the names of copies that end.
pub(crate) struct Ending;

impl Changes for Ending {
    type Name = Name;

    fn named(&mut self, _: &[u8]) -> Option<Name> {
        None
    }

    fn changed(&mut self, _: &Name, _: Was<'_>, _: &[u8]) {}

    fn gone(&mut self, _: &Name, _: &[u8]) {}
}
