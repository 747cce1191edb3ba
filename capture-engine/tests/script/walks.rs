//! Random streams of frames through the walker: what it tells against what the frames are.

use super::Packet;
use super::host;
use super::protocols::PROTOCOLS;
use super::random::Dice;
use super::sys::Library;
use capture_engine::event::{Event, Segment};
use capture_wire as wire;
use flow_model::Direction;
use l7::{Asked, Length, Walk, Walked};
use std::ops::Range;
use zerocopy::FromBytes;

/// What one record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub from_client: bool,
    pub turn: u32,
    pub seq: u32,
    pub first: bool,
    pub wire_len: u32,
    pub walked: Walked,
    pub bytes: Vec<u8>,
}

impl Told {
    /// `None`: it tells of no payload.
    pub fn of(record: &[u8]) -> Option<Told> {
        let (segment, payload) = wire::Segment::read_from_prefix(record).ok()?;
        let has = |flag| segment.flags & flag != 0;
        (segment.kind == wire::EVENT_SEGMENT).then(|| Told {
            from_client: segment.dir == wire::INGRESS,
            turn: segment.turn,
            seq: segment.seq,
            first: has(wire::SEG_MESSAGE_START),
            wire_len: if has(wire::SEG_CUT) { segment.payload } else { segment.captured },
            walked: Walked {
                skipped: if has(wire::SEG_LINES) { 0 } else { segment.prev.skipped },
                frames: has(wire::SEG_WALKED),
                astray: has(wire::SEG_ASTRAY),
                tail: has(wire::SEG_TAIL),
                asked: has(wire::SEG_LINES).then(|| Asked::from_word(segment.prev.skipped)),
            },
            bytes: payload[..segment.captured as usize].to_vec(),
        })
    }

    pub fn heard(event: &Event<'_>) -> Option<Told> {
        let Event::Segment(segment) = event else { return None };
        let Segment { dir, turn, seq, first, wire_len, walked, payload, .. } = *segment;
        Some(Told {
            from_client: dir == Direction::Ingress,
            turn,
            seq,
            first,
            wire_len,
            walked,
            bytes: payload.to_vec(),
        })
    }
}

/// A frame of a direction's stream.
#[derive(Clone, Copy, Debug)]
struct Frame {
    at: usize,
    length: usize,
    keep: usize,
    /// It counts among those that are followed in a packet.
    counts: bool,
}

/// Appends a frame with `body` bytes behind its header.
fn put(walk: &Walk, dice: &mut Dice, body: usize, stream: &mut Vec<u8>) -> Frame {
    let at = stream.len();
    let header = usize::from(walk.header);
    let mut head: Vec<u8> = (0..header).map(|_| dice.below(256) as u8).collect();
    if let Some((place, _)) = walk.kind {
        // The kinds that the tables name are small or letters.
        head[usize::from(place) % header] = [dice.below(24) as u8, b'D', b'd', b'C'][dice.below(4) as usize];
    }
    let mut length = header + body;
    match walk.length {
        Length::Fixed { at: place, width, big_endian } => {
            let (place, width) = (usize::from(place), usize::from(width));
            if width == 2 {
                length = length.min(60_000);
            }
            let value = (length as i64 - i64::from(walk.uncounted)).max(0) as u32;
            length = (i64::from(value) + i64::from(walk.uncounted)) as usize;
            let bytes = if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            let bytes = if big_endian { &bytes[4 - width..] } else { &bytes[..width] };
            head[place..place + width].copy_from_slice(bytes);
        }
        Length::Varint { .. } => {
            head.truncate(1);
            let mut left = body;
            loop {
                head.push((left & 127) as u8 | if left > 127 { 128 } else { 0 });
                left >>= 7;
                if left == 0 {
                    break;
                }
            }
            length = head.len() + body;
        }
        Length::WebSocket => {
            let mask = dice.below(2) as u8;
            head.truncate(1);
            match body {
                0..126 => head.push(mask << 7 | body as u8),
                126..65_536 => head.extend([mask << 7 | 126, (body >> 8) as u8, body as u8]),
                _ => {
                    head.push(mask << 7 | 127);
                    head.extend((body as u64).to_be_bytes());
                }
            }
            head.extend([7; 4].iter().take(usize::from(mask) * 4));
            length = head.len() + body;
        }
        Length::Packets => unreachable!("no frames"),
    }
    let class = walk.kind.map_or(0, |(place, mask)| {
        let kind = head[usize::from(place) % head.len()] & mask;
        walk.classes.iter().find(|(_, kinds)| kinds.contains(&kind)).map_or(0, |(class, _)| *class)
    });
    stream.extend(head.iter().take(length));
    stream.resize(at + length, b'.');
    // Of a run only some are told.
    let run = walk.runs && class == 3;
    let keep = if run { 0 } else { (walk.keep[usize::from(class)] as usize).min(length) };
    Frame { at, length, keep, counts: !run }
}

/// What one direction says, and what was told of it.
struct Side {
    isn: u32,
    stream: Vec<u8>,
    frames: Vec<Frame>,
    sent: usize,
    told: Vec<u8>,
}

impl Side {
    fn headers_in(&self, range: Range<usize>) -> usize {
        self.frames.iter().filter(|frame| frame.counts && range.contains(&frame.at)).count()
    }
}

const TOLD: u8 = 1;
const SKIPPED: u8 = 2;

/// One connection that is walked from its third message on.
pub struct Story {
    pub walk: &'static Walk,
    pub name: &'static str,
    pub packets: Vec<Packet>,
    /// From this packet on it is walked, and where a header of each direction then begins.
    pub from: usize,
    pub headers: [u32; 2],
    sides: [Side; 2],
    /// Packets were lost, doubled or out of order.
    pub rough: bool,
    /// A packet may have had more frames than are followed.
    crowded: bool,
}

impl Story {
    pub fn new(seed: u64, largest: usize) -> Story {
        let mut dice = Dice::new(seed);
        let (name, walk) = &PROTOCOLS[dice.below(PROTOCOLS.len() as u32) as usize];
        let side = |isn| Side { isn, stream: Vec::new(), frames: Vec::new(), sent: 0, told: Vec::new() };
        // Numbers that wrap around soon, and some that do not.
        let isn = [dice.below(40_000).wrapping_neg(), dice.below(u32::MAX)];
        let rough = dice.below(2) == 1;
        let mut story = Story {
            walk,
            name,
            packets: Vec::new(),
            from: 0,
            headers: [0; 2],
            sides: isn.map(side),
            rough,
            crowded: false,
        };
        let handshake = [(true, "S", 0), (false, "SA", 1), (true, "A", 1)];
        for (from_client, flags, one) in handshake {
            let (seq, ack) = (isn[usize::from(!from_client)], isn[usize::from(from_client)].wrapping_add(1));
            let seq = if flags == "A" { seq.wrapping_add(one) } else { seq };
            story.packets.push(packet(from_client, flags, seq, ack, b""));
        }
        for who in [0, 1] {
            let frame = put(walk, &mut dice, 20, &mut story.sides[who].stream);
            story.sides[who].frames.push(frame);
            story.send(who, &mut dice, usize::MAX, largest, false);
        }
        story.from = story.packets.len();
        story.headers = [0, 1].map(|who| story.next(who));
        let small = dice.below(3);
        for turn in 0..2 + dice.below(5) as usize {
            let who = turn % 2;
            for _ in 0..=dice.below([6, 30, 120][small as usize]) {
                let body = match dice.below(8) {
                    0 if small < 2 => dice.below(100_000) as usize,
                    1..3 if small < 2 => dice.below(9000) as usize,
                    _ => dice.below(60) as usize,
                };
                let frame = put(walk, &mut dice, body, &mut story.sides[who].stream);
                story.sides[who].frames.push(frame);
            }
            // Where a message begins anywhere, it may end anywhere.
            let left = story.sides[who].stream.len() - story.sides[who].sent;
            let most = if walk.aligned { usize::MAX } else { 1 + dice.below(left as u32) as usize };
            story.send(who, &mut dice, most, largest, rough);
        }
        story
    }

    fn next(&self, who: usize) -> u32 {
        self.sides[who].isn.wrapping_add(1).wrapping_add(self.sides[who].sent as u32)
    }

    fn send(&mut self, who: usize, dice: &mut Dice, most: usize, largest: usize, rough: bool) {
        let ack = self.next(1 - who);
        let side = &mut self.sides[who];
        let end = side.stream.len().min(side.sent.saturating_add(most));
        let mut packets = Vec::new();
        let usual = [largest, 1448, 100][dice.below(3) as usize].min(largest);
        while side.sent < end {
            let length = (1 + dice.below(usual as u32) as usize).min(end - side.sent);
            let at = side.sent;
            side.sent += length;
            self.crowded |= side.headers_in(at..at + length) >= self.walk.most as usize;
            let seq = side.isn.wrapping_add(1).wrapping_add(at as u32);
            packets.push(packet(who == 0, "A", seq, ack, &side.stream[at..at + length]));
        }
        if rough {
            for at in 0..packets.len() {
                match dice.below(12) {
                    // Lost before it came here, and sent again.
                    0 => {
                        let late = packets.remove(at);
                        let place = at + dice.below((packets.len() - at + 1) as u32) as usize;
                        packets.insert(place, late);
                    }
                    1 => packets.insert(at, packets[at].clone()),
                    2 if at > 0 => packets.swap(at, at - 1),
                    // Sent together with what was sent before, which may be of an earlier message.
                    3 => {
                        let seq = packets[at].seq;
                        let place = seq.wrapping_sub(side.isn.wrapping_add(1)) as usize;
                        let most = (largest - packets[at].payload.len()).min(place).min(3000);
                        let back = dice.below(most as u32 + 1) as usize;
                        let range = place - back..place + packets[at].payload.len();
                        self.crowded |= side.headers_in(range.clone()) >= self.walk.most as usize;
                        let payload = &side.stream[range];
                        packets[at] = packet(who == 0, "A", seq.wrapping_sub(back as u32), ack, payload);
                    }
                    _ => {}
                }
            }
        }
        self.packets.extend(packets);
    }

    /// What is wrong in the records of the packets from `from` on, if anything.
    pub fn differs(&mut self, records: &[Told]) -> Option<String> {
        let starts: Vec<usize> =
            self.sides.iter().map(|side| side.frames.first().map_or(0, |frame| frame.length)).collect();
        for (side, start) in self.sides.iter_mut().zip(&starts) {
            side.told = vec![0; side.stream.len()];
            side.told[..*start].fill(TOLD);
        }
        let mut astray = false;
        // The end of what was told of each direction.
        let mut ends = [0, 1].map(|who| starts[who]);
        for record in records {
            let side = &mut self.sides[usize::from(!record.from_client)];
            let at = record.seq.wrapping_sub(side.isn.wrapping_add(1)) as usize;
            let end = at + record.bytes.len();
            if side.stream.get(at..end) != Some(&record.bytes) {
                return Some(format!("{record:?} is not what was sent at {at}"));
            }
            side.told[at..end].fill(TOLD);
            astray |= record.walked.astray;
            let Some(before) = at.checked_sub(record.walked.skipped as usize) else {
                return Some(format!("{record:?} skips what was before the beginning"));
            };
            // In one packet, what is copied begins behind what was copied before.
            if (record.wire_len as usize) < record.bytes.len() {
                return Some(format!("{record:?} leaves out less than nothing"));
            }
            let place = &mut ends[usize::from(!record.from_client)];
            if !self.rough && !record.walked.tail && before != *place {
                return Some(format!("{record:?} does not go on from {place}: {before}"));
            }
            *place = at + record.wire_len as usize;
            let rest = if record.walked.frames { at + record.wire_len as usize } else { end };
            if rest > side.stream.len() {
                return Some(format!("{record:?} at {at} leaves out more than was sent"));
            }
            for range in [before..at, end..rest] {
                for byte in &mut side.told[range] {
                    *byte = (*byte).max(SKIPPED).min(if *byte == TOLD { TOLD } else { SKIPPED });
                }
            }
        }
        if self.crowded {
            return None;
        }
        if astray && !self.rough {
            return Some("astray".to_owned());
        }
        for (who, side) in self.sides.iter().enumerate() {
            for frame in &side.frames {
                let kept = &side.told[frame.at..(frame.at + frame.keep).min(side.sent).max(frame.at)];
                let wrong = kept.iter().position(|&told| told == SKIPPED || told == 0 && !self.rough);
                if let Some(at) = wrong {
                    return Some(format!(
                        "byte {at} of the {} to keep of {who}'s frame at {} is {}",
                        frame.keep, frame.at, kept[at]
                    ));
                }
            }
        }
        None
    }

    /// Bytes that were sent, and that were copied.
    pub fn copied(&self, records: &[Told]) -> (usize, usize) {
        (self.sides.iter().map(|side| side.sent).sum(), records.iter().map(|record| record.bytes.len()).sum())
    }
}

fn packet(from_client: bool, flags: &'static str, seq: u32, ack: u32, payload: &[u8]) -> Packet {
    let ack = if flags.contains('A') { ack } else { 0 };
    Packet { from_client, flags, seq, ack, window: 64_000, payload: payload.to_vec() }
}

/// Packets of which those from `from` on are walked; a header of each direction then begins there.
#[derive(Clone, Copy)]
pub struct Walking<'a> {
    pub packets: &'a [Packet],
    pub from: usize,
    pub walk: &'static Walk,
    pub headers: [u32; 2],
}

impl Story {
    pub fn walking(&self) -> Walking<'_> {
        Walking { packets: &self.packets, from: self.from, walk: self.walk, headers: self.headers }
    }
}

/// What the programs as built for the host tell of the packets that are walked.
pub fn on_the_host(walking: Walking<'_>) -> Vec<Told> {
    let mut library = Library::get().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    library.reset(4096);
    let mut frame = Vec::with_capacity(1 << 16);
    let mut records = Vec::new();
    for (number, packet) in walking.packets.iter().enumerate() {
        if number == walking.from {
            records.clear();
            library.walk(&capture_engine::kernel::frames(walking.walk), 3, walking.headers);
        }
        packet.frame(&mut frame);
        let dir = if packet.from_client { wire::INGRESS } else { wire::EGRESS };
        assert_eq!(library.packet(7, u32::from(dir), &frame), -1, "the packet goes on");
        host::records(&library.take_ring(), &mut |record| records.extend(Told::of(record)));
    }
    records
}
