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

/// The first exchange of a connection.
fn login() -> (Vec<u8>, Vec<u8>) {
    let login = b"user\0joe\0database\0shop\0\0";
    let login = [&(login.len() as u32 + 8).to_be_bytes()[..], &[0, 3, 0, 0], login].concat();
    (login, [message(b'R', &[0; 4]), message(b'K', &[7; 8]), message(b'Z', b"I")].concat())
}

/// The packets of a connection, and how many exchanges there are.
pub fn conversation(seed: u64, rough: bool) -> (Vec<Packet>, usize) {
    let count = 10 + Dice::new(seed).below(40) as u16;
    let (login, welcome) = login();
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

/// A SELECT, a COPY to the client and one from it, of so many bytes in rows of `length` bytes, between small
/// exchanges: the packets, and how many exchanges there are.
pub fn bulk(seed: u64, length: usize, bytes: usize) -> (Vec<Packet>, usize) {
    let rows = |kind: u8, head: &[u8]| {
        let row = message(kind, &[head, &vec![b'x'; length.saturating_sub(5 + head.len())]].concat());
        row.repeat(bytes / row.len())
    };
    let column = [&[0, 1][..], &(length as u32 - 11).to_be_bytes()].concat();
    let (ready, columns) = (message(b'Z', b"I"), message(b'T', &[&[0, 1][..], b"a\0", &[0; 18]].concat()));
    let query = |text: &str| message(b'Q', format!("{text}\0").as_bytes());
    let done = |tag: &str| [message(b'C', format!("{tag}\0").as_bytes()), ready.clone()].concat();
    let small = |id: u16| (query("UPDATE"), done(&format!("UPDATE {id}")));
    let [copies, wants] = [b'H', b'G'].map(|kind| message(kind, &[0, 0, 1, 0, 0]));
    let execute =
        [message(b'P', b"\0FETCH\0\0\0"), message(b'B', &[0; 8]), message(b'E', &[0; 5]), message(b'S', b"")].concat();
    // The rows of an Execute that is not described begin its answer, but for what says that it is bound.
    let executed = [message(b'1', b""), message(b'2', b""), rows(b'D', &column), done("FETCH 9")].concat();
    let said = [
        small(1),
        (query("SELECT"), [columns, rows(b'D', &column), done("SELECT 9")].concat()),
        small(2),
        (query("COPY"), [copies, rows(b'd', b""), message(b'c', b""), done("COPY 9")].concat()),
        (query("COPY"), wants),
        ([rows(b'd', b""), message(b'c', b"")].concat(), done("COPY 9")),
        (execute.repeat(2), executed.repeat(2)),
        small(3),
    ];
    (dns::spoken(seed, [vec![login()], said.to_vec()].concat()), 9)
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
