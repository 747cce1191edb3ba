//! MySQL, which is walked: one thing at a time, some commands together, and rows that are left out.

use super::random::Dice;
use super::{Packet, dns};
use flow_model::{Detail, Notes, Outcome};

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

const VERBS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Every fourth exchange is prepared and executed together.
fn ask(id: u16, dice: &mut Dice) -> Vec<u8> {
    let verb = VERBS[usize::from(id) % VERBS.len()];
    let length = [10, 300, 3000, 40_000][dice.below(4) as usize];
    let text = format!("{verb} /* {} */", ".".repeat(dice.below(length) as usize));
    if is_prepared(id) {
        let value = "v".repeat(dice.below(length) as usize);
        let prepare = packet(0, format!("\x16{text}").as_bytes());
        let execute = [b"\x17\xff\xff\xff\xff\0\x01\0\0\0\0\x01\xfe\0", value.as_bytes()].concat();
        return [prepare, packet(0, &execute)].concat();
    }
    packet(0, format!("\x03{text}").as_bytes())
}

pub fn is_prepared(id: u16) -> bool {
    id.is_multiple_of(4)
}

/// Rows of all lengths, and an error that says which exchange it was of, or what ends rows.
fn answer(id: u16, rows: &[usize], eof: bool) -> Vec<u8> {
    let column = b"\x03def\x04shop\x01t\x01t\x01c\x01c\x0c\x3f\0\x0b\0\0\0\x03\0\0\0\0\0";
    let end: &[u8] = if eof { &[0xfe, 0, 0, 2, 0] } else { &[0xfe, 0, 0, 2, 0, 0, 0] };
    let mut packets = vec![vec![1], column.to_vec()];
    if eof {
        packets.push(end.to_vec());
    }
    for length in rows {
        let mut row = vec![0xfc];
        row.extend((*length as u16).to_le_bytes());
        row.resize(3 + length, b'x');
        packets.push(row);
    }
    if id.is_multiple_of(3) {
        packets.push(end.to_vec());
    } else {
        packets.push([&[0xff][..], &(1000 + id).to_le_bytes(), b"#HY000failed"].concat());
    }
    let numbered = |first: u8, packets: &[Vec<u8>]| -> Vec<u8> {
        packets.iter().enumerate().flat_map(|(at, it)| packet(first.wrapping_add(at as u8), it)).collect()
    };
    let mut bytes = Vec::new();
    if is_prepared(id) {
        let prepared = [&[0][..], &u32::from(id).to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0]].concat();
        let mut packets = vec![prepared, column.to_vec()];
        if eof {
            packets.push(end.to_vec());
        }
        bytes.extend(numbered(1, &packets));
    }
    bytes.extend(numbered(1, &packets));
    bytes
}

/// The packets of a connection, and how many exchanges there are.
pub fn conversation(seed: u64, rough: bool) -> (Vec<Packet>, usize) {
    let mut dice = Dice::new(seed);
    let count = 10 + dice.below(40) as u16;
    let eof = dice.below(2) == 0;
    let capabilities = if eof { 0x0008_a208_u32 } else { 0x0108_a208 };
    let [a, b, c, d] = capabilities.to_le_bytes();
    let greeting = [
        &b"\x0a8.0.36\0\x09\0\0\0abcdefgh\0"[..],
        &[a, b, 45, 2, 0, c, d, 21],
        &[0; 10],
        b"abcdefghijkl\0mysql_native_password\0",
    ];
    let mut login = vec![a, b, c, d, 0, 0, 0, 1, 45];
    login.resize(32, 0);
    login.extend(b"joe\0\0shop\0mysql_native_password\0");
    let mut messages = vec![(false, packet(0, &greeting.concat())), (true, packet(1, &login))];
    messages.push((false, packet(2, &[0, 0, 0, 2, 0, 0, 0])));
    let mut exchanges = 1;
    for id in 1..count {
        messages.push((true, ask(id, &mut dice)));
        let length = [0, 30, 1000, 6000, 60_000][dice.below(5) as usize];
        let most = if length < 1000 { 2000 } else { 8 };
        let rows = vec![length; dice.below(most) as usize];
        messages.push((false, answer(id, &rows, eof)));
        exchanges += 1 + usize::from(is_prepared(id));
    }
    let mut packets = cut(&messages, &mut dice);
    if rough {
        damage(&mut packets, &mut dice);
    }
    (packets, exchanges)
}

/// Some are swapped, doubled, or lost before they came here and sent again.
fn damage(packets: &mut Vec<Packet>, dice: &mut Dice) {
    for at in 8..packets.len().saturating_sub(2) {
        let at = at.min(packets.len() - 3);
        let next = &packets[at..packets.len().min(at + 3)];
        match dice.below(15) {
            0 if next.iter().all(|it| it.from_client == packets[at].from_client) => {
                let late = packets.remove(at);
                packets.insert(packets.len().min(at + 2), late);
            }
            1 if packets[at].from_client == packets[at - 1].from_client => packets.swap(at, at - 1),
            2 => packets.insert(at, packets[at].clone()),
            _ => {}
        }
    }
}

fn cut(messages: &[(bool, Vec<u8>)], dice: &mut Dice) -> Vec<Packet> {
    let isn = [dice.below(100_000).wrapping_neg(), dice.below(u32::MAX)];
    let mut next = isn.map(|isn| isn.wrapping_add(1));
    let mut packets = Vec::new();
    let mut push = |who: usize, flags, seq, ack, payload: &[u8]| {
        let payload = payload.to_vec();
        packets.push(Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload });
    };
    push(0, "S", isn[0], 0, b"");
    push(1, "SA", isn[1], next[0], b"");
    push(0, "A", next[0], next[1], b"");
    for (from_client, bytes) in messages {
        let who = usize::from(!from_client);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = [100, 1448, 60_000][dice.below(3) as usize];
            let (payload, after) = rest.split_at(rest.len().min(1 + dice.below(most) as usize));
            push(who, "A", next[who], next[1 - who], payload);
            next[who] = next[who].wrapping_add(payload.len() as u32);
            rest = after;
        }
    }
    push(0, "FA", next[0], next[1], b"");
    push(1, "FA", next[1], next[0].wrapping_add(1), b"");
    packets
}

/// The first record that gives what was asked another's answer.
pub fn wrong(found: &dns::Found, truth: &dns::Found) -> Option<String> {
    let what = |detail: &Detail| match detail {
        Detail::Db(db) => (db.operation.to_string(), db.code.to_string()),
        _ => Default::default(),
    };
    let answered = found.records.iter().filter(|record| record.outcome == Outcome::Answered);
    let mut wrong = answered.filter(|record| {
        let (verb, code) = what(&record.detail);
        let known = |(named, coded): (String, String)| code == coded && (verb == named || verb == "unknown");
        !record.notes.has(Notes::GAP) && !truth.records.iter().any(|truth| known(what(&truth.detail)))
    });
    wrong.next().map(|record| format!("{record:?}"))
}
