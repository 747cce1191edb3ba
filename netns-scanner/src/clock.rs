//! How the kernel keeps the time of day, as adjtimex(2) tells it: whoever keeps the clock right says so there.

use crate::sys;
use nix::errno::Errno;
use std::time::Duration;

// linux/timex.h
const STA_UNSYNC: i32 = 0x0040;
const STA_NANO: i32 = 0x2000;

/// What is known of how right the clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// Somebody keeps it right.
    pub synchronised: bool,
    /// How wrong it may be at most. Grows by 0.5 ms a second while nobody says more, up to 16 s.
    pub max_error: Duration,
    /// By how much the kernel still has to move it, in either direction.
    pub offset: Duration,
}

impl TimeOfDay {
    /// Now. Changes nothing.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason to.
    pub fn read() -> Result<TimeOfDay, Errno> {
        Ok(TimeOfDay::told(sys::adjtimex()?))
    }

    fn told(sys::Timex { status, max_error_us, offset }: sys::Timex) -> TimeOfDay {
        let offset = offset.unsigned_abs();
        let offset = if status & STA_NANO == 0 { Duration::from_micros(offset) } else { Duration::from_nanos(offset) };
        let max_error = Duration::from_micros(u64::try_from(max_error_us).unwrap_or(0));
        TimeOfDay { synchronised: status & STA_UNSYNC == 0, max_error, offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_of_nanoseconds_where_the_kernel_says_so_and_goes_both_ways() {
        let told = |status, max_error_us, offset| TimeOfDay::told(sys::Timex { status, max_error_us, offset });
        let (max_error, offset) = (Duration::from_secs(16), Duration::from_millis(60));
        assert_eq!(told(STA_UNSYNC, 16_000_000, -60_000), TimeOfDay { synchronised: false, max_error, offset });
        assert_eq!(told(STA_NANO | 1, 16_000_000, 60_000_000), TimeOfDay { synchronised: true, max_error, offset });
        assert_eq!(told(0, -1, i64::MIN).max_error, Duration::ZERO);
    }

    #[test]
    fn the_kernel_tells_anybody() {
        assert!(TimeOfDay::read().is_ok());
    }
}
