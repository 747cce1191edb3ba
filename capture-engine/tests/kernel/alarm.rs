//! The kernel tells of a network namespace below a shim of containerd, before anything runs there.

use capture_engine::kernel::{Alarm, Alarmed};
use netns::Netns;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn load() -> Alarm {
    let own = Netns::current().expect("the namespace of the test");
    let cookie = own.run(|inside| inside.cookie()).expect("enter it").expect("Linux 5.14 or later");
    Alarm::load(cookie).expect("the programs load")
}

/// A shell with a name of our choice, and what it runs: it stays the parent. All of it ends with this.
struct Shell {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Shell {
    fn start(name: &str, script: &str) -> Shell {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join(name);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let sh = std::env::split_paths(&path).map(|dir| dir.join("sh")).find(|sh| sh.exists()).expect("a shell");
        // No copy: what another thread forks meanwhile would hold it open for writing, and nobody could run it.
        symlink(sh, &program).expect("a link");
        let child = Command::new(program).args(["-c", script]).process_group(0).spawn().expect("start it");
        Shell { child, _dir: dir }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// What is told within `patience` of namespaces below `shim`: a machine that runs the tests may have shims of its own.
fn told(alarm: &mut Alarm, shim: u32, patience: Duration) -> Option<Alarmed> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        alarm.wait(Duration::from_millis(50)).expect("epoll");
        while let Some(alarmed) = alarm.next_alarm() {
            if alarmed.shim == shim {
                return Some(alarmed);
            }
        }
    }
    None
}

#[test]
fn a_namespace_below_a_shim_is_told_of_with_a_process_in_it() {
    let mut alarm = load();
    let shell = Shell::start("containerd-shim-test", "unshare -n sh -c 'sleep 0; sleep 1000; :'; :");
    let shim = shell.child.id();
    let alarmed = told(&mut alarm, shim, Duration::from_secs(20)).expect("an alarm");
    let inside = fs::metadata(format!("/proc/{}/ns/net", alarmed.pid)).expect("the process is there");
    assert_eq!(inside.ino(), u64::from(alarmed.inode));
    assert_ne!(inside.ino(), fs::metadata("/proc/self/ns/net").expect("procfs").ino());
    assert!(alarm.counts().told > 0);
    assert_eq!(told(&mut alarm, shim, Duration::from_millis(500)), None, "once, though more runs there");
}

#[test]
fn a_namespace_below_another_process_is_not_told_of() {
    let mut alarm = load();
    let mut other = Shell::start("containers-shim", "unshare -n sleep 0; :");
    other.child.wait().expect("the shell ends");
    assert_eq!(told(&mut alarm, other.child.id(), Duration::from_millis(100)), None);
}
