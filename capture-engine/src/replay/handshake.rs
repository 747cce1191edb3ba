//! How a connection begins, and how it is told from one that had the same addresses and ports
//! before: the rules of the kernel's program (`bpf/handshake.h`, which gives their sources).

use super::again::Again;
use super::decode::Decoded;
use super::flow::{ACK, FIN, FURTHEST, Flow, RST, SYN, ahead, nanos};
use flow_model::{Direction, Role, Ts};

/// The first packet of another connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// This one.
    Here,
    /// The SYN that this one answers.
    Before(Again),
}

impl Flow {
    pub fn half_open(&self) -> bool {
        !(self.established || self.joined_midway)
    }

    /// Whether the packet is of another connection than the flow is.
    pub fn begins_another(&self, packet: &Decoded<'_>, dir: Direction) -> Option<Begin> {
        if !packet.tcp {
            return None;
        }
        let flags = packet.tcp_flags & (SYN | ACK | RST | FIN);
        if flags == SYN {
            let repeats = self.isn[dir.index()] == Some(packet.seq);
            return (self.closed.is_some() && !repeats).then_some(Begin::Here);
        }
        let again = self.again.as_deref().filter(|again| again.dir != dir)?;
        let answers = packet.ack.wrapping_sub(again.seq).wrapping_sub(1) < again.end.wrapping_sub(again.seq);
        let own = self.half_open() && self.closed.is_none() && self.acks_syn(dir.reverse(), packet.ack);
        let kind = flags == SYN | ACK || flags == RST | ACK && packet.seq == 0;
        (answers && kind && !own).then_some(Begin::Before(*again))
    }

    /// A SYN that is told apart after all: it was counted where it came.
    pub fn give_back(&mut self, again: &Again) {
        let way = again.dir.index();
        self.counters.packets[way] -= again.packets;
        self.counters.bytes[way] -= again.bytes;
        if self.isn[way] == Some(again.seq) {
            self.counters.retransmits[way] -= u32::try_from(again.packets).unwrap_or(0);
        }
    }

    /// Makes it the connection of a SYN that has passed; `packet` answers that.
    pub fn start_again(&mut self, again: &Again, packet: &Decoded<'_>, dir: Direction) {
        let way = dir.index();
        self.joined_midway = false;
        self.counters.packets[way] = again.packets;
        self.counters.bytes[way] = again.bytes;
        self.counters.retransmits[way] = u32::try_from(again.packets - 1).unwrap_or(u32::MAX);
        self.open_client(dir, again.seq, again.at);
        if packet.tcp_flags & SYN == 0 {
            // Refused as a whole.
            self.next_seq[way] = Some(again.end);
        } else if packet.ack != again.seq.wrapping_add(1) {
            // Its payload was taken by the server, and passed when it looked like none of this connection.
            self.next_seq[way] = Some(packet.ack);
            let at = again.at.unwrap_or(self.last);
            self.start_message(dir, again.seq.wrapping_add(1), at);
            self.message.bytes = u64::from(packet.ack.wrapping_sub(again.seq).wrapping_sub(1));
            self.message.packets = 1;
        }
    }

    /// A SYN: true when the packet's payload is the direction's first.
    pub fn syn(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) -> bool {
        let way = dir.index();
        let open = self.closed.is_none();
        if self.isn[way] == Some(packet.seq) {
            self.counters.retransmits[way] += 1;
            if self.half_open() {
                self.syn_at = None;
            }
            // When the connection is over, a listener may take it for a new one all the same.
            if open {
                return false;
            }
        }
        if open && self.half_open() && self.next_seq[way].is_none() {
            self.open_client(dir, packet.seq, Some(at));
            return true;
        }
        match &mut self.again {
            Some(again) if again.dir == dir && again.seq == packet.seq => {
                again.packets += 1;
                again.bytes += u64::from(packet.ip_bytes);
                again.at = None;
            }
            again => {
                let end = packet.seq.wrapping_add(1).wrapping_add(packet.payload);
                let bytes = u64::from(packet.ip_bytes);
                *again = Some(Box::new(Again { dir, seq: packet.seq, end, packets: 1, bytes, at: Some(at) }));
            }
        }
        false
    }

    /// A SYN-ACK; as above.
    pub fn syn_ack(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) -> bool {
        let (way, other) = (dir.index(), dir.reverse());
        let simultaneous = self.syns == [true; 2];
        if self.next_seq == [None; 2] {
            // The SYN was not seen, but it is known now.
            self.open(other, packet.ack.wrapping_sub(1));
            self.next_seq[other.index()] = Some(packet.ack);
        } else if self.isn[way] == Some(packet.seq) && !simultaneous {
            self.counters.retransmits[way] += 1;
            self.syn_at = None;
            return false;
        }
        if !self.half_open() || self.closed.is_some() || !self.acks_syn(other, packet.ack) {
            return false;
        }
        if simultaneous {
            if self.isn[way] == Some(packet.seq) {
                self.established = true;
                self.acked[other.index()] = Some(packet.ack);
            }
            return false;
        }
        let first = self.next_seq[way].is_none();
        self.open(dir, packet.seq);
        self.acked[other.index()] = Some(packet.ack);
        match (first, dir) {
            (false, _) => {
                self.counters.retransmits[way] += 1;
                self.syn_at = None;
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
        first
    }

    /// A packet without SYN and RST while the handshake is not complete: false when it is none of this connection.
    pub fn complete(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) -> bool {
        let (isn, other) = (self.isn[dir.index()], dir.reverse());
        if isn.is_some_and(|isn| packet.seq.wrapping_sub(isn).wrapping_sub(1) >= FURTHEST as u32) {
            return false;
        }
        let acks = match self.isn[other.index()] {
            Some(_) => self.acks_syn(other, packet.ack),
            None => isn.is_some(),
        };
        if !acks {
            return false;
        }
        if self.role == Role::Server && dir == Direction::Ingress && self.syn_at.is_some() {
            self.counters.rtt_ns = self.syn_at.map(|sent| nanos(at, sent));
        }
        // What a server sends before that may be in answer to data that came with the SYN (RFC 7413).
        let server = if dir == Direction::Egress { Role::Server } else { Role::Client };
        self.established |= isn.is_none() || self.role != server;
        true
    }

    /// Whether `ack` acknowledges the direction's SYN, and nothing that it has not sent.
    pub fn acks_syn(&self, dir: Direction, ack: u32) -> bool {
        let (Some(isn), Some(next)) = (self.isn[dir.index()], self.next_seq[dir.index()]) else { return false };
        ack.wrapping_sub(isn).wrapping_sub(1) < next.wrapping_sub(isn)
    }

    /// The next number of a direction of which no payload was seen.
    pub fn first(&self, way: usize, seq: u32) -> u32 {
        let first = self.isn[way].map(|isn| isn.wrapping_add(1));
        first.filter(|first| first.wrapping_sub(seq) < FURTHEST as u32).unwrap_or(seq)
    }

    /// Whether what ends at `end` lies before the direction's first byte: known while its numbers have not come around.
    pub fn is_older(&self, way: usize, end: u32) -> bool {
        let young = self.counters.bytes[way] < FURTHEST as u64;
        young && self.isn[way].is_some_and(|isn| ahead(end, isn.wrapping_add(1)) <= 0)
    }

    fn open(&mut self, dir: Direction, seq: u32) {
        let way = dir.index();
        self.isn[way] = Some(seq);
        self.next_seq[way] = Some(seq.wrapping_add(1));
        self.acked[way] = Some(seq);
    }

    fn open_client(&mut self, dir: Direction, seq: u32, at: Option<Ts>) {
        self.open(dir, seq);
        self.syns[dir.index()] = true;
        self.role = match self.syns {
            // A simultaneous open (RFC 9293 3.5).
            [true, true] => Role::Unknown,
            _ if dir == Direction::Egress => Role::Client,
            _ => Role::Server,
        };
        if dir == Direction::Egress {
            self.syn_at = at;
        }
    }
}
