//! `oom-inside`: a process was killed for memory, and its container lives on without it.

use crate::sample::{Delta, OomKills};
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject};
use std::time::Duration;

/// Of a cgroup whose first process lives, at the window's two ends. `since` is how far back a
/// person asks: a kill in the life of a younger container is news, one in the life of an older
/// container may be months old.
#[must_use]
pub fn oom_inside(of: &Subject, before: OomKills, after: OomKills, since: Duration) -> Option<Finding> {
    let delta = Delta::between(before.kills, after.kills)?;
    let total = after.kills.value;
    let plural = |count: u64| if count == 1 { "1 process was".to_owned() } else { format!("{count} processes were") };
    let (severity, held, summary) = if delta.count > 0 {
        let summary = format!("{} killed for memory in {}, and it goes on", plural(delta.count), seconds(delta.window));
        (Severity::Warning, delta.window, summary)
    } else if total > 0 {
        let severity = if after.age <= since { Severity::Warning } else { Severity::Info };
        let summary =
            format!("{} killed for memory since it began {} ago, and it goes on", plural(total), seconds(after.age));
        (severity, after.age, summary)
    } else {
        return None;
    };
    let finding = Finding::new(CheckId::OomInside, severity, of, held, summary)
        .with("kills", delta.count)
        .with("window_s", delta.window.as_secs_f64())
        .with("kills_ever", total)
        .with("age_s", after.age.as_secs());
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Counter;
    use flow_model::Ts;

    const SINCE: Duration = Duration::from_secs(600);

    fn find(before: u64, after: u64, age: u64) -> Option<(Severity, String)> {
        let kills = |at: u64, value| OomKills {
            kills: Counter { at: Ts(at * 1_000_000_000), value },
            age: Duration::from_secs(age),
        };
        let found = oom_inside(&Subject::default(), kills(10, before), kills(12, after), SINCE);
        found.map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn a_kill_in_the_window_is_a_warning_at_any_age() {
        assert_eq!(find(0, 0, 5), None);
        let said = "1 process was killed for memory in 2.0 s, and it goes on".to_owned();
        assert_eq!(find(0, 1, 5), Some((Severity::Warning, said.clone())));
        assert_eq!(find(7, 8, 100_000), Some((Severity::Warning, said)));
    }

    #[test]
    fn an_old_kill_is_news_in_a_young_container_and_history_in_an_old_one() {
        let found = find(3, 3, 600).expect("found");
        assert_eq!(found.0, Severity::Warning);
        assert_eq!(found.1, "3 processes were killed for memory since it began 10 min ago, and it goes on");
        assert_eq!(find(3, 3, 601).map(|found| found.0), Some(Severity::Info));
    }
}
