//! `clock`: nobody keeps the node's time of day right.

use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use netns_scanner::clock::TimeOfDay;
use std::time::Duration;

/// Of the node. That nobody keeps the clock right is evidence alone: by how much it is wrong is not known then,
/// and on many virtual machines it is right.
#[must_use]
pub fn clock(of: &Subject, time: TimeOfDay, thresholds: &Thresholds) -> Option<Finding> {
    let TimeOfDay { synchronised, max_error, offset } = time;
    let (severity, summary) = if offset > thresholds.clock_offset {
        (Severity::Warning, format!("the clock is wrong by {} ms", offset.as_millis()))
    } else if !synchronised && max_error >= thresholds.clock_error {
        (Severity::Info, format!("nobody keeps the clock right: it may be wrong by {} or more", seconds(max_error)))
    } else {
        return None;
    };
    let finding = Finding::new(CheckId::Clock, severity, of, Duration::ZERO, summary)
        .with("synchronised", u64::from(synchronised))
        .with("max_error_s", max_error.as_secs_f64())
        .with("offset_s", offset.as_secs_f64());
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_keeps_and_one_that_is_far_off_are_found() {
        let find = |synchronised, max_error, offset| {
            let (max_error, offset) = (Duration::from_millis(max_error), Duration::from_millis(offset));
            let time = TimeOfDay { synchronised, max_error, offset };
            clock(&Subject::node(), time, &Thresholds::default()).map(|found| (found.severity, found.summary))
        };
        let told = |severity, text: &str| Some((severity, text.to_owned()));
        let said = "nobody keeps the clock right: it may be wrong by 16 s or more";
        assert_eq!(find(false, 16_000, 0), told(Severity::Info, said));
        assert_eq!(find(false, 15_999, 0), None, "it was kept right not long ago");
        assert_eq!(find(true, 16_000, 50), None);
        assert_eq!(find(true, 10, 51), told(Severity::Warning, "the clock is wrong by 51 ms"));
        assert_eq!(find(false, 16_000, 51), told(Severity::Warning, "the clock is wrong by 51 ms"), "it is known");
    }
}
