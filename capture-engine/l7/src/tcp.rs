use crate::detect::{Detect, Sign};
use crate::http::{Bytes, Hole, Http, Next, Why};
use crate::stream::{HeldPiece, Place, Stream};
use crate::tcp_dns::TcpDns;
use crate::{Interest, Limits, MessageEnd, Out, Piece};
use flow_model::{Close, Direction, LossReason, Protocol, Role, Ts};
use std::time::Duration;

/// One TCP connection: puts captured pieces in order, finds out what protocol it carries, and reports its exchanges.
///
/// The caller hands over everything of one connection in the order in which it was observed: `message_ended` with the summary
/// that came with the first piece of a message, then `piece`; `closed` at the end. Nothing here depends on how long any of it takes.
#[derive(Debug)]
pub struct Tcp {
    limits: Limits,
    streams: [Stream; 2],
    protocol: Carried,
    /// Number of the newest message of either direction.
    turn: u32,
    /// The direction of messages with odd numbers.
    odd: Option<Direction>,
    role: Role,
    counters: Counters,
}

/// What a connection could not keep, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Holes that were given up: their bytes never came.
    pub gaps: u32,
    /// Those of them that were given up because a bound of `Limits` was reached.
    pub bounded: u32,
}

#[derive(Debug)]
enum Carried {
    Unknown(Detect),
    Http(Box<Http>),
    Dns(Box<TcpDns>),
    Opaque,
}

/// Without new bytes for this long, the end of a chunked body that the tail of the message shows is believed before the next
/// message or the close confirm it. Data that happens to end so is not followed by silence.
const QUIET: Duration = Duration::from_millis(200);

/// Bytes of a message's beginning in which its protocol has to show.
const DETECT_BYTES: usize = 4096;

impl Tcp {
    #[must_use]
    pub fn new(limits: &Limits, role: Role) -> Tcp {
        Tcp {
            limits: *limits,
            streams: [Stream::default(), Stream::default()],
            protocol: Carried::Unknown(Detect::default()),
            turn: 0,
            odd: None,
            role,
            counters: Counters::default(),
        }
    }

    /// The handshake told which sequence number the first payload byte of `dir` has. Without it, bytes that are missing at the very
    /// beginning of a direction go unnoticed.
    pub fn starts_at(&mut self, dir: Direction, seq: u32) {
        self.streams[dir.index()].expect(seq);
    }

    /// Takes the captured payload of one packet.
    pub fn piece<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) {
        if matches!(self.protocol, Carried::Opaque) || piece.payload.is_empty() && piece.wire_len == 0 {
            return;
        }
        let captured = u32::try_from(piece.payload.len()).unwrap_or(u32::MAX);
        let piece = &Piece { wire_len: piece.wire_len.max(captured), ..*piece };
        let start = piece.turn > self.turn;
        let after_loss = start && self.begin_message(piece, out);
        let stream = &mut self.streams[piece.dir.index()];
        match stream.place(piece) {
            Place::Next(from) => {
                if start {
                    stream.begin(piece.turn);
                }
                self.take(piece, from, start, out);
                if self.streams[piece.dir.index()].holds() {
                    self.drain(piece.dir, false, out);
                }
            }
            Place::After(missing) => {
                let missed = after_loss || stream.missed;
                if start && (missed || !stream.counted) {
                    let why = if missed { Why::Turns } else { Why::Unknown };
                    // Nobody knows when the last of the missing bytes passed; what follows may be hours younger.
                    self.give_up(piece.dir, u64::from(missing), piece.turn, true, why, Ts::default(), out);
                    self.streams[piece.dir.index()].begin(piece.turn);
                    self.take(piece, 0, true, out);
                } else {
                    if start {
                        // All of the message before was counted: what is missing is the beginning of this one.
                        stream.begin(piece.turn);
                    }
                    self.hold(piece, start, out);
                }
            }
            Place::Old => {
                if start {
                    stream.begin(piece.turn);
                }
            }
        }
    }

    /// The kernel's final count of a message. Call it before the first piece of the next one.
    pub fn message_ended<O: Out>(&mut self, end: &MessageEnd, out: &mut O) {
        let Some(dir) = self.direction_of(end.turn) else { return };
        let stream = &mut self.streams[dir.index()];
        if stream.turn != end.turn || stream.counted {
            return;
        }
        if stream.holds() {
            stream.late = Some(Box::new(*end));
            return;
        }
        stream.counted = true;
        let uncaptured = stream.uncaptured(end.bytes);
        if uncaptured > 0 {
            self.skip(
                dir,
                Hole { bytes: uncaptured, at: end.last, turn: end.turn + 1, before_start: true, why: Why::Counted },
                out,
            );
        }
        if let Carried::Http(http) = &mut self.protocol {
            http.message_ended(dir, end, &self.limits, out);
        }
    }

    /// Takes a sample of the message under way, of a connection that is `waiting_for_end`: a response whose last byte is known to have
    /// passed is complete, whenever the next message comes.
    pub fn progress<O: Out>(&mut self, so_far: &MessageEnd, now: Ts, out: &mut O) {
        let Some(dir) = self.direction_of(so_far.turn) else { return };
        let Carried::Http(http) = &mut self.protocol else { return };
        let stream = &mut self.streams[dir.index()];
        let response = dir != http.request_dir();
        if !response || so_far.turn != self.turn || stream.turn != so_far.turn || stream.counted || stream.holds() {
            return;
        }
        let uncaptured = stream.uncaptured(so_far.bytes);
        if uncaptured == 0 {
            return;
        }
        if let Some(left) = http.body_left() {
            // Only when nothing but the body has passed is the time of the last byte that of the body's.
            if left == uncaptured {
                stream.advance(left);
                http.over(left, so_far, &self.limits, out);
            }
        } else if http.in_chunks() && so_far.last.plus(QUIET) <= now && ends_chunks(so_far) {
            stream.advance(uncaptured);
            http.over(uncaptured, so_far, &self.limits, out);
        }
    }

    /// The kernel counted `turns` messages, and all pieces of them that it could keep were handed over: those not seen are lost.
    /// For connections that fell idle; `closed` does the same.
    pub fn sampled_turns<O: Out>(&mut self, turns: u32, out: &mut O) {
        if turns > self.turn && !matches!(self.protocol, Carried::Opaque) {
            self.missing(self.turn + 1, turns, Ts::default(), out);
            self.turn = turns;
        }
    }

    /// The connection is over. `last` is the count of its last message and `turns` their number, where the source knows.
    pub fn closed<O: Out>(&mut self, at: Ts, close: Close, last: Option<&MessageEnd>, turns: u32, out: &mut O) {
        for dir in [Direction::Ingress, Direction::Egress] {
            self.give_up_all(dir, out);
        }
        self.sampled_turns(turns, out);
        if let Some(last) = last {
            self.message_ended(last, out);
        }
        if let Carried::Unknown(_) = self.protocol {
            // A request cut by the capture, and nothing after it.
            for dir in [Direction::Ingress, Direction::Egress] {
                self.detect_hole(dir, out);
            }
        }
        match &mut self.protocol {
            Carried::Http(http) => http.closed(close, &self.limits, out),
            Carried::Dns(dns) => dns.exchanges.closed(at, out),
            Carried::Unknown(_) | Carried::Opaque => {}
        }
        self.quieten();
    }

    /// Gives up on DNS queries that have waited too long. HTTP/1 has no such bound.
    pub fn expire<O: Out>(&mut self, now: Ts, out: &mut O) {
        if let Carried::Dns(dns) = &mut self.protocol {
            dns.exchanges.expire(now, out);
        }
    }

    /// When [`expire`](Self::expire) has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ts> {
        match &self.protocol {
            Carried::Dns(dns) => dns.exchanges.next_deadline(),
            Carried::Unknown(_) | Carried::Http(_) | Carried::Opaque => None,
        }
    }

    #[must_use]
    pub fn interest(&self) -> Interest {
        match &self.protocol {
            Carried::Http(http) if http.pipelined => Interest::Everything,
            Carried::Unknown(_) | Carried::Http(_) => Interest::Heads,
            Carried::Dns(_) => Interest::Everything,
            Carried::Opaque => Interest::Nothing,
        }
    }

    /// What the local end is: as told, until bytes say better.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// What a handshake or a seed told of the connection; bytes that were recognised know better.
    pub fn set_role(&mut self, role: Role) {
        if self.protocol().is_none() {
            self.role = role;
        }
    }

    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        match self.protocol {
            Carried::Http(_) => Some(Protocol::Http1),
            Carried::Dns(_) => Some(Protocol::Dns),
            Carried::Unknown(_) | Carried::Opaque => None,
        }
    }

    /// Payload bytes that are kept: out of order, or of heads that are not whole.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let kept = match &self.protocol {
            Carried::Unknown(detect) => detect.buffered(),
            Carried::Http(http) => http.buffered(),
            Carried::Dns(dns) => dns.buffered(),
            Carried::Opaque => 0,
        };
        kept + self.streams.iter().map(Stream::held_bytes).sum::<usize>()
    }

    /// Whether samples of the message under way (`progress`) could complete a response.
    #[must_use]
    pub fn waiting_for_end(&self) -> bool {
        matches!(&self.protocol, Carried::Http(http) if http.waiting_for_end())
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes whole pairs of lost heads off [`unsettled`](Self::unsettled) and says how many: the caller has counted them as lost exchanges,
    /// so they are not counted again when the protocol shows.
    pub fn take_unsettled_pairs(&mut self) -> u32 {
        let Carried::Unknown(detect) = &mut self.protocol else { return 0 };
        let pairs = detect.missing[0].min(detect.missing[1]);
        detect.missing.iter_mut().for_each(|missing| *missing -= pairs);
        pairs
    }

    /// Messages whose heads were lost on a connection whose protocol never showed: if it was one of ours, each pair was an exchange.
    #[must_use]
    pub fn unsettled(&self) -> u32 {
        match &self.protocol {
            Carried::Unknown(detect) => detect.missing[0].saturating_add(detect.missing[1]),
            _ => 0,
        }
    }

    fn direction_of(&self, turn: u32) -> Option<Direction> {
        let odd = self.odd?;
        Some(if turn % 2 == 1 { odd } else { odd.reverse() })
    }

    /// Message `piece.turn` begins; true when messages between it and the last one are missing.
    fn begin_message<O: Out>(&mut self, piece: &Piece<'_>, out: &mut O) -> bool {
        if self.odd.is_none() {
            self.odd = Some(if piece.turn % 2 == 1 { piece.dir } else { piece.dir.reverse() });
        }
        // A message has come back since: nothing fills an older hole of this direction any more.
        while self.streams[piece.dir.index()].hole().is_some_and(|(_, turn, _)| turn < piece.turn) {
            self.give_up_first(piece.dir, out);
        }
        let (from, to) = (self.turn + 1, piece.turn - 1);
        self.turn = piece.turn;
        let after_loss = from <= to;
        if after_loss {
            self.missing(from, to, piece.at, out);
        }
        if let Carried::Http(http) = &mut self.protocol {
            http.message_begins(piece.dir, piece.turn, &self.limits, out);
        }
        after_loss
    }

    /// The heads of messages `from` to `to` were lost.
    fn missing<O: Out>(&mut self, from: u32, to: u32, at: Ts, out: &mut O) {
        // Tens of thousands are possible; more would be a broken counter.
        for turn in from..=to.min(from.saturating_add(1 << 20)) {
            let Some(dir) = self.direction_of(turn) else { return };
            self.streams[dir.index()].missed = true;
            match &mut self.protocol {
                Carried::Unknown(detect) => {
                    detect.missing[dir.index()] += 1;
                    detect.last_missing[dir.index()] = turn;
                    if turn == 1 {
                        detect.began_midway = None;
                        detect.first_missing = Some(dir);
                    }
                }
                Carried::Http(http) => http.missing(dir, turn, out),
                Carried::Dns(dns) => dns.missing(at),
                Carried::Opaque => {}
            }
        }
    }

    /// Takes a piece of which the bytes from `from` on are next.
    fn take<O: Out>(&mut self, piece: &Piece<'_>, from: usize, start: bool, out: &mut O) {
        let Piece { dir, at, turn, wire_len, payload, .. } = *piece;
        let fresh = u64::from(wire_len).saturating_sub(from as u64);
        let bytes = payload.get(from..).unwrap_or_default();
        self.streams[dir.index()].advance(fresh);
        if !bytes.is_empty() {
            self.feed(dir, Bytes { at, turn, start, bytes }, out);
        }
        let cut = fresh - bytes.len() as u64;
        if cut > 0 {
            let hole = Hole { bytes: cut, at, turn: turn + 1, before_start: false, why: Why::Counted };
            self.pass(dir, hole, out);
        }
    }

    /// Keeps a piece that is ahead of its place; gives up the oldest holes where the bounds ask for it.
    fn hold<O: Out>(&mut self, piece: &Piece<'_>, start: bool, out: &mut O) {
        let index = piece.dir.index();
        let Limits { reassembly_bytes, gaps, .. } = self.limits;
        while !self.streams[index].hold(piece, start, reassembly_bytes, gaps) {
            self.counters.bounded += 1;
            if self.streams[index].holds() {
                self.give_up_first(piece.dir, out);
            } else if let Place::After(missing) = self.streams[index].place(piece) {
                let before_start = self.streams[index].at_start();
                self.give_up(piece.dir, u64::from(missing), piece.turn, before_start, Why::Unknown, piece.at, out);
            }
            if let Place::Next(from) = self.streams[index].place(piece) {
                self.take(piece, from, start, out);
                return self.drain(piece.dir, false, out);
            } else if self.streams[index].place(piece) == Place::Old {
                return;
            }
        }
    }

    /// Takes the held pieces that have become next. A piece that began a message still does when what was missing before it will not
    /// come.
    fn drain<O: Out>(&mut self, dir: Direction, mut after_gap: bool, out: &mut O) {
        while let Some(HeldPiece { seq, at, turn, start, wire_len, payload }) = self.streams[dir.index()].ready() {
            let piece = Piece { dir, at, seq, turn, wire_len, payload: &payload };
            if let Place::Next(from) = self.streams[dir.index()].place(&piece) {
                self.take(&piece, from, start && after_gap, out);
            }
            after_gap = false;
        }
        let stream = &mut self.streams[dir.index()];
        if !stream.holds()
            && let Some(end) = stream.late.take()
        {
            self.message_ended(&end, out);
        }
    }

    /// The oldest hole of a direction will not be filled.
    fn give_up_first<O: Out>(&mut self, dir: Direction, out: &mut O) {
        if let Some((missing, turn, at)) = self.streams[dir.index()].hole() {
            let start = self.streams[dir.index()].at_start();
            self.give_up(dir, u64::from(missing), turn, start, Why::Unknown, at, out);
            self.drain(dir, true, out);
        }
    }

    fn give_up_all<O: Out>(&mut self, dir: Direction, out: &mut O) {
        while self.streams[dir.index()].holds() {
            self.give_up_first(dir, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a hole, from three places")]
    fn give_up<O: Out>(
        &mut self,
        dir: Direction,
        bytes: u64,
        turn: u32,
        before_start: bool,
        why: Why,
        at: Ts,
        out: &mut O,
    ) {
        if bytes > 0 {
            self.counters.gaps += 1;
            self.skip(dir, Hole { bytes, at, turn, before_start, why }, out);
        }
    }

    fn skip<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        self.streams[dir.index()].advance(hole.bytes);
        self.pass(dir, hole, out);
    }

    /// Tells the dissector of bytes that were not captured.
    fn pass<O: Out>(&mut self, dir: Direction, hole: Hole, out: &mut O) {
        if let Carried::Unknown(_) = self.protocol {
            self.detect_hole(dir, out);
        }
        match &mut self.protocol {
            Carried::Http(http) => http.hole(dir, hole, &self.limits, out),
            Carried::Dns(dns) => dns.hole(dir, hole, out),
            Carried::Unknown(_) | Carried::Opaque => {}
        }
    }

    fn feed<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, out: &mut O) {
        match &mut self.protocol {
            Carried::Http(http) => {
                let request_dir = http.request_dir();
                if dir != request_dir && http.wants_requests() && self.streams[request_dir.index()].holds() {
                    // The peer answers what we wait for: it has it, and the capture will not.
                    self.give_up_all(request_dir, out);
                }
                let Carried::Http(http) = &mut self.protocol else { return };
                let used = http.bytes(dir, data, &self.limits, out);
                match http.next {
                    Next::Http if used < data.bytes.len() && used > 0 => {
                        let bytes = data.bytes.get(used..).unwrap_or_default();
                        self.feed(dir, Bytes { start: false, bytes, ..data }, out);
                    }
                    Next::Http => {}
                    Next::Tunnel => self.protocol = Carried::Unknown(Detect::default()),
                    Next::Opaque => self.quieten(),
                }
            }
            Carried::Dns(dns) => dns.bytes(dir, data, out),
            Carried::Unknown(detect) => {
                let max = DETECT_BYTES.min(self.limits.head_bytes);
                let sign = detect.bytes(dir, data.at, data.turn, data.start, data.bytes, max);
                self.signed(dir, sign, Some(data), out);
            }
            Carried::Opaque => {}
        }
    }

    fn detect_hole<O: Out>(&mut self, dir: Direction, out: &mut O) {
        if let Carried::Unknown(detect) = &mut self.protocol {
            let sign = detect.hole(dir);
            self.signed(dir, sign, None, out);
        }
    }

    /// Acts on what bytes of `dir` say of the protocol. `data` are the newest of them, which a kept head does not hold.
    fn signed<O: Out>(&mut self, dir: Direction, sign: Sign, mut data: Option<Bytes<'_>>, out: &mut O) {
        let (request_dir, after) = match sign {
            Sign::More | Sign::Misfit => return,
            Sign::Other => return self.quieten(),
            Sign::Dns => return self.become_dns(dir, data, out),
            Sign::Request { after } => (dir, after),
            Sign::Response => (dir.reverse(), 0),
        };
        let Carried::Unknown(detect) = &mut self.protocol else { return };
        let mut http = Box::new(Http::new(request_dir));
        let turn = data.map_or(self.turn, |data| data.turn);
        detect.settle(&mut http, turn, dir, out);
        let heads = [request_dir, request_dir.reverse()].map(|dir| (dir, detect.take(dir)));
        self.role = if request_dir == Direction::Egress { Role::Client } else { Role::Server };
        self.protocol = Carried::Http(http);
        for (head_dir, head) in heads {
            let Some(head) = head else { continue };
            // A kept head holds the newest bytes too.
            let from = if head_dir == dir && data.take().is_some() { after } else { 0 };
            let bytes = head.bytes.get(from..).unwrap_or_default();
            self.feed(head_dir, Bytes { at: head.at, turn: head.turn, start: true, bytes }, out);
        }
        if let Some(data) = data {
            let bytes = data.bytes.get(after..).unwrap_or_default();
            self.feed(dir, Bytes { start: true, bytes, ..data }, out);
        }
    }

    fn become_dns<O: Out>(&mut self, dir: Direction, data: Option<Bytes<'_>>, out: &mut O) {
        let Carried::Unknown(detect) = &mut self.protocol else { return };
        let mut dns = Box::new(TcpDns::new(&self.limits));
        if let Some(data) = data {
            dns.exchanges.missed(u64::from(detect.missing[0] + detect.missing[1]), LossReason::RingFull, data.at);
            let head = detect.take(dir);
            let first = head.as_ref().map_or(data, |head| Bytes {
                at: head.at,
                turn: head.turn,
                start: true,
                bytes: &head.bytes,
            });
            dns.bytes(dir, first, out);
        }
        self.role = dns.exchanges.role();
        self.protocol = Carried::Dns(dns);
    }

    /// Nothing more is wanted of this connection.
    fn quieten(&mut self) {
        self.protocol = Carried::Opaque;
        for stream in &mut self.streams {
            stream.forget();
        }
    }
}

/// The last chunk and an empty trailer section, behind the line end of the chunk before.
fn ends_chunks(message: &MessageEnd) -> bool {
    let length = usize::from(message.tail_len).min(message.tail.len());
    message.tail.get(message.tail.len() - length..).is_some_and(|tail| tail.ends_with(b"\r\n0\r\n\r\n"))
}
