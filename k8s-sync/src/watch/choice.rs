//! Whether names come from watches of one's own, or from a companion that watches for all.
//!
//! A companion that comes or goes makes no herd: an agent that can ask the API server leaves its own
//! watches only after a companion was there for long, and comes back to them, in its turn to list,
//! only after it was away for long. What it knew stays meanwhile.

use std::time::Duration;

/// For so long a companion must be there, or away.
pub(super) const LONG: Duration = Duration::from_secs(10 * 60);
/// Where an API server is said to be is looked for again after this.
const LOOK: Duration = Duration::from_secs(60);

/// Where names come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum From {
    /// Watches of this process, or the search for an API server.
    #[default]
    Own,
    /// The companion's.
    Companion,
}

/// See the module. Times are since some moment.
#[derive(Debug, Default)]
pub(super) struct Choice {
    from: From,
    /// The companion tells names, and since when that is so or not.
    is_there: bool,
    since: Duration,
    looked: Option<Duration>,
}

impl Choice {
    /// To be called every second or so. `has_own` says whether it is known where an API server is; it
    /// may read files.
    pub(super) fn step(&mut self, now: Duration, is_there: bool, has_own: impl FnOnce() -> bool) -> From {
        if is_there != self.is_there {
            (self.is_there, self.since, self.looked) = (is_there, now, None);
        }
        let is_long = now.saturating_sub(self.since) >= LONG;
        let may_look = self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK);
        match (self.from, is_there) {
            (From::Own, true) if is_long => self.from = From::Companion,
            (From::Own, true) if may_look => {
                self.looked = Some(now);
                if !has_own() {
                    self.from = From::Companion;
                }
            }
            (From::Companion, false) if is_long && may_look => {
                self.looked = Some(now);
                if has_own() {
                    self.from = From::Own;
                }
            }
            _ => {}
        }
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn who_has_no_api_server_takes_what_a_companion_tells_at_once_and_keeps_it() {
        let mut choice = Choice::default();
        assert_eq!(choice.step(S, false, || false), From::Own);
        assert_eq!(choice.step(2 * S, true, || false), From::Companion);
        for hour in 1..5 {
            assert_eq!(choice.step(3_600 * S * hour, false, || false), From::Companion);
        }
        // Somebody has put a kubeconfig there.
        assert_eq!(choice.step(20_000 * S, false, || true), From::Own);
    }

    #[test]
    fn own_watches_end_after_ten_minutes_with_a_companion_and_begin_after_ten_without() {
        let mut choice = Choice::default();
        for second in 0..600 {
            assert_eq!(choice.step(S * second, true, || true), From::Own, "{second}");
        }
        assert_eq!(choice.step(600 * S, true, || true), From::Companion);
        for second in 601..1_201 {
            assert_eq!(choice.step(S * second, false, || true), From::Companion, "{second}");
        }
        assert_eq!(choice.step(1_201 * S, false, || true), From::Own);
    }

    proptest! {
        /// However a companion comes and goes, an agent with an API server changes at most once in
        /// ten minutes, and reads files at most once a minute.
        #[test]
        fn a_companion_that_comes_and_goes_makes_no_herd(there in proptest::collection::vec((any::<bool>(), 1u32..900), 1..60)) {
            let (mut choice, mut now, mut from, mut changed) = (Choice::default(), Duration::ZERO, From::Own, None);
            for (is_there, seconds) in there {
                for _ in 0..seconds {
                    now += S;
                    let next = choice.step(now, is_there, || true);
                    if next != from {
                        prop_assert!(changed.is_none_or(|at| now - at >= LONG));
                        (from, changed) = (next, Some(now));
                    }
                }
            }
        }
    }
}
