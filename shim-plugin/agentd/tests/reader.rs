//! The process that reads files for the agent, with the agent's own program in its role.
#![forbid(unsafe_code)]

use netns_scanner::deadline::{Deadlines, Late};
use nix::sys::stat::Mode;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// For whatever ends; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// For what does not.
const SHORT: Duration = Duration::from_millis(20);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
    command.arg("read-files");
    command
}

/// Processes that this one started and that read.
fn readers() -> Vec<PathBuf> {
    let own = format!("PPid:\t{}\n", std::process::id());
    let is_reader = |path: &PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        status.contains(&own) && status.contains("Name:\tpf-read\n") && !status.contains("State:\tZ")
    };
    fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path()).filter(is_reader).collect()
}

fn fifo(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("FIFO");
    path
}

/// One story, so that no other test has readers beside it.
#[test]
fn files_are_read_by_another_process_and_what_hangs_there_keeps_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let deadlines = Deadlines::with_helper(program);
    assert_eq!(readers().len(), 0, "none before it is needed");

    let file = directory.path().join("file");
    fs::write(&file, "text").expect("write");
    let text = |path: &Path, patience| deadlines.text("proc", path, patience);
    assert_eq!(text(&file, PATIENCE).expect("in time").expect("there"), "text");
    let absent = text(&directory.path().join("absent"), PATIENCE).expect("in time").expect_err("not there");
    assert_eq!(absent.kind(), std::io::ErrorKind::NotFound);
    let [reader] = readers().try_into().expect("one");
    let status = text(&reader.join("status"), PATIENCE).expect("in time").expect("its own");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim().to_owned();
    let effective = u64::from_str_radix(&field("CapEff:"), 16).expect("a set");
    assert_eq!((effective & !(1 << 19), field("NoNewPrivs:").as_str()), (0, "1"), "at most CAP_SYS_PTRACE");
    let open = fs::read_dir(reader.join("fd")).map(Iterator::count);
    assert!(open.is_ok_and(|open| open == 3), "two pipes and /dev/null");

    // A file that hangs delays no other.
    let first = fifo(directory.path(), "0");
    let late = text(&first, SHORT).expect_err("it hangs");
    assert!(matches!(late, Late::Deadline { .. }), "{late}");
    assert!(matches!(text(&first, PATIENCE), Err(Late::Hangs { .. })));
    assert_eq!(text(&file, PATIENCE).expect("in time").expect("there"), "text");
    assert_eq!(deadlines.stale(), [first.display().to_string()]);

    // One of which nearly everything hangs is left behind, and none is started soon.
    let mut last = None;
    for n in 1..64 {
        match text(&fifo(directory.path(), &n.to_string()), SHORT) {
            Err(Late::NoHelper { .. }) => {
                last = Some(n);
                break;
            }
            Err(Late::Deadline { .. }) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(last, Some(16), "with 16 that hang it goes");
    assert!(matches!(text(&file, PATIENCE), Err(Late::NoHelper { .. })));
    let counts = deadlines.helper_counts().expect("a helper");
    assert_eq!((counts.started, counts.left_behind, counts.refused), (1, 1, 2));
    ended(&reader);
    // What hung in it can be read again, once there is one: nothing says that it is still read.
    assert!(matches!(text(&first, PATIENCE), Err(Late::NoHelper { .. } | Late::Resting { .. })));

    // One that somebody ends is told of at once; whoever goes takes it along.
    let deadlines = Deadlines::with_helper(program);
    assert_eq!(deadlines.text("proc", &file, PATIENCE).expect("in time").expect("there"), "text");
    let [reader] = readers().try_into().expect("one");
    let pid = reader.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a pid");
    let other = deadlines.clone();
    let path = fifo(directory.path(), "waits");
    let waits = std::thread::spawn(move || other.text("proc", &path, PATIENCE).map(drop));
    let opens = format!("{} ", libc::SYS_openat);
    let is_open =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("syscall")).is_ok_and(|call| call.starts_with(&opens));
    until(|| fs::read_dir(reader.join("task")).is_ok_and(|tasks| tasks.flatten().any(is_open)));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("ours");
    assert!(matches!(waits.join().expect("no panic"), Err(Late::NoHelper { .. })));

    let deadlines = Deadlines::with_helper(program);
    assert!(deadlines.text("proc", &file, PATIENCE).is_ok());
    let [reader] = readers().try_into().expect("one");
    drop(deadlines);
    ended(&reader);
}

fn ended(reader: &Path) {
    until(|| !readers().iter().any(|there| there == reader));
}

fn until(condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "it never came");
        std::thread::yield_now();
    }
}
