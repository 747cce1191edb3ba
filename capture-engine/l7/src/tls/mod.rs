//! Handshakes of TLS (RFC 8446, 5246, 6101): one record a connection, and nothing of what follows.
//!
//! A handshake begins with the first byte of the ClientHello. Up to TLS 1.2 it is over with the last byte of
//! the later of the two Finished messages. In TLS 1.3 the client's Finished ends it, which is
//! encrypted: it is the first of the client's records behind the ServerHello that has the length of
//! one. An alert ends it as well. After that the connection is opaque.
//!
//! What is told stood in the two hellos, or in an alert, in clear. An alert that is encrypted is
//! known by its length, but not what it says.

mod flight;
mod hello;
mod records;
mod sign;

use crate::before::Before;
use crate::dissector::{Begun, Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Cause, Hole};
use crate::{Interest, Limits, Out};
use flight::Flight;
use flow_model::{Close, Detail, Direction, L7Record, LossReason, Notes, Outcome, Protocol, TlsHandshake, Ts};
use hello::{ClientHello, ServerHello};
use records::{
    ALERT, CHANGE_CIPHER_SPEC, CLIENT_HELLO, HANDSHAKE, HELLO_RETRY_REQUEST, Messages, OLD_HELLO, Part, Passed, Record,
    Records, SERVER_HELLO, SERVER_HELLO_DONE, SERVER_KEY_EXCHANGE,
};
pub(crate) use sign::midway;

/// One end's part of the handshake.
#[derive(Debug, Default)]
struct Side {
    records: Records,
    messages: Messages,
    /// What it says from here on is encrypted (up to TLS 1.2).
    changed: bool,
    /// When its Finished was over (up to TLS 1.2).
    finished: Option<Ts>,
    /// Bytes of it were not seen, and nobody knows what was in them.
    lossy: bool,
    /// The end of a message of the flow was not copied.
    cut: bool,
    /// An alert, as far as it has come.
    alert: [u8; 2],
    alert_length: usize,
    /// When it spoke last, as part of the handshake.
    last: Ts,
    bytes: u64,
}

/// A connection until its handshake is over.
#[derive(Debug)]
pub(crate) struct Tls {
    client: Direction,
    /// Whose bytes showed that it is TLS. What was kept of the other end is older.
    shown: Direction,
    sides: [Side; 2],
    start: Option<Ts>,
    response_start: Option<Ts>,
    hello: Option<ClientHello>,
    answer: Option<ServerHello>,
    /// The ClientHello was not seen, for this reason.
    unasked: Option<LossReason>,
    /// Both sides agree on new keys (up to TLS 1.2); `None` until that shows.
    full: Option<bool>,
    /// The client's encrypted flight (TLS 1.3).
    flight: Flight,
    group: Option<u16>,
    retried: bool,
    /// The client gives up; what follows says so (RFC 8446 section 6.1).
    canceled: bool,
    /// The client sent data before the server's Finished was seen (up to TLS 1.2).
    hasty: bool,
    /// When an alert came that cannot be read and may not be one.
    sealed_alert: Option<Ts>,
    notes: Notes,
    /// The number of the newest message of the client.
    turn: u32,
    done: bool,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug)]
struct Ending {
    at: Ts,
    outcome: Outcome,
    alert: Option<u8>,
    sealed: bool,
    notes: Notes,
}

impl Ending {
    fn whole(at: Ts, notes: Notes) -> Ending {
        Ending { at, outcome: Outcome::Answered, alert: None, sealed: false, notes }
    }
}

/// The connection goes on with a record that begins no handshake.
pub(crate) fn joined<O: Out>(under_way: bool, from_start: bool, before: &Before, out: &mut O) {
    if from_start && before.missing() != [0; 2] {
        out.lost(LossReason::RingFull, 1);
    } else if from_start && before.passed().holes.iter().any(Option::is_some) {
        out.lost(LossReason::Gap, 1);
    } else if under_way && !from_start {
        out.lost(LossReason::JoinedMidway, 1);
    }
}

impl Dissector for Tls {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn open<O: Out>(opening: &Opening<'_>, _out: &mut O) -> Tls {
        let client = opening.client.unwrap_or(opening.dir);
        let asked = opening.client == Some(opening.dir);
        let unasked = (!asked).then(|| match opening.before.missing()[client.index()] {
            0 if opening.from_start => LossReason::Gap,
            0 => LossReason::JoinedMidway,
            _ => LossReason::RingFull,
        });
        Tls {
            client,
            shown: opening.dir,
            sides: Default::default(),
            start: None,
            response_start: None,
            hello: None,
            answer: None,
            unasked,
            full: None,
            flight: Flight::default(),
            group: None,
            retried: false,
            canceled: false,
            hasty: false,
            sealed_alert: None,
            // Another hello may have been before the one that showed.
            notes: if opening.from_start { Notes::default() } else { Notes::JOINED_MIDWAY },
            turn: opening.turn,
            done: false,
        }
    }

    fn bytes<O: Out>(&mut self, dir: Direction, mut data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let bytes = data.bytes.len();
        if self.start.is_none() {
            if dir != self.shown {
                return Used { bytes, next: Next::Same };
            }
            self.sides[dir.index()].records.old_hello = dir == self.client && sign::is_old_hello(data.bytes);
        }
        while !self.done {
            let before = data.bytes.len();
            let side = &mut self.sides[dir.index()];
            let Some(part) = side.records.next(&mut data) else {
                self.passed(dir, data.at, before as u64);
                break;
            };
            self.passed(dir, data.at, (before - data.bytes.len()) as u64);
            match part {
                Part::Content(kind, content) => self.content(dir, kind, content, data.at, limits, out),
                Part::End(record) => self.record(dir, record, data.turn, limits, out),
                Part::Other => self.other(dir, data.at, limits, out),
            }
        }
        Used { bytes, next: if self.done { Next::Opaque } else { Next::Same } }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        if self.done {
            return;
        }
        let from_client = dir == self.client;
        let side = &mut self.sides[dir.index()];
        let passed = side.records.hole(hole);
        if hole.cause == Cause::Messages {
            return;
        }
        if side.finished.is_none() {
            side.bytes = side.bytes.saturating_add(hole.counted());
            side.last = side.last.max(hole.at);
        }
        if hole.cause == Cause::Unknown {
            side.lossy = true;
        } else {
            side.cut = true;
        }
        if from_client && self.hello.is_none() && self.unasked.is_none() {
            // No more of it will come.
            let kept = side.messages.cut().unwrap_or_default();
            self.hello = Some(ClientHello::read(kept, limits.keep_strings));
            self.notes.add(Notes::REQUEST_CUT);
        } else if !from_client && self.answer.is_none() {
            return self.lose(LossReason::Gap, out);
        }
        side.messages.stop();
        match passed {
            // It may have been the last of a flight.
            Passed::Place if from_client => self.flight.cut(hole.at),
            Passed::Ended(record) => {
                let turn = self.turn;
                self.record(dir, record, turn, limits, out);
            }
            Passed::Place | Passed::Within => {}
        }
    }

    fn missing<O: Out>(&mut self, _dir: Direction, _turn: u32, _at: Ts, _limits: &Limits, out: &mut O) {
        // What it held decides what is to be said of the handshake, or whether there was one.
        self.lose(LossReason::RingFull, out);
    }

    fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, _limits: &Limits, _out: &mut O) {
        if dir == self.client {
            self.turn = begun.turn;
        }
        let other = &mut self.sides[dir.reverse().index()];
        other.lossy |= begun.unsure;
    }

    fn closed<O: Out>(&mut self, _at: Ts, close: Close, limits: &Limits, out: &mut O) {
        if self.done {
            return;
        }
        let told = close != Close::Gone || limits.report_partial;
        let [client, server] = [&self.sides[self.client.index()], &self.sides[self.client.reverse().index()]];
        let last = server.last.max(client.last);
        // Nothing tells of the packet that a capture dropped last.
        let dropped = limits.report_partial && self.hasty;
        let unseen = client.lossy || client.cut || server.lossy || dropped;
        let ending = if let Some(at) = self.sealed_alert {
            Ending { sealed: true, ..Ending::whole(at, Notes::default()) }
        } else if let Some(at) = self.flight.assumed() {
            Ending::whole(at, Notes::END_ASSUMED)
        } else if self.answer.is_some() && unseen {
            // It may have been over.
            return self.lose(LossReason::Gap, out);
        } else if told {
            Ending { outcome: Outcome::Unanswered, ..Ending::whole(last, Notes::default()) }
        } else {
            return self.lose(LossReason::Unfinished, out);
        };
        self.finish(ending, limits, out);
    }

    fn client(&self) -> Option<Direction> {
        Some(self.client)
    }

    fn interest(&self) -> Interest {
        if self.done { Interest::Nothing } else { Interest::Heads }
    }

    /// What each side says follows from what the other has said, but for early data.
    fn needs_other(&self, dir: Direction) -> bool {
        if self.done {
            return false;
        }
        match &self.hello {
            None => dir != self.client,
            Some(hello) if dir == self.client => self.answer.is_none() && !hello.early_data,
            Some(hello) => self.answer.is_some() && !hello.early_data && !self.sides[self.client.index()].changed,
        }
    }

    fn buffered(&self) -> usize {
        self.sides.iter().map(|side| side.messages.kept().len()).sum()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        self.lose(LossReason::Limit, out);
    }
}

impl Tls {
    /// Bytes of a record, or of what cannot be read, are part of the handshake.
    fn passed(&mut self, dir: Direction, at: Ts, bytes: u64) {
        let side = &mut self.sides[dir.index()];
        if side.finished.is_none() && bytes > 0 {
            side.bytes = side.bytes.saturating_add(bytes);
            side.last = at;
            self.start.get_or_insert(at);
        }
    }

    /// The version up to TLS 1.2, or `Some(false)`: what follows the ServerHello is encrypted. `None` before it.
    fn is_old(&self) -> Option<bool> {
        self.answer.as_ref().map(|answer| !hello::encrypts_early(answer.version))
    }

    fn content<O: Out>(&mut self, dir: Direction, kind: u8, content: &[u8], at: Ts, limits: &Limits, out: &mut O) {
        let from_client = dir == self.client;
        let side = &mut self.sides[dir.index()];
        if !from_client {
            self.response_start.get_or_insert(side.records.first);
        }
        match kind {
            HANDSHAKE if !side.changed => self.messages(dir, content, at, limits, out),
            ALERT => {
                for byte in content.iter().take(2_usize.saturating_sub(side.alert_length)) {
                    if let Some(place) = side.alert.get_mut(side.alert_length) {
                        *place = *byte;
                        side.alert_length += 1;
                    }
                }
            }
            OLD_HELLO => side.messages.keep(content, limits.head_bytes),
            _ => {}
        }
    }

    fn messages<O: Out>(&mut self, dir: Direction, mut content: &[u8], at: Ts, limits: &Limits, out: &mut O) {
        let from_client = dir == self.client;
        let mut messages = std::mem::take(&mut self.sides[dir.index()].messages);
        while let Some(message) = messages.next(&mut content, limits.head_bytes) {
            match message.first() {
                Some(&CLIENT_HELLO) if from_client && self.hello.is_none() => {
                    let hello = ClientHello::read(message, limits.keep_strings);
                    if !hello.whole {
                        // Longer than what is kept, or not as it should be.
                        let cut = message.len() >= limits.head_bytes;
                        self.notes.add(if cut { Notes::REQUEST_CUT } else { Notes::MALFORMED });
                    }
                    self.hello = Some(hello);
                }
                Some(&SERVER_HELLO) if !from_client && self.answer.is_none() => match ServerHello::read(message) {
                    Some(answer) if answer.retry => self.retried = true,
                    Some(answer) => {
                        self.group = answer.group;
                        self.answer = Some(answer);
                    }
                    None => {
                        self.notes.add(Notes::MALFORMED);
                        let ending = Ending::whole(at, Notes::default());
                        return self.finish(Ending { outcome: Outcome::Unanswered, ..ending }, limits, out);
                    }
                },
                Some(&HELLO_RETRY_REQUEST) if !from_client && self.answer.is_none() => self.retried = true,
                Some(&SERVER_KEY_EXCHANGE) if !from_client => self.group = hello::named_group(message).or(self.group),
                Some(&SERVER_HELLO_DONE) if !from_client => self.full = Some(true),
                _ => {}
            }
        }
        self.sides[dir.index()].messages = messages;
    }

    fn record<O: Out>(&mut self, dir: Direction, record: Record, turn: u32, limits: &Limits, out: &mut O) {
        let from_client = dir == self.client;
        let old = self.is_old();
        let side = &mut self.sides[dir.index()];
        match record.kind {
            OLD_HELLO => {
                self.hello = Some(ClientHello::read_old(side.messages.kept(), limits.keep_strings));
                side.messages.stop();
            }
            CHANGE_CIPHER_SPEC if old == Some(true) => {
                side.changed = true;
                if !from_client && self.full.is_none() && !side.lossy && !side.cut {
                    // No keys were agreed on.
                    self.full = Some(false);
                }
                side.messages.stop();
            }
            ALERT => self.alert(dir, record, limits, out),
            HANDSHAKE if side.changed => {
                side.finished.get_or_insert(record.last);
                self.settle(limits, out);
            }
            records::APPLICATION_DATA => match old {
                Some(true) => self.data(dir, limits, out),
                Some(false) => self.sealed(from_client, record, turn, limits, out),
                // Early data. Without a ClientHello nobody can say what it is.
                None if from_client && self.hello.as_ref().is_some_and(|hello| hello.early_data) => {}
                None => self.lose(LossReason::Gap, out),
            },
            _ => {}
        }
    }

    /// Up to TLS 1.2: is it over with what has come?
    fn settle<O: Out>(&mut self, limits: &Limits, out: &mut O) {
        let [client, server] = [&self.sides[self.client.index()], &self.sides[self.client.reverse().index()]];
        let assumed = Notes(Notes::GAP.0 | Notes::END_ASSUMED.0);
        let ending = match (client.finished, server.finished) {
            (Some(client), Some(server)) => Ending::whole(client.max(server), Notes::default()),
            (Some(at), None) if (server.lossy || server.cut) && self.full == Some(false) => Ending::whole(at, assumed),
            (None, Some(at)) if (client.lossy || client.cut) && self.full != Some(false) => Ending::whole(at, assumed),
            _ => return,
        };
        self.finish(ending, limits, out);
    }

    /// Data of the application, up to TLS 1.2: both have finished, unless the client does not wait (RFC 7918).
    fn data<O: Out>(&mut self, dir: Direction, limits: &Limits, out: &mut O) {
        let [side, other] = [dir, dir.reverse()].map(|dir| &self.sides[dir.index()]);
        if side.finished.is_some() && dir == self.client && !other.lossy {
            self.hasty = true;
            return;
        }
        let unseen = side.lossy || side.cut || other.lossy || other.cut;
        let notes = if unseen { Notes::GAP } else { Notes::MALFORMED };
        let last = side.finished.or(other.finished).unwrap_or(other.last);
        self.finish(Ending::whole(last, Notes(notes.0 | Notes::END_ASSUMED.0)), limits, out);
    }

    /// An encrypted record of TLS 1.3, behind the ServerHello.
    fn sealed<O: Out>(&mut self, from_client: bool, record: Record, turn: u32, limits: &Limits, out: &mut O) {
        let Some(answer) = &self.answer else { return };
        let early = self.hello.as_ref().is_some_and(|hello| hello.early_data);
        let ending = if record.length == flight::alert_length(answer.cipher) {
            // Shorter than any message of a handshake. In early data it may be data: its end tells.
            self.sealed_alert.get_or_insert(record.last);
            None
        } else if from_client {
            self.flight.record(record, flight::finished_length(answer.cipher), early)
        } else if !early && turn > self.turn {
            // The server goes on: it has what it waited for.
            self.flight.assumed().map(|at| (at, Notes::END_ASSUMED))
        } else {
            None
        };
        if let Some((at, notes)) = ending {
            let lossy = self.sides[self.client.index()].lossy;
            let notes = Notes(notes.0 | if lossy { Notes::GAP.0 } else { 0 });
            self.finish(Ending::whole(at, notes), limits, out);
        }
    }

    fn alert<O: Out>(&mut self, dir: Direction, record: Record, limits: &Limits, out: &mut O) {
        let early = self.is_old() == Some(false);
        let side = &mut self.sides[dir.index()];
        let have = std::mem::take(&mut side.alert_length);
        let at = record.last;
        if record.length != 2 || side.changed {
            if self.sides.iter().any(|side| side.lossy) {
                // Both may have finished before it, unseen.
                return self.lose(LossReason::Gap, out);
            }
            return self.finish(Ending { sealed: true, ..Ending::whole(at, Notes::default()) }, limits, out);
        }
        let [level, code] = side.alert;
        let ends = have == 2 && (level == FATAL || code == CLOSE_NOTIFY || early && code != USER_CANCELED);
        if !ends {
            self.canceled |= have == 2 && code == USER_CANCELED;
            return;
        }
        let code = if code == CLOSE_NOTIFY && self.canceled { USER_CANCELED } else { code };
        let outcome = if self.response_start.is_some() { Outcome::Answered } else { Outcome::Unanswered };
        self.finish(Ending { outcome, alert: Some(code), ..Ending::whole(at, Notes::default()) }, limits, out);
    }

    /// What comes is not TLS: a server that speaks something else, or a connection that ends so.
    fn other<O: Out>(&mut self, dir: Direction, at: Ts, limits: &Limits, out: &mut O) {
        let [client, server] = [self.client, self.client.reverse()].map(Direction::index);
        let at = if dir == self.client || self.response_start.is_some() {
            self.notes.add(Notes::MALFORMED);
            at
        } else {
            self.sides[server].bytes = 0;
            self.sides[client].last
        };
        let ending = Ending { outcome: Outcome::Unanswered, ..Ending::whole(at, Notes::default()) };
        self.finish(ending, limits, out);
    }

    fn lose<O: Out>(&mut self, reason: LossReason, out: &mut O) {
        if !std::mem::replace(&mut self.done, true) {
            out.lost(reason, 1);
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.sides.iter_mut().for_each(|side| side.messages.stop());
        self.hello = None;
    }

    fn finish<O: Out>(&mut self, ending: Ending, limits: &Limits, out: &mut O) {
        let Ending { at, outcome, alert, sealed, notes } = ending;
        if self.hello.is_none() && self.unasked.is_none() {
            let kept = self.sides[self.client.index()].messages.cut().unwrap_or_default();
            self.hello = Some(ClientHello::read(kept, limits.keep_strings));
            self.notes.add(Notes::REQUEST_CUT);
        }
        let mut notes = Notes(self.notes.0 | notes.0);
        if let Some(reason) = self.unasked {
            if !limits.report_partial {
                return self.lose(reason, out);
            }
            notes.add(Notes::NO_REQUEST);
        }
        self.done = true;
        let hello = self.hello.take().unwrap_or_default();
        let answer = self.answer.take();
        let repeated = |answer: &ServerHello| !answer.session.is_empty() && answer.session == hello.session;
        let resumed = answer.as_ref().is_some_and(|answer| match hello::encrypts_early(answer.version) {
            true => answer.psk,
            false => self.full != Some(true) && (self.full == Some(false) || repeated(answer)),
        });
        let [client, server] = [&self.sides[self.client.index()], &self.sides[self.client.reverse().index()]];
        let start = self.start.unwrap_or_default();
        out.record(L7Record {
            protocol: Protocol::Tls,
            start,
            response_start: self.response_start,
            end: at.max(start),
            request_bytes: client.bytes,
            response_bytes: server.bytes,
            outcome,
            notes,
            detail: Detail::Tls(TlsHandshake {
                sni: hello.sni,
                version: answer.as_ref().map_or("", |answer| hello::version_name(answer.version)),
                alert,
                alert_encrypted: sealed,
                cipher: answer.as_ref().map(|answer| answer.cipher),
                group: self.group,
                resumed,
                retried: self.retried,
                ech: hello.ech,
                offer: hello.offer,
                alpn: answer.map(|answer| answer.alpn).unwrap_or_default(),
            }),
        });
        self.forget();
    }
}

const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

#[cfg(test)]
mod tests {
    #[test]
    fn the_state_of_a_handshake_stays_small() {
        assert!(size_of::<super::Tls>() <= 512, "{}", size_of::<super::Tls>());
    }
}
