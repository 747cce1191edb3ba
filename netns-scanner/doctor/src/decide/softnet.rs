//! `softnet`: packets come faster than a processor takes them in, and its queue drops them.

use crate::sample::{Counter, Delta};
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};

/// Of all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softnet {
    /// Packets for which a queue had no room, since the start.
    pub dropped: Counter,
    /// Times that one stopped with work left: its budget or its time was over.
    pub squeezed: Counter,
}

/// Of the node, at the window's two ends. A budget that ran out loses nothing, and a node under load runs out
/// of it: that is told beside a loss, and never alone.
#[must_use]
pub fn softnet(of: &Subject, before: &Softnet, after: &Softnet, thresholds: &Thresholds) -> Option<Finding> {
    let dropped = Delta::between(before.dropped, after.dropped)?;
    let squeezed = Delta::between(before.squeezed, after.squeezed)?;
    if dropped.count <= thresholds.softnet_drops {
        return None;
    }
    let summary = format!(
        "{} packets dropped in {} because a processor's queue was full; {} times one ran out of its budget",
        dropped.count,
        seconds(dropped.window),
        squeezed.count
    );
    let finding = Finding::new(CheckId::Softnet, Severity::Warning, of, dropped.window, summary)
        .with("dropped", dropped.count)
        .with("rate", dropped.rate())
        .with("squeezed", squeezed.count)
        .with("window_s", dropped.window.as_secs_f64());
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::Ts;

    fn find(dropped: u64, squeezed: u64) -> Option<String> {
        let counts = |second: u64, dropped, squeezed| {
            let counter = |value| Counter { at: Ts(second * 1_000_000_000), value };
            Softnet { dropped: counter(dropped), squeezed: counter(squeezed) }
        };
        let (before, after) = (counts(0, 5, 5), counts(30, 5 + dropped, 5 + squeezed));
        softnet(&Subject::node(), &before, &after, &Thresholds::default()).map(|found| found.summary)
    }

    #[test]
    fn more_than_ten_drops_and_a_budget_alone_is_nothing() {
        assert_eq!((find(10, 0), find(0, 10_000)), (None, None));
        let said = "11 packets dropped in 30 s because a processor's queue was full; 4 times one ran out of its budget";
        assert_eq!(find(11, 4).as_deref(), Some(said));
    }
}
