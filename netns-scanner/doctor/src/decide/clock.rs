//! `clock`: nobody keeps the node's time of day right.

use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use netns_scanner::clock::TimeOfDay;
use std::time::Duration;

/// Of the node.
#[must_use]
pub fn clock(of: &Subject, time: TimeOfDay, thresholds: &Thresholds) -> Option<Finding> {
    let TimeOfDay { synchronised, max_error, offset } = time;
    let summary = if !synchronised && max_error >= thresholds.clock_error {
        format!("nobody keeps the clock right: it may be wrong by {} or more", seconds(max_error))
    } else if offset > thresholds.clock_offset {
        format!("the clock is wrong by {} ms", offset.as_millis())
    } else {
        return None;
    };
    let finding = Finding::new(CheckId::Clock, Severity::Warning, of, Duration::ZERO, summary)
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
            clock(&Subject::node(), time, &Thresholds::default()).map(|found| found.summary)
        };
        assert_eq!(
            find(false, 16_000, 0).as_deref(),
            Some("nobody keeps the clock right: it may be wrong by 16 s or more")
        );
        assert_eq!(find(false, 15_999, 0), None, "it was kept right not long ago");
        assert_eq!(find(true, 16_000, 50), None);
        assert_eq!(find(true, 10, 51).as_deref(), Some("the clock is wrong by 51 ms"));
    }
}
