//! The API tells times by the clocks of nodes and API servers, packets have the kernel's monotonic one.

use crate::cluster::record::At;
use flow_model::Ts;
use std::time::{Duration, SystemTime};

/// One moment by two clocks: the observations' (the kernel's monotonic one), and the one that the API tells times by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub mono: Ts,
    /// Read together with `mono`: the difference of both dates what the API tells.
    pub wall: SystemTime,
}

/// Wall clock minus monotonic clock, as both were read together: one value while nobody sets the wall clock.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    least: i64,
    most: i64,
}

/// When something that the API dated began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Began {
    /// Not before.
    pub(super) from: At,
    /// How much later it may have been.
    pub(super) doubt: Duration,
}

#[derive(Debug)]
pub(super) struct Clock {
    window: i64,
    /// Of this window of time and the one before.
    offsets: [Option<Offsets>; 2],
    turned: At,
    last_guess: u32,
}

impl Clock {
    pub(super) fn new(window: Duration) -> Clock {
        Clock { window: nanos(window), offsets: [None, None], turned: At::MIN, last_guess: 0 }
    }

    pub(super) fn note(&mut self, now: Moment) {
        let mono = mono(now);
        let offset = wall(now.wall).saturating_sub(mono);
        if mono.saturating_sub(self.turned) >= self.window {
            self.offsets = [None, self.offsets[0]];
            self.turned = mono;
        }
        let Offsets { least, most } = self.offsets[0].unwrap_or(Offsets { least: offset, most: offset });
        self.offsets[0] = Some(Offsets { least: least.min(offset), most: most.max(offset) });
    }

    /// The moment that the API calls `seconds`. If the wall clock was stepped within `window`, the
    /// start is uncertain: returns a range. What is seen at `now` has begun by then, even if the
    /// API's clock is ahead.
    pub(super) fn began(&self, seconds: u32, now: Moment) -> Began {
        let dated = i64::from(seconds).saturating_mul(1_000_000_000);
        let current = wall(now.wall).saturating_sub(mono(now));
        let known = self.offsets.iter().flatten();
        let most = known.clone().map(|offsets| offsets.most).max().unwrap_or(current);
        let least = known.map(|offsets| offsets.least).min().unwrap_or(current);
        let from = dated.saturating_sub(most).min(mono(now));
        let latest = dated.saturating_sub(least).min(mono(now));
        Began { from, doubt: Duration::from_nanos(latest.saturating_sub(from).unsigned_abs()) }
    }

    /// Stands for the start of what the API does not date. Never goes back.
    pub(super) fn guess(&mut self, now: Moment) -> u32 {
        self.last_guess = self.last_guess.max(seconds(now.wall));
        self.last_guess
    }
}

/// `now` by the observations' clock.
pub(super) fn mono(now: Moment) -> At {
    At::try_from(now.mono.0).unwrap_or(At::MAX)
}

pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn wall(time: SystemTime) -> i64 {
    nanos(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Since 1970; the API writes whole seconds.
pub(super) fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// What the wall clock of `now` would have shown at `then`; None before 1970.
pub(super) fn wall_at(then: At, now: Moment) -> Option<SystemTime> {
    let past = mono(now).checked_sub(then)?;
    match u64::try_from(past) {
        Ok(past) => now.wall.checked_sub(Duration::from_nanos(past)),
        Err(_) => now.wall.checked_add(Duration::from_nanos(past.unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(mono: u64, wall: u64) -> Moment {
        let second = 1_000_000_000;
        Moment { mono: Ts(mono * second), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall) }
    }

    fn began(clock: &Clock, dated: u32, now: Moment) -> (i64, u64) {
        let Began { from, doubt } = clock.began(dated, now);
        (from / 1_000_000_000, doubt.as_secs())
    }

    #[test]
    fn a_dated_time_is_as_long_ago_by_both_clocks() {
        let mut clock = Clock::new(Duration::from_secs(600));
        let now = moment(100, 5_000);
        clock.note(now);
        assert_eq!(began(&clock, 4_990, now), (90, 0));
        assert_eq!(began(&clock, 4_000, now), (-900, 0), "before this machine was started");
        assert_eq!(began(&clock, 5_007, now), (100, 0), "a clock that is ahead");
    }

    #[test]
    fn after_the_wall_clock_was_set_a_dated_time_is_in_doubt_for_as_long_as_the_past_is_kept() {
        let mut clock = Clock::new(Duration::from_secs(600));
        clock.note(moment(100, 5_000));
        let after = moment(101, 8_601);
        clock.note(after);
        assert_eq!(began(&clock, 4_990, after), (-3_510, 3_600));
        for mono in [701, 1_302] {
            clock.note(moment(mono, mono + 8_500));
        }
        assert_eq!(began(&clock, 8_590, moment(1_302, 9_802)), (90, 0));
    }

    #[test]
    fn what_is_not_dated_is_ordered_though_the_clock_goes_back() {
        let mut clock = Clock::new(Duration::from_secs(600));
        assert_eq!([9, 4, 12].map(|wall| clock.guess(moment(1, wall))), [9, 9, 12]);
    }
}
