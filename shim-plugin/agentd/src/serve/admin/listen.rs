//! Binds what the agent answers on: an address, and a unix socket that a dead agent may have left behind.

use crate::exit::{Exit, Failure};
use anyhow::Context;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Of an answer, in the kernel, for each connection; it takes twice as much.
const SEND_BYTES: usize = 128 << 10;

/// How long a process that is going may keep the address: longer than an agent takes to end.
pub const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);

/// A taken address is tried again for `patience`, since the process before this one may be on its way out.
///
/// # Errors
/// `Usage` when the address is taken or not ours: another one must be configured.
pub fn bind_address(address: SocketAddr, patience: Duration) -> Result<TcpListener, Failure> {
    let bound = patiently(
        patience,
        || TcpListener::bind(address),
        || {
            tracing::warn!(%address, seconds = patience.as_secs(), "the address is in use; trying again for a while");
        },
    );
    let listener = bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::say(
            Exit::Usage,
            format!(
                "admin.listen: {address} is in use by another process; stop it, or write another port (0: any free one)"
            ),
        ),
        ErrorKind::AddrNotAvailable => {
            Failure::say(Exit::Usage, format!("admin.listen: {address} is not an address of this machine"))
        }
        ErrorKind::PermissionDenied => {
            Failure::say(Exit::NoPermission, format!("admin.listen: not allowed to listen on {address}"))
        }
        _ => Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("admin.listen: {address}"))),
    })?;
    listener.set_nonblocking(true).context("make the listener non-blocking")?;
    // Connections take it over. What it does not say, the kernel would let grow to 4 MiB for each slow reader.
    setsockopt(&listener, sockopt::SndBuf, &SEND_BYTES).context("bound what the kernel keeps of an answer")?;
    Ok(listener)
}

/// Tries until it is no longer taken, or for so long; `say` is called once, before the first wait.
fn patiently<T>(patience: Duration, bind: impl Fn() -> io::Result<T>, say: impl FnOnce()) -> io::Result<T> {
    let until = Instant::now() + patience;
    let mut say = Some(say);
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                if let Some(say) = say.take() {
                    say();
                }
                thread::sleep(AGAIN);
            }
            other => return other,
        }
    }
}

/// A bound unix socket; its file goes when this does, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds `path` with mode 0660, replacing the socket of a process that is gone.
///
/// # Errors
/// `Usage` when a living process answers there, or something that is no socket is in the way.
pub fn bind_socket(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
    let shown = path.display();
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(Failure::say(
                Exit::Usage,
                format!("admin.socket: {shown} exists and is no socket; write another path"),
            ));
        }
        match UnixStream::connect(path) {
            Ok(_) => {
                let text =
                    format!("admin.socket: another agent is answering on {shown}; stop it, or write another path");
                return Err(Failure::say(Exit::Usage, text));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                tracing::info!(socket = %shown, "replacing the socket of an agent that is gone");
            }
            Err(error) => return Err(denied_or_usage(error, format!("admin.socket: look at {shown}"))),
        }
    }
    if let Some(directory) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(directory);
        made.map_err(|error| denied_or_usage(error, format!("admin.socket: make {}", directory.display())))?;
    }
    // Bound beside and renamed into place: whoever finds the file finds its final mode, and nobody finds nothing.
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&beside);
    let bound = || -> std::io::Result<(UnixListener, u64)> {
        let listener = UnixListener::bind(&beside)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o660))?;
        let inode = fs::symlink_metadata(&beside)?.ino();
        fs::rename(&beside, path)?;
        Ok((listener, inode))
    };
    match bound() {
        Ok((listener, inode)) => Ok((listener, SocketFile { path: path.to_owned(), inode })),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(denied_or_usage(error, format!("admin.socket: bind {shown}")))
        }
    }
}

fn denied_or_usage(error: std::io::Error, what: String) -> Failure {
    let exit = if error.kind() == ErrorKind::PermissionDenied { Exit::NoPermission } else { Exit::Usage };
    Failure::new(exit, anyhow::Error::new(error).context(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_ours_is_removed_at_the_end() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("deep/pilotfish.sock");
        fs::create_dir(directory.path().join("deep")).expect("mkdir");
        drop(UnixListener::bind(&path).expect("bind"));
        let (_listener, file) = bind_socket(&path).expect("a stale socket is no obstacle");
        assert_eq!(fs::metadata(&path).expect("bound").permissions().mode() & 0o777, 0o660);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_owner_keeps_its_socket() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("pilotfish.sock");
        let _owner = UnixListener::bind(&path).expect("bind");
        let failure = bind_socket(&path).expect_err("taken");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("another agent is answering"), "{failure}");
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("pilotfish.sock");
        fs::write(&path, "precious").expect("write");
        assert_eq!(bind_socket(&path).expect_err("in the way").exit, Exit::Usage);
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }

    #[test]
    fn a_socket_that_a_successor_bound_is_not_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("pilotfish.sock");
        let (listener, file) = bind_socket(&path).expect("bind");
        drop(listener);
        let (_successor, _kept) = bind_socket(&path).expect("stale by now");
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_port_in_use_is_named() {
        let owner = TcpListener::bind("127.0.0.1:0").expect("bind");
        let failure = bind_address(owner.local_addr().expect("bound"), Duration::ZERO).expect_err("taken");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("is in use by another process"), "{failure}");
    }

    #[test]
    fn a_port_that_becomes_free_is_waited_for_and_said_once() {
        let (tries, said) = (Cell::new(0), Cell::new(0));
        let bind = || {
            tries.set(tries.get() + 1);
            if tries.get() < 4 { Err(ErrorKind::AddrInUse.into()) } else { Ok(()) }
        };
        patiently(Duration::from_secs(3600), bind, || said.set(said.get() + 1)).expect("free in the end");
        assert_eq!((tries.get(), said.get()), (4, 1));
    }

    #[test]
    fn nothing_but_a_taken_port_is_waited_for() {
        let denied = || -> io::Result<()> { Err(ErrorKind::PermissionDenied.into()) };
        let error = patiently(Duration::from_secs(3600), denied, || panic!("said")).expect_err("denied");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
}
