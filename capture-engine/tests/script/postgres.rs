//! PostgreSQL, which is walked: batches that do not wait for each other, and rows that are left out.

use super::random::Dice;
use super::{Packet, dns};
use flow_model::{Detail, Notes, Outcome};

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

const VERBS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Every third exchange is a simple query; the others are one or two Executes.
fn ask(id: u16, dice: &mut Dice) -> Vec<u8> {
    let verb = VERBS[usize::from(id) % VERBS.len()];
    let length = [10, 300, 3000, 40_000][dice.below(4) as usize];
    let text = format!("{verb} /* {} */\0", ".".repeat(dice.below(length) as usize));
    if id.is_multiple_of(3) {
        return message(b'Q', text.as_bytes());
    }
    let parse = message(b'P', format!("\0{text}\0\0").as_bytes());
    let mut value = b"\0\0\0\0\0\x01".to_vec();
    value.extend((dice.below(length)).to_be_bytes());
    value.resize(value.len() + dice.below(length) as usize, b'v');
    value.extend([0, 0]);
    let execute = [message(b'B', &value), message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0")].concat();
    [parse, execute.repeat(usize::from(id % 3)), message(b'S', b"")].concat()
}

/// Rows of all lengths, and an error that says which exchange it was of. All answers together have less than
/// the MiB of a message that is copied where the walker has lost its way.
fn answer(id: u16, dice: &mut Dice) -> Vec<u8> {
    let rows = |dice: &mut Dice| {
        let length: u32 = [0, 30, 1000, 6000][dice.below(4) as usize];
        let mut rows = Vec::new();
        for _ in 0..dice.below(8) {
            let mut row = vec![0, 1];
            row.extend(length.to_be_bytes());
            row.resize(row.len() + length as usize, b'x');
            rows.extend(message(b'D', &row));
        }
        rows
    };
    let columns = message(b'T', &[&[0, 1][..], b"a\0", &[0; 18]].concat());
    let done = message(b'C', format!("{} 1\0", VERBS[usize::from(id) % VERBS.len()]).as_bytes());
    let error = message(b'E', format!("SERROR\0VERROR\0CX{id:04}\0Mfailed\0\0").as_bytes());
    let ready = message(b'Z', b"I");
    let executed = |dice: &mut Dice| [message(b'2', b""), columns.clone(), rows(dice)].concat();
    match id % 3 {
        0 => [columns.clone(), rows(dice), error, ready].concat(),
        1 => [message(b'1', b""), executed(dice), error, ready].concat(),
        _ => [message(b'1', b""), executed(dice), done, executed(dice), error, ready].concat(),
    }
}

/// The packets of a connection, and how many exchanges there are.
pub fn conversation(seed: u64, rough: bool) -> (Vec<Packet>, usize) {
    let count = 10 + Dice::new(seed).below(40) as u16;
    let login = b"user\0joe\0database\0shop\0\0";
    let login = [&(login.len() as u32 + 8).to_be_bytes()[..], &[0, 3, 0, 0], login].concat();
    let welcome = [message(b'R', &[0; 4]), message(b'K', &[7; 8]), message(b'Z', b"I")].concat();
    let mut packets = dns::packets(seed, false, [login, welcome], count, ask, answer);
    if rough {
        damage(&mut packets, &mut Dice::new(seed));
    }
    let executes = (1..count).map(|id| usize::from((id % 3).max(1))).sum::<usize>();
    (packets, 1 + executes)
}

/// Some are swapped, doubled, or lost before they came here and sent again; none before the client has shown
/// that it does not wait.
fn damage(packets: &mut Vec<Packet>, dice: &mut Dice) {
    let ends = |packet: &Packet| packet.payload.ends_with(b"Z\0\0\0\x05I");
    let amid = |pair: &[Packet]| !pair[0].from_client && !ends(&pair[0]) && pair[1].from_client;
    let shown = packets.windows(2).enumerate().skip(6).filter(|(_, pair)| amid(pair)).map(|(at, _)| at + 2).next();
    for at in shown.unwrap_or(packets.len())..packets.len().saturating_sub(2) {
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

/// The first record that gives what was asked another's answer.
pub fn wrong(found: &dns::Found, truth: &dns::Found) -> Option<String> {
    let what = |detail: &Detail| match detail {
        Detail::Db(db) => (db.operation.to_string(), db.code.to_string()),
        _ => Default::default(),
    };
    let answered = found.records.iter().filter(|record| record.outcome == Outcome::Answered);
    let wrong = answered.filter(|record| {
        let (verb, code) = what(&record.detail);
        let known = |(named, coded): (String, String)| code == coded && (verb == named || verb == "unknown");
        !record.notes.has(Notes::GAP) && !truth.records.iter().any(|truth| known(what(&truth.detail)))
    });
    wrong.map(|record| format!("{record:?}")).next()
}
