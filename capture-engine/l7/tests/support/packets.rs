//! Conversations as packets: cut anywhere, and as a bad network delivers them.

use super::{CLIENT, Packet, SERVER};
use flow_model::Ts;

/// A small generator of its own (xorshift64*), so that cuts and losses follow from one number.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }

    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// The first sequence numbers, by direction: the server's wrap early.
pub const FIRST: [u32; 2] = [u32::MAX - 3000, 5];

/// The packets of a conversation in the order in which they were sent, message by message, client first.
pub fn packets(messages: &[Vec<u8>], dice: &mut Dice, largest: usize) -> Vec<Vec<Packet>> {
    let (mut seqs, mut now) = (FIRST, 0);
    let numbered = messages.iter().enumerate();
    let cut = numbered.map(|(number, bytes)| {
        let dir = if number % 2 == 0 { CLIENT } else { SERVER };
        let mut rest = &bytes[..];
        let mut packets = Vec::new();
        while !rest.is_empty() {
            let (payload, after) = rest.split_at(1 + dice.below(rest.len().min(largest)));
            rest = after;
            now += 1;
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let acked = Some(seqs[dir.reverse().index()]);
            packets.push(Packet { dir, at: Ts(now), seq, payload: payload.to_vec(), snap: usize::MAX, acked });
        }
        packets
    });
    cut.collect()
}

/// The packets of a conversation, each message in one to five.
pub fn messages_of_a_few_packets(messages: &[Vec<u8>], dice: &mut Dice) -> Vec<Vec<Packet>> {
    let mut seqs = FIRST;
    let mut now = 0;
    let numbered = messages.iter().enumerate();
    let cut = numbered.map(|(number, bytes)| {
        let dir = if number % 2 == 0 { CLIENT } else { SERVER };
        let mut cuts: Vec<usize> =
            (0..dice.below(5)).map(|_| dice.below(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|ends| {
            now += 1;
            let payload = bytes[ends[0]..ends[1]].to_vec();
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let acked = Some(seqs[dir.reverse().index()]);
            Packet { dir, at: Ts(now), seq, payload, snap: usize::MAX, acked }
        });
        pieces.collect()
    });
    cut.collect()
}

/// The same as a network delivers them that swaps neighbours within a message, and repeats packets.
pub fn disturbed(messages: Vec<Vec<Packet>>, dice: &mut Dice) -> Vec<Packet> {
    let (mut sent, mut seen) = (Vec::<Packet>::new(), Vec::new());
    for mut message in messages {
        // Times are those of arrival.
        let times: Vec<Ts> = message.iter().map(|packet| packet.at).collect();
        for at in 1..message.len() {
            if dice.one_in(4) {
                message.swap(at, at - 1);
            }
        }
        for (packet, at) in message.iter_mut().zip(times) {
            packet.at = at;
        }
        for packet in message {
            if let Some(again) = sent.get(dice.below(sent.len())).filter(|_| dice.one_in(6)) {
                // Repeated with other bytes: the first ones count.
                let payload = vec![b'#'; again.payload.len()];
                seen.push(Packet { at: packet.at, payload, ..again.clone() });
            }
            seen.push(packet.clone());
            sent.push(packet);
        }
    }
    seen
}
