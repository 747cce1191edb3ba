//! Redis pipelines, of which the beginning of each packet is copied: nothing in them tells a source
//! where the next head is.

use super::Packet;
use super::dns::Found;
use super::random::Dice;
use flow_model::{Detail, Notes, Outcome};

/// How large what is asked and answered is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// All of each packet is copied.
    Small,
    /// Some are so long that only the beginnings of packets are: of what is asked (0) or answered (1).
    Long(usize),
}

/// The first record that gives a command what is another's. What was cut short has no length.
pub fn wrong(found: &Found, truth: &Found) -> Option<String> {
    let answered = found.records.iter().filter(|record| record.outcome == Outcome::Answered);
    let wrong = answered.filter(|record| {
        !truth.records.iter().any(|truth| {
            let name =
                |detail: &Detail| if let Detail::Db(db) = detail { db.operation.to_string() } else { String::new() };
            let cut = record.notes.has(Notes::REQUEST_CUT);
            name(&truth.detail) == name(&record.detail)
                && truth.response_bytes == record.response_bytes
                && (cut || truth.request_bytes == record.request_bytes)
        })
    });
    wrong.map(|record| format!("{record:?}")).next()
}

/// The packets of a connection, and how many commands it asks. Each has a reply of a length of its own.
/// With an even seed the client waits for all replies before it asks more.
pub fn conversation(seed: u64, values: Values, rough: bool) -> (Vec<Packet>, usize) {
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
    // It shows to be Redis, that it pipelines, and whether it waits.
    let opening = if seed.is_multiple_of(2) {
        vec![command(10), reply(1), [command(20), command(30)].concat(), [reply(2), reply(3)].concat()]
    } else {
        vec![
            command(10),
            reply(1),
            [command(20), command(30)].concat(),
            reply(2),
            command(40),
            [reply(3), reply(4)].concat(),
        ]
    };
    let first = opening.len() / 2 + 1;
    for (message, bytes) in opening.iter().enumerate() {
        let who = message % 2;
        push(&mut packets, who, "A", next[who], next[1 - who], bytes);
        next[who] = next[who].wrapping_add(bytes.len() as u32);
    }
    let commands = 10 + dice.below(60) as usize;
    // What is short is never beyond the beginning of a packet.
    let widest = if values == Values::Small { 20 } else { 10 };
    let (window, overlaps) = (2 + dice.below(widest) as usize, seed % 2 == 1);
    let (mut asked, mut answered) = (first, first);
    let mut waiting: [Vec<u8>; 2] = Default::default();
    while asked < commands || answered < asked || !waiting[0].is_empty() || !waiting[1].is_empty() {
        // It waits for all replies, or for any.
        let may_ask = if overlaps { asked - answered < window } else { asked == answered && waiting[1].is_empty() };
        if asked < commands && may_ask && waiting[0].is_empty() {
            for _ in 0..=dice.below(window as u32) {
                waiting[0].extend(command(length(&mut dice, values, 0)));
                asked += 1;
            }
        }
        // It answers what has passed as a whole.
        while answered < asked && waiting[0].is_empty() && dice.below(3) > 0 {
            answered += 1;
            waiting[1].extend(reply(answered + 100 * length(&mut dice, values, 1)));
        }
        let who = usize::from(waiting[0].is_empty());
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
        for at in 9..packets.len() - 2 {
            let at = at.min(packets.len() - 3);
            match dice.below(15) {
                // Lost before it came here, and sent again.
                0 if packets[at..packets.len().min(at + 3)]
                    .iter()
                    .all(|it| it.from_client == packets[at].from_client) =>
                {
                    let late = packets.remove(at);
                    packets.insert(packets.len().min(at + 2), late);
                }
                1 if packets[at].from_client == packets[at - 1].from_client => packets.swap(at, at - 1),
                2 => packets.insert(at, packets[at].clone()),
                _ => {}
            }
        }
    }
    (packets, asked)
}

fn length(dice: &mut Dice, values: Values, side: usize) -> usize {
    match (values, dice.below(8)) {
        (Values::Small, 0) => dice.below(600) as usize,
        (Values::Long(long), _) if long != side => 0,
        (Values::Long(_), 0) => dice.below(6000) as usize,
        _ => dice.below(20) as usize,
    }
}

fn command(length: usize) -> Vec<u8> {
    let length = length * 100;
    format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${length}\r\n{}\r\n", ".".repeat(length)).into_bytes()
}

fn reply(length: usize) -> Vec<u8> {
    format!("${length}\r\n{}\r\n", ".".repeat(length)).into_bytes()
}
