//! News of the node's own addresses, from the kernel: a bridge that Docker or a network plugin makes
//! is the node at once, not at the next look of the minute.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use std::os::fd::{AsRawFd, OwnedFd};

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`: not links, of which each container brings several.
const GROUPS: u32 = 0x10 | 0x100;

/// Taken by one call; what is left is there for the next.
const AT_ONCE: usize = 256;

/// Says that addresses may have changed; what they are now is to be read.
#[derive(Debug)]
pub struct NodeNews(Option<OwnedFd>);

impl NodeNews {
    /// Of the namespace of the calling thread. Where it cannot be had, nothing is ever told.
    pub fn subscribe() -> NodeNews {
        NodeNews(open().inspect_err(|error| no_news(*error)).ok())
    }

    /// Whether there were any since the last call. One system call where there were none.
    pub fn any(&mut self) -> bool {
        let Some(socket) = &self.0 else { return false };
        let mut first_bytes = [0; 16];
        let mut any = false;
        for _ in 0..AT_ONCE {
            // What the news say does not matter, and that some were dropped says the same.
            match recv(socket.as_raw_fd(), &mut first_bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS) => any = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return any,
                Err(error) => {
                    no_news(error);
                    self.0 = None;
                    return true;
                }
            }
        }
        any
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(socket)
}

fn no_news(error: Errno) {
    tracing::warn!(%error, "no news of the node's addresses; they are looked at once a minute");
}

/// One look at a time; what is told during one asks for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    #[default]
    None,
    UnderWay,
    /// And its outcome may be old already.
    Again,
}

impl Look {
    /// There are news. True if a look is to begin.
    pub fn ask(&mut self) -> bool {
        let begins = *self == Look::None;
        *self = if begins { Look::UnderWay } else { Look::Again };
        begins
    }

    /// The look is over. True if another is to begin.
    pub fn over(&mut self) -> bool {
        let again = *self == Look::Again;
        *self = if again { Look::UnderWay } else { Look::None };
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_during_a_look_asks_for_one_more_and_no_two_are_under_way() {
        let mut look = Look::default();
        assert!(look.ask());
        assert!(!look.ask() && !look.ask());
        assert!(look.over(), "it was told meanwhile");
        assert!(!look.over());
        assert!(look.ask() && !look.over());
    }
}
