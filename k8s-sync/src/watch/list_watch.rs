//! The list-and-watch of one resource as a state machine: outcome in, next step and wait out.
//!
//! ```text
//!            list ended                 stream ended, broke, fell silent: same version
//!   List ───────────────▶ Watch(version) ─────────────────────────────────▶ Watch(version)
//!    ▲                        │
//!    └────────────────────────┘ 410 in the stream; a version that goes back;
//!                               a start refused with 410 or 504 three times in a row
//! ```
//!
//! It never ends, and it never goes round without a wait that grows: a stream that lived for less
//! than `SHORT` counts as a failure even where it ended in order. Pure: time and jitter are passed
//! in.

use super::gate::Backoff;
use std::time::Duration;

/// A stream that ends sooner has not worked. An API server ends watches after 30 to 60 min of its
/// own will (`--min-request-timeout`).
pub const SHORT: Duration = Duration::from_secs(3);
/// The watches of a server that goes away in order end together; they come back within this time and not at once.
const SPREAD: Duration = Duration::from_millis(500);
/// A start refused with 410 or 504 this often in a row needs another version. Once may be an API
/// server that is behind the others.
const REFUSED_STARTS: u32 = 3;

/// What one resource's failures in a row cost it. Nobody else waits for them.
const OWN: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(30),
    long_cap: Duration::from_secs(30),
    long_after: Duration::from_secs(300),
};

/// The same where the server as a whole seems to be at fault. The gate makes everybody wait for
/// that; but the probe that opens it again asks for little, and a server whose etcd is away answers
/// probes and nothing else.
const SERVERS: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(6),
    long_cap: Duration::from_secs(30),
    long_after: Duration::from_secs(300),
};
/// So many of them are about two minutes.
const MANY_FAILURES: u32 = 20;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    List,
    Watch { version: String },
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The list is complete; what comes after this version is still to be watched. A streaming list goes on as a watch.
    Listed { version: String },
    /// The stream ended in order.
    Ended { lived: Duration, received: bool },
    /// The stream broke off: reset, half a frame, no answer to a ping.
    Broken { lived: Duration, received: bool },
    /// Nothing came for longer than a healthy server is silent.
    Silent,
    /// This process was stopped meanwhile, or the machine slept: what its connections lead to is not known any more.
    Stopped,
    /// 410 within the stream, or while the pages of a list were fetched.
    Gone { lived: Duration },
    /// A version below the last one: this is another store than before.
    Backwards,
    /// Another error within the stream.
    StreamError { code: u16 },
    /// An answer other than 2xx.
    Refused { code: u16, retry_after: Option<Duration> },
    /// No answer: name, connection, TLS, or time.
    NoAnswer,
    /// An answer that is none of what was asked for.
    Nonsense,
}

/// What an outcome says of the server as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHealth {
    /// Nothing bad.
    Fine,
    Fails {
        retry_after: Option<Duration>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How long this watch waits by itself, whatever the gate says.
    pub wait: Duration,
    pub server: ServerHealth,
    /// Take addresses, certificates and tokens from their files again before the next attempt.
    pub reread: bool,
}

#[derive(Debug, Default)]
pub struct ListWatch {
    version: Option<String>,
    failures: u32,
    refused_starts: u32,
}

impl ListWatch {
    #[must_use]
    pub fn new() -> ListWatch {
        ListWatch::default()
    }

    #[must_use]
    pub fn step(&self) -> Step {
        match &self.version {
            Some(version) => Step::Watch { version: version.clone() },
            None => Step::List,
        }
    }

    /// The stream has told everything up to `version`. False where that is older than what it told
    /// before; versions that are no numbers are not compared.
    pub fn seen(&mut self, version: String) -> bool {
        let number = |text: &str| text.parse::<u128>().ok();
        let is_older =
            self.version.as_deref().and_then(number).zip(number(&version)).is_some_and(|(old, new)| new < old);
        if !is_older {
            self.version = Some(version);
        }
        !is_older
    }

    /// What is watched has changed: list anew.
    pub fn restart(&mut self) {
        self.version = None;
    }

    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn after(&mut self, outcome: Outcome, jitter: f64) -> Verdict {
        let fails = ServerHealth::Fails { retry_after: None };
        match outcome {
            Outcome::Listed { version } => {
                self.version = Some(version);
                self.refused_starts = 0;
                Verdict { wait: Duration::ZERO, server: ServerHealth::Fine, reread: false }
            }
            Outcome::Ended { lived, received } => {
                let server = if lived < SHORT && !received { fails } else { ServerHealth::Fine };
                Verdict { wait: self.lived(lived, jitter), server, reread: false }
            }
            Outcome::Broken { lived, .. } => Verdict { wait: self.lived(lived, jitter), server: fails, reread: false },
            Outcome::Silent => Verdict { wait: Duration::ZERO, server: fails, reread: false },
            Outcome::Stopped => Verdict { wait: SPREAD.mul_f64(jitter), server: ServerHealth::Fine, reread: false },
            Outcome::Gone { lived } => {
                self.version = None;
                let wait = if lived < SHORT { self.again(jitter) } else { self.fresh() };
                Verdict { wait, server: ServerHealth::Fine, reread: false }
            }
            Outcome::Backwards => {
                self.version = None;
                self.own(jitter, ServerHealth::Fine)
            }
            Outcome::StreamError { code } => {
                let verdict = self.own(jitter, ServerHealth::Fine);
                Verdict { reread: code == 401, ..verdict }
            }
            Outcome::Refused { code, retry_after } => self.refused(code, retry_after, jitter),
            Outcome::NoAnswer => Verdict { wait: self.servers(jitter), server: fails, reread: true },
            Outcome::Nonsense => self.own(jitter, ServerHealth::Fine),
        }
    }

    fn refused(&mut self, code: u16, retry_after: Option<Duration>, jitter: f64) -> Verdict {
        let is_stale = matches!(code, 410 | 504) && self.version.is_some();
        if is_stale {
            self.refused_starts += 1;
            if self.refused_starts >= REFUSED_STARTS {
                self.refused_starts = 0;
                self.version = None;
            }
        }
        match code {
            401 | 429 | 500..=599 => {
                let wait = self.servers(jitter);
                Verdict { wait, server: ServerHealth::Fails { retry_after }, reread: code == 401 }
            }
            // A version that the server cannot read is of another store.
            400 | 422 if self.version.is_some() => {
                self.version = None;
                self.own(jitter, ServerHealth::Fine)
            }
            _ => self.own(jitter, ServerHealth::Fine),
        }
    }

    fn own(&mut self, jitter: f64, server: ServerHealth) -> Verdict {
        Verdict { wait: self.again(jitter), server, reread: false }
    }

    fn lived(&mut self, lived: Duration, jitter: f64) -> Duration {
        if lived < SHORT {
            return self.again(jitter);
        }
        self.fresh();
        SPREAD.mul_f64(jitter)
    }

    fn again(&mut self, jitter: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        OWN.wait(self.failures, Duration::ZERO, jitter)
    }

    fn servers(&mut self, jitter: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let age = if self.failures > MANY_FAILURES { SERVERS.long_after } else { Duration::ZERO };
        SERVERS.wait(self.failures, age, jitter)
    }

    fn fresh(&mut self) -> Duration {
        self.failures = 0;
        self.refused_starts = 0;
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(2_000);

    fn listed(version: &str) -> ListWatch {
        let mut list_watch = ListWatch::new();
        list_watch.after(Outcome::Listed { version: version.to_owned() }, 0.0);
        list_watch
    }

    fn watch(version: &str) -> Step {
        Step::Watch { version: version.to_owned() }
    }

    #[test]
    fn the_end_of_a_stream_is_normal_and_goes_on_where_it_was() {
        let mut list_watch = listed("7");
        for version in 8..100 {
            assert!(list_watch.seen(version.to_string()));
            let verdict = list_watch.after(Outcome::Ended { lived: LONG, received: true }, 0.5);
            assert_eq!(verdict, Verdict { wait: SPREAD / 2, server: ServerHealth::Fine, reread: false });
            assert_eq!(list_watch.step(), watch(&version.to_string()));
        }
    }

    #[test]
    fn after_a_stop_of_the_process_it_goes_on_where_it_was() {
        let mut list_watch = listed("7");
        let verdict = list_watch.after(Outcome::Stopped, 0.5);
        assert_eq!(verdict, Verdict { wait: SPREAD / 2, server: ServerHealth::Fine, reread: false });
        assert_eq!(list_watch.step(), watch("7"));
    }

    #[test]
    fn streams_that_end_at_once_wait_longer_and_longer() {
        let mut list_watch = listed("7");
        let ended = Outcome::Ended { lived: Duration::ZERO, received: false };
        let waits: Vec<u64> = (0..9).map(|_| list_watch.after(ended.clone(), 0.0).wait.as_millis() as u64).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(list_watch.after(ended, 0.0).server, ServerHealth::Fails { retry_after: None });
        assert_eq!(list_watch.step(), watch("7"), "it is no reason to list");
        list_watch.after(Outcome::Ended { lived: LONG, received: true }, 0.0);
        let again = list_watch.after(Outcome::Ended { lived: Duration::ZERO, received: true }, 0.0);
        assert_eq!(again, Verdict { wait: Duration::from_millis(500), server: ServerHealth::Fine, reread: false });
    }

    #[test]
    fn a_410_in_the_stream_lists_once() {
        let mut list_watch = listed("7");
        let verdict = list_watch.after(Outcome::Gone { lived: LONG }, 0.0);
        assert_eq!((list_watch.step(), verdict.wait), (Step::List, Duration::ZERO));
        list_watch.after(Outcome::Listed { version: "90".to_owned() }, 0.0);
        assert_eq!(list_watch.step(), watch("90"));
    }

    #[test]
    fn a_410_right_after_every_list_does_not_spin() {
        let mut list_watch = ListWatch::new();
        let mut waited = Duration::ZERO;
        for round in 0..10 {
            list_watch.after(Outcome::Listed { version: round.to_string() }, 0.0);
            waited += list_watch.after(Outcome::Gone { lived: Duration::ZERO }, 0.0).wait;
        }
        assert!(waited > Duration::from_secs(120), "{waited:?}");
    }

    #[test]
    fn a_start_refused_with_410_or_504_thrice_in_a_row_lists() {
        for code in [410, 504] {
            let mut list_watch = listed("7");
            let refused = Outcome::Refused { code, retry_after: None };
            list_watch.after(refused.clone(), 0.0);
            list_watch.after(refused.clone(), 0.0);
            assert_eq!(list_watch.step(), watch("7"));
            list_watch.after(refused, 0.0);
            assert_eq!(list_watch.step(), Step::List, "{code}");
        }
    }

    #[test]
    fn a_403_is_this_resources_own_and_is_over_within_35_seconds() {
        let mut list_watch = listed("7");
        let mut slept = Duration::ZERO;
        while slept < Duration::from_secs(60) {
            let verdict = list_watch.after(Outcome::Refused { code: 403, retry_after: None }, 0.0);
            assert_eq!((verdict.server, verdict.reread), (ServerHealth::Fine, false));
            assert!(verdict.wait >= Duration::from_millis(500) && verdict.wait <= Duration::from_secs(30));
            slept += verdict.wait;
        }
        assert!(slept < Duration::from_secs(95));
        assert_eq!(list_watch.step(), watch("7"));
    }

    #[test]
    fn a_401_reads_the_credentials_again() {
        let verdict = listed("7").after(Outcome::Refused { code: 401, retry_after: None }, 0.0);
        assert_eq!((verdict.server, verdict.reread), (ServerHealth::Fails { retry_after: None }, true));
    }

    #[test]
    fn what_the_server_asks_for_is_passed_on() {
        let retry_after = Some(Duration::from_secs(4));
        let verdict = listed("7").after(Outcome::Refused { code: 429, retry_after }, 0.0);
        assert_eq!(verdict.server, ServerHealth::Fails { retry_after });
    }

    #[test]
    fn a_version_that_goes_back_lists() {
        let mut list_watch = listed("70");
        assert!(list_watch.seen("71".to_owned()));
        assert!(!list_watch.seen("12".to_owned()));
        list_watch.after(Outcome::Backwards, 0.0);
        assert_eq!(list_watch.step(), Step::List);
        assert!(
            list_watch.seen("opaque".to_owned()) && list_watch.seen("words".to_owned()),
            "only numbers are compared"
        );
    }

    #[test]
    fn no_outcome_is_followed_by_an_attempt_without_any_wait_for_ever() {
        let short = Duration::from_millis(10);
        for outcome in [
            Outcome::Ended { lived: short, received: true },
            Outcome::Broken { lived: short, received: false },
            Outcome::Gone { lived: short },
            Outcome::Backwards,
            Outcome::StreamError { code: 500 },
            Outcome::Refused { code: 404, retry_after: None },
            Outcome::Refused { code: 400, retry_after: None },
            Outcome::Refused { code: 302, retry_after: None },
            Outcome::Refused { code: 410, retry_after: None },
            Outcome::Nonsense,
        ] {
            let mut list_watch = listed("7");
            let last = (0..12).map(|_| list_watch.after(outcome.clone(), 0.99).wait).last().unwrap_or_default();
            assert!(last >= Duration::from_secs(20), "{outcome:?}: {last:?}");
        }
    }

    #[test]
    fn a_server_that_answers_probes_and_nothing_else_is_asked_ever_more_seldom() {
        for outcome in [Outcome::NoAnswer, Outcome::Refused { code: 500, retry_after: None }] {
            let mut list_watch = ListWatch::new();
            let waits: Vec<u64> =
                (0..22).map(|_| list_watch.after(outcome.clone(), 0.0).wait.as_millis() as u64).collect();
            assert_eq!(waits[..6], [500, 1_000, 2_000, 4_000, 6_000, 6_000], "{outcome:?}");
            assert_eq!(waits.last(), Some(&30_000));
        }
        assert!(matches!(listed("7").after(Outcome::Silent, 0.0).server, ServerHealth::Fails { .. }));
    }
}
