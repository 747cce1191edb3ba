//! When a finding is shown: it rises after some windows in a row with it, and falls after some
//! without. A gauge that came and went with every window would tell nobody anything.

use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::collections::BTreeMap;

/// Findings that are followed at once. More than that is one broken node, and not a list to read.
const MOST: usize = 1024;

/// What holds, window by window. Pure: a window is over when [`Holding::window`] is called.
#[derive(Debug, Default)]
pub struct Holding {
    followed: BTreeMap<(CheckId, Subject), State>,
    /// Findings that there was no room to follow.
    refused: u64,
}

#[derive(Debug)]
struct State {
    severity: Severity,
    shown: bool,
    /// Windows in a row that speak against what is shown now.
    against: u32,
}

impl Holding {
    /// Takes what one window found. A check that could not look says nothing: of it nothing rises
    /// and nothing falls.
    pub fn window(&mut self, findings: &[Finding], not_made: &[CheckId], thresholds: &Thresholds) {
        let mut found: BTreeMap<(CheckId, Subject), Severity> = BTreeMap::new();
        for finding in findings {
            let worst = found.entry((finding.id, finding.subject.clone())).or_insert(finding.severity);
            *worst = finding.severity.max(*worst);
        }
        for (key, severity) in &found {
            if let Some(state) = self.followed.get_mut(key) {
                state.severity = *severity;
            } else if self.followed.len() < MOST {
                let state = State { severity: *severity, shown: false, against: 0 };
                self.followed.insert(key.clone(), state);
            } else {
                self.refused += 1;
            }
        }
        self.followed.retain(|key, state| {
            let holds = found.contains_key(key);
            if !holds && not_made.contains(&key.0) {
                return true;
            }
            state.against = if holds == state.shown { 0 } else { state.against + 1 };
            let patience = if state.shown { thresholds.down_after } else { thresholds.up_after };
            if state.against >= patience {
                (state.shown, state.against) = (!state.shown, 0);
            }
            state.shown || holds
        });
    }

    /// What is shown now.
    pub fn shown(&self) -> impl Iterator<Item = (CheckId, &Subject, Severity)> {
        let shown = self.followed.iter().filter(|(_, state)| state.shown);
        shown.map(|((id, subject), state)| (*id, subject, state.severity))
    }

    /// Findings that there was no room to follow, so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn finding(name: &str, severity: Severity) -> Finding {
        let subject = Subject { name: name.to_owned(), ..Subject::default() };
        Finding::new(CheckId::UdpDrop, severity, &subject, Duration::ZERO, String::new())
    }

    /// `+` a window with the finding, `-` without, `?` one that could not look; what is shown after
    /// each.
    fn story(windows: &str) -> String {
        let mut holding = Holding::default();
        let show = |window: char| {
            let found = if window == '+' { vec![finding("a", Severity::Warning)] } else { vec![] };
            let blind: &[CheckId] = if window == '?' { &[CheckId::UdpDrop] } else { &[] };
            holding.window(&found, blind, &Thresholds::default());
            if holding.shown().count() == 1 { '#' } else { '.' }
        };
        windows.chars().map(show).collect()
    }

    #[test]
    fn it_rises_after_two_windows_and_falls_after_five() {
        assert_eq!(story("+-+-+"), ".....");
        assert_eq!(story("++----+-----+"), ".##########..");
        assert_eq!(story("-++"), "..#");
    }

    #[test]
    fn a_window_that_could_not_look_says_nothing() {
        assert_eq!(story("+?+"), "..#");
        assert_eq!(story("++----????-+"), ".#########..");
        assert_eq!(story("????"), "....");
    }

    #[test]
    fn the_severity_is_the_last_one_and_the_worst_of_a_window() {
        let mut holding = Holding::default();
        for _ in 0..2 {
            let both = [finding("a", Severity::Error), finding("a", Severity::Warning)];
            holding.window(&both, &[], &Thresholds::default());
        }
        assert_eq!(holding.shown().map(|shown| shown.2).collect::<Vec<_>>(), [Severity::Error]);
        holding.window(&[finding("a", Severity::Warning)], &[], &Thresholds::default());
        assert_eq!(holding.shown().map(|shown| shown.2).collect::<Vec<_>>(), [Severity::Warning]);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let many: Vec<Finding> = (0..MOST + 3).map(|n| finding(&n.to_string(), Severity::Warning)).collect();
        let mut holding = Holding::default();
        holding.window(&many, &[], &Thresholds::default());
        holding.window(&many, &[], &Thresholds::default());
        assert_eq!((holding.shown().count(), holding.refused()), (MOST, 6));
    }

    proptest! {
        /// Shown exactly while its last five windows are not all without it, once two were with it.
        #[test]
        fn a_finding_is_shown_as_a_plain_count_would_say(windows in "[+-]{0,40}") {
            let (mut shown, mut row, mut last) = (false, 0, '-');
            let expected: String = windows.chars().map(|window| {
                row = if window == last { row + 1 } else { 1 };
                last = window;
                shown = match window { '+' => shown || row >= 2, _ => shown && row < 5 };
                if shown { '#' } else { '.' }
            }).collect();
            prop_assert_eq!(story(&windows), expected);
        }
    }
}
