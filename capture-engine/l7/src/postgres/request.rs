//! What a client sends: the beginning of a connection, queries, and the parts of the extended protocol.

use super::Postgres;
use super::doubt::Manner;
use super::frame::{Body, Frame, Startup};
use super::open::{Kind, Open, Pending};
use crate::dissector::Next;
use crate::{Limits, Out};
use flow_model::{LossReason, Outcome, Ts};
use std::sync::Arc;

/// Operations that are no statements.
const STARTUP: &str = "startup";
const CANCEL: &str = "cancel";
const FUNCTION: &str = "function";

impl Postgres {
    pub(super) fn client_says<O: Out>(&mut self, frame: &Frame, limits: &Limits, out: &mut O) {
        if let Body::Startup(startup) = &frame.body {
            return self.begins(frame, startup, out);
        }
        match frame.body {
            Body::Parse { statement, verb } => {
                self.prepared.parse(statement, verb);
                self.prepares(frame).verb = Some(verb);
            }
            Body::Bind { portal, statement } => {
                self.prepared.bind(portal, statement);
                let verb = self.prepared.verb(portal);
                self.prepares(frame).verb = Some(verb);
            }
            Body::CloseStatement(name) => {
                self.prepared.close_statement(name);
                self.prepares(frame);
            }
            Body::ClosePortal(name) => {
                self.prepared.close_portal(name);
                self.prepares(frame);
            }
            _ => {}
        }
        let asked = match frame.body {
            Body::Query(verb) => Some((Kind::Ready, verb)),
            Body::Execute { portal } => Some((Kind::Completion, self.prepared.verb(portal))),
            _ => None,
        };
        if let Some((_, verb)) = asked {
            self.prepared.done(verb);
        }
        if self.doubt.is_some() {
            self.pending = None;
            return self.asked_in_doubt(frame.kind, out);
        }
        match asked {
            Some((kind @ Kind::Ready, verb)) => {
                self.pending = None;
                self.asks(frame, kind, verb, limits, out);
                self.close_batch();
            }
            Some((kind, verb)) => self.asks(frame, kind, verb, limits, out),
            None => self.other(frame, limits, out),
        }
    }

    fn other<O: Out>(&mut self, frame: &Frame, limits: &Limits, out: &mut O) {
        match frame.kind {
            b'F' => {
                self.pending = None;
                self.asks(frame, Kind::Ready, FUNCTION, limits, out);
                self.close_batch();
            }
            // While the server waits for data it ignores it.
            b'S' if !self.copies => {
                if let Some(verb) = self.pending.and_then(|pending| pending.verb) {
                    self.asks(frame, Kind::Preparation, verb, limits, out);
                }
                self.pending = None;
                self.close_batch();
            }
            b'c' | b'f' => {
                self.copied(frame.last, frame.length);
                self.copies = false;
            }
            b'd' | b'D' if self.copies => self.copied(frame.last, frame.length),
            b'D' | b'H' | b'd' => {
                self.prepares(frame);
            }
            _ => {}
        }
    }

    fn prepares(&mut self, frame: &Frame) -> &mut Pending {
        let pending = self.pending.get_or_insert(Pending { start: frame.first, bytes: 0, verb: None });
        pending.bytes = pending.bytes.saturating_add(frame.length);
        pending
    }

    /// Data of a COPY belongs to what asked for it.
    pub(super) fn copied(&mut self, at: Ts, bytes: u64) {
        if let Some(open) = self.open.front_mut() {
            open.bytes = open.bytes.saturating_add(bytes);
            open.last = open.last.max(at);
        }
    }

    fn close_batch(&mut self) {
        if self.doubt.is_none() {
            self.asked = self.asked.wrapping_add(1);
            if self.asked.wrapping_sub(self.closed) > 1 {
                self.manner = self.manner.max(Manner::Pipelines);
            }
        }
    }

    fn asks<O: Out>(&mut self, frame: &Frame, kind: Kind, verb: &'static str, limits: &Limits, out: &mut O) {
        let pending = self.pending.take();
        let start = pending.map_or(frame.first, |pending| pending.start.min(frame.first));
        let bytes = frame.length.saturating_add(pending.map_or(0, |pending| pending.bytes));
        if self.open.len() >= limits.open_exchanges.max(1) {
            self.lose(LossReason::Limit, out);
            return self.asked_in_doubt(frame.kind, out);
        }
        self.open.push(Open { kind, verb, start, last: frame.last, bytes, turn: frame.turn, batch: self.asked });
    }

    /// The message that begins a connection.
    fn begins<O: Out>(&mut self, frame: &Frame, startup: &Startup, out: &mut O) {
        match startup {
            Startup::Encrypt => self.negotiates = true,
            Startup::Login { database } => {
                self.database = database.as_deref().map(Arc::from);
                self.client.untyped = false;
                if self.doubt.is_some() {
                    // Its answer was seen before all of it. It ends as a query does.
                    return self.asked_in_doubt(b'Q', out);
                }
                self.logs_in = true;
                self.open.push(self.first(frame, STARTUP));
                self.close_batch();
            }
            Startup::Cancel => {
                out.record(self.first(frame, CANCEL).unanswered(Outcome::OneWay, None));
                self.next = Next::Opaque;
            }
            Startup::Unknown => self.next = Next::Opaque,
        }
    }

    fn first(&self, frame: &Frame, verb: &'static str) -> Open {
        let Frame { first, last, length, turn, .. } = *frame;
        Open { kind: Kind::Ready, verb, start: first, last, bytes: length, turn, batch: self.asked }
    }

    /// The server says in one byte whether the connection goes on encrypted. What follows it.
    pub(super) fn negotiated<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match bytes.first() {
            // TLS, whose handshake shows.
            Some(b'S') => self.next = Next::Search,
            Some(b'G') => self.next = Next::Opaque,
            Some(b'N') => {}
            // An error, in the words of servers that know nothing of it.
            _ => return bytes,
        }
        bytes.get(1..).unwrap_or_default()
    }
}
