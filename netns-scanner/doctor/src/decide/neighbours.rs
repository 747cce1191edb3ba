//! `neighbours-full`: the node's one table of neighbours, for all its namespaces, has no room.

use crate::sample::{Counter, Delta};
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};

/// A table of neighbours, of one family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbours {
    /// How many are known, those included that never have to make room.
    pub entries: u64,
    /// How many there may be of the others (`gc_thresh3`); 0 where that is not known.
    pub most: u64,
    /// Times that there was no room, since the start.
    pub fulls: Counter,
}

/// Of the node, at the window's two ends; `family` is IPv4 or IPv6.
#[must_use]
pub fn neighbours_full(
    of: &Subject,
    family: &'static str,
    before: &Neighbours,
    after: &Neighbours,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let refused = Delta::between(before.fulls, after.fulls)?;
    let Neighbours { entries, most, .. } = *after;
    let share = entries as f64 / most.max(1) as f64;
    let is_full = most > 0 && share > thresholds.neighbours_share;
    let severity = match refused.count {
        1.. => Severity::Error,
        0 if is_full => Severity::Warning,
        0 => return None,
    };
    let mut summary = format!("{entries} of {most} {family} neighbours are known ({:.0} %)", share * 100.0);
    if refused.count > 0 {
        summary.push_str(&format!(", {} refused in {}", refused.count, seconds(refused.window)));
    }
    let mut finding = Finding::new(CheckId::NeighboursFull, severity, of, refused.window, summary)
        .with("family", family.to_owned())
        .with("entries", entries)
        .with("max", most)
        .with("share", share)
        .with("refused", refused.count)
        .with("window_s", refused.window.as_secs_f64());
    if refused.count == 0 {
        // Since 5.0 permanent entries, as some networks make them for each node, are not among those that
        // are limited (58956317c8de), and nothing tells how many they are.
        finding.certainty = Certainty::Likely;
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::Ts;

    fn find(entries: u64, refused: u64) -> Option<(Severity, Certainty, String)> {
        let table = |second: u64, fulls| {
            let fulls = Counter { at: Ts(second * 1_000_000_000), value: fulls };
            Neighbours { entries, most: 1024, fulls }
        };
        let thresholds = Thresholds::default();
        let found = neighbours_full(&Subject::node(), "IPv4", &table(0, 7), &table(30, 7 + refused), &thresholds);
        found.map(|found| (found.severity, found.certainty, found.summary))
    }

    #[test]
    fn a_table_is_full_where_it_refused_somebody_and_nearly_so_from_three_quarters_on() {
        assert_eq!(find(768, 0), None);
        let said = "769 of 1024 IPv4 neighbours are known (75 %)".to_owned();
        assert_eq!(find(769, 0), Some((Severity::Warning, Certainty::Likely, said)));
        let said = "1024 of 1024 IPv4 neighbours are known (100 %), 3 refused in 30 s".to_owned();
        assert_eq!(find(1024, 3), Some((Severity::Error, Certainty::Measured, said)));
        assert!(find(10, 1).is_some(), "it was full in between");
    }
}
