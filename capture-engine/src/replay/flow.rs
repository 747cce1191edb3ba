use super::decode::Decoded;
use crate::event::{Counters, FlowId, FlowKey, Sample};
use flow_model::{Close, Direction, Role, Ts};
use l7::MessageEnd;
use std::collections::VecDeque;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// A jump beyond the largest TCP window (RFC 7323 2.3) is no hole: begin anew there.
const FURTHEST: i32 = 0x4000_0000;

/// Segments of a flow that are kept waiting, and packets that they wait for: reordering is by a few packets.
const EARLY: usize = 4;
/// What acknowledges more than this ahead has lost its other side.
const EARLY_BYTES: i32 = 1 << 20;

/// One flow as the kernel's program keeps it (`struct pf_flow`), for a source that copies everything.
#[derive(Debug)]
pub(super) struct Flow {
    pub key: FlowKey,
    pub id: FlowId,
    pub role: Role,
    pub joined_midway: bool,
    established: bool,
    pub closed: Option<(Close, Ts)>,
    /// Its final state was handed out; what still comes only keeps the tuple from looking new.
    pub reported: bool,
    pub last: Ts,
    counters: Counters,
    syn_at: Option<Ts>,
    /// Next new sequence number per direction, once known.
    next_seq: [Option<u32>; 2],
    /// Sequence numbers that were jumped over: one range per direction, a second jump widens it.
    hole: [Option<(u32, u32)>; 2],
    isn: u32,
    turn: u32,
    turn_dir: Direction,
    turn_seq: [u32; 2],
    zero_window: [bool; 2],
    fin: [bool; 2],
    message: MessageEnd,
    /// The message has bytes that the capture cut off.
    message_cut: bool,
    /// Segments that came before what they answer.
    early: VecDeque<Early>,
}

/// A segment out of order across the directions: a capture of several queues or interfaces has
/// such, an interface has not.
#[derive(Debug)]
pub(super) struct Early {
    packet: Decoded<'static>,
    payload: Vec<u8>,
    dir: Direction,
    at: Ts,
    waited: u8,
}

impl Early {
    pub fn parts(&self) -> (Decoded<'_>, Direction, Ts) {
        (Decoded { held: &self.payload, ..self.packet }, self.dir, self.at)
    }
}

/// What a packet brought to its flow that is to be handed on.
pub(super) struct Piece<'a> {
    pub seq: u32,
    pub turn: u32,
    pub wire_len: u32,
    pub prev: Option<MessageEnd>,
    pub payload: &'a [u8],
    /// Bytes that the capture missed between the handshake and this, the first piece of its
    /// direction: only the handshake tells of them.
    pub missed: u32,
}

impl Flow {
    pub fn new(key: FlowKey, id: FlowId, packet: &Decoded<'_>, dir: Direction, at: Ts) -> Flow {
        let role = match (packet.tcp, dir) {
            (true, _) => Role::Unknown,
            (false, _) => udp_role(packet, dir),
        };
        Flow {
            key,
            id,
            role,
            joined_midway: packet.tcp && packet.tcp_flags & SYN == 0,
            established: false,
            closed: None,
            reported: false,
            last: at,
            counters: Counters::default(),
            syn_at: None,
            next_seq: [None; 2],
            hole: [None; 2],
            isn: packet.seq,
            turn: 0,
            turn_dir: dir,
            turn_seq: [0; 2],
            zero_window: [false; 2],
            fin: [false; 2],
            message: MessageEnd::default(),
            message_cut: false,
            early: VecDeque::new(),
        }
    }

    /// Puts a segment aside that acknowledges what was not seen yet, and what follows it the same
    /// way. False when it is to be handled at once.
    pub fn put_aside(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) -> bool {
        if !packet.tcp || self.early.len() >= EARLY || !(self.is_behind(packet, dir) || self.is_early(packet, dir)) {
            return false;
        }
        let payload = packet.held.to_vec();
        self.early.push_back(Early { packet: Decoded { held: &[], ..*packet }, payload, dir, at, waited: 0 });
        true
    }

    /// Whether what was waited for will not come any more: the other side has jumped over it, or
    /// there is no room to wait with.
    pub fn waits_in_vain(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        let jumps = packet.payload > 0 && self.next_seq[dir.index()].is_some_and(|next| ahead(packet.seq, next) > 0);
        let full = self.is_behind(packet, dir);
        full || jumps && self.early.iter().any(|early| early.dir != dir)
    }

    /// The next segment that need not, or shall not, wait longer. Asked after each packet of the flow.
    pub fn take_early(&mut self, all: bool) -> Option<Early> {
        self.early.iter_mut().for_each(|early| early.waited = early.waited.saturating_add(1));
        let first = |dir| {
            let those = self.early.iter().enumerate().filter(|(_, early)| early.dir == dir);
            those.min_by(|(_, a), (_, b)| ahead(a.packet.seq, b.packet.seq).cmp(&0))
        };
        let next = [Direction::Ingress, Direction::Egress].into_iter().filter_map(first);
        let ready = next.filter(|(_, early)| !self.is_early(&early.packet, early.dir)).map(|(place, _)| place).next();
        let oldest = self.early.front()?;
        let waited = oldest.waited > EARLY as u8;
        let place = ready.or_else(|| if all || waited { first(oldest.dir).map(|(place, _)| place) } else { None })?;
        self.early.remove(place)
    }

    /// A segment of the same direction and from before waits.
    fn is_behind(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        self.early.iter().any(|early| early.dir == dir && ahead(packet.seq, early.packet.seq) >= 0)
    }

    fn is_early(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        let Some(seen) = self.next_seq[dir.reverse().index()] else { return false };
        // Without payload it says nothing, and a SYN-ACK of a refused connection may acknowledge anything.
        let tells = packet.payload > 0 && packet.tcp_flags & (SYN | ACK) == ACK;
        tells && (1..EARLY_BYTES).contains(&ahead(packet.ack, seen))
    }

    /// A SYN that is no repetition of the one this flow began with: the tuple is used again.
    pub fn is_reused_by(&self, packet: &Decoded<'_>) -> bool {
        packet.tcp
            && packet.tcp_flags & (SYN | ACK) == SYN
            && self.counters.packets != [0, 0]
            && (self.isn != packet.seq || self.reported)
    }

    pub fn sample(&self, at: Ts, closed: Close) -> Sample {
        let close = self.closed.map_or(closed, |(close, _)| close);
        Sample {
            key: self.key,
            id: self.id,
            at: self.closed.map_or(at, |(_, when)| when.max(self.last)),
            role: self.role,
            joined_midway: self.joined_midway,
            established: self.established || self.joined_midway,
            counters: self.counters,
            turns: self.turn,
            message: (self.message.turn > 0).then_some(self.message),
            closed: Some(close),
            half_closed: false,
        }
    }

    pub fn udp<'a>(&mut self, packet: &Decoded<'a>, dir: Direction, at: Ts) -> Option<Piece<'a>> {
        self.count(packet, dir, at);
        if packet.held.is_empty() {
            return None;
        }
        self.turn = self.turn.wrapping_add(1);
        Some(Piece { seq: 0, turn: self.turn, wire_len: packet.payload, prev: None, payload: packet.held, missed: 0 })
    }

    pub fn tcp<'a>(&mut self, packet: &Decoded<'a>, dir: Direction, at: Ts) -> Option<Piece<'a>> {
        let flags = packet.tcp_flags;
        self.count(packet, dir, at);
        if flags & SYN != 0 || !self.established {
            self.handshake(packet, dir, at);
        }
        let seq = packet.seq.wrapping_add(u32::from(flags & SYN != 0));
        let piece = if packet.payload > 0 { self.payload(packet, seq, dir, at) } else { None };
        let way = dir.index();
        if flags & (SYN | FIN | RST) == 0 {
            self.zero_window[way] = packet.window == 0;
            self.counters.zero_windows[way] += u32::from(packet.window == 0);
            return piece;
        }
        if flags & FIN != 0 {
            if !self.fin[way] {
                self.next_seq[way] = self.next_seq[way].map(|next| next.wrapping_add(1));
            } else if packet.payload == 0 {
                self.counters.retransmits[way] += 1;
            }
            self.fin[way] = true;
        }
        if self.closed.is_none() {
            if flags & RST != 0 {
                self.closed = Some((Close::Reset, at));
            } else if self.fin == [true, true] {
                self.closed = Some((Close::Fin, at));
            }
        }
        piece
    }

    fn count(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) {
        self.last = self.last.max(at);
        self.counters.packets[dir.index()] += 1;
        self.counters.bytes[dir.index()] += u64::from(packet.ip_bytes);
    }

    fn handshake(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) {
        let way = dir.index();
        let flags = packet.tcp_flags;
        if flags & SYN == 0 {
            let completes = dir == Direction::Ingress && self.role == Role::Server && flags & ACK != 0;
            if completes && !self.joined_midway {
                self.established = true;
                self.counters.rtt_ns = self.syn_at.map(|sent| nanos(at, sent));
            }
            return;
        }
        if flags & ACK == 0 && self.closed.is_some() {
            // Refused and tried again with the same number: one attempt.
            (self.closed, self.fin) = (None, [false; 2]);
        }
        if self.next_seq[way].is_some() {
            // Sent again: no RTT, the answer could be to either (Karn).
            self.counters.retransmits[way] += 1;
            self.syn_at = None;
            return;
        }
        self.next_seq[way] = Some(packet.seq.wrapping_add(1));
        match (flags & ACK != 0, dir) {
            (false, _) => {
                self.isn = packet.seq;
                self.role = if dir == Direction::Egress { Role::Client } else { Role::Server };
                if dir == Direction::Egress {
                    self.syn_at = Some(at);
                }
            }
            (true, Direction::Egress) => {
                self.role = Role::Server;
                self.syn_at = Some(at);
            }
            (true, Direction::Ingress) => {
                self.role = Role::Client;
                self.established = true;
                self.counters.rtt_ns = self.syn_at.map(|sent| nanos(at, sent));
            }
        }
    }

    /// Takes [seq, end) out of the direction's hole; false when it is not in it.
    fn fill(&mut self, way: usize, seq: u32, end: u32) -> bool {
        let Some((from, to)) = self.hole[way] else { return false };
        if ahead(end, from) <= 0 || ahead(seq, to) >= 0 {
            return false;
        }
        self.hole[way] = if ahead(seq, from) <= 0 {
            (ahead(end, to) < 0).then_some((end, to))
        } else if ahead(end, to) >= 0 {
            Some((from, seq))
        } else {
            Some((from, to))
        };
        true
    }

    fn payload<'a>(&mut self, packet: &Decoded<'a>, seq: u32, dir: Direction, at: Ts) -> Option<Piece<'a>> {
        let way = dir.index();
        let end = seq.wrapping_add(packet.payload);
        let mut next = self.next_seq[way].unwrap_or(seq);
        if ahead(seq, next).checked_abs().is_none_or(|distance| distance > FURTHEST) {
            next = seq;
            self.hole[way] = None;
        }
        let fills = ahead(seq, next) < 0 && self.fill(way, seq, end);
        let mut progress = false;
        if ahead(end, next) <= 0 {
            // One byte right before what comes next is a keep-alive probe (RFC 9293 3.8.4), not a repetition.
            let probe = packet.payload == 1 && end == next;
            if !(fills || probe) {
                self.counters.retransmits[way] += 1;
            }
        } else {
            // A byte into a closed window is a probe (RFC 9293 3.8.6.1).
            progress = !(packet.payload == 1 && seq == next && self.zero_window[dir.reverse().index()]);
        }
        let mut prev = None;
        let mut missed = 0;
        if progress {
            if ahead(seq, next) > 0 {
                let from = self.hole[way].map_or(next, |(from, _)| from);
                self.hole[way] = Some((from, seq));
            }
            if !self.reported {
                if self.turn == 0 || self.turn_dir != dir {
                    let first = self.turn == 0 || self.turn == 1;
                    missed = if first { u32::try_from(ahead(seq, next)).unwrap_or(0) } else { 0 };
                    prev = Some(self.start_message(dir, next, at));
                }
                self.message.bytes += u64::from(end.wrapping_sub(next));
                self.keep_tail(packet, ahead(seq, next) <= 0);
            }
            self.next_seq[way] = Some(end);
        }
        if self.reported || self.turn == 0 {
            return None;
        }
        let mut turn = self.turn;
        if self.turn_dir == dir {
            if progress || fills {
                self.message.packets += 1;
                self.message.last = self.message.last.max(at);
            }
        } else if fills && turn > 1 {
            // The late piece of the message that was answered already.
            turn -= 1;
        } else {
            return None;
        }
        // Nothing before the message's start: it was handed on with the message that it belongs to.
        let skip = usize::try_from(-ahead(seq, self.turn_seq[way])).unwrap_or(0);
        let skip = if self.message.bytes > FURTHEST as u64 { 0 } else { skip };
        if skip >= packet.payload as usize {
            return None;
        }
        Some(Piece {
            seq: seq.wrapping_add(skip as u32),
            turn,
            wire_len: packet.payload - skip as u32,
            prev: prev.filter(|prev| prev.turn > 0),
            payload: packet.held.get(skip..).unwrap_or_default(),
            missed,
        })
    }

    /// Begins the next message and returns the one before.
    fn start_message(&mut self, dir: Direction, seq: u32, at: Ts) -> MessageEnd {
        self.turn = self.turn.wrapping_add(1);
        self.turn_dir = dir;
        self.turn_seq[dir.index()] = seq;
        self.message_cut = false;
        let message = MessageEnd { turn: self.turn, first: at, last: at, ..MessageEnd::default() };
        std::mem::replace(&mut self.message, message)
    }

    /// The last bytes are wanted only of messages that were not captured in full.
    fn keep_tail(&mut self, packet: &Decoded<'_>, contiguous: bool) {
        let whole = packet.held.len() >= packet.payload as usize;
        self.message_cut |= !whole;
        if !self.message_cut {
            return;
        }
        if !whole {
            self.message.tail_len = 0;
            return;
        }
        let kept = if contiguous { usize::from(self.message.tail_len) } else { 0 };
        let fresh = packet.held.len().min(8);
        let old = kept.min(8 - fresh);
        let tail = &mut self.message.tail;
        tail.copy_within(fresh.., 0);
        for (place, byte) in tail.iter_mut().rev().zip(packet.held.iter().rev()) {
            *place = *byte;
        }
        self.message.tail_len = (old + fresh) as u8;
    }
}

/// UDP has no handshake: the sender of the first packet asks, unless its port says that it answers.
fn udp_role(packet: &Decoded<'_>, dir: Direction) -> Role {
    let asks = !(packet.source.1 < 1024 && packet.destination.1 >= 1024);
    if asks == (dir == Direction::Egress) { Role::Client } else { Role::Server }
}

fn nanos(later: Ts, earlier: Ts) -> u64 {
    later.0.saturating_sub(earlier.0)
}

/// Signed distance between sequence numbers.
fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}
