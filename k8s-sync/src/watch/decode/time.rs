//! `metav1.Time`: RFC 3339 in UTC with whole seconds, as the API writes it.

use std::time::{Duration, SystemTime};

/// None for anything else, and for years before 1970.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':').map(number);
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    let is_sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hours < 24
        && minutes < 60
        && seconds <= 60;
    if !is_sane {
        return None;
    }
    let days = days_before_year(year) - days_before_year(1970) + days_before_month(year, month) + day - 1;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

fn number(digits: &str) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// Days of the Gregorian calendar from year 1 to the first day of `year`.
fn days_before_year(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    past * 365 + past / 4 - past / 100 + past / 400
}

fn days_before_month(year: u64, month: u64) -> u64 {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months = usize::try_from(month.saturating_sub(1)).unwrap_or(0);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    DAYS.iter().take(months).sum::<u64>() + u64::from(is_leap && month > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_the_api_writes_them() {
        // The right side by `date -u -d ... +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-11-21T06:30:00Z", 1_795_242_600),
            ("2024-12-31T23:59:60Z", 1_735_689_600),
            ("2026-11-21T06:30:00.123456Z", 1_795_242_600),
        ] {
            assert_eq!(parse(text), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in [
            "",
            "Z",
            "T",
            "2026-11-21",
            "2026-11-21T06:30:00+01:00",
            "2026-13-01T00:00:00Z",
            "-1-1-1T1:1:1Z",
            "1969-12-31T23:59:59Z",
            "99999999999999999999-01-01T00:00:00Z",
            "2026-00-00T00:00:00Z",
            "2026-11-21T::Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
