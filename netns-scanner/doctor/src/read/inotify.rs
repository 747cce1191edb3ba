//! Whether anybody can still watch files: one instance of inotify(7) with one watch, closed at once.

use crate::decide::InotifyRoom;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::io;

/// Told of nothing while it is there.
const WATCHED: &str = "/";

pub fn room() -> io::Result<InotifyRoom> {
    let instance = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
        Ok(instance) => instance,
        // It says the same where this process may open nothing more.
        Err(Errno::EMFILE) if own_descriptors_are_left() => return Ok(InotifyRoom::NoInstance),
        Err(errno) => return Err(errno.into()),
    };
    match instance.add_watch(WATCHED, AddWatchFlags::IN_DELETE_SELF) {
        Ok(_) => Ok(InotifyRoom::Left),
        Err(Errno::ENOSPC) => Ok(InotifyRoom::NoWatch),
        Err(errno) => Err(errno.into()),
    }
}

fn own_descriptors_are_left() -> bool {
    let is_full = |error: io::Error| error.raw_os_error() == Some(Errno::EMFILE as i32);
    !File::open("/dev/null").is_err_and(is_full)
}
