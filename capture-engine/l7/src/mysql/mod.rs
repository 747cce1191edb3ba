//! MySQL's protocol, as MySQL and MariaDB speak it ("Client/Server Protocol" in the manuals of both),
//! from the two directions of one connection, of which bytes may be missing.
//!
//! One exchange is a command with its answer, however many results that has, or the login: from what
//! the client says to the server's greeting until there is OK or an error, whatever both say between.
//! Answers come in the order of asking. Packets are numbered from a command on through its answer, so
//! an answer that fits no command shows, and so does one that begins where nothing is paired.

mod answer;
mod command;
mod doubt;
mod login;
mod loss;
mod open;
mod packet;
mod prepared;
mod reply;
mod request;
mod said;
mod side;
mod sign;
mod statement;

use crate::dissector::{Begun, Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Cause, Hole};
use crate::pairing::InOrder;
use crate::{Interest, Length, Limits, MessageEnd, Out, Walk};
use answer::Answer;
use doubt::{Doubt, Hidden};
use flow_model::{Close, Direction, LossReason, Notes, Outcome, Ts};
use open::Open;
use packet::{KEPT_GREETING, Sender};
use prepared::Prepared;
use side::Side;
use std::sync::Arc;

/// As a source follows it once the login is read. Of rows the header, and what shows how long a first
/// column is; of packets that may end a result as much as tells how; of commands with a text more.
static WALK: Walk = Walk {
    length: Length::Fixed { at: 0, width: 3, big_endian: false },
    // With the first byte of a payload, which says what it is.
    header: 5,
    uncounted: 4,
    kind: Some((4, 0xff)),
    classes: &[(1, &[0x02, 0x03, 0x11, 0x16]), (2, &[0x00, 0x17, 0x19, 0x1c, 0xfa, 0xfe, 0xff])],
    keep: [9, 256, 36, 0],
    // So many have 260 bytes at least: of a packet in which there are more, the end can be told.
    most: 52,
    aligned: true,
    rows: true,
    runs: false,
};

/// The same of a client that does not wait: its messages, and the server's, begin anywhere.
static WALK_ON: Walk = Walk { most: 64, aligned: false, rows: false, ..WALK };

#[derive(Debug)]
pub(crate) struct Mysql {
    client_dir: Direction,
    client: Side,
    server: Side,
    /// Answers come in the order of asking.
    open: InOrder<Open>,
    /// The answer that is under way.
    answer: Answer,
    /// Rows of it were left out.
    hidden: Option<Box<Hidden>>,
    prepared: Prepared,
    /// Capabilities of the server, where it told them.
    capabilities: u32,
    /// Whether results end with EOF packets, once that is known.
    eof: Option<bool>,
    /// Number of the server's newest packet.
    heard: u8,
    awaits_greeting: bool,
    awaits_login: bool,
    /// What follows the login is compressed.
    compresses: bool,
    /// The client asks more before it has all answers.
    overlaps: bool,
    /// Message of the flow with which it begins to be read.
    first: u32,
    /// Message of the client of which the beginning may be missing.
    headless: u32,
    /// When bytes passed last.
    last: Ts,
    /// Nothing is paired.
    doubt: Option<Box<Doubt>>,
    /// The database, where it is known.
    database: Option<Arc<str>>,
    /// Sticks once it is not `Same`.
    next: Next,
}

impl Dissector for Mysql {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
        sign::client_of(heads)
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Mysql {
        let Opening { dir, client, before, heads, from_start, .. } = *opening;
        let client = client.unwrap_or(dir);
        let server = client.reverse();
        // Commands have the number 0, what is said to a greeting has 1.
        let midway =
            heads[client.index()].is_some_and(|head| head.bytes.get(3) == Some(&0)) && heads[server.index()].is_some();
        let mut mysql = Mysql::new(client);
        if !midway {
            mysql.awaits_greeting = dir == server;
            (mysql.client.logs_in, mysql.server.logs_in) = (true, dir == server);
            mysql.awaits_login = true;
            return mysql;
        }
        let passed = before.passed();
        let missing = u64::from(passed.missing[client.index()]);
        // The login, and what else was asked and not read.
        let hidden = u64::from(from_start && missing == 0);
        // Message 1 was the rest of an answer.
        let rest = passed.began_midway == Some(server) || heads[server.index()].is_some_and(|head| head.turn == 1);
        let joined = u64::from(!from_start && rest);
        let reason = match (passed.missing, from_start) {
            ([0, 0], true) => LossReason::Gap,
            ([0, 0], false) => LossReason::JoinedMidway,
            _ => LossReason::RingFull,
        };
        // What the server said before that is the answer to what was missing.
        mysql.first = heads[client.index()].map_or(opening.turn, |head| head.turn);
        // Where that began is not known.
        mysql.headless = mysql.first;
        if missing + hidden + joined > 0 {
            out.lost(reason, missing + hidden + joined);
        }
        mysql.lose_client(reason, out);
        mysql.lose_server(reason, out);
        if let Some(doubt) = &mut mysql.doubt {
            doubt.missing = [false; 2];
        }
        mysql
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let bytes = if dir == self.client_dir {
            self.client_bytes(data, limits, out)
        } else {
            // Stops short where an answer may be to something that is not here yet.
            self.server_bytes(data, out)
        };
        self.passed(data.at);
        Used { bytes, next: self.next }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        if self.next != Next::Same {
            return;
        }
        if dir == self.client_dir {
            let was_lost = self.client.is_lost();
            let passed = self.client.skip(&hole);
            if passed.ended {
                self.client_packet(hole.at, None, limits, out);
            }
            if passed.beyond > 0 || was_lost && hole.is_unseen() {
                self.lose_client(LossReason::Gap, out);
            }
            if hole.before_start && hole.cause == Cause::Unknown {
                self.headless = hole.turn;
            }
        } else {
            self.server_hole(&hole, out);
        }
    }

    fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, limits: &Limits, out: &mut O) {
        if dir == self.client_dir {
            self.client_speaks(begun, limits, out);
        }
    }

    fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, _limits: &Limits, out: &mut O) {
        if dir != self.client_dir {
            self.rows_end(end, out);
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, turn: u32, _at: Ts, _limits: &Limits, out: &mut O) {
        let sender = if dir == self.client_dir { Sender::Client } else { Sender::Server };
        self.message_missing(sender, turn, out);
    }

    fn closed<O: Out>(&mut self, _at: Ts, close: Close, limits: &Limits, out: &mut O) {
        let told = close != Close::Gone || limits.report_partial;
        self.settle(out);
        self.end_doubt(out);
        let mut unfinished = 0;
        while let Some(open) = self.open.pop() {
            if told {
                out.record(open.unanswered(Outcome::Unanswered, Notes::default(), self.database.as_ref()));
            } else {
                unfinished += 1;
            }
        }
        if unfinished > 0 {
            out.lost(LossReason::Unfinished, unfinished);
        }
    }

    fn client(&self) -> Option<Direction> {
        Some(self.client_dir)
    }

    fn interest(&self) -> Interest {
        match (self.awaits_login, self.overlaps) {
            (true, _) => Interest::Heads,
            (false, false) => Interest::Frames(&WALK),
            (false, true) => Interest::Frames(&WALK_ON),
        }
    }

    fn header_in(&self, dir: Direction) -> Option<u64> {
        if dir == self.client_dir { self.client.header_in() } else { self.server.header_in() }
    }

    /// True if what this may be the answer to is still held in reassembly.
    fn needs_other(&self, dir: Direction) -> bool {
        dir != self.client_dir && !self.server.is_amid() && self.open.is_empty() && !self.awaits_greeting
    }

    fn buffered(&self) -> usize {
        self.client.buffered() + self.server.buffered()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        if !self.open.is_empty() || self.client.is_amid() || self.server.is_amid() {
            self.lose_client(LossReason::Limit, out);
            self.lose_server(LossReason::Limit, out);
        }
        self.prepared.forget();
    }

    fn held(&self) -> usize {
        self.buffered() + self.open.len() * size_of::<Open>() + self.prepared.held()
    }
}

impl Mysql {
    fn new(client_dir: Direction) -> Mysql {
        Mysql {
            client_dir,
            client: Side::new(Sender::Client, false),
            server: Side::new(Sender::Server, false),
            open: InOrder::default(),
            answer: Answer::default(),
            hidden: None,
            prepared: Prepared::default(),
            capabilities: u32::MAX,
            eof: None,
            heard: 1,
            awaits_greeting: false,
            awaits_login: false,
            compresses: false,
            overlaps: false,
            first: 0,
            headless: 0,
            last: Ts::default(),
            doubt: None,
            database: None,
            next: Next::Same,
        }
    }

    fn client_bytes<O: Out>(&mut self, data: Bytes<'_>, limits: &Limits, out: &mut O) -> usize {
        let Bytes { at, turn, start, tail, bytes } = data;
        if tail && !start {
            self.lose_client(LossReason::Gap, out);
            return bytes.len();
        }
        let mut rest = bytes;
        let starts = |rest: &[u8]| (start && rest.len() == bytes.len()).then_some(turn);
        while !rest.is_empty() && self.next == Next::Same {
            if self.client.is_lost() && !self.find(Sender::Client, starts(rest), rest, out) {
                return bytes.len();
            }
            let used = self.client_packet(at, Some((rest, turn)), limits, out);
            rest = rest.get(used..).unwrap_or_default();
        }
        bytes.len() - rest.len()
    }

    /// Reads bytes up to the end of a packet, or the packet that a hole has ended. How many were used.
    fn client_packet<O: Out>(&mut self, at: Ts, bytes: Option<(&[u8], u32)>, limits: &Limits, out: &mut O) -> usize {
        let awaits_login = self.awaits_login;
        let (used, ended) = match bytes {
            Some((bytes, turn)) => self.client.take(bytes, at, turn),
            None => (0, self.client.ended(at)),
        };
        if let Some((seen, said)) = ended.map(|it| said::read(&it, awaits_login)) {
            self.client_says(seen, said, limits, out);
        }
        used
    }

    fn server_bytes<O: Out>(&mut self, data: Bytes<'_>, out: &mut O) -> usize {
        let Bytes { at, turn, start, tail, bytes } = data;
        let waiting = !self.open.is_empty();
        // A message begins with a packet, whatever the source makes of rows right behind it.
        let tail = tail && !start;
        if turn < self.first {
            return bytes.len();
        }
        let taken = if tail { self.server.taken() } else { 0 };
        if tail && !self.hides_rows() {
            // They begin anywhere in a packet.
            self.lose_server(LossReason::Gap, out);
        }
        if tail || self.hidden.is_some() {
            self.server.lose();
            self.answer.span.bytes = self.answer.span.bytes.saturating_add(taken);
            self.end_of_rows(bytes, at);
            return bytes.len();
        }
        let (mut rest, mut kept) = (bytes, [0; KEPT_GREETING]);
        let starts = |rest: &[u8]| (start && rest.len() == bytes.len()).then_some(turn);
        while !rest.is_empty() && self.next == Next::Same && !(waiting && self.open.is_empty()) {
            if self.server.is_lost() && !self.find(Sender::Server, starts(rest), rest, out) {
                return bytes.len();
            }
            let (used, ended) = self.server.take(rest, at, turn);
            rest = rest.get(used..).unwrap_or_default();
            if let Some(it) = ended.map(|it| it.kept_in(&mut kept)) {
                self.server_says(&it, out);
            }
        }
        bytes.len() - rest.len()
    }

    fn server_hole<O: Out>(&mut self, hole: &Hole, out: &mut O) {
        // What was counted is of this message.
        let counted = matches!(hole.cause, Cause::Skipped | Cause::Counted);
        if self.hidden.is_some() {
            if !counted {
                return self.lose_server(LossReason::Gap, out);
            }
            return self.pass_rows(hole.bytes, hole.at);
        }
        let waits = self.server.is_lost() && self.doubt.is_none();
        if waits && hole.is_unseen() {
            // The answer that is to show where packets begin may have been in it.
            return self.lose_server(LossReason::Gap, out);
        }
        let taken = self.server.taken();
        let passed = self.server.skip(hole);
        let mut kept = [0; KEPT_GREETING];
        let ended = self.server.ended(hole.at).filter(|_| passed.ended).map(|it| it.kept_in(&mut kept));
        if let Some(it) = ended {
            self.server_says(&it, out);
        }
        if passed.beyond == 0 {
            return;
        }
        if counted && self.hides_rows() {
            self.pass_rows(if passed.ended { passed.beyond } else { taken + hole.bytes }, hole.at);
        } else {
            self.lose_server(LossReason::Gap, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<Mysql>() <= 640, "{}", size_of::<Mysql>());
        assert!(size_of::<Open>() <= 96, "{}", size_of::<Open>());
    }
}
