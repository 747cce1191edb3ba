use crate::link::{IfAddress, Link};
use crate::route::{NetlinkError, receive};
use crate::wire::{self, Message};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// `RTMGRP_LINK | RTMGRP_TC | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x8 | 0x10 | 0x100;
/// `struct tcmsg`: family, pad, ifindex, handle, parent, info.
const TCMSG_INDEX: usize = 4;
const TCMSG_PARENT: usize = 12;
/// The parent of clsact itself, and of its filters in either direction (`TC_H_CLSACT` and others).
const CLSACT: std::ops::RangeInclusive<u32> = 0xffff_fff1..=0xffff_fff3;
/// Notices carry one link or address each, far below this.
const BUFFER_BYTES: usize = 16 * 1024;
/// Datagrams taken per call, so that one namespace in turmoil cannot hold the thread that watches all of them.
const MAX_DATAGRAMS: usize = 64;

/// What happened to a namespace's links. News, not truth: after anything surprising, list again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is new, or something about it changed.
    Link(Link),
    /// The link was deleted, or moved to another namespace.
    LinkGone {
        /// Its number, as [`Link::index`]; the kernel may give it to a new link.
        index: u32,
    },
    /// A link got this address, or something about it changed.
    Address(IfAddress),
    /// A link lost this address.
    AddressGone(IfAddress),
    /// A filter at the link's clsact qdisc was removed, or the qdisc itself.
    FilterGone {
        /// The link, as [`Link::index`].
        index: u32,
    },
    /// The kernel dropped news (the socket's buffer was full), or sent what could not be read: list again.
    Missed,
}

/// A subscription to links, addresses and lost filters of one namespace. One descriptor, readable
/// from any thread, never blocks.
///
/// It keeps the namespace alive: drop it when the container goes.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    pub(crate) fn open() -> io::Result<LinkWatch> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        Ok(LinkWatch { socket })
    }

    /// Adds to `changes` what came since the last call; at most 64 datagrams of it, so poll again (level-triggered).
    ///
    /// # Errors
    /// The socket is broken. Lost news is no error but [`Change::Missed`].
    pub fn drain(&self, changes: &mut Vec<Change>) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..MAX_DATAGRAMS {
            match receive(&self.socket, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => changes.extend(wire::messages(&buffer[..length]).filter_map(|message| change(&message))),
                Err(NetlinkError::Io(error)) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(()),
                    Some(Errno::ENOBUFS) => changes.push(Change::Missed),
                    _ => return Err(error),
                },
                Err(_) => changes.push(Change::Missed),
            }
        }
        Ok(())
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn change(message: &Message<'_>) -> Option<Change> {
    match message.kind {
        libc::RTM_NEWLINK => Link::parse(message).map(Change::Link),
        libc::RTM_DELLINK => Link::parse(message).map(|link| Change::LinkGone { index: link.index }),
        libc::RTM_NEWADDR => IfAddress::parse(message).map(Change::Address),
        libc::RTM_DELADDR => IfAddress::parse(message).map(Change::AddressGone),
        libc::RTM_DELQDISC | libc::RTM_DELTFILTER => {
            let parent = wire::read_u32(message.payload, TCMSG_PARENT)?;
            let index = wire::read_u32(message.payload, TCMSG_INDEX)?;
            CLSACT.contains(&parent).then_some(Change::FilterGone { index })
        }
        _ => None,
    }
}
