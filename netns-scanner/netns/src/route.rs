use crate::link::{self, IfAddress, Link};
use crate::wire::{self, Batch, Message};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG},
};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// The kernel builds dump datagrams of up to 32 KiB when the reader offers that much, and never larger ones.
const BUFFER_BYTES: usize = 32 * 1024;
/// Each answer takes about 800 bytes of a receive buffer that holds 208 KiB by default: 128 fit twice over.
const MAX_BATCH: usize = 128;
/// A dump is begun anew when its table changed meanwhile. Under steady change nothing better can be had.
const DUMP_ATTEMPTS: u32 = 8;
/// Single entries that are asked for at once. An answer takes some 2 KiB of that buffer.
pub const MOST_ASKED: usize = 64;
/// The kernel answers within the `sendmsg`; waiting for an answer this long means that it was lost.
const ANSWER_SECONDS: i64 = 5;

/// A request that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Positive, as errno(3) has it; netlink carries it negated.
    pub errno: Errno,
    /// The kernel's own words (extended acknowledgement), often empty.
    pub words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words.as_str() {
            "" => write!(f, "{}", self.errno),
            words => write!(f, "{}: {words}", self.errno),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a request has no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed. EAGAIN: the kernel gave no answer within 5 s.
    #[error("netlink socket")]
    Io(#[from] io::Error),
    /// The kernel answered with an error.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Each attempt at a dump was marked as interrupted (`NLM_F_DUMP_INTR`).
    #[error("the table changed during each of {DUMP_ATTEMPTS} dumps")]
    Unstable,
    /// A datagram did not fit the buffer; its end is lost.
    #[error("a netlink message was larger than {BUFFER_BYTES} bytes")]
    Truncated,
    /// Nothing was sent. Holds the number of messages; at most 128 are taken.
    #[error("a batch of {0} messages is more than a socket's buffer holds answers for")]
    TooLong(usize),
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> NetlinkError {
        NetlinkError::Io(errno.into())
    }
}

/// Requests and answers of rtnetlink in the namespace in which it was opened.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
    buffer: Vec<u8>,
    next_seq: u32,
    messages: u64,
}

/// The beginning of a table, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// In the kernel's order.
    pub found: Vec<T>,
    /// There is no more. Else the socket is of no further use: the kernel waits for it to read on.
    pub is_whole: bool,
}

/// How one received message ends or feeds a dump.
enum Progress {
    More,
    Done,
}

impl RouteSocket {
    pub(crate) fn open() -> io::Result<RouteSocket> {
        RouteSocket::of_protocol(NETLINK_ROUTE)
    }

    /// For `sock_diag(7)`: the same requests and dumps, another table.
    pub(crate) fn open_sock_diag() -> io::Result<RouteSocket> {
        RouteSocket::of_protocol(NETLINK_SOCK_DIAG)
    }

    fn of_protocol(protocol: isize) -> io::Result<RouteSocket> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Both since 4.12 at the latest: words for refusals, and no echo of the request's payload in answers.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_SECONDS, 0))?;
        Ok(RouteSocket { socket, buffer: vec![0; BUFFER_BYTES], next_seq: 1, messages: 0 })
    }

    /// Sends `batch` in one system call and returns what became of each of its messages, in order.
    /// Every message must ask for an `ACK`.
    ///
    /// # Errors
    /// The socket failed, or an answer got lost: then it is not known what was done.
    pub fn transact(&mut self, mut batch: Batch) -> Result<Vec<Result<(), Refusal>>, NetlinkError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if batch.len() > MAX_BATCH {
            return Err(NetlinkError::TooLong(batch.len()));
        }
        let first = self.send(&mut batch)?;
        let mut outcomes: Vec<Option<Result<(), Refusal>>> = vec![None; batch.len()];
        let mut open = batch.len();
        while open > 0 {
            let length = receive(&self.socket, &mut self.buffer, MsgFlags::empty())?;
            for message in wire::messages(&self.buffer[..length]) {
                let index = message.seq.wrapping_sub(first) as usize;
                if message.kind != wire::NLMSG_ERROR {
                    continue;
                }
                if let Some(outcome @ None) = outcomes.get_mut(index) {
                    *outcome = Some(outcome_of(&message));
                    open -= 1;
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Asks for a table and returns what `parse` makes of its entries. `kind` is the request
    /// (`RTM_GET*`), `fixed` the message's fixed part, `fill` adds attributes.
    ///
    /// # Errors
    /// `Refused` with the kernel's words; `Unstable` when the table changed during each of several dumps.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        fill: impl Fn(&mut wire::Payload<'_>),
        parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        self.dump_part(usize::MAX, kind, fill, parse).map(|part| part.found)
    }

    /// Asks a socket of `sock_diag(7)` for the sockets of one family and protocol that are in one of
    /// `states` (a bit each, as the kernel numbers them), with `extensions` of linux/inet_diag.h.
    ///
    /// # Errors
    /// As [`RouteSocket::dump`].
    pub fn dump_sockets<T>(
        &mut self,
        (family, protocol): (u8, u8),
        states: u32,
        extensions: u8,
        parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let fill = |request: &mut wire::Payload<'_>| {
            request.raw(&[family, protocol, extensions, 0]);
            request.raw(&states.to_ne_bytes());
            // An empty inet_diag_sockid: every socket.
            request.raw(&[0; 48]);
        };
        self.dump(SOCK_DIAG_BY_FAMILY, fill, parse)
    }

    /// As [`RouteSocket::dump`], and reads no further than the datagram in which the table shows more
    /// than `most` entries, whatever `parse` makes of them. A part may be of a table that changed
    /// meanwhile: it is not asked for again.
    ///
    /// # Errors
    /// As there.
    pub fn dump_part<T>(
        &mut self,
        most: usize,
        kind: u16,
        fill: impl Fn(&mut wire::Payload<'_>),
        mut parse: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Part<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut request = Batch::new();
            request.message(kind, wire::DUMP, &fill);
            let seq = self.send(&mut request)?;
            let (mut found, mut read) = (Vec::new(), 0);
            let mut interrupted = false;
            loop {
                let length = receive(&self.socket, &mut self.buffer, MsgFlags::empty())?;
                let so_far = read;
                let progress = feed(&self.buffer[..length], seq, &mut interrupted, &mut |message| {
                    if read < most {
                        found.extend(parse(message));
                    }
                    read += 1;
                })?;
                self.messages += (read - so_far) as u64;
                match progress {
                    _ if read > most => return Ok(Part { found, is_whole: false }),
                    Progress::Done => break,
                    Progress::More => {}
                }
            }
            if !interrupted {
                return Ok(Part { found, is_whole: true });
            }
        }
        Err(NetlinkError::Unstable)
    }

    /// Asks for single entries, a request each without `ACK`, and returns what `parse` makes of each
    /// answer, in order. What is refused, as what is not there, has none.
    ///
    /// # Errors
    /// The socket failed, or an answer got lost.
    pub fn ask<T>(
        &mut self,
        mut requests: Batch,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<Option<T>>, NetlinkError> {
        let asked = requests.len();
        if asked > MOST_ASKED {
            return Err(NetlinkError::TooLong(asked));
        }
        let mut answers: Vec<Option<T>> = Vec::new();
        answers.resize_with(asked, || None);
        if asked == 0 {
            return Ok(answers);
        }
        let first = self.send(&mut requests)?;
        let mut open = vec![true; asked];
        while open.contains(&true) {
            let length = receive(&self.socket, &mut self.buffer, MsgFlags::empty())?;
            for message in wire::messages(&self.buffer[..length]) {
                let index = message.seq.wrapping_sub(first) as usize;
                if let (Some(answer), Some(open @ true)) = (answers.get_mut(index), open.get_mut(index)) {
                    (*answer, *open) = (parse(&message), false);
                    self.messages += 1;
                }
            }
        }
        Ok(answers)
    }

    /// Links of the namespace, loopback included; `most` of them.
    ///
    /// # Errors
    /// See [`RouteSocket::dump`].
    pub fn links(&mut self, most: usize) -> Result<Part<Link>, NetlinkError> {
        self.dump_part(most, libc::RTM_GETLINK, link::link_request, Link::parse)
    }

    /// Those of these links that are there. At most [`MOST_ASKED`].
    ///
    /// # Errors
    /// See [`RouteSocket::ask`].
    pub fn links_of(&mut self, indexes: &[u32]) -> Result<Vec<Link>, NetlinkError> {
        let mut batch = Batch::new();
        for index in indexes {
            batch.message(libc::RTM_GETLINK, 0, |request| link::one_link_request(request, *index));
        }
        Ok(self.ask(batch, Link::parse)?.into_iter().flatten().collect())
    }

    /// Addresses of the namespace; `most` of them.
    ///
    /// # Errors
    /// See [`RouteSocket::dump`].
    pub fn addresses(&mut self, most: usize) -> Result<Part<IfAddress>, NetlinkError> {
        self.dump_part(most, libc::RTM_GETADDR, link::address_request, IfAddress::parse)
    }

    /// Entries that were read through this socket: what its questions cost.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether dumps bring only what their request's fixed part names (`NETLINK_GET_STRICT_CHK`).
    pub(crate) fn set_strict(&mut self, strict: bool) -> io::Result<()> {
        self.socket.set_netlink_get_strict_chk(strict)
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, NetlinkError> {
        let first = self.next_seq;
        self.next_seq = first.wrapping_add(batch.len() as u32);
        batch.number(first);
        loop {
            match self.socket.send_to(batch.bytes(), &SocketAddr::new(0, 0), 0) {
                Ok(_) => return Ok(first),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Takes one datagram of the dump `seq`. Answers to earlier requests, given up on, are passed over.
fn feed(
    datagram: &[u8],
    seq: u32,
    interrupted: &mut bool,
    entry: &mut dyn FnMut(&Message<'_>),
) -> Result<Progress, NetlinkError> {
    for message in wire::messages(datagram).filter(|message| message.seq == seq) {
        *interrupted |= message.flags & wire::DUMP_INTR != 0;
        match message.kind {
            wire::NLMSG_DONE | wire::NLMSG_ERROR => {
                return match outcome_of(&message) {
                    Ok(()) => Ok(Progress::Done),
                    // The kernel's way to say that a dump could not go on where it stood.
                    Err(refusal) if refusal.errno == Errno::EINTR => {
                        *interrupted = true;
                        Ok(Progress::Done)
                    }
                    Err(refusal) => Err(NetlinkError::Refused(refusal)),
                };
            }
            _ => entry(&message),
        }
    }
    Ok(Progress::More)
}

fn outcome_of(message: &Message<'_>) -> Result<(), Refusal> {
    match wire::verdict(message) {
        (0, _) => Ok(()),
        (errno, words) => Err(Refusal { errno: Errno::from_raw(errno), words }),
    }
}

/// Receives one datagram. Whoever has CAP_NET_ADMIN in the namespace can send to our socket: what
/// is not from the kernel is taken for an empty datagram, which counts against the callers' bounds.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, NetlinkError> {
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let (length, truncated, from_kernel) = match recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, None, flags)
        {
            Ok(got) => (
                got.bytes,
                got.flags.contains(MsgFlags::MSG_TRUNC),
                got.address.is_some_and(|sender| sender.pid() == 0),
            ),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        return match (from_kernel, truncated) {
            (false, _) => Ok(0),
            (true, true) => Err(NetlinkError::Truncated),
            (true, false) => Ok(length),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u16, flags: u16, seq: u32, fill: impl FnOnce(&mut wire::Payload<'_>)) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.message(kind, flags, fill);
        batch.number(seq);
        batch.bytes().to_vec()
    }

    fn feed_all(datagrams: &[Vec<u8>]) -> (Vec<u16>, bool, bool) {
        let (mut kinds, mut interrupted, mut done) = (Vec::new(), false, false);
        for datagram in datagrams {
            let progress = feed(datagram, 7, &mut interrupted, &mut |message| kinds.push(message.kind));
            done |= matches!(progress, Ok(Progress::Done));
        }
        (kinds, interrupted, done)
    }

    #[test]
    fn a_dump_ends_with_done_and_passes_over_answers_to_other_requests() {
        let datagrams = [
            datagram(16, 0, 6, |_| {}),
            datagram(16, 0, 7, |_| {}),
            datagram(wire::NLMSG_DONE, 0, 6, |message| message.raw(&[0; 4])),
            datagram(wire::NLMSG_DONE, 0, 7, |message| message.raw(&[0; 4])),
        ];
        assert_eq!(feed_all(&datagrams[..3]), (vec![16], false, false));
        assert_eq!(feed_all(&datagrams), (vec![16], false, true));
    }

    #[test]
    fn a_table_that_changed_under_the_dump_is_noticed_in_any_of_its_messages() {
        let entry = datagram(16, wire::DUMP_INTR, 7, |_| {});
        let done = datagram(wire::NLMSG_DONE, 0, 7, |message| message.raw(&[0; 4]));
        assert_eq!(feed_all(&[entry, done]), (vec![16], true, true));
        let cut_off = datagram(wire::NLMSG_DONE, 0, 7, |message| message.raw(&(-(Errno::EINTR as i32)).to_ne_bytes()));
        assert_eq!(feed_all(&[cut_off]), (vec![], true, true));
    }

    #[test]
    fn a_refused_dump_is_an_error_with_its_reason() {
        let refused = datagram(wire::NLMSG_ERROR, 0, 7, |message| message.raw(&(-(Errno::EPERM as i32)).to_ne_bytes()));
        let outcome = feed(&refused, 7, &mut false, &mut |_| {});
        assert!(matches!(outcome, Err(NetlinkError::Refused(Refusal { errno: Errno::EPERM, .. }))));
    }
}
