//! DNS over TCP, which is walked: queries that do not wait, and answers of which most is left out.

use super::random::Dice;
use super::sys::Library;
use super::walks::Told;
use super::{Packet, host};
use capture_engine::event::Event;
use capture_engine::replay::Replay;
use capture_wire as wire;
use flow_model::{Direction, L7Record, LossReason, Outcome, Role, Ts};
use l7::{Interest, Limits, MessageEnd, Out, Piece, Tcp};
use std::collections::VecDeque;
use std::io::Cursor;
use zerocopy::FromBytes;

#[derive(Debug, Default)]
pub struct Found {
    pub records: Vec<L7Record>,
    pub lost: u64,
}

impl Out for Found {
    fn record(&mut self, record: L7Record) {
        self.records.push(record);
    }

    fn lost(&mut self, _: LossReason, count: u64) {
        self.lost += count;
    }
}

impl Found {
    /// Each record without its times, which are not the same in both sources.
    pub fn facts(&self) -> Vec<String> {
        let record = |record: &L7Record| {
            let L7Record { request_bytes, response_bytes, outcome, detail, .. } = record;
            format!("{outcome:?} {request_bytes}>{response_bytes} {detail:?}")
        };
        self.records.iter().map(record).collect()
    }

    /// What each answered exchange was about.
    pub fn details(&self) -> Vec<String> {
        let answered = self.records.iter().filter(|record| record.outcome == Outcome::Answered);
        answered.map(|record| format!("{:?}", record.detail)).collect()
    }
}

/// `length` bytes of a query or its answer, with their length before them.
fn message(id: u16, answer: bool, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(id.to_be_bytes());
    bytes.extend(if answer { [0x81, 0x80] } else { [1, 0] });
    bytes.extend([0, 1, 0, u8::from(answer), 0, 0, 0, 0]);
    let name = format!("n{id}");
    bytes.push(name.len() as u8);
    bytes.extend(name.bytes());
    bytes.extend([0, 0, 16, 0, 1]);
    if answer {
        bytes.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
        bytes.extend((length as u16).to_be_bytes());
        bytes.resize(bytes.len() + length, 1);
    }
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

/// The packets of a connection, and how many queries they ask.
pub fn conversation(seed: u64, rough: bool) -> (Vec<Packet>, u16) {
    let queries = 10 + Dice::new(seed).below(30) as u16;
    let packets = packets(
        seed,
        rough,
        [message(0, false, 0), message(0, true, 500)],
        queries,
        |id, _| message(id, false, 0),
        |id, dice| {
            let length = [40, 3000, 20_000, 60_000][dice.below(4) as usize];
            message(id, true, dice.below(length) as usize)
        },
    );
    (packets, queries)
}

/// The packets of a connection that begins with `first`, and on which exchanges from 1 to `count` are
/// asked without waiting and answered in their order. Some are lost, doubled or swapped where it is `rough`.
pub fn packets(
    seed: u64,
    rough: bool,
    first: [Vec<u8>; 2],
    count: u16,
    ask: impl Fn(u16, &mut Dice) -> Vec<u8>,
    answer: impl Fn(u16, &mut Dice) -> Vec<u8>,
) -> Vec<Packet> {
    let mut dice = Dice::new(seed);
    let isn = [dice.below(100_000).wrapping_neg(), dice.below(u32::MAX)];
    let mut next = isn.map(|isn| isn.wrapping_add(1));
    let mut packets = Vec::new();
    let push = |packets: &mut Vec<Packet>, who: usize, flags, seq, ack, payload: &[u8]| {
        let payload = payload.to_vec();
        packets.push(Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload });
    };
    push(&mut packets, 0, "S", isn[0], 0, b"");
    push(&mut packets, 1, "SA", isn[1], next[0], b"");
    push(&mut packets, 0, "A", next[0], next[1], b"");
    // The first ones show what it is.
    for (who, first) in first.iter().enumerate() {
        push(&mut packets, who, "A", next[who], next[1 - who], first);
        next[who] = next[who].wrapping_add(first.len() as u32);
    }
    let (mut asked, mut answered) = (1, 1);
    let mut waiting: [Vec<u8>; 2] = Default::default();
    while answered < count || !waiting[0].is_empty() || !waiting[1].is_empty() {
        if asked < count && dice.below(3) == 0 {
            waiting[0].extend(ask(asked, &mut dice));
            asked += 1;
        }
        // It answers what has passed as a whole.
        if answered < asked && waiting[0].is_empty() && dice.below(2) == 0 {
            waiting[1].extend(answer(answered, &mut dice));
            answered += 1;
        }
        let who = dice.below(2) as usize;
        let most = [100, 1448, 60_000][dice.below(3) as usize];
        let length = waiting[who].len().min(1 + dice.below(most) as usize);
        if length > 0 {
            let payload: Vec<u8> = waiting[who].drain(..length).collect();
            push(&mut packets, who, "A", next[who], next[1 - who], &payload);
            next[who] = next[who].wrapping_add(length as u32);
        }
    }
    push(&mut packets, 0, "FA", next[0], next[1], b"");
    push(&mut packets, 1, "FA", next[1], next[0].wrapping_add(1), b"");
    if rough {
        for at in 6..packets.len() - 2 {
            let at = at.min(packets.len() - 3);
            match dice.below(15) {
                0 => drop(packets.remove(at)),
                1 if packets[at].from_client == packets[at - 1].from_client => packets.swap(at, at - 1),
                2 => packets.insert(at, packets[at].clone()),
                _ => {}
            }
        }
    }
    packets
}

/// The packets of a connection on which each message is answered before the next one.
pub fn spoken(seed: u64, said: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<Packet> {
    let mut dice = Dice::new(seed);
    let isn = [dice.below(100_000).wrapping_neg(), dice.below(u32::MAX)];
    let mut next = isn.map(|isn| isn.wrapping_add(1));
    let packet = |who: usize, flags, seq, ack, payload: &[u8]| {
        let payload = payload.to_vec();
        Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload }
    };
    let mut packets = vec![
        packet(0, "S", isn[0], 0, b""),
        packet(1, "SA", isn[1], next[0], b""),
        packet(0, "A", next[0], next[1], b""),
    ];
    for (ask, answer) in said {
        for (who, message) in [ask, answer].into_iter().enumerate() {
            let mut rest = &message[..];
            while !rest.is_empty() {
                let most = [1448, 8192, 60_000][dice.below(3) as usize];
                let (payload, after) = rest.split_at(rest.len().min(1 + dice.below(most) as usize));
                packets.push(packet(who, "A", next[who], next[1 - who], payload));
                next[who] = next[who].wrapping_add(payload.len() as u32);
                rest = after;
            }
        }
    }
    packets.push(packet(0, "FA", next[0], next[1], b""));
    packets.push(packet(1, "FA", next[1], next[0].wrapping_add(1), b""));
    packets
}

fn limits() -> Limits {
    Limits { keep_strings: true, ..Limits::default() }
}

/// What is found where everything is copied.
pub fn replayed(file: Vec<u8>) -> Found {
    let (mut found, mut tcp) = (Found::default(), Tcp::new(&limits(), Role::Server));
    tcp.seen_to_begin();
    Replay::new(Cursor::new(file)).unwrap().run(|event| match event {
        Event::Segment(segment) => {
            if let Some(prev) = &segment.prev {
                tcp.message_ended(prev, &mut found);
            }
            let capture_engine::event::Segment { dir, at, seq, turn, first, wire_len, payload, walked, .. } = segment;
            // The one whose first packet it saw is local to it: the client. Here it is the server.
            let dir = dir.reverse();
            tcp.piece(&Piece { dir, at, seq, turn, first, wire_len, payload, acked: None, walked }, &mut found);
        }
        Event::Closed(sample) => {
            let close = sample.closed.unwrap();
            tcp.closed(sample.at, close, sample.message.as_ref(), sample.turns, &mut found);
        }
    });
    found
}

/// What is found by way of the walker, which is told at once what the dissector knows; and how many
/// bytes were copied.
pub fn walked(packets: &[Packet]) -> (Found, usize) {
    walked_late(packets, 0, false)
}

/// As [`walked`], where the dissector's word comes `late` packets late; `known`: of a server that is known.
pub fn walked_late(packets: &[Packet], late: usize, known: bool) -> (Found, usize) {
    let mut library = Library::get().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    library.reset(4096);
    if known {
        library.eager();
    }
    let (mut found, mut tcp) = (Found::default(), Tcp::new(&limits(), Role::Server));
    tcp.seen_to_begin();
    let (mut frame, mut copied, mut asked) = (Vec::new(), 0, None);
    let mut words: VecDeque<(usize, wire::Frames, u32, [u32; 2])> = VecDeque::new();
    for (at, packet) in packets.iter().enumerate() {
        while let Some((_, walk, straight, headers)) = words.pop_front_if(|(due, ..)| *due <= at) {
            library.walk(&walk, straight, headers);
        }
        packet.frame(&mut frame);
        let dir = if packet.from_client { wire::INGRESS } else { wire::EGRESS };
        library.packet(7, u32::from(dir), &frame);
        let mut astray = false;
        host::records(&library.take_ring(), &mut |record| {
            if let Some(told) = Told::of(record) {
                astray |= told.walked.astray;
                copied += told.bytes.len();
                hand_over(&mut tcp, record, &told, &mut found);
            } else if let Ok((closed, _)) = wire::Closed::read_from_prefix(record) {
                let close = flow_model::Close::Fin;
                let last = end(&closed.last);
                tcp.closed(Ts(closed.at_ns), close, last.as_ref(), closed.turn, &mut found);
            }
        });
        if let Interest::Frames(walk) = tcp.interest()
            && (astray || asked != Some(walk))
        {
            asked = Some(walk);
            let headers = tcp.headers();
            let straight = u32::from(headers[0].is_some()) | u32::from(headers[1].is_some()) << 1;
            let headers = headers.map(Option::unwrap_or_default);
            words.push_back((at + 1 + late, capture_engine::kernel::frames(walk), straight, headers));
        }
    }
    (found, copied)
}

fn hand_over(tcp: &mut Tcp, record: &[u8], told: &Told, found: &mut Found) {
    let (segment, _) = wire::Segment::read_from_prefix(record).unwrap();
    let Told { from_client, turn, seq, first, wire_len, walked, ref bytes } = *told;
    if let Some(prev) = end(&segment.prev).filter(|_| first) {
        tcp.message_ended(&prev, found);
    }
    let dir = if from_client { Direction::Ingress } else { Direction::Egress };
    tcp.piece(
        &Piece { dir, at: Ts(segment.at_ns), seq, turn, first, wire_len, payload: bytes, acked: None, walked },
        found,
    );
}

fn end(message: &wire::Message) -> Option<MessageEnd> {
    let wire::Message { first_ns, last_ns, bytes, packets, turn, tail, tail_len, .. } = *message;
    let (first, last) = (Ts(first_ns), Ts(last_ns));
    (turn != 0).then_some(MessageEnd { turn, bytes, packets, first, last, tail, tail_len, asked: None })
}
