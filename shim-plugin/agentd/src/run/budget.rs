//! What background work may use of a CPU quota now (docs/decisions/0034). Pure: the time, and what
//! was used, come from outside.

use crate::run::quota::Quota;
use flow_model::Ts;
use std::collections::VecDeque;
use std::time::Duration;

/// What the process may have used within the last period when a piece of background work begins, in
/// hundredths of the quota. The rest is there for who asks, for the end of a piece that has begun,
/// and for what the kernel leaves unused on each CPU (up to a millisecond).
const SHARE: u32 = 75;
/// Whoever has to wait goes on when it is down to this: work in two bursts a period. A process that
/// wakes for each millisecond of work does it with cold caches, and needs more time for it.
const RESUME: u32 = 35;
/// So many periods is the longest that one piece waits: where traffic alone uses more than the
/// share, the rest still gets on.
const LONGEST: u32 = 2;
/// Between two questions.
const LEAST: Duration = Duration::from_millis(1);
/// What is remembered of a period. More is kept by the last one.
const MARKS: usize = 64;

/// What background work may use now, by what the whole process has used within the last period: the
/// kernel's period may begin at any moment, and has no more than that whenever it does.
#[derive(Clone, Debug)]
pub struct Budget {
    pub quota: Quota,
    /// Within the last period, and one before that; oldest first. Never empty.
    marks: VecDeque<Mark>,
    /// Somebody was told to wait, and it is not down to `RESUME` yet.
    waits: bool,
}

/// What the process had used by then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Ts,
    used: Duration,
}

impl Budget {
    /// Nothing is known of what was used before.
    #[must_use]
    pub fn new(quota: Quota, used: Duration, at: Ts) -> Budget {
        Budget { quota, marks: VecDeque::from([Mark { at, used }]), waits: false }
    }

    /// How long a piece is to wait that has waited for `waited`. `None`: it may begin.
    pub fn wait(&mut self, used: Duration, now: Ts, waited: Duration) -> Option<Duration> {
        self.mark(Mark { at: now, used });
        let most = self.hundredths(if self.waits { RESUME } else { SHARE });
        self.waits = self.within_a_period(used, now) >= most;
        if !self.waits || waited >= self.quota.period * LONGEST {
            return None;
        }
        // What is used meanwhile is seen then.
        let leave = used.saturating_sub(self.hundredths(RESUME));
        let free = self.reached(leave).plus(self.quota.period);
        Some(free.since(now).max(LEAST))
    }

    fn hundredths(&self, share: u32) -> Duration {
        self.quota.time / 100 * share
    }

    /// What was used since a period ago.
    fn within_a_period(&self, used: Duration, now: Ts) -> Duration {
        let begin = Ts(now.0.saturating_sub(nanos(self.quota.period)));
        let after = self.marks.partition_point(|mark| mark.at <= begin);
        let used_before = match (after.checked_sub(1).and_then(|before| self.marks.get(before)), self.marks.get(after))
        {
            (Some(before), Some(after)) => {
                let used = nanos(after.used.saturating_sub(before.used));
                before.used + Duration::from_nanos(part(used, begin.since(before.at), after.at.since(before.at)))
            }
            (Some(only), None) | (None, Some(only)) => only.used,
            (None, None) => used,
        };
        used.saturating_sub(used_before)
    }

    /// When so much had been used.
    fn reached(&self, used: Duration) -> Ts {
        let after = self.marks.partition_point(|mark| mark.used < used);
        match (after.checked_sub(1).and_then(|before| self.marks.get(before)), self.marks.get(after)) {
            (Some(before), Some(after)) => {
                let apart = nanos(after.at.since(before.at));
                let part = part(apart, used.saturating_sub(before.used), after.used.saturating_sub(before.used));
                before.at.plus(Duration::from_nanos(part))
            }
            (Some(only), None) | (None, Some(only)) => only.at,
            (None, None) => Ts(0),
        }
    }

    fn mark(&mut self, mark: Mark) {
        let Mark { at, .. } = mark;
        let apart = self.quota.period / MARKS as u32;
        // The last one moves on until it is far enough from the one before.
        let mut last = self.marks.iter().rev();
        if let (Some(last), Some(before)) = (last.next(), last.next())
            && last.at.since(before.at) < apart
        {
            self.marks.pop_back();
        }
        self.marks.push_back(mark);
        let is_past = |mark: &Mark| mark.at.plus(self.quota.period) <= at;
        while self.marks.len() > MARKS + 3 || self.marks.get(1).is_some_and(is_past) {
            self.marks.pop_front();
        }
    }
}

/// So much of `all` as `some` is of `whole`, evenly.
fn part(all: u64, some: Duration, whole: Duration) -> u64 {
    let part = u128::from(all).saturating_mul(some.as_nanos()) / whole.as_nanos().max(1);
    u64::try_from(part).unwrap_or(u64::MAX).min(all)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn tenth() -> Quota {
        Quota { time: MS * 10, period: MS * 100 }
    }

    /// Time and use as a test lets them pass.
    struct Process {
        budget: Budget,
        now: Duration,
        used: Duration,
        /// When it worked, and for how long.
        worked: Vec<(Duration, Duration)>,
    }

    impl Process {
        fn new(quota: Quota) -> Process {
            let budget = Budget::new(quota, Duration::ZERO, Ts(0));
            Process { budget, now: Duration::ZERO, used: Duration::ZERO, worked: Vec::new() }
        }

        fn ask(&mut self, waited: Duration) -> Option<Duration> {
            self.budget.wait(self.used, Ts(nanos(self.now)), waited)
        }

        /// Waits as it is told to; returns for how long, and how often it asked.
        fn turn(&mut self) -> (Duration, u32) {
            let (begun, mut asked) = (self.now, 1);
            while let Some(wait) = self.ask(self.now - begun) {
                self.now += wait;
                asked += 1;
            }
            (self.now - begun, asked)
        }

        fn work(&mut self, time: Duration) {
            self.worked.push((self.now, time));
            self.now += time;
            self.used += time;
        }

        /// The most that was used between `begin` of a piece and a period later.
        fn most_within_a_period(&self) -> Duration {
            let period = self.budget.quota.period;
            let within = |begin: Duration| {
                let pieces = self.worked.iter().filter(move |(at, _)| *at >= begin && *at < begin + period);
                pieces.map(|(at, time)| (*time).min(begin + period - *at)).sum()
            };
            self.worked.iter().map(|(begin, _)| within(*begin)).max().unwrap_or_default()
        }
    }

    #[test]
    fn background_work_gets_its_share_and_no_more() {
        let mut process = Process::new(tenth());
        while process.now < MS * 10_000 {
            process.turn();
            process.work(MS / 2);
        }
        let share = process.used.as_secs_f64() / process.now.as_secs_f64();
        let most = f64::from(SHARE) / 1_000.0;
        assert!((0.8 * most..1.03 * most).contains(&share), "{share} of {most}");
        let most = tenth().time / 100 * SHARE + MS / 2;
        assert!(process.most_within_a_period() <= most, "{:?}", process.most_within_a_period());
    }

    #[test]
    fn it_works_twice_a_period_and_not_for_each_piece() {
        let mut process = Process::new(tenth());
        let (mut waits, mut questions) = (0, 0);
        while process.now < MS * 10_000 {
            let (waited, asked) = process.turn();
            waits += u32::from(!waited.is_zero());
            questions += asked - 1;
            process.work(MS / 4);
        }
        assert!(waits <= 220, "{waits} waits in 100 periods");
        assert!(questions <= 2 * waits, "{questions} wakes for {waits} waits");
    }

    #[test]
    fn a_rest_saves_nothing_beyond_a_period() {
        let mut process = Process::new(tenth());
        process.now = MS * 60_000;
        let mut at_once = Duration::ZERO;
        while process.turn().0.is_zero() {
            process.work(MS / 10);
            at_once += MS / 10;
        }
        let share = tenth().time / 100 * SHARE;
        assert!(at_once >= share && at_once <= share + MS / 10, "{at_once:?}");
    }

    #[test]
    fn what_others_of_the_process_use_is_paid_for_by_background_work() {
        let mut process = Process::new(tenth());
        process.turn();
        process.work(MS * 9);
        let (waited, _) = process.turn();
        assert!(waited >= MS * 90 && waited <= MS * 100, "{waited:?}");
        // A long burst is forgotten after a period.
        process.work(MS * 5_000);
        assert!(process.turn().0 <= MS * 101);
    }

    #[test]
    fn nobody_waits_for_ever_beside_traffic() {
        let mut process = Process::new(tenth());
        let mut pieces = 0;
        while process.now < MS * 10_000 {
            let begun = process.now;
            while let Some(wait) = process.ask(process.now - begun) {
                // All the time that it waits the pipeline uses all that there is.
                process.now += wait;
                process.used += wait;
            }
            assert!(process.now - begun <= MS * 302);
            pieces += 1;
            process.work(MS);
        }
        assert!(pieces >= 30, "{pieces}");
    }

    proptest! {
        /// Within any period the whole process uses the share and one piece beyond, whatever the
        /// pieces are and whenever they come; and every wait ends.
        #[test]
        fn no_period_has_more_than_its_share(
            pieces in prop::collection::vec((1_u64..1_000, 0_u64..30_000), 1..400),
            percent in 1_u32..200,
        ) {
            let quota = Quota { time: MS * percent, period: MS * 100 };
            let mut process = Process::new(quota);
            for (work_us, rest_us) in pieces {
                let (waited, asked) = process.turn();
                prop_assert!(waited <= quota.period * (LONGEST + 2) && asked <= 250, "{waited:?}, {asked} questions");
                process.work(Duration::from_micros(work_us));
                process.now += Duration::from_micros(rest_us);
                prop_assert!(process.budget.marks.len() <= MARKS + 3);
            }
            // What is between two marks is taken to be used evenly.
            let most = quota.time / 100 * SHARE + MS * 3;
            let used = process.most_within_a_period();
            prop_assert!(used <= most, "{used:?} of {most:?}");
        }

        /// Whatever clocks say, nothing overflows.
        #[test]
        fn no_clock_breaks_it(looks in prop::collection::vec(any::<(u64, u64, u64)>(), 1..50), time in 1_u64.., period in 1_u64..) {
            let quota = Quota { time: Duration::from_micros(time / 1000), period: Duration::from_micros(period / 1000) };
            let mut budget = Budget::new(quota, Duration::ZERO, Ts(0));
            for (used, now, waited) in looks {
                let _ = budget.wait(Duration::from_nanos(used), Ts(now), Duration::from_nanos(waited));
            }
        }
    }
}
