//! The services of the node, one cgroup each below `system.slice`. Listed once, and again when
//! inotify tells that one came or went: nothing is read between.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

/// Most services have no network at all; a node runs some fifty. More are counted and left out.
pub const MOST: usize = 256;
const SUFFIX: &str = ".service";

/// What changes below a directory.
#[derive(Debug)]
pub struct Watch(Inotify);

impl Watch {
    /// Blocks as long as the file system does.
    ///
    /// # Errors
    /// There is no such directory, or no descriptor is left.
    pub fn new(directory: &Path) -> io::Result<Watch> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        watch.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR)?;
        Ok(Watch(watch))
    }

    /// Whether something changed since the last time: one system call that does not wait. False for
    /// good where the kernel refuses it.
    pub fn changed(&self) -> bool {
        let mut any = false;
        loop {
            match self.0.read_events() {
                // A queue that overflowed says so by an event, too.
                Ok(events) => any |= !events.is_empty(),
                Err(Errno::EINTR) => {}
                Err(_) => return any,
            }
        }
    }
}

/// Names of the services whose cgroups are in `directory` now, without their suffix, and the
/// kernel's number of each: a service that restarts has another under the same name.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        out.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(|name| (name.to_owned(), entry.ino())));
    }
    Ok(out)
}

#[must_use]
pub fn file_name(service: &str) -> String {
    format!("{service}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_starts_is_heard_of_and_listed() {
        let slice = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(slice.path().join("docker-8a3c5f.scope")).expect("directory");
        fs::create_dir(slice.path().join("ssh.service")).expect("directory");
        let watch = Watch::new(slice.path()).expect("watched");
        let names = || list(slice.path()).expect("listed").into_keys().collect::<Vec<String>>();
        assert_eq!(names(), ["ssh"]);
        assert!(!watch.changed());
        fs::create_dir(slice.path().join("kubelet.service")).expect("directory");
        assert!(watch.changed() && !watch.changed());
        assert_eq!(names(), ["kubelet", "ssh"]);
        fs::remove_dir(slice.path().join("ssh.service")).expect("removed");
        assert!(watch.changed());
    }
}
