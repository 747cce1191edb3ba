use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use testbed::http::Message;

/// What becomes of the connection when the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    None,
    /// A FIN.
    Close,
    /// A RST: closed with nothing to wait for (socket(7), SO_LINGER).
    Reset,
}

/// A client's connection: requests are answered one at a time and in order, so a pipeline waits in `incoming`.
pub struct Peer {
    stream: TcpStream,
    incoming: Vec<u8>,
    request: Message,
    outgoing: Vec<u8>,
    waits_for_answer: bool,
    watches_out: bool,
    ending: Ending,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Peer {
        Peer {
            stream,
            incoming: Vec::new(),
            request: Message::request(),
            outgoing: Vec::new(),
            waits_for_answer: false,
            watches_out: false,
            ending: Ending::None,
        }
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    pub fn received(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// The next whole request, unless the one before it has no answer yet.
    pub fn take_request(&mut self) -> Option<Message> {
        if self.waits_for_answer || self.incoming.is_empty() {
            return None;
        }
        let taken = self.request.feed(&self.incoming, |_| ());
        self.incoming.drain(..taken);
        if !self.request.is_over() {
            return None;
        }
        self.waits_for_answer = true;
        Some(std::mem::replace(&mut self.request, Message::request()))
    }

    pub fn answered(&mut self, ending: Ending) {
        self.waits_for_answer = ending != Ending::None;
        self.ending = ending;
    }

    /// Writes what it can; false when the connection is gone, or is to end.
    pub fn flush(&mut self) -> bool {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if self.ending == Ending::Reset {
            setsockopt(&self.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).ok();
        }
        self.ending == Ending::None
    }

    /// Whether the writable event is wanted, where that changed since the last call.
    pub fn interest_changed(&mut self) -> Option<bool> {
        let wants = !self.outgoing.is_empty();
        (wants != self.watches_out).then(|| {
            self.watches_out = wants;
            wants
        })
    }
}
