//! Kafka, which is walked: requests without waiting, small ones and long ones.

use super::random::Dice;
use super::{Packet, dns};
use flow_model::{Detail, Notes, Outcome};

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn request(key: i16, version: i16, id: u16, body: &[&[u8]]) -> Vec<u8> {
    let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &u32::from(id).to_be_bytes(), &text("app")].concat();
    frame(&[&head, &body.concat()])
}

/// Topics tell of which request it is, codes of which answer.
fn topic(id: u16) -> Vec<u8> {
    text(&format!("t{id}"))
}

/// Metadata, or a batch of records.
fn ask(id: u16, length: usize) -> Vec<u8> {
    let one = 1_u32.to_be_bytes();
    if length == 0 {
        return request(3, 1, id, &[&one, &topic(id)]);
    }
    let batch = [&(length as u32).to_be_bytes()[..], &vec![0; length]].concat();
    request(0, 7, id, &[&[0xff, 0xff, 0xff, 0xff], &[0; 4], &one, &topic(id), &one, &[0; 4], &batch])
}

/// To any of them: as many bytes as are wanted follow the code.
fn answer(id: u16, batch: bool, length: usize) -> Vec<u8> {
    let (one, code) = (1_u32.to_be_bytes(), (1 + id % 120).to_be_bytes());
    let id_of = u32::from(id).to_be_bytes();
    if batch {
        return frame(&[&id_of, &one, &topic(id), &one, &[0; 4], &code, &[0; 24], &[0; 4]]);
    }
    let host = text(&"h".repeat(length.min(30_000)));
    let broker = [&[0; 4][..], &host, &[0; 4], &[0xff, 0xff]].concat();
    let topic = [&code[..], &topic(id), &[0], &[0; 4]].concat();
    if length > 300 {
        // What comes first is short: the code is within what is looked at.
        let many =
            [&[0; 4][..], &one, &one, &code, &text(&format!("t{id}")), &[0], &(length as u32).to_be_bytes()].concat();
        return frame(&[&id_of, &many, &[0; 18].repeat(length)]);
    }
    frame(&[&id_of, &one, &broker, &one, &one, &topic])
}

/// Every third request is a batch.
fn is_batch(id: u16) -> bool {
    id.is_multiple_of(3)
}

/// The packets of a connection, and how many exchanges there are.
pub fn conversation(seed: u64, rough: bool) -> (Vec<Packet>, u16) {
    let count = 10 + Dice::new(seed).below(60) as u16;
    let packets = dns::packets(
        seed,
        rough,
        [ask(0, 100), answer(0, true, 0)],
        count,
        |id, dice| {
            let length = [50, 3000, 60_000, 300_000][dice.below(4) as usize];
            ask(id, if is_batch(id) { 1 + dice.below(length) as usize } else { 0 })
        },
        |id, dice| {
            let length = [50, 300, 3000][dice.below(3) as usize];
            answer(id, is_batch(id), dice.below(length) as usize)
        },
    );
    (packets, count)
}

/// The packets of a client that says so much that it is known, and then asks for no answers: batches of up to
/// `longest` bytes. Each packet has some of them.
pub fn one_way(seed: u64, count: u16, longest: u32) -> Vec<Packet> {
    let mut dice = Dice::new(seed);
    let isn = [dice.below(100_000).wrapping_neg(), dice.below(u32::MAX)];
    let mut next = isn.map(|isn| isn.wrapping_add(1));
    let mut packets = Vec::new();
    let mut push = |who: usize, flags: &'static str, payload: Vec<u8>| {
        let seq = if flags.starts_with('S') { isn[who] } else { next[who] };
        let ack = if flags == "S" { 0 } else { next[1 - who] };
        next[who] = next[who].wrapping_add(payload.len() as u32 + u32::from(flags == "FA"));
        packets.push(Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload });
    };
    push(0, "S", Vec::new());
    push(1, "SA", Vec::new());
    push(0, "A", Vec::new());
    push(0, "A", ask(0, 100));
    push(1, "A", answer(0, true, 0));
    let batch = |id: u16, length: u32| {
        let one = 1_u32.to_be_bytes();
        let batch = [&length.to_be_bytes()[..], &vec![0; length as usize]].concat();
        request(0, 7, id, &[&[0xff, 0xff, 0, 0], &[0; 4], &one, &topic(id), &one, &[0; 4], &batch])
    };
    // Many in one packet, as hosts hand them to their network cards.
    let most = [4, 40, 130][dice.below(3) as usize];
    let mut asked = 0;
    while asked < count {
        let some = (1 + dice.below(most) as u16).min(count - asked);
        let ids = asked + 1..=asked + some;
        push(0, "A", ids.flat_map(|id| batch(id, 1 + dice.below(longest))).collect());
        asked += some;
    }
    push(0, "FA", Vec::new());
    push(1, "FA", Vec::new());
    packets
}

/// The first record that gives what was asked another's answer.
pub fn wrong(found: &dns::Found, truth: &dns::Found) -> Option<String> {
    let what = |detail: &Detail| match detail {
        Detail::Messaging(it) => (it.operation, it.destination.to_string(), it.code.to_string()),
        _ => Default::default(),
    };
    let answered = found.records.iter().filter(|record| record.outcome == Outcome::Answered);
    let cut = |notes: Notes| notes.has(Notes::GAP) || notes.has(Notes::REQUEST_CUT);
    let mut wrong = answered.filter(|record| {
        !cut(record.notes) && !truth.records.iter().any(|truth| what(&truth.detail) == what(&record.detail))
    });
    wrong.next().map(|record| format!("{record:?}"))
}
