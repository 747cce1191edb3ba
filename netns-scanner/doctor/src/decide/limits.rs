//! `fd-limit` and `inotify-limit`: no file can be opened any more, by one process or on the whole node.

use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::time::Duration;

/// Of a process: its open descriptors, and how many it may have.
#[must_use]
pub fn fd_limit(of: &Subject, open: u64, most: u64, thresholds: &Thresholds) -> Option<Finding> {
    let share = open as f64 / most.max(1) as f64;
    let severity = severity(share, [thresholds.fd_warning, thresholds.fd_error])?;
    let summary = format!("{open} of {most} file descriptors of a process are open ({:.0} %)", share * 100.0);
    Some(full(severity, of, open, most, summary))
}

/// Of the node: all open files, and how many there may be.
#[must_use]
pub fn file_table(of: &Subject, open: u64, most: u64, thresholds: &Thresholds) -> Option<Finding> {
    let share = open as f64 / most.max(1) as f64;
    let severity = severity(share, [thresholds.files_warning, thresholds.files_error])?;
    let summary =
        format!("{open} of {most} open files of the whole node (fs.file-max) are taken ({:.0} %)", share * 100.0);
    Some(full(severity, of, open, most, summary))
}

fn severity(share: f64, [warning, error]: [f64; 2]) -> Option<Severity> {
    match share {
        share if share > error => Some(Severity::Error),
        share if share > warning => Some(Severity::Warning),
        _ => None,
    }
}

fn full(severity: Severity, of: &Subject, open: u64, most: u64, summary: String) -> Finding {
    Finding::new(CheckId::FdLimit, severity, of, Duration::ZERO, summary)
        .with("open", open)
        .with("max", most)
        .with("share", open as f64 / most.max(1) as f64)
}

/// What of inotify has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InotifyRoom {
    /// There is room.
    Left,
    /// Not one more instance.
    NoInstance,
    /// Not one more watch.
    NoWatch,
}

/// Of whoever looks, which is the node's root as a rule; `most` are the limits of instances and of watches.
#[must_use]
pub fn inotify_limit(of: &Subject, room: InotifyRoom, most: [Option<u64>; 2]) -> Option<Finding> {
    let [instances, watches] = most;
    let (what, limit, most) = match room {
        InotifyRoom::Left => return None,
        InotifyRoom::NoInstance => ("instance", "fs.inotify.max_user_instances", instances),
        InotifyRoom::NoWatch => ("watch", "fs.inotify.max_user_watches", watches),
    };
    let all = most.map_or_else(|| "all".to_owned(), |most| format!("all {most}"));
    let summary = format!("root gets no inotify {what} more: {all} of {limit} are taken");
    let finding = Finding::new(CheckId::InotifyLimit, Severity::Error, of, Duration::ZERO, summary)
        .with("limit", limit.to_owned());
    Some(match most {
        Some(most) => finding.with("max", most),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_a_warning_and_nineteen_twentieths_an_error() {
        let find = |open| fd_limit(&Subject::default(), open, 1000, &Thresholds::default());
        let severity = |open| find(open).map(|found| found.severity);
        assert_eq!(
            [severity(800), severity(950), severity(951)],
            [None, Some(Severity::Warning), Some(Severity::Error)]
        );
        let said = "801 of 1000 file descriptors of a process are open (80 %)";
        assert_eq!(find(801).map(|found| found.summary).as_deref(), Some(said));
        assert_eq!(fd_limit(&Subject::default(), 0, 0, &Thresholds::default()), None);
    }

    #[test]
    fn the_nodes_own_table_warns_earlier() {
        let severity = |open| file_table(&Subject::node(), open, 1000, &Thresholds::default()).map(|of| of.severity);
        assert_eq!(
            [severity(700), severity(701), severity(901)],
            [None, Some(Severity::Warning), Some(Severity::Error)]
        );
    }

    #[test]
    fn no_room_for_one_more_is_an_error_that_names_the_limit() {
        let find = |room| inotify_limit(&Subject::node(), room, [Some(128), None]).map(|found| found.summary);
        assert_eq!(find(InotifyRoom::Left), None);
        let said = "root gets no inotify instance more: all 128 of fs.inotify.max_user_instances are taken";
        assert_eq!(find(InotifyRoom::NoInstance).as_deref(), Some(said));
        let said = "root gets no inotify watch more: all of fs.inotify.max_user_watches are taken";
        assert_eq!(find(InotifyRoom::NoWatch).as_deref(), Some(said));
    }
}
