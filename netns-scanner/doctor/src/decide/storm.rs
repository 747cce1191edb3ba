//! `retry-storm`: a client that asks the more, the more of its requests fail.

use crate::history::EdgeLoad;
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};
use std::collections::VecDeque;
use std::time::Duration;

/// Windows of which the usual load is: ten minutes of 30 s.
const WINDOWS: usize = 20;

/// What is usual on an edge: the windows in which few requests failed. One in which many do changes
/// nothing of it, so a storm does not become usual while it lasts.
#[derive(Clone, Debug, Default)]
pub struct Usual {
    /// Requests in a second on the edge, and those that its client was asked.
    rates: VecDeque<(f64, f64)>,
}

impl Usual {
    /// The window is over; what it was, beside what was usual before it.
    pub fn window(
        &mut self,
        (requests, failed): (u64, u64),
        own: u64,
        window: Duration,
        thresholds: &Thresholds,
    ) -> EdgeLoad {
        let rate = |count: u64| if window.is_zero() { 0.0 } else { count as f64 / window.as_secs_f64() };
        let count = self.rates.len();
        let (sum, own_sum) = self.rates.iter().fold((0.0, 0.0), |(sum, own), (rate, its)| (sum + rate, own + its));
        let is_known = count >= thresholds.storm_windows;
        let usual = is_known.then(|| sum / count as f64);
        let own_usual = if count > 0 { own_sum / count as f64 } else { 0.0 };
        let load = EdgeLoad { requests, failed, window, usual, own: rate(own), own_usual };
        if failure_share(&load) <= thresholds.storm_failures {
            if count >= WINDOWS {
                self.rates.pop_front();
            }
            self.rates.push_back((rate(requests), load.own));
        }
        load
    }

    /// Nothing was asked in all the windows that it remembers.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.rates.iter().all(|(rate, _)| *rate == 0.0)
    }
}

fn failure_share(load: &EdgeLoad) -> f64 {
    load.failed as f64 / load.requests.max(1) as f64
}

/// Of a client, about a server.
#[must_use]
pub fn retry_storm(of: &Subject, server: &str, load: &EdgeLoad, thresholds: &Thresholds) -> Option<Finding> {
    let EdgeLoad { requests, failed, window, usual, own, own_usual } = *load;
    let usual = usual.filter(|usual| *usual > 0.0)?;
    let (share, rate) = (failure_share(load), requests as f64 / window.as_secs_f64().max(f64::MIN_POSITIVE));
    let times = rate / usual;
    // Who is asked more has a reason to ask more.
    let has_reason = own > own_usual * thresholds.storm_own;
    if share <= thresholds.storm_failures
        || rate < thresholds.storm_rate
        || times < thresholds.storm_times
        || has_reason
    {
        return None;
    }
    let summary = format!(
        "{rate:.0} requests a second to {server} in {}, {times:.1} times what is usual, and {:.0} % of them failed",
        seconds(window),
        share * 100.0
    );
    let mut finding = Finding::new(CheckId::RetryStorm, Severity::Warning, of, window, summary)
        .with("server", server.to_owned())
        .with("rate", rate)
        .with("usual_rate", usual)
        .with("failed", failed)
        .with("share", share)
        .with("own_rate", own);
    if own == 0.0 && own_usual == 0.0 {
        // Nobody is seen to ask it: it may have got more work by a way of its own.
        finding.certainty = Certainty::Likely;
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    /// Windows of requests, failures and requests to the client, by the second; what the last one is.
    fn story(windows: &[(u64, u64, u64)]) -> Option<(String, Certainty)> {
        let (mut usual, thresholds) = (Usual::default(), Thresholds::default());
        let mut found = None;
        for (requests, failed, own) in windows {
            let load = usual.window((requests * 30, failed * 30), own * 30, WINDOW, &thresholds);
            found = retry_storm(&Subject::default(), "shop/api", &load, &thresholds);
        }
        found.map(|found| (found.summary, found.certainty))
    }

    fn after(calm: (u64, u64, u64), then: (u64, u64, u64)) -> Option<(String, Certainty)> {
        story(&[vec![calm; 6], vec![then]].concat())
    }

    #[test]
    fn twice_as_many_requests_and_a_fifth_of_them_failed() {
        let said = "20 requests a second to shop/api in 30 s, 2.0 times what is usual, and 25 % of them failed";
        assert_eq!(after((10, 0, 5), (20, 5, 5)), Some((said.to_owned(), Certainty::Measured)));
        assert_eq!(after((10, 0, 5), (19, 9, 5)), None, "less than twice");
        assert_eq!(after((10, 0, 5), (20, 4, 5)), None, "a fifth");
        assert_eq!(after((1, 0, 5), (4, 4, 5)), None, "too few to storm");
    }

    #[test]
    fn who_is_asked_more_may_ask_more_and_of_whom_nobody_asks_it_is_likely() {
        assert_eq!(after((10, 0, 10), (30, 20, 30)), None);
        assert_eq!(after((10, 0, 10), (30, 20, 15)).map(|(_, certainty)| certainty), Some(Certainty::Measured));
        assert_eq!(after((10, 0, 0), (30, 20, 0)).map(|(_, certainty)| certainty), Some(Certainty::Likely));
    }

    #[test]
    fn what_is_usual_has_to_be_seen_first_and_a_storm_never_becomes_usual() {
        assert_eq!(story(&[(10, 0, 0), (10, 0, 0), (10, 0, 0), (30, 20, 0)]), None, "a minute and a half");
        assert_eq!(story(&[(30, 20, 0); 40]), None, "it was never seen well");
        let long = [vec![(10, 0, 0); 4], vec![(30, 20, 0); 100]].concat();
        assert!(story(&long).is_some());
        let over = [long, vec![(10, 0, 0)]].concat();
        assert_eq!(story(&over), None);
    }

    #[test]
    fn an_edge_on_which_nothing_was_asked_is_idle() {
        let (mut usual, thresholds) = (Usual::default(), Thresholds::default());
        assert!(usual.is_idle());
        usual.window((1, 0), 0, WINDOW, &thresholds);
        assert!(!usual.is_idle());
        for _ in 0..WINDOWS {
            usual.window((0, 0), 0, WINDOW, &thresholds);
        }
        assert!(usual.is_idle());
    }
}
