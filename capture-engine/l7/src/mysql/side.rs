//! One direction of a connection: cuts it into packets, over pieces and holes.

use super::packet::{self, FULL, HEADER, KEPT_CLIENT, KEPT_GREETING, KEPT_LOGIN, KEPT_SERVER, Packet, Sender};
use crate::input::{Cause, Hole};
use flow_model::Ts;

/// Where a direction stands.
#[derive(Debug)]
pub(super) struct Side {
    sender: Sender,
    /// What begins a connection comes next: more of it is kept.
    pub logs_in: bool,
    /// Nobody knows where a packet begins.
    lost: bool,
    /// The next header is one only if it looks like one.
    doubted: bool,
    head: [u8; HEADER],
    have: u8,
    /// When the packet under way began, and the newest message of the flow that it is in.
    first: Ts,
    turn: u32,
    under_way: Option<Partial>,
    /// What is kept of its payload, where not all of it came at once.
    body: Vec<u8>,
}

/// A packet of which bytes are to come.
#[derive(Clone, Copy, Debug)]
struct Partial {
    /// Number of its first part, and of its last one so far.
    number: u8,
    last_number: u8,
    /// Of all its parts so far: bytes of the payload, and of headers, too.
    payload: u64,
    length: u64,
    /// Bytes that are to come of the part under way.
    left: u32,
    /// The part has the greatest length: another one follows.
    goes_on: bool,
    /// Bytes of the payload that matter are missing.
    cut: bool,
}

/// What a hole has passed.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// It ends a packet: see [`Side::ended`].
    pub ended: bool,
    /// Bytes of it that are behind the packet: others may have been in them, nobody knows which.
    pub beyond: u64,
}

impl Side {
    pub(super) fn new(sender: Sender, lost: bool) -> Side {
        Side {
            sender,
            logs_in: false,
            lost,
            doubted: false,
            head: [0; HEADER],
            have: 0,
            first: Ts::default(),
            turn: 0,
            under_way: None,
            body: Vec::new(),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Some of a packet has come, and not all of it.
    pub(super) fn is_amid(&self) -> bool {
        self.under_way.is_some() || self.have > 0
    }

    /// Bytes of the packet under way that have come, or passed.
    pub(super) fn taken(&self) -> u64 {
        let of_packet = self.under_way.map_or(0, |partial| partial.length.saturating_sub(u64::from(partial.left)));
        of_packet.saturating_add(u64::from(self.have))
    }

    /// The packet under way begins something, and what that is as far as it is known.
    pub(super) fn begins(&self) -> Option<Option<u8>> {
        self.under_way.filter(|partial| partial.number == 0).map(|_| self.body.first().copied())
    }

    /// Nobody knows where the next packet begins.
    pub(super) fn lose(&mut self) {
        *self = Side::new(self.sender, true);
    }

    /// A packet begins with the next byte; unless it is `certain`, its header has to show that.
    pub(super) fn find(&mut self, certain: bool) {
        *self = Side { logs_in: self.logs_in, doubted: !certain, ..Side::new(self.sender, false) };
    }

    /// Bytes until the next header; `None` where nobody knows.
    pub(super) fn header_in(&self) -> Option<u64> {
        if self.lost || self.have > 0 {
            return None;
        }
        Some(self.under_way.map_or(0, |partial| u64::from(partial.left)))
    }

    /// Takes bytes up to the end of a packet, or of its header; how many, at least one. The packet that they end.
    pub(super) fn take<'a>(&'a mut self, bytes: &'a [u8], at: Ts, turn: u32) -> (usize, Option<Packet<'a>>) {
        self.turn = turn;
        match &mut self.under_way {
            Some(partial) if partial.left > 0 => {
                let here = (partial.left as usize).min(bytes.len());
                partial.left -= here as u32;
                self.keep(bytes.get(..here).unwrap_or_default());
                (here, self.ended(at))
            }
            _ => self.header(bytes, at),
        }
    }

    /// Passes over bytes that were not captured.
    pub(super) fn skip(&mut self, hole: &Hole) -> Passed {
        if self.lost {
            if hole.cause == Cause::Skipped {
                // What follows begins with a header.
                self.find(true);
            }
            return Passed::default();
        }
        if hole.bytes == 0 {
            return Passed::default();
        }
        let Some(partial) = self.under_way.as_mut().filter(|_| self.have == 0) else {
            return Passed { ended: false, beyond: hole.bytes };
        };
        let here = u64::from(partial.left).min(hole.bytes);
        partial.left -= here as u32;
        partial.cut |= here > 0;
        let ended = partial.left == 0 && !partial.goes_on;
        Passed { ended, beyond: hole.bytes - here }
    }

    /// The packet under way, where it has come to its end.
    pub(super) fn ended(&mut self, at: Ts) -> Option<Packet<'_>> {
        let partial = self.under_way.filter(|partial| partial.left == 0 && !partial.goes_on)?;
        self.under_way = None;
        Some(packet_of(partial, &self.body, (self.first, at), self.turn))
    }

    pub(super) fn buffered(&self) -> usize {
        self.body.len()
    }

    /// Bytes of a payload that are looked at.
    fn kept(&self) -> usize {
        match self.sender {
            Sender::Client if self.logs_in => KEPT_LOGIN,
            Sender::Client => KEPT_CLIENT,
            Sender::Server if self.logs_in => KEPT_GREETING,
            Sender::Server => KEPT_SERVER,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.kept().saturating_sub(self.body.len());
        if self.under_way.is_some_and(|partial| !partial.cut) {
            self.body.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        }
    }

    fn header<'a>(&'a mut self, bytes: &'a [u8], at: Ts) -> (usize, Option<Packet<'a>>) {
        let have = usize::from(self.have);
        if have == 0 && self.under_way.is_none() {
            self.first = at;
        }
        let here = HEADER.saturating_sub(have).min(bytes.len());
        if let (Some(to), Some(from)) = (self.head.get_mut(have..have + here), bytes.get(..here)) {
            to.copy_from_slice(from);
        }
        self.have += here as u8;
        if usize::from(self.have) < HEADER {
            return (here, None);
        }
        self.have = 0;
        let (length, number) = (packet::length(self.head), self.head[3]);
        if std::mem::take(&mut self.doubted) && (length == 0 || (number == 0) != (self.sender == Sender::Client)) {
            self.lose();
            return (here, None);
        }
        let goes_on = length == FULL;
        let whole = u64::from(length) + HEADER as u64;
        let partial = match self.under_way {
            None => {
                self.body.clear();
                Partial {
                    number,
                    last_number: number,
                    payload: u64::from(length),
                    length: whole,
                    left: length,
                    goes_on,
                    cut: false,
                }
            }
            Some(partial) => Partial {
                last_number: number,
                payload: partial.payload.saturating_add(u64::from(length)),
                length: partial.length.saturating_add(whole),
                left: length,
                goes_on,
                ..partial
            },
        };
        let first_part = self.under_way.is_none();
        // Nearly always all of it is here, and nothing is to be kept.
        let rest = bytes.get(here..).and_then(|rest| rest.get(..length as usize));
        if let Some(body) = rest.filter(|_| first_part && !goes_on) {
            let kept = body.get(..self.kept()).unwrap_or(body);
            return (here + body.len(), Some(packet_of(partial, kept, (self.first, at), self.turn)));
        }
        self.under_way = Some(partial);
        // One without a payload is over.
        if length == 0 {
            return (here, self.ended(at));
        }
        (here, None)
    }
}

fn packet_of(partial: Partial, body: &[u8], (first, last): (Ts, Ts), turn: u32) -> Packet<'_> {
    let Partial { number, last_number, payload, length, .. } = partial;
    Packet { body, payload, length, number, last_number, first, last: last.max(first), turn }
}
