//! Kills for memory inside of a cgroup that goes on.

use crate::room::{Room, brief, number};
use doctor::{CheckId, Severity};
use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup of this test's own, of whichever version has the memory controller here.
struct Cgroup(PathBuf);

impl Cgroup {
    /// With room for so many MiB.
    fn new(name: &str, mib: u64) -> Cgroup {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = match v1.is_dir() {
            true => (v1, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let directory = root.join(format!("pilotfish-doctor-{name}-{}", std::process::id()));
        fs::create_dir(&directory).expect("make a cgroup (root, and a memory controller)");
        let cgroup = Cgroup(directory);
        fs::write(cgroup.0.join(limit), (mib << 20).to_string()).expect("set its limit");
        cgroup
    }

    /// Shell words that move the shell into it.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes have been waited for; the kernel may still be at it.
        while let Err(error) = fs::remove_dir(&self.0) {
            if error.raw_os_error() != Some(nix::errno::Errno::EBUSY as i32) {
                break;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_child_that_was_killed_for_memory_is_found_and_one_that_fits_is_fine() {
    let cgroup = Cgroup::new("eats", 48);
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
    let cgroup = Cgroup::new("old", 48);
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
