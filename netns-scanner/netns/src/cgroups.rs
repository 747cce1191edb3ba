//! Cgroup namespaces: what the kernel tells of cgroups' paths is told from the root of the reader's.

use nix::sched::CloneFlags;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

/// From now on the calling thread, and those that it starts, are told the paths of cgroups as process
/// `pid` is. In a namespace of one's own the kernel tells the path of another's cgroup from where it
/// parts from one's own, which is not told. Returns whether it was another namespace.
///
/// # Errors
/// There is no such process or namespace, or CAP_SYS_PTRACE or CAP_SYS_ADMIN is missing.
pub fn see_cgroups_as(pid: u32) -> io::Result<bool> {
    let theirs = File::open(format!("/proc/{pid}/ns/cgroup"))?;
    let id = |file: Metadata| (file.dev(), file.ino());
    if id(theirs.metadata()?) == id(fs::metadata("/proc/thread-self/ns/cgroup")?) {
        return Ok(false);
    }
    enter(&theirs)?;
    Ok(true)
}

#[expect(clippy::disallowed_methods, reason = "this crate is the one place that changes a thread's namespace")]
fn enter(theirs: &File) -> io::Result<()> {
    Ok(nix::sched::setns(theirs, CloneFlags::CLONE_NEWCGROUP)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root.
    #[test]
    fn a_thread_in_a_namespace_of_its_own_is_told_paths_as_its_process_is() {
        let own = std::process::id();
        let cgroups = || fs::read_to_string("/proc/thread-self/cgroup").expect("cgroups");
        let before = cgroups();
        let apart = std::thread::spawn(move || {
            assert!(!see_cgroups_as(own).expect("its own"));
            nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).expect("root");
            assert!(cgroups().lines().all(|line| line.ends_with(":/")));
            assert!(see_cgroups_as(own).expect("root"));
            cgroups()
        });
        assert_eq!(apart.join().expect("no panic"), before);
    }
}
