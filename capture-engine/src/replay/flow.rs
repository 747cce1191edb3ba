use super::again::Again;
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
pub(super) const FURTHEST: i32 = 0x4000_0000;

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
    pub established: bool,
    pub closed: Option<(Close, Ts)>,
    /// Its final state was handed out; what still comes only keeps the tuple from looking new.
    pub reported: bool,
    pub last: Ts,
    pub counters: Counters,
    pub syn_at: Option<Ts>,
    /// Next new sequence number per direction, once known.
    pub next_seq: [Option<u32>; 2],
    /// What the other side has acknowledged of each direction, also of what was not seen.
    pub acked: [Option<u32>; 2],
    /// Sequence numbers that were jumped over: one range per direction, a second jump widens it.
    pub hole: [Option<(u32, u32)>; 2],
    /// Sequence number of each direction's SYN; without one, before what is known to be the first byte that is new.
    pub isn: [Option<u32>; 2],
    /// Directions of which a SYN without ACK was seen.
    pub syns: [bool; 2],
    pub again: Option<Box<Again>>,
    pub turn: u32,
    pub turn_dir: Direction,
    turn_seq: [u32; 2],
    zero_window: [bool; 2],
    /// Sequence number of each direction's FIN, once it was seen.
    pub fin: [Option<u32>; 2],
    /// All that it follows has come.
    pub fin_acted: [bool; 2],
    pub message: MessageEnd,
    /// The message has bytes that the capture cut off.
    message_cut: bool,
    /// Segments that came before what they answer.
    pub early: VecDeque<Early>,
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
    /// It is the first of its message, and `prev` ended before it.
    pub first: bool,
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
        let mut isn = [None; 2];
        // What its other end has by then was sent before it.
        if packet.tcp && packet.tcp_flags & (SYN | RST | ACK) == ACK {
            isn[dir.reverse().index()] = Some(packet.ack.wrapping_sub(1));
        }
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
            acked: [None; 2],
            hole: [None; 2],
            isn,
            syns: [false; 2],
            again: None,
            turn: 0,
            turn_dir: dir,
            turn_seq: [0; 2],
            zero_window: [false; 2],
            fin: [None; 2],
            fin_acted: [false; 2],
            message: MessageEnd::default(),
            message_cut: false,
            early: VecDeque::new(),
        }
    }

    /// Whether a segment is to be put aside: it acknowledges what was not seen yet, or follows one that waits.
    pub fn must_wait(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        packet.tcp && self.early.len() < EARLY && (self.is_behind(packet, dir) || self.is_early(packet, dir))
    }

    pub fn put_aside(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) {
        let payload = packet.held.to_vec();
        self.early.push_back(Early { packet: Decoded { held: &[], ..*packet }, payload, dir, at, waited: 0 });
    }

    /// Bytes of what waits.
    pub fn waiting(&self) -> usize {
        if self.early.is_empty() {
            return 0;
        }
        self.early.iter().map(|early| early.payload.len() + size_of::<Early>()).sum()
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
        if self.early.is_empty() { None } else { self.take_waiting(all) }
    }

    fn take_waiting(&mut self, all: bool) -> Option<Early> {
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
        let taken = self.early.remove(place);
        if self.early.is_empty() {
            self.early = VecDeque::new();
        }
        taken
    }

    /// A segment of the same direction and from before waits.
    fn is_behind(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        self.early.iter().any(|early| early.dir == dir && ahead(packet.seq, early.packet.seq) >= 0)
    }

    fn is_early(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        let other = dir.reverse().index();
        let Some(seen) = self.fin_waits(other).map(|fin| fin.wrapping_add(1)).or(self.next_seq[other]) else {
            return false;
        };
        // Without payload it says nothing, and a SYN-ACK of a refused connection may acknowledge anything.
        let tells = packet.payload > 0 && packet.tcp_flags & (SYN | ACK) == ACK;
        tells && (1..EARLY_BYTES).contains(&ahead(packet.ack, seen))
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
        let (turn, wire_len) = (self.turn, packet.payload);
        Some(Piece { seq: 0, turn, wire_len, first: true, prev: None, payload: packet.held, missed: 0 })
    }

    pub fn tcp<'a>(&mut self, packet: &Decoded<'a>, dir: Direction, at: Ts) -> Option<Piece<'a>> {
        let flags = packet.tcp_flags;
        self.count(packet, dir, at);
        // A segment without ACK is dropped (RFC 9293 3.10.7.4), as is one that asks for both a beginning and an end.
        if flags & (SYN | RST | ACK) == 0 || flags & SYN != 0 && flags & (FIN | RST) != 0 {
            return None;
        }
        if flags & RST != 0 {
            // Its payload is a text for people (RFC 9293 3.10.7.4).
            self.reset(packet, dir, at);
            return None;
        }
        if flags & SYN != 0 {
            let first = if flags & ACK != 0 { self.syn_ack(packet, dir, at) } else { self.syn(packet, dir, at) };
            let seq = packet.seq.wrapping_add(1);
            return if first && packet.payload > 0 { self.payload(packet, seq, dir, at) } else { None };
        }
        if self.half_open() && (self.closed.is_some() || !self.complete(packet, dir, at)) {
            return None;
        }
        let (way, other) = (dir.index(), dir.reverse().index());
        if self.acked[other].is_none_or(|acked| ahead(packet.ack, acked) > 0) {
            self.acked[other] = Some(packet.ack);
        }
        let cut = self.cut_at_fin(packet, way);
        let packet = cut.as_ref().unwrap_or(packet);
        let piece = if packet.payload > 0 { self.payload(packet, packet.seq, dir, at) } else { None };
        if flags & FIN != 0 {
            self.fin(packet, dir);
        } else {
            self.zero_window[way] = packet.window == 0;
            self.counters.zero_windows[way] += u32::from(packet.window == 0);
        }
        self.end(at);
        piece
    }

    /// What is left of a payload that goes on behind a FIN: nothing there is any (RFC 9293 3.10.7.4).
    fn cut_at_fin<'a>(&self, packet: &Decoded<'a>, way: usize) -> Option<Decoded<'a>> {
        let end = packet.seq.wrapping_add(packet.payload);
        let fin = self.fin[way].filter(|&fin| ahead(end, fin) > 0)?;
        let payload = u32::try_from(ahead(fin, packet.seq)).unwrap_or(0).min(packet.payload);
        let held = packet.held.get(..payload as usize).unwrap_or(packet.held);
        Some(Decoded { payload, held, ..*packet })
    }

    fn count(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) {
        self.last = self.last.max(at);
        self.counters.packets[dir.index()] += 1;
        self.counters.bytes[dir.index()] += u64::from(packet.ip_bytes);
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
        let mut next = self.next_seq[way].unwrap_or_else(|| self.first(way, seq));
        let far = |from: u32| ahead(seq, from).checked_abs().is_none_or(|distance| distance > FURTHEST);
        if far(next) {
            // No window is so wide. Gone on unseen, if the other side says so, too; else of another connection.
            if self.acked[way].is_some_and(far) {
                return None;
            }
            next = seq;
            self.hole[way] = None;
        }
        let fills = ahead(seq, next) < 0 && self.fill(way, seq, end);
        let mut progress = false;
        if ahead(end, next) <= 0 {
            // No repetition is a keep-alive probe: one byte that was acknowledged already, right before what
            // comes next (RFC 9293 3.8.4). Nor is what was sent before the connection began (RFC 9293 3.4.2).
            let probe = packet.payload == 1 && end == next && self.acked[way].is_none_or(|acked| acked == next);
            if !(fills || probe || self.is_older(way, end)) {
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
            if self.closed.is_none() {
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
        if self.closed.is_some() || self.turn == 0 {
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
        let skip = usize::try_from(ahead(self.turn_seq[way], seq)).unwrap_or(0);
        let skip = if self.message.bytes > FURTHEST as u64 { 0 } else { skip };
        if skip >= packet.payload as usize {
            return None;
        }
        Some(Piece {
            seq: seq.wrapping_add(skip as u32),
            turn,
            wire_len: packet.payload - skip as u32,
            first: prev.is_some(),
            prev: prev.filter(|prev| prev.turn > 0),
            payload: packet.held.get(skip..).unwrap_or_default(),
            missed,
        })
    }

    /// Begins the next message and returns the one before.
    pub fn start_message(&mut self, dir: Direction, seq: u32, at: Ts) -> MessageEnd {
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

pub(super) fn nanos(later: Ts, earlier: Ts) -> u64 {
    later.0.saturating_sub(earlier.0)
}

/// Signed distance between sequence numbers.
pub(super) fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}
