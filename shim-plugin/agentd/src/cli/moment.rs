//! Moments for machines and people: `rfc3339` with parts of a second, and the time of day.

use flow_model::rfc3339;
use std::time::SystemTime;

const DAY: u64 = 86_400;

/// RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339_millis(moment: SystemTime) -> String {
    let millis = moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    format!("{}.{millis:03}Z", rfc3339(moment).trim_end_matches('Z'))
}

/// The time of day in UTC, to a tenth of a second.
#[must_use]
pub fn clock_time(moment: SystemTime) -> String {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let rest = since.as_secs() % DAY;
    format!("{:02}:{:02}:{:02}.{}", rest / 3600, rest / 60 % 60, rest % 60, since.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_moment_has_parts_of_a_second() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(951_827_696_095);
        assert_eq!(rfc3339_millis(moment), "2000-02-29T12:34:56.095Z");
        assert_eq!(clock_time(moment), "12:34:56.0");
    }
}
