//! `conntrack-full`: the table of connections has no room, and the kernel drops what is new.

use crate::sample::{Conntrack, Counter, Delta};
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};

/// Of a namespace, at the window's two ends.
#[must_use]
pub fn conntrack_full(of: &Subject, before: &Conntrack, after: &Conntrack, thresholds: &Thresholds) -> Option<Finding> {
    let delta = |of: fn(&Conntrack) -> Counter| Delta::between(of(before), of(after));
    let drops = delta(|table| table.drops)?;
    let pushed_out = delta(|table| table.pushed_out)?;
    let insert_failed = delta(|table| table.insert_failed)?;
    let Conntrack { entries, most, .. } = *after;
    let share = entries as f64 / most.max(1) as f64;
    let is_full = most > 0 && share > thresholds.conntrack_share;
    // A table that is full of flows that nobody answered makes room for new ones and loses nothing. A
    // packet that met another one of its flow is dropped, too, whatever the room (`dns-retry`).
    let dropped = drops.count.saturating_sub(insert_failed.count);
    let severity = match (dropped, pushed_out.count) {
        (1.., _) => Severity::Error,
        (0, 1..) => Severity::Warning,
        _ if is_full => Severity::Warning,
        _ => return None,
    };
    let mut summary = format!("{entries} of {most} connections are followed ({:.0} %)", share * 100.0);
    let window = seconds(drops.window);
    match (dropped, pushed_out.count) {
        (0, 0) => {}
        (0, out) => summary.push_str(&format!(", {out} pushed out in {window} to make room")),
        (dropped, _) => summary.push_str(&format!(", {dropped} packets of new ones dropped in {window}")),
    }
    let finding = Finding::new(CheckId::ConntrackFull, severity, of, drops.window, summary)
        .with("entries", entries)
        .with("max", most)
        .with("share", share)
        .with("dropped", dropped)
        .with("pushed_out", pushed_out.count)
        .with("insert_failed", insert_failed.count)
        .with("window_s", drops.window.as_secs_f64());
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::Ts;

    fn table(second: u64, entries: u64, [drops, pushed_out, insert_failed]: [u64; 3]) -> Conntrack {
        let counter = |value| Counter { at: Ts(second * 1_000_000_000), value };
        Conntrack {
            entries,
            most: 1000,
            drops: counter(drops),
            pushed_out: counter(pushed_out),
            insert_failed: counter(insert_failed),
        }
    }

    fn find(entries: u64, counts: [u64; 3]) -> Option<(Severity, String)> {
        let (before, after) = (table(1, 500, [7, 7, 7]), table(3, entries, counts.map(|count| count + 7)));
        let found = conntrack_full(&Subject::default(), &before, &after, &Thresholds::default());
        found.map(|found| (found.severity, found.summary))
    }

    #[test]
    fn four_fifths_are_a_warning_and_a_drop_there_is_an_error() {
        assert_eq!(find(800, [0, 0, 0]), None);
        assert_eq!(
            find(801, [0, 0, 0]),
            Some((Severity::Warning, "801 of 1000 connections are followed (80 %)".into()))
        );
        let said = "1000 of 1000 connections are followed (100 %), 40 packets of new ones dropped in 2.0 s".to_owned();
        assert_eq!(find(1000, [40, 3, 0]), Some((Severity::Error, said)));
        assert_eq!(find(10, [40, 0, 0]).map(|found| found.0), Some(Severity::Error), "it was full a moment ago");
        assert_eq!(find(10, [900, 0, 900]), None, "two packets of one flow at once");
    }

    #[test]
    fn what_is_pushed_out_makes_room() {
        let said = "990 of 1000 connections are followed (99 %), 5 pushed out in 2.0 s to make room".to_owned();
        assert_eq!(find(990, [0, 5, 0]), Some((Severity::Warning, said)));
        assert_eq!(find(10, [0, 5, 0]).map(|found| found.0), Some(Severity::Warning), "it was full a moment ago");
    }

    #[test]
    fn a_table_of_no_known_size_is_not_full_and_no_time_is_no_window() {
        let none = |table: Conntrack| Conntrack { most: 0, ..table };
        let (before, after) = (none(table(1, 5, [0; 3])), none(table(3, 5, [0; 3])));
        assert_eq!(conntrack_full(&Subject::default(), &before, &after, &Thresholds::default()), None);
        let same = table(1, 1000, [9; 3]);
        assert_eq!(conntrack_full(&Subject::default(), &same, &same, &Thresholds::default()), None);
    }
}
