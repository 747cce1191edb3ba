//! HTTP/2 exchanges (RFC 9113), and gRPC's calls among them, from the two directions of one connection.
//!
//! Requests and responses pair by the id of their stream, whatever else is lost. What is lost of
//! the fields of a direction makes its table unknown (`hpack`): fields by index are then unknown
//! until they are said again. A client numbers its streams one after the other, so after a loss the
//! next id that is seen says how many exchanges were lost.

mod frame;
mod grpc;
mod hpack;
mod open;
mod report;
mod side;
pub(crate) mod sign;

use crate::dissector::{Dissector, Next, Opening, Sign, Used};
use crate::head::Head;
use crate::input::{Bytes, Hole};
use crate::route::{self, Newest};
use crate::{Interest, Length, Limits, Out, Walk};
use flow_model::{Close, Direction, HttpExchange, LossReason, Notes, Ts};
use frame::Header;
use grpc::Names;
use hpack::{Content, Fields};
use open::{Asked, Flags, Open, Request, Streams};
use report::Ended;
use side::{Event, NEXT_STREAMS, Side};

/// As a source follows it. What passes between the frames that are read is not told of.
static WALK: Walk = Walk {
    length: Length::Fixed { at: 0, width: 3, big_endian: true },
    header: frame::HEADER as u8,
    uncounted: frame::HEADER as i32,
    kind: Some((3, 0xff)),
    classes: &[
        (1, &[frame::HEADERS, frame::PUSH_PROMISE, frame::CONTINUATION]),
        (2, &[frame::RST_STREAM, frame::GOAWAY]),
        (3, &[frame::PRIORITY, frame::SETTINGS, frame::PING, frame::WINDOW_UPDATE]),
    ],
    // Of DATA the header; of GOAWAY not what it says for people to read.
    keep: [frame::HEADER as u32, u32::MAX, 17, 0],
    most: 64,
    aligned: false,
    rows: false,
    runs: false,
};

#[derive(Debug)]
pub(crate) struct Http2 {
    client: Direction,
    sides: [Side; 2],
    streams: Streams,
    names: Names,
    target: Newest,
    /// The newest stream of the client that is accounted for: reported, open, or counted as lost.
    newest: u32,
    /// The first stream that was seen to begin; those before it began before anybody listened. 0: none yet.
    first: u32,
    /// Requests may have been missed since the newest stream, and why.
    gap: Option<LossReason>,
    /// Until then something of the server may have been missed.
    unheard: Ts,
    /// The connection was joined in the middle.
    midway: bool,
    /// The last stream from before that has ended.
    last_stray: u32,
}

impl Dissector for Http2 {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn client_of(heads: [&[u8]; 2]) -> Option<usize> {
        sign::client_of(heads)
    }

    fn open<O: Out>(opening: &Opening<'_>, _out: &mut O) -> Http2 {
        let Opening { dir, client, before, heads, from_start, newest, .. } = *opening;
        let client = client.unwrap_or(dir);
        let asked = heads[client.index()].map_or(newest, |head| &head.bytes);
        let preface = sign::is_preface(asked);
        let mut http2 = Http2::new(client, preface);
        let passed = before.passed();
        let missed = passed.missing.map(|count| count > 0);
        if !preface {
            // Where it was seen to begin, the first streams are what is missing.
            http2.midway = !from_start;
            let reason = if missed[client.index()] { LossReason::RingFull } else { LossReason::Gap };
            http2.gap = (from_start || missed[client.index()]).then_some(reason);
            let agrees = |head: &Head| sign::client_of([asked, &head.bytes]) == Some(0);
            if !heads[client.reverse().index()].is_some_and(agrees) {
                // What comes of it next may begin anywhere in a frame, or in a header.
                http2.side(client.reverse()).lose();
            }
        }
        let server = client.reverse();
        let misfit = passed.misfits[server.index()].is_some();
        // Whole messages passed between the two that are read.
        let turns = [client, server].map(|dir| heads[dir.index()].map(|head| head.turn));
        let between = matches!(turns, [Some(asked), Some(answered)] if answered > asked.saturating_add(1));
        if missed[server.index()] || passed.holes[server.index()].is_some() || misfit || between {
            // Among what was not read may be answers to what is read now.
            let times = [
                opening.at,
                passed.misfits[server.index()].map(|it| it.at),
                passed.holes[server.index()].map(|it| it.at),
            ];
            http2.unheard = times.into_iter().flatten().max().unwrap_or_default();
            if preface {
                http2.side(server).lose();
            }
        }
        http2
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let mut rest = data.bytes;
        if data.tail {
            self.lost(dir, LossReason::Gap, data.at);
        }
        if self.sides[dir.index()].is_lost() {
            if dir != self.client {
                // What was missed passed before this, whether or not its requests were read by then.
                self.unheard = self.unheard.max(data.at);
            }
            let (newest, streams) = (self.newest, &self.streams);
            // Joined in the middle, nobody knows where the client had come to.
            let any = self.midway && newest == 0;
            let known = |id: u32, within: u32| {
                let next = id > newest && id - newest <= within;
                id % 2 == 1 && (streams.has(id) || next || any && within == NEXT_STREAMS)
            };
            let found = self.sides[dir.index()].search(rest, known);
            let Some(from) = found else { return Used { bytes: data.bytes.len(), next: Next::Same } };
            let most = if any { u32::MAX } else { newest.saturating_add(NEXT_STREAMS) };
            self.side(dir).find(Some(most));
            rest = rest.get(from..).unwrap_or_default();
        }
        while !rest.is_empty() {
            let (used, event) = self.side(dir).take(rest, data.at, limits);
            rest = rest.get(used..).unwrap_or_default();
            let Some(event) = event else { continue };
            let begins = matches!(event, Event::Begins);
            self.event(dir, event, data.at, limits, out);
            if begins {
                if let Some(event) = self.side(dir).ends_if_whole() {
                    self.event(dir, event, data.at, limits, out);
                } else if self.needs_other(dir) {
                    break;
                }
            }
        }
        Used { bytes: data.bytes.len() - rest.len(), next: Next::Same }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        // Nobody knows when what is missing in a capture has passed.
        for event in self.side(dir).skip(&hole).into_iter().flatten() {
            self.event(dir, event, hole.at, limits, out);
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, _turn: u32, at: Ts, _limits: &Limits, _out: &mut O) {
        self.side(dir).lose();
        self.lost(dir, LossReason::RingFull, at);
    }

    fn closed<O: Out>(&mut self, at: Ts, close: Close, limits: &Limits, out: &mut O) {
        let ended = match close {
            Close::Gone if limits.report_partial => Ended::CutOff,
            Close::Gone => Ended::Untold,
            _ => Ended::Closed,
        };
        for open in self.streams.take_above(0) {
            report::report(open, at, ended, out);
        }
        // Frames of streams that were neither seen to be asked for nor answered.
        let spoken_of = self.sides.each_ref().map(|side| side.spoken_of(self.newest));
        let spoken_of = spoken_of[0].max(spoken_of[1]);
        if self.is_missed(spoken_of) {
            let reason = self.gap.unwrap_or(LossReason::Gap);
            self.requests_missed(spoken_of, out);
            out.lost(reason, 1);
        }
    }

    fn client(&self) -> Option<Direction> {
        Some(self.client)
    }

    fn interest(&self) -> Interest {
        Interest::Frames(&WALK)
    }

    fn header_in(&self, dir: Direction) -> Option<u64> {
        self.sides[dir.index()].header_in()
    }

    /// An answer on a stream that is newer than any request: the request is among what is held back.
    fn needs_other(&self, dir: Direction) -> bool {
        let under_way = self.sides[dir.index()].under_way();
        dir != self.client
            && under_way.is_some_and(|header| {
                let tells = matches!(header.kind, frame::HEADERS | frame::RST_STREAM) || header.ends_stream();
                tells && self.is_new(header.stream)
            })
    }

    fn reads_on(&self) -> bool {
        true
    }

    fn buffered(&self) -> usize {
        self.sides.iter().map(Side::buffered).sum()
    }

    fn shed<O: Out>(&mut self, _turn: u32, out: &mut O) {
        let open = self.streams.take_above(0).count();
        if open > 0 {
            out.lost(LossReason::Limit, open as u64);
        }
        for side in &mut self.sides {
            side.decoder.lose();
        }
        self.names = Names::default();
    }

    fn held(&self) -> usize {
        self.sides.iter().map(Side::held).sum::<usize>() + self.streams.held() + self.names.held() + self.target.held()
    }
}

/// An upgraded connection begins with the answer to what HTTP/1 has asked (RFC 7540 section 3.2).
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub request: HttpExchange,
    pub start: Ts,
    pub last: Ts,
    pub bytes: u64,
}

impl Http2 {
    fn new(client: Direction, preface: bool) -> Http2 {
        let side = |dir| Side::new(preface && dir == client);
        Http2 {
            client,
            sides: [Direction::Ingress, Direction::Egress].map(side),
            streams: Streams::default(),
            names: Names::default(),
            target: Newest::default(),
            newest: 0,
            first: 0,
            gap: None,
            unheard: Ts::default(),
            midway: false,
            last_stray: 0,
        }
    }

    /// The connection was HTTP/1 until now. Stream 1 is the request that asked for this.
    pub(crate) fn upgraded(client: Direction, upgrade: Option<Upgrade>) -> Http2 {
        let mut http2 = Http2::new(client, true);
        let Some(Upgrade { request, start, last, bytes }) = upgrade else {
            // It was not seen.
            http2.midway = true;
            return http2;
        };
        let HttpExchange { method, target, host, route, .. } = request;
        let asked = Asked::Full(Box::new(Request { method, target, host, route, call: None }));
        http2.streams.add(Open::new(1, start, last, bytes, asked));
        http2.newest = 1;
        http2.first = 1;
        http2
    }

    fn side(&mut self, dir: Direction) -> &mut Side {
        &mut self.sides[dir.index()]
    }

    /// No request of this stream of a client was seen or missed so far.
    fn is_new(&self, stream: u32) -> bool {
        stream % 2 == 1 && stream > self.newest
    }

    fn event<O: Out>(&mut self, dir: Direction, event: Event, at: Ts, limits: &Limits, out: &mut O) {
        match event {
            Event::Begins => {}
            Event::Lost => self.lost(dir, LossReason::Gap, at),
            Event::Frame { header, read } => self.frame(dir, header, read, at, out),
            Event::Block { header, first, bytes, fields } if header.kind == frame::HEADERS => {
                let block = Block { header, first, at, bytes, fields };
                if dir == self.client {
                    self.asked(block, limits, out);
                } else {
                    self.answered(block, limits, out);
                }
            }
            // What a server pushes was not asked for.
            Event::Block { .. } => {}
        }
    }

    /// Frames of `dir` were missed, nobody knows which.
    fn lost(&mut self, dir: Direction, reason: LossReason, at: Ts) {
        if dir == self.client {
            self.gap = self.gap.or(Some(reason));
            return;
        }
        self.unheard = self.unheard.max(at);
        self.streams.each().for_each(Open::may_have_been_answered);
    }

    fn frame<O: Out>(&mut self, dir: Direction, header: Header, read: Option<[u8; 9]>, at: Ts, out: &mut O) {
        let word = |from: usize| {
            let bytes = read.as_ref()?.get(from..from + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        match header.kind {
            frame::DATA => {
                let bytes = u64::from(header.length) + frame::HEADER as u64;
                if let Some(open) = self.streams.get(header.stream) {
                    if dir == self.client {
                        open.request_bytes += bytes;
                        open.last = open.last.max(at);
                    } else {
                        open.response_bytes += bytes;
                        open.last = open.last.max(at);
                        open.flags.set(Flags::DOUBT, false);
                    }
                }
                if dir != self.client && header.ends_stream() {
                    self.end(header.stream, at, Ended::Whole, out);
                }
            }
            frame::RST_STREAM => {
                let by_client = dir == self.client;
                self.end(header.stream, at, Ended::Reset { error: word(0), by_client }, out);
            }
            frame::GOAWAY if dir != self.client => {
                // Above it nothing was looked at: it may be asked again elsewhere (RFC 9113 section 6.8).
                let Some(last) = word(0).map(|last| last & 0x7fff_ffff) else { return };
                for open in self.streams.take_above(last) {
                    report::report(open, at, Ended::Refused, out);
                }
                if last != 0x7fff_ffff && last > self.newest && self.newest > 0 {
                    self.requests_lost(last, out);
                }
            }
            _ => {}
        }
    }

    /// The client sends fields: a request, or what follows its body.
    fn asked<O: Out>(&mut self, block: Block, limits: &Limits, out: &mut O) {
        let Block { header, first, at, bytes, fields } = block;
        if let Some(open) = self.streams.get(header.stream) {
            open.request_bytes += bytes;
            open.last = open.last.max(at);
            return;
        }
        if !self.is_new(header.stream) {
            return;
        }
        if self.midway && self.first == 0 && fields.of != Some(hpack::Of::Request) && !fields.cut {
            // What follows a body that began before anybody listened.
            return;
        }
        self.requests_lost(header.stream.saturating_sub(2), out);
        // Only the client's own frames, in their order, show that no other was missed.
        self.gap = None;
        self.newest = header.stream;
        if self.first == 0 {
            self.first = header.stream;
        }
        if self.streams.len() >= limits.open_exchanges.max(1) {
            let Some(old) = self.streams.in_doubt() else { return out.lost(LossReason::Limit, 1) };
            self.streams.take(old);
            out.lost(LossReason::Gap, 1);
        }
        let mut notes = Notes::default();
        if fields.cut {
            notes.add(Notes::REQUEST_CUT);
        }
        if fields.unknown {
            notes.add(self.unknown_since());
        }
        let mut open = Open::new(header.stream, first, at, bytes, self.what(fields, limits));
        open.notes = notes;
        if self.sides[self.client.reverse().index()].is_lost() || first <= self.unheard {
            open.may_have_been_answered();
        }
        self.streams.add(open);
    }

    /// Why a field is not known.
    fn unknown_since(&self) -> Notes {
        if self.midway { Notes::JOINED_MIDWAY } else { Notes::GAP }
    }

    fn what(&mut self, fields: Fields, limits: &Limits) -> Asked {
        let Fields { method, path, authority, content, unknown, cut, .. } = fields;
        let mut call = || path.as_ref().map(|path| self.names.of(path.as_str())).unwrap_or_default();
        if content == Content::Grpc {
            return Asked::Call(call());
        }
        let method = method.unwrap_or_default();
        // The answer may tell.
        let call = (content == Content::None && (unknown || cut)).then(call);
        let route = match &path {
            Some(path) if limits.routes && !cut => self.target.route(path.as_str().as_bytes()),
            _ => None,
        };
        let route = route::told(route.as_ref());
        if !limits.keep_strings && call.is_none() {
            return Asked::Method(method, route);
        }
        let text = |text: Option<hpack::Text>| text.filter(|_| limits.keep_strings).map(hpack::Text::into_string);
        let (target, host) = (text(path).unwrap_or_default().into(), text(authority).unwrap_or_default().into());
        Asked::Full(Box::new(Request { method, target, host, route, call }))
    }

    /// Streams of the client up to `stream` that were not seen are counted as lost, where any may have been missed.
    fn requests_lost<O: Out>(&mut self, stream: u32, out: &mut O) {
        let Some(reason) = self.gap else { return };
        if self.newest == 0 && self.midway {
            // Nobody knows where they had come to.
            return;
        }
        // Odd numbers only; 0 is before the first.
        let count = stream.div_ceil(2).saturating_sub(self.newest.div_ceil(2));
        if count > 0 {
            out.lost(reason, u64::from(count.min(MOST_LOST)));
            self.newest = stream;
        }
    }

    /// The server sends fields: a response, one that comes before it, or what follows its body.
    fn answered<O: Out>(&mut self, block: Block, limits: &Limits, out: &mut O) {
        let Block { header, first, at, bytes, fields } = block;
        let Fields { status, grpc_status, content, unknown, cut, of, .. } = fields;
        let is_head = of == Some(hpack::Of::Response);
        if !self.streams.has(header.stream) {
            self.unknown_answered(&block_of(header, first), is_head && !is_interim(status), limits, out);
        }
        let since = self.unknown_since();
        let Some(open) = self.streams.get(header.stream) else { return };
        open.response_bytes += bytes;
        open.last = open.last.max(at);
        open.flags.set(Flags::DOUBT, false);
        if is_head && is_interim(status) {
            return;
        }
        open.flags.set(Flags::UNKNOWN, unknown || cut || open.flags.has(Flags::UNKNOWN));
        if cut {
            open.notes.add(Notes::RESPONSE_CUT);
        }
        if open.answered.is_none() && (is_head || !open.flags.has(Flags::GAP)) {
            open.answered = Some(first);
            open.status = status;
        }
        if unknown {
            open.notes.add(since);
        }
        if content == Content::Grpc {
            open.flags.set(Flags::GRPC, true);
        }
        if let Some(status) = grpc_status {
            open.grpc_status = Some(status);
            open.flags.set(Flags::GRPC, true);
        }
        if header.ends_stream() {
            self.end(header.stream, at, Ended::Whole, out);
        }
    }

    /// A server answers what was not seen to be asked.
    fn unknown_answered<O: Out>(&mut self, begun: &Begun, is_head: bool, limits: &Limits, out: &mut O) {
        let Begun { stream, first } = *begun;
        if let Some(Event::Block { header, first, bytes, fields }) = self.cut_request(stream) {
            let at = first;
            return self.asked(Block { header, first, at, bytes, fields }, limits, out);
        }
        if self.is_missed(stream) {
            self.requests_missed(stream, out);
            if !(is_head && limits.report_partial) {
                return out.lost(LossReason::Gap, 1);
            }
        } else if !self.is_stray(stream) || !limits.report_partial || !is_head {
            return;
        }
        if self.streams.len() < limits.open_exchanges {
            let mut open = Open::new(stream, first, first, 0, Asked::Method(Default::default(), Default::default()));
            open.flags.set(Flags::STRAY, true);
            open.notes.add(Notes::NO_REQUEST);
            self.streams.add(open);
        } else {
            out.lost(LossReason::Limit, 1);
        }
    }

    /// What has come of the fields of `stream`, where they have not come to their end.
    fn cut_request(&mut self, stream: u32) -> Option<Event> {
        let client = self.client;
        self.side(client).cut_block(stream)
    }

    /// The server speaks on a stream of which no request was seen, though the client's newest ones were.
    fn is_missed(&self, stream: u32) -> bool {
        self.is_new(stream) && (self.newest > 0 || !self.midway)
    }

    /// The request of `stream` is among what was missed, and so is what is between. What was missed after
    /// it, a server's answer does not tell.
    fn requests_missed<O: Out>(&mut self, stream: u32, out: &mut O) {
        let gap = self.gap;
        self.gap.get_or_insert(LossReason::Gap);
        self.requests_lost(stream.saturating_sub(2), out);
        self.gap = gap;
        self.newest = stream;
    }

    /// The stream began before anybody listened.
    fn is_stray(&self, stream: u32) -> bool {
        let before = if self.first == 0 { self.newest == 0 } else { stream < self.first };
        self.midway && stream % 2 == 1 && before
    }

    /// A stream is over.
    fn end<O: Out>(&mut self, stream: u32, at: Ts, ended: Ended, out: &mut O) {
        if let Some(open) = self.streams.take(stream) {
            if open.flags.has(Flags::STRAY) {
                self.last_stray = stream;
            }
            return report::report(open, at, ended, out);
        }
        if self.is_missed(stream) {
            self.requests_missed(stream, out);
            out.lost(LossReason::Gap, 1);
        } else if self.is_stray(stream) && self.last_stray != stream {
            self.last_stray = stream;
            out.lost(LossReason::JoinedMidway, 1);
        }
    }
}

/// More lost streams at once are taken for a broken number.
const MOST_LOST: u32 = 1 << 20;

/// A block of fields of a stream. `at`: when its last byte passed.
struct Block {
    header: Header,
    first: Ts,
    at: Ts,
    bytes: u64,
    fields: Fields,
}

/// A stream whose answer begins.
struct Begun {
    stream: u32,
    first: Ts,
}

fn block_of(header: Header, first: Ts) -> Begun {
    Begun { stream: header.stream, first }
}

fn is_interim(status: Option<u16>) -> bool {
    matches!(status, Some(100..=199))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<Http2>() <= 1024, "{}", size_of::<Http2>());
    }
}
