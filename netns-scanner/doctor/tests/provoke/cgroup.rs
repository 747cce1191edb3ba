//! Cgroups of these tests' own, and the checks that read their files.

use crate::room::{Room, brief, number};
use doctor::{Asked, CheckId, Finding, Severity, Thresholds, examine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A cgroup of this test's own, of whichever version has the controller here.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// With room for so many MiB.
    pub fn memory(name: &str, mib: u64) -> Cgroup {
        let limit = (mib << 20).to_string();
        Cgroup::new("memory", name, &[("memory.limit_in_bytes", &limit)], ("memory.max", &limit))
    }

    /// With so many hundredths of a processor.
    fn cpu(name: &str, percent: u64) -> Cgroup {
        let quota = (percent * 1000).to_string();
        let v1 = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", quota.as_str())];
        Cgroup::new("cpu", name, &v1, ("cpu.max", &format!("{quota} 100000")))
    }

    fn new(controller: &str, name: &str, v1: &[(&str, &str)], v2: (&str, &str)) -> Cgroup {
        let root = Path::new("/sys/fs/cgroup");
        let (root, limits) = match root.join(controller) {
            of_v1 if of_v1.is_dir() => (of_v1, v1.to_vec()),
            _ => (root.to_owned(), vec![v2]),
        };
        let directory = root.join(format!("pilotfish-doctor-{name}-{}", std::process::id()));
        fs::create_dir(&directory).expect("make a cgroup (root, and the controller)");
        let cgroup = Cgroup(directory);
        for (file, limit) in limits {
            fs::write(cgroup.0.join(file), limit).expect("set its limit");
        }
        cgroup
    }

    /// Shell words that move the shell into it.
    pub fn enter(&self) -> String {
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
fn a_container_that_its_limit_stops_is_told_where_it_is_asked_for_or_explains_something() {
    let cgroup = Cgroup::cpu("spins", 10);
    let room = Room::new("spins", &cgroup.enter(), "spins");
    let thresholds = || Thresholds { window: Duration::from_secs(1), throttled_periods: 3, ..Thresholds::default() };
    let found = room.comes_to(CheckId::CpuThrottled, thresholds, |found| number(found, "share") > 0.5);
    assert_eq!((found.severity, found.subject.kind.as_str()), (Severity::Info, "Process"), "{found:?}");
    assert!(number(&found, "periods") >= 3.0, "{found:?}");
    // Nobody waits for it, as far as anybody sees.
    let both = vec![CheckId::CpuThrottled, CheckId::ListenOverflow];
    let only = Some([room.ino].into());
    let report = examine(&Asked { checks: both, only, thresholds: thresholds(), ..Asked::default() });
    assert_eq!((report.findings.len(), report.fine.len()), (0, 2), "{report:?}");
    drop(room);
    // The same limit, and nothing to do; as much to do, and no limit.
    let idle = Room::new("spins", &cgroup.enter(), "sleeps");
    idle.finds_nothing(CheckId::CpuThrottled, thresholds());
    drop(idle);
    drop(cgroup);
    Room::new("spins", "true", "spins").finds_nothing(CheckId::CpuThrottled, thresholds());
}

/// Cgroups that are gone, each kept by a page; ended when dropped.
struct Dying(PathBuf);

impl Dying {
    fn new(count: usize) -> Dying {
        let kept = PathBuf::from(format!("/dev/shm/pilotfish-doctor-{}", std::process::id()));
        fs::create_dir(&kept).expect("a directory in memory");
        // One shell for all: it moves from one to the next, and the last one is left before it is removed.
        let root = if Path::new("/sys/fs/cgroup/memory").is_dir() { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let script = format!(
            "i=0; while [ $i -lt {count} ]; do d={root}/pilotfish-doctor-dying-$$-$i; mkdir $d && echo $$ > $d/cgroup.procs \
             && echo page > {}/$i && echo $$ > {root}/cgroup.procs && rmdir $d || exit 1; i=$((i+1)); done",
            kept.display()
        );
        let done = Command::new("sh").args(["-c", &script]).status().expect("a shell");
        assert!(done.success(), "cgroups are made and removed");
        Dying(kept)
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn of_node(check: CheckId, thresholds: Thresholds, memory_stat: Option<PathBuf>) -> Vec<Finding> {
    let report = examine(&Asked { checks: vec![check], thresholds, memory_stat, ..Asked::default() });
    assert_eq!(report.not_made, vec![], "{report:?}");
    assert_eq!(report.fine.len() + report.findings.len(), 1, "{report:?}");
    report.findings
}

#[test]
fn cgroups_that_are_removed_and_not_gone_are_counted() {
    let thresholds = || Thresholds { dying_cgroups: 0, dying_times: 0.0, ..Thresholds::default() };
    let count = || of_node(CheckId::MemcgDying, thresholds(), None).first().map_or(0.0, |found| number(found, "dying"));
    let before = count();
    let dying = Dying::new(300);
    let found = of_node(CheckId::MemcgDying, thresholds(), None);
    assert_eq!((found[0].severity, found[0].subject.name.as_str()), (Severity::Info, "the node"), "{found:?}");
    // Others of this machine end, too, meanwhile.
    let more = number(&found[0], "dying") - before;
    assert!((250.0..400.0).contains(&more), "{more}: {found:?}");
    assert_eq!(of_node(CheckId::MemcgDying, Thresholds::default(), None), [], "some hundred are usual");
    drop(dying);
}

#[test]
fn a_read_that_takes_long_or_does_not_come_back_is_found_and_a_quick_one_is_fine() {
    assert_eq!(of_node(CheckId::SlowRead, Thresholds { read_warning: Duration::from_secs(1), ..brief() }, None), []);
    let fifo = std::env::temp_dir().join(format!("pilotfish-doctor-fifo-{}", std::process::id()));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let thresholds = || Thresholds { read_error: Duration::from_secs(2), ..Thresholds::default() };
    // Opening it waits for somebody who writes.
    let writes = {
        let fifo = fifo.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            fs::write(fifo, "cache 1\n")
        })
    };
    let found = of_node(CheckId::SlowRead, thresholds(), Some(fifo.clone()));
    assert_eq!(found[0].severity, Severity::Warning, "{found:?}");
    assert!(number(&found[0], "took_s") > 0.1, "{found:?}");
    writes.join().expect("no panic").expect("it was read");
    let hangs = Thresholds { read_error: Duration::from_millis(200), ..Thresholds::default() };
    let found = of_node(CheckId::SlowRead, hangs, Some(fifo.clone()));
    assert_eq!((found[0].severity, number(&found[0], "took_s")), (Severity::Error, 0.2), "{found:?}");
    // The thread that waits is let go.
    fs::write(&fifo, "").expect("somebody reads");
    fs::remove_file(&fifo).expect("it is there");
}
