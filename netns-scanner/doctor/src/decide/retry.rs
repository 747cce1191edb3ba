//! `dns-retry`: lookups that a client had to make again, because the first question or its answer was
//! lost. Each costs it the time that its resolver waits: 5 s, or 2.5 s with musl.

use crate::history::Retried;
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use flow_model::Ts;
use std::collections::VecDeque;
use std::time::Duration;

/// Lookups of one client that are remembered until one that is asked anew from another port can be
/// known for a repetition: of a client with 40 in a second all, of a busier one the last.
const REMEMBERED: usize = 512;
/// A lookup without an answer is told 10 s after it was asked.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// A lookup as it was seen when it was over.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// Which question of which pod: name and type, hashed with the pod.
    pub question: u64,
    /// When it was asked first.
    pub began: Ts,
    /// When it was answered; None where it was given up.
    pub answered: Option<Ts>,
    /// How often it was asked again from the same port.
    pub repeated: u16,
}

/// A question of which it may be known later that it was asked again.
#[derive(Clone, Copy, Debug)]
struct Asked {
    question: u64,
    began: Ts,
    /// It got no answer, and so far nobody asked it again.
    is_lost: bool,
}

/// Follows the lookups of one client. What it counts is taken window by window.
#[derive(Debug, Default)]
pub struct Retries {
    recent: VecDeque<Asked>,
    /// Of them, those that are lost.
    lost: usize,
    told: Retried,
    pushed_out: u64,
}

impl Retries {
    /// Takes one in. Those that have no answer come in long after the ones that repeated them, if
    /// these have one.
    pub fn lookup(&mut self, lookup: Lookup, thresholds: &Thresholds) {
        let Lookup { question, began, answered, repeated } = lookup;
        self.told.all += 1;
        let (from, to) = thresholds.retry_after;
        let follows = |first: Ts, then: Ts| first < then && (from..=to).contains(&then.since(first));
        if self.lost > 0 {
            // It may be the repetition of one that has no answer either.
            let before =
                |asked: &&mut Asked| asked.is_lost && asked.question == question && follows(asked.began, began);
            for asked in self.recent.iter_mut().filter(before) {
                asked.is_lost = false;
                self.lost -= 1;
                self.told.unanswered += 1;
            }
        }
        let waited = answered.map(|at| at.since(began));
        let mut is_lost = false;
        match waited {
            Some(waited) if repeated > 0 && waited >= from => {
                self.told.late += 1;
                self.told.longest = self.told.longest.max(waited);
            }
            Some(_) => {}
            None => {
                let again = |asked: &Asked| asked.question == question && follows(began, asked.began);
                // A question that nobody asks again is one that nobody waited for.
                match repeated > 0 || self.recent.iter().any(again) {
                    true => self.told.unanswered += 1,
                    false => is_lost = true,
                }
            }
        }
        self.remember(Asked { question, began, is_lost }, answered.unwrap_or(began));
    }

    fn remember(&mut self, asked: Asked, now: Ts) {
        while self.recent.front().is_some_and(|first| now.since(first.began) > FORGOTTEN) {
            self.forget_first();
        }
        if self.recent.len() >= REMEMBERED {
            self.forget_first();
            self.pushed_out += 1;
        }
        self.lost += usize::from(asked.is_lost);
        self.recent.push_back(asked);
    }

    fn forget_first(&mut self) {
        if self.recent.pop_front().is_some_and(|first| first.is_lost) {
            self.lost -= 1;
        }
    }

    /// What the window held; the next one begins, and remembers what was asked in this one.
    pub fn window(&mut self, window: Duration) -> Retried {
        let told = std::mem::take(&mut self.told);
        Retried { window, ..told }
    }

    /// Lookups that were forgotten too soon, since it was asked last.
    pub fn pushed_out(&mut self) -> u64 {
        std::mem::take(&mut self.pushed_out)
    }

    /// Nothing of it will be asked for: it looked nothing up for so long.
    #[must_use]
    pub fn is_idle(&self, now: Ts) -> bool {
        self.told.all == 0 && self.recent.iter().all(|one| now.since(one.began) > FORGOTTEN)
    }
}

/// Of a client.
#[must_use]
pub fn dns_retry(of: &Subject, retried: Retried, thresholds: &Thresholds) -> Option<Finding> {
    let Retried { all, late, unanswered, longest, window } = retried;
    let lost = late + unanswered;
    let share = lost as f64 / all.max(1) as f64;
    if lost < thresholds.retries || share < thresholds.retry_warning {
        return None;
    }
    let severity = if share >= thresholds.retry_error { Severity::Error } else { Severity::Warning };
    let summary = format!(
        "the first question of {lost} of {all} lookups in {} got no answer ({:.0} %): {late} took up to {}, \
         {unanswered} were never answered",
        seconds(window),
        share * 100.0,
        seconds(longest)
    );
    let finding = Finding::new(CheckId::DnsRetry, severity, of, window, summary)
        .with("lookups", all)
        .with("late", late)
        .with("unanswered", unanswered)
        .with("share", share)
        .with("longest_s", longest.as_secs_f64());
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Ts {
        Ts(millis * 1_000_000)
    }

    #[derive(Default)]
    struct Story(Retries);

    impl Story {
        fn ask(&mut self, question: u64, began: u64, answered: Option<u64>, repeated: u16) {
            let lookup = Lookup { question, began: at(began), answered: answered.map(at), repeated };
            self.0.lookup(lookup, &Thresholds::default());
        }

        fn told(&mut self) -> (u64, u64, u64) {
            let Retried { all, late, unanswered, .. } = self.0.window(Duration::from_secs(30));
            (all, late, unanswered)
        }
    }

    #[test]
    fn a_question_that_is_asked_again_from_the_same_port_waited_for_the_resolvers_time() {
        let mut story = Story::default();
        story.ask(1, 0, Some(5_003), 1);
        story.ask(2, 0, Some(2), 0);
        // Asked again at once, as c-ares does of several servers: nobody waited.
        story.ask(3, 0, Some(400), 1);
        // Slow, and not asked again.
        story.ask(4, 0, Some(3_000), 0);
        story.ask(5, 0, None, 3);
        assert_eq!(story.told(), (5, 1, 1));
        assert_eq!(story.told(), (0, 0, 0), "a new window");
    }

    #[test]
    fn a_question_that_is_asked_again_from_another_port_is_known_by_its_name_and_time() {
        let mut story = Story::default();
        for (again, is_one) in [(1_999, false), (2_000, true), (5_000, true), (6_000, true), (6_001, false)] {
            let mut story = Story::default();
            story.ask(1, again, Some(again + 1), 0);
            story.ask(1, 0, None, 0);
            assert_eq!(story.told(), (2, 0, u64::from(is_one)), "{again}");
        }
        // A second server that is down, and that nobody waits for: the first one has answered.
        story.ask(1, 0, Some(1), 0);
        story.ask(1, 0, None, 0);
        // The same name of another pod.
        story.ask(2, 5_000, Some(5_001), 0);
        story.ask(3, 0, None, 0);
        assert_eq!(story.told(), (4, 0, 0));
    }

    #[test]
    fn where_no_question_is_answered_each_that_was_asked_again_counts() {
        let mut story = Story::default();
        for began in [0, 5_000, 10_000] {
            story.ask(1, began, None, 0);
        }
        assert_eq!(story.told(), (3, 0, 2), "nobody has asked the last one again");
        assert_eq!(story.0.lost, 1);
        story.ask(2, 100_000, Some(100_001), 0);
        assert_eq!((story.0.lost, story.0.recent.len()), (0, 1));
    }

    #[test]
    fn a_window_does_not_cut_a_question_from_its_repetition() {
        let mut story = Story::default();
        story.ask(1, 5_000, Some(5_001), 0);
        assert_eq!(story.told(), (1, 0, 0));
        story.ask(1, 0, None, 0);
        assert_eq!(story.told(), (1, 0, 1));
        assert!(!story.0.is_idle(at(20_000)) && story.0.is_idle(at(20_001)));
    }

    #[test]
    fn lookups_beyond_the_room_are_counted() {
        let mut story = Story::default();
        for n in 0..REMEMBERED as u64 + 3 {
            story.ask(n, n, Some(n), 0);
        }
        assert_eq!((story.0.pushed_out(), story.0.pushed_out()), (3, 0));
        story.ask(9, 60_000, Some(60_000), 0);
        assert_eq!((story.0.recent.len(), story.0.pushed_out()), (1, 0), "what is old is forgotten first");
    }

    #[test]
    fn two_lookups_and_a_hundredth_are_a_warning_a_twentieth_is_an_error() {
        let find = |all, late, unanswered| {
            let longest = Duration::from_millis(5_004);
            let retried = Retried { all, late, unanswered, longest, window: Duration::from_secs(30) };
            dns_retry(&Subject::default(), retried, &Thresholds::default())
        };
        assert_eq!([find(10, 1, 0), find(201, 2, 0), find(0, 0, 0)], [None, None, None]);
        assert_eq!(find(200, 1, 1).map(|found| found.severity), Some(Severity::Warning));
        let found = find(100, 3, 2).expect("found");
        assert_eq!(
            (found.severity, found.summary.as_str()),
            (
                Severity::Error,
                "the first question of 5 of 100 lookups in 30 s got no answer (5 %): 3 took up to 5.0 s, \
                 2 were never answered"
            )
        );
    }
}
