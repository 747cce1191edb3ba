//! Files that cannot be opened any more.

use crate::room::{Room, brief, number};
use doctor::{CheckId, Severity};
use std::process::Command;

#[test]
fn a_process_near_its_limit_of_files_is_found_and_one_with_room_is_fine() {
    let limited = |count: &str| Room::new("holds_files", "ulimit -n 40", count);
    let room = limited("33");
    let found = room.finds(CheckId::FdLimit, brief());
    assert_eq!((found.severity, found.subject.kind.as_str()), (Severity::Warning, "Process"), "{found:?}");
    let figures = ["open", "max", "pid"].map(|name| number(&found, name));
    assert_eq!(figures, [33.0, 40.0, f64::from(room.holder.id())], "{found:?}");
    let found = limited("39").finds(CheckId::FdLimit, brief());
    assert_eq!((found.severity, number(&found, "open")), (Severity::Error, 39.0), "{found:?}");
    limited("32").finds_nothing(CheckId::FdLimit, brief());
    // As many open files, and a limit that is far.
    Room::new("holds_files", "true", "39").finds_nothing(CheckId::FdLimit, brief());
}

/// What a process says of inotify that is another root: of so many instances, and of so many watches, as its
/// user namespace has, it holds some.
fn in_a_user_namespace(instances: u32, watches: u32, holds: &str) -> String {
    let program = std::env::current_exe().expect("this program");
    let script = format!(
        "cd /proc/sys/user && echo {instances} > max_inotify_instances && echo {watches} > max_inotify_watches \
         && exec {} --ignored --exact roles::watches_files --nocapture",
        program.display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &script])
        .env("LOAD", holds)
        .output()
        .expect("unshare is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("said "));
    line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[test]
fn the_last_inotify_instance_and_the_last_watch_are_found_and_the_one_before_is_fine() {
    let said = "Error: root gets no inotify instance more: all 3 of fs.inotify.max_user_instances are taken";
    assert_eq!(in_a_user_namespace(3, 10, "3"), said);
    let said = "Error: root gets no inotify watch more: all 2 of fs.inotify.max_user_watches are taken";
    assert_eq!(in_a_user_namespace(3, 2, "2"), said);
    assert_eq!(in_a_user_namespace(3, 3, "2"), "fine");
}
