//! One back-off for everything that is sent to one API server.
//!
//! While the server answers, the gate is open and nobody waits. After a failure that says something
//! of the server (refused, reset, no answer in time, 5xx, 401) it is shut, and one watch at a time
//! sends a probe, a request that costs the server next to nothing; everybody else waits for what
//! becomes of it. A failure that says something of one resource only (403, 404, 410) never comes
//! here, so it delays nobody else.
//!
//! Pure: time and jitter are passed in.

use std::time::{Duration, Instant};

/// How long to wait after failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure; doubled by each further one.
    pub first: Duration,
    /// The longest wait while the trouble is younger than `long_after`.
    pub cap: Duration,
    /// The longest wait of all.
    pub long_cap: Duration,
    /// Since the first failure in a row; from then on `long_cap` bounds the wait.
    pub long_after: Duration,
}

impl Default for Backoff {
    /// 6 s: with an attempt that may take 10 s, a server that was frozen for 120 s has seen about 8
    /// attempts and is found again at most 6 s after it returns; one that accepts and closes at
    /// once sees 17 attempts in 60 s at most. 30 s once it has been away for 5 min: 5,000 agents
    /// are then 170 attempts a second and not 800.
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_millis(500),
            cap: Duration::from_secs(6),
            long_cap: Duration::from_secs(30),
            long_after: Duration::from_secs(300),
        }
    }
}

impl Backoff {
    /// The wait after `failures` in a row of a trouble that is `age` old. `jitter` in [0, 1) takes
    /// away up to a quarter, so that clients which failed together do not come back together.
    #[must_use]
    pub fn wait(&self, failures: u32, age: Duration, jitter: f64) -> Duration {
        let cap = if age >= self.long_after { self.long_cap } else { self.cap };
        let doublings = failures.saturating_sub(1).min(20);
        let whole = self.first.saturating_mul(1 << doublings).min(cap);
        whole.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
    }
}

/// May this watch try now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The gate is open.
    Go,
    /// Send a probe first, and tell what came of it.
    Probe,
    NotBefore(Instant),
    /// Another watch probes: wait for what comes of it.
    AfterProbe,
}

/// `W` tells the watches apart.
#[derive(Debug)]
pub struct Gate<W> {
    backoff: Backoff,
    trouble: Option<Trouble>,
    probe: Option<W>,
}

#[derive(Clone, Copy, Debug)]
struct Trouble {
    since: Instant,
    failures: u32,
    not_before: Instant,
}

impl<W: Copy + PartialEq> Gate<W> {
    /// Shut until the first probe is answered: what was never tried has not answered yet.
    #[must_use]
    pub fn new(backoff: Backoff, now: Instant) -> Gate<W> {
        Gate { backoff, trouble: Some(Trouble { since: now, failures: 0, not_before: now }), probe: None }
    }

    /// After `Probe`, `who` owes `proven` or `failed`.
    pub fn ask(&mut self, who: W, now: Instant) -> Answer {
        let Some(trouble) = self.trouble else { return Answer::Go };
        match self.probe {
            Some(probe) if probe != who => Answer::AfterProbe,
            _ if now < trouble.not_before => Answer::NotBefore(trouble.not_before),
            _ => {
                self.probe = Some(who);
                Answer::Probe
            }
        }
    }

    /// The server answered the probe of `who`. Others prove nothing: they may hold an older connection.
    pub fn proven(&mut self, who: W) {
        if self.probe == Some(who) {
            self.trouble = None;
            self.probe = None;
        }
    }

    /// `at_least` is what the server itself asked for (`Retry-After`); more than the longest wait is not believed.
    pub fn failed(&mut self, who: W, now: Instant, at_least: Option<Duration>, jitter: f64) {
        match self.probe {
            // Attempts that began while the gate was open and fail now tell the same trouble once more.
            Some(probe) if probe != who => return,
            None if self.trouble.is_some_and(|trouble| trouble.failures > 0) => return,
            _ => self.probe = None,
        }
        let trouble = self.trouble.get_or_insert(Trouble { since: now, failures: 0, not_before: now });
        trouble.failures = trouble.failures.saturating_add(1);
        let age = now.saturating_duration_since(trouble.since);
        let wait = self.backoff.wait(trouble.failures, age, jitter);
        let asked = at_least.unwrap_or_default().min(self.backoff.long_cap);
        trouble.not_before = now + wait.max(asked);
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.trouble.is_none()
    }

    /// Since when the server has not answered. A gate that was never tried is in no trouble yet.
    #[must_use]
    pub fn in_trouble_since(&self) -> Option<Instant> {
        self.trouble.filter(|trouble| trouble.failures > 0).map(|trouble| trouble.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Plays five watches whose connections all break at once, against a server whose probes take
    /// `takes` and are answered from `back_at` on. Says how many connections were tried before
    /// that, and when the first one was answered.
    fn play(takes: Duration, back_at: Duration, length: Duration, jitter: f64) -> (u32, Option<Duration>) {
        let start = Instant::now();
        let mut gate = Gate::new(Backoff::default(), start);
        assert_eq!(gate.ask(0, start), Answer::Probe);
        gate.proven(0);
        (0..5).for_each(|watch| gate.failed(watch, start, None, jitter));
        let mut attempts = 5;
        let mut probe: Option<(u8, Instant)> = None;
        let mut now = start;
        while now < start + length {
            if let Some((watch, begun)) = probe.filter(|(_, begun)| now >= *begun + takes) {
                if begun >= start + back_at {
                    return (attempts, Some(begun - start));
                }
                gate.failed(watch, now, None, jitter);
                probe = None;
            }
            for watch in 0..5 {
                if gate.ask(watch, now) == Answer::Probe && probe.is_none() {
                    probe = Some((watch, now));
                    attempts += 1;
                }
            }
            now += 50 * MS;
        }
        (attempts, None)
    }

    #[test]
    fn a_server_that_accepts_and_closes_sees_at_most_20_attempts_in_a_minute() {
        for jitter in [0.0, 0.5, 0.999] {
            let (attempts, _) = play(Duration::ZERO, Duration::from_secs(3_600), Duration::from_secs(60), jitter);
            assert!((5..=20).contains(&attempts), "{attempts} attempts with {jitter}");
        }
    }

    #[test]
    fn a_frozen_server_sees_few_attempts_and_is_found_again_within_the_cap() {
        for (jitter, frozen) in [(0.0, 120), (0.5, 121), (0.999, 122), (0.3, 127)] {
            let frozen = Duration::from_secs(frozen);
            let (attempts, found) = play(Duration::from_secs(10), frozen, Duration::from_secs(200), jitter);
            assert!(attempts <= 20, "{attempts} attempts");
            // An attempt that is under way when the server returns is answered by it; here it runs
            // into its time-out first.
            let late = found.expect("found again") - frozen;
            assert!(late <= Duration::from_secs(16), "{late:?}");
        }
    }

    #[test]
    fn one_probe_at_a_time_and_all_go_when_it_is_proven() {
        let now = Instant::now();
        let mut gate = Gate::new(Backoff::default(), now);
        assert_eq!(gate.ask('a', now), Answer::Probe);
        assert_eq!(gate.ask('b', now), Answer::AfterProbe);
        gate.proven('b');
        assert_eq!(gate.ask('b', now), Answer::AfterProbe, "only the probe can prove something");
        gate.proven('a');
        assert_eq!([gate.ask('b', now), gate.ask('c', now)], [Answer::Go, Answer::Go]);
        assert_eq!(gate.in_trouble_since(), None);
    }

    #[test]
    fn failures_of_one_moment_count_once() {
        let now = Instant::now();
        let mut gate = Gate::new(Backoff::default(), now);
        assert_eq!(gate.ask('a', now), Answer::Probe);
        gate.proven('a');
        assert!(gate.is_open());
        for who in ['a', 'b', 'c', 'd', 'e'] {
            gate.failed(who, now, None, 0.0);
        }
        assert_eq!(
            gate.ask('c', now),
            Answer::NotBefore(now + 500 * MS),
            "five connections of one server broke: one failure"
        );
        assert_eq!(gate.in_trouble_since(), Some(now));
    }

    #[test]
    fn what_the_server_asks_for_is_kept_within_reason() {
        let now = Instant::now();
        let mut gate = Gate::new(Backoff::default(), now);
        assert_eq!(gate.ask('a', now), Answer::Probe);
        gate.failed('a', now, Some(Duration::from_secs(9)), 0.0);
        assert_eq!(gate.ask('a', now), Answer::NotBefore(now + Duration::from_secs(9)));
        let later = now + Duration::from_secs(9);
        assert_eq!(gate.ask('a', later), Answer::Probe);
        gate.failed('a', later, Some(Duration::from_secs(86_400)), 0.0);
        assert_eq!(gate.ask('a', later), Answer::NotBefore(later + Duration::from_secs(30)));
    }

    #[test]
    fn the_wait_grows_to_its_cap_and_later_to_the_long_one() {
        let backoff = Backoff::default();
        let waits: Vec<u128> = (1..8).map(|n| backoff.wait(n, Duration::ZERO, 0.0).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 6_000, 6_000, 6_000]);
        assert_eq!(backoff.wait(u32::MAX, Duration::from_secs(300), 0.0), Duration::from_secs(30));
        assert_eq!(backoff.wait(u32::MAX, Duration::ZERO, 1.0), Duration::from_millis(4_500));
    }
}
