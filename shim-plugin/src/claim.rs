//! Whose containerd it is: a lock on the directory of its socket, so that two agents do not take
//! each other's programs off the same interfaces.

use parking_lot::Mutex;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories that this process alone works with. The kernel frees them at its end, however that
/// comes. Clones share what they hold.
///
/// The lock is on the directory itself (flock(2)): nothing is written there, and it holds whatever
/// path or mount leads to it.
#[derive(Clone, Debug, Default)]
pub struct Claims(Option<Arc<Mutex<Vec<Held>>>>);

#[derive(Debug)]
struct Held {
    directory: PathBuf,
    id: (u64, u64),
    _lock: File,
}

/// Another process holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another agent{} works with {}",
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
    directory.display()
)]
pub struct Taken {
    /// Which directory.
    pub directory: PathBuf,
    /// The holder, where it can be seen from here.
    pub pid: Option<u32>,
}

impl Claims {
    /// For an agent. `Claims::default` claims nothing: for whoever only looks.
    #[must_use]
    pub fn exclusive() -> Claims {
        Claims(Some(Arc::default()))
    }

    /// Claims the directory that `socket` lies in, if there is one yet.
    ///
    /// # Errors
    /// Another agent has it.
    pub fn socket(&self, socket: &Path) -> Result<(), Taken> {
        socket.parent().map_or(Ok(()), |directory| self.directory(directory))
    }

    /// Claims a directory. One that cannot be opened or locked is nobody's: that keeps no agent
    /// from its work.
    ///
    /// # Errors
    /// Another agent has it.
    pub fn directory(&self, directory: &Path) -> Result<(), Taken> {
        let Some(held) = &self.0 else { return Ok(()) };
        let Ok(lock) = File::open(directory) else { return Ok(()) };
        let Ok(id) = lock.metadata().map(|file| (file.dev(), file.ino())) else { return Ok(()) };
        let mut held = held.lock();
        if held.iter().any(|held| held.id == id) {
            return Ok(());
        }
        match lock.try_lock() {
            Ok(()) => {
                // It was made anew since.
                held.retain(|held| held.directory != directory);
                held.push(Held { directory: directory.to_owned(), id, _lock: lock });
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(Taken { directory: directory.to_owned(), pid: holder(id) }),
            // A file system without locks.
            Err(TryLockError::Error(_)) => Ok(()),
        }
    }
}

fn holder(id: (u64, u64)) -> Option<u32> {
    // In large reads: each goes on at a number of locks from the list's beginning, and passes over
    // one wherever another was let go in between.
    let mut locks = String::with_capacity(1 << 16);
    File::open("/proc/locks").and_then(|mut file| file.read_to_string(&mut locks)).ok()?;
    holder_in(&locks, id)
}

/// Lines like `1: FLOCK  ADVISORY  WRITE 16282 fe:00:10717488 0 EOF` (proc_locks(5)).
fn holder_in(locks: &str, (dev, inode): (u64, u64)) -> Option<u32> {
    let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00));
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        (kind == "FLOCK" && words.next()? == place).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_who_is_named_and_whose_end_frees_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("containerd.sock");
        let first = Claims::exclusive();
        assert_eq!(first.socket(&socket), Ok(()));
        assert_eq!(first.clone().directory(directory.path()), Ok(()), "it is ours already");
        let taken = Claims::exclusive().socket(&socket).expect_err("it is taken");
        assert_eq!(taken.pid, Some(std::process::id()));
        assert!(taken.to_string().contains(&format!("another agent (pid {}) works with", std::process::id())));
        assert_eq!(Claims::default().socket(&socket), Ok(()), "who only looks claims nothing");
        drop(first);
        assert_eq!(Claims::exclusive().socket(&socket), Ok(()));
    }

    #[test]
    fn what_is_not_there_keeps_nobody_from_work_and_what_is_made_anew_is_claimed_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("k3s/containerd.sock");
        let claims = Claims::exclusive();
        assert_eq!(claims.socket(&socket), Ok(()));
        for _ in 0..3 {
            std::fs::create_dir(directory.path().join("k3s")).expect("made");
            assert_eq!(claims.socket(&socket), Ok(()));
            assert!(Claims::exclusive().socket(&socket).is_err());
            std::fs::remove_dir(directory.path().join("k3s")).expect("removed");
        }
    }

    #[test]
    fn the_holder_is_read_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 fe:00:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 14 fe:01:77 0 EOF\n3: FLOCK  ADVISORY  WRITE 13 fe:01:77 0 EOF\n4:\n";
        let dev = |major: u64, minor: u64| major << 8 | minor;
        assert_eq!(holder_in(locks, (dev(0xfe, 1), 77)), Some(13));
        assert_eq!(holder_in(locks, (dev(0xfe, 0), 78)), Some(12));
        assert_eq!(holder_in(locks, (dev(0xfe, 0), 77)), None, "a lock of another kind");
        assert_eq!(holder_in("", (1, 1)), None);
    }
}
