//! How a connection ends: the rules of the kernel's program (`bpf/end.h`, which gives their sources).

use super::decode::Decoded;
use super::flow::{ACK, FURTHEST, Flow, ahead};
use flow_model::{Close, Direction, Ts};

impl Flow {
    pub fn reset(&mut self, packet: &Decoded<'_>, dir: Direction, at: Ts) {
        if self.closed.is_none() && self.believes_reset(packet, dir) {
            self.closed = Some((Close::Reset, at));
        }
    }

    fn believes_reset(&self, packet: &Decoded<'_>, dir: Direction) -> bool {
        let (way, seq) = (dir.index(), packet.seq);
        let acked = self.acked[way];
        let Some(next) = self.next_seq[way] else {
            let behind_fin = || self.fin_waits(way).is_some_and(|fin| seq == fin.wrapping_add(1));
            return match self.half_open() {
                true => packet.tcp_flags & ACK != 0 && self.acks_syn(dir.reverse(), packet.ack),
                false => behind_fin() || acked.is_none_or(|acked| acked == seq),
            };
        };
        let next = self.fin_waits(way).map_or(next, |fin| fin.wrapping_add(1));
        let between = |acked| seq == acked || ahead(seq, acked) > 0 && ahead(seq, next) < 0;
        seq == next || acked.is_some_and(between)
    }

    /// Sequence number of a FIN that came before all the bytes that it follows.
    pub fn fin_waits(&self, way: usize) -> Option<u32> {
        self.fin[way].filter(|_| !self.fin_acted[way])
    }

    /// A packet with a FIN, whose payload has been looked at.
    pub fn fin(&mut self, packet: &Decoded<'_>, dir: Direction) {
        let way = dir.index();
        let fin = packet.seq.wrapping_add(packet.payload);
        if let Some(known) = self.fin[way] {
            self.counters.retransmits[way] += u32::from(packet.payload == 0 && fin == known);
            return;
        }
        match self.next_seq[way] {
            Some(next) if fin.wrapping_sub(next) >= FURTHEST as u32 => return,
            // All that it follows was there before the first packet that was seen. Else some of it may come.
            None if self.acked[way] == Some(fin) => self.next_seq[way] = Some(fin),
            _ => {}
        }
        self.fin[way] = Some(fin);
    }

    /// Lets FINs act whose time has come.
    pub fn end(&mut self, at: Ts) {
        for way in 0..2 {
            let Some(fin) = self.fin_waits(way) else { continue };
            let next = self.next_seq[way].unwrap_or(fin.wrapping_add(1));
            let all = next == fin && self.hole[way].is_none();
            // What waits may have the bytes.
            let acked = self.early.is_empty() && self.acked[way].is_some_and(|acked| ahead(acked, fin) > 0);
            if !all && !acked {
                continue;
            }
            if ahead(fin, next) > 0 {
                let from = self.hole[way].map_or(next, |(from, _)| from);
                self.hole[way] = Some((from, fin));
                if self.turn > 0 && self.turn_dir.index() == way {
                    self.message.bytes += u64::from(fin.wrapping_sub(next));
                }
            }
            self.next_seq[way] = Some(fin.wrapping_add(1));
            self.fin_acted[way] = true;
        }
        if self.closed.is_none() && self.fin_acted == [true; 2] {
            self.closed = Some((Close::Fin, at));
        }
    }
}
