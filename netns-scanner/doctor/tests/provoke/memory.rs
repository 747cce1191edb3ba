//! Kills for memory inside of a cgroup that goes on.

use crate::cgroup::Cgroup;
use crate::room::{Room, brief, number};
use doctor::{CheckId, Severity};

#[test]
fn a_child_that_was_killed_for_memory_is_found_and_one_that_fits_is_fine() {
    let cgroup = Cgroup::memory("eats", 48);
    let mut room = Room::new("eats", &cgroup.enter(), "-");
    room.finds_nothing(CheckId::OomInside, brief());
    room.tell("4");
    room.hears("eaten");
    room.finds_nothing(CheckId::OomInside, brief());
    room.tell("200");
    room.hears("eaten");
    let found = room.finds(CheckId::OomInside, brief());
    assert_eq!(found.severity, Severity::Warning, "{found:?}");
    assert_eq!([number(&found, "kills"), number(&found, "kills_ever")], [0.0, 1.0], "before the window: {found:?}");
    // In the window: the role is told before the look begins, and eats while it lasts.
    room.tell("200");
    let report =
        room.look(CheckId::OomInside, doctor::Thresholds { window: std::time::Duration::from_secs(3), ..brief() });
    room.hears("eaten");
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!(number(&report.findings[0], "kills_ever"), 2.0, "{report:?}");
    drop(room);
    drop(cgroup);
}

#[test]
fn an_old_kill_in_an_older_container_is_history() {
    let cgroup = Cgroup::memory("old", 48);
    let mut room = Room::new("eats", &cgroup.enter(), "-");
    room.tell("200");
    room.hears("eaten");
    let only = Some([room.ino].into());
    let asked = doctor::Asked {
        checks: vec![CheckId::OomInside],
        only,
        thresholds: brief(),
        since: std::time::Duration::ZERO,
        ..Default::default()
    };
    // A tick of the clock of processes is 10 ms.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let report = doctor::examine(&asked);
    assert_eq!(report.findings.iter().map(|found| found.severity).collect::<Vec<_>>(), [Severity::Info], "{report:?}");
    drop(room);
    drop(cgroup);
}
