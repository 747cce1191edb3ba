//! Raw `getsockopt` for the one option that no binding has.

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `include/uapi/asm-generic/socket.h`, since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The number of the namespace that `socket` belongs to: never reused until the machine restarts, unlike an inode.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut cookie = 0u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `cookie` is eight writable bytes, which is what `length` says, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    Errno::result(result).map(|_| cookie)
}
