//! A small observer of TCP payload that numbers messages, copies heads and counts the rest, as the
//! kernel programs do: conversations of the tests go through it into `l7::Tcp`.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

pub mod capture;
pub mod packets;

use flow_model::{Close, Detail, Direction, L7Record, LossReason, Notes, Outcome, Role, Ts};
use l7::{Asked, Interest, Limits, MessageEnd, Out, Piece, Tcp};
use std::fmt::Write as _;

pub const CLIENT: Direction = Direction::Egress;
pub const SERVER: Direction = Direction::Ingress;

/// Payload of one packet on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    pub dir: Direction,
    pub at: Ts,
    pub seq: u32,
    pub payload: Vec<u8>,
    /// Bytes of it that the capture has (snaplen).
    pub snap: usize,
    /// What its sender had of the other direction.
    pub acked: Option<u32>,
}

/// What the observer hands over for one packet.
#[derive(Clone, Debug)]
pub struct Event {
    pub packet: Packet,
    pub turn: u32,
    /// It is the first of its message.
    pub first: bool,
    pub prev: Option<MessageEnd>,
    pub from: usize,
    pub to: usize,
    pub asked: Option<Asked>,
}

pub struct Observer {
    pub budget: usize,
    next: [Option<u32>; 2],
    began: [u32; 2],
    holes: [Vec<(u32, u32)>; 2],
    dir: Option<Direction>,
    pub message: MessageEnd,
    pub requests: Requests,
}

/// How often the client has asked, counted as the kernel programs do from its next message on where that is wanted.
#[derive(Default)]
pub struct Requests {
    pub wanted: bool,
    counts: bool,
    asked: Asked,
    /// Bytes were jumped over: no more is counted of this message.
    broken: bool,
    /// It was counted, and then no longer.
    pub stopped: bool,
}

impl Requests {
    /// New bytes of a direction, `starts`: the first of their message, `whole`: they are all of their packet. What is
    /// told with them.
    fn pass(&mut self, dir: Direction, bytes: &[u8], starts: bool, jumps: bool, whole: bool) -> Option<Asked> {
        if starts && (!self.wanted || dir == CLIENT) {
            if self.wanted && (!self.counts || self.broken) {
                (self.asked, self.broken) = (self.asked.next_run(), false);
            }
            self.stopped |= self.counts && !self.wanted;
            self.counts = self.wanted;
        }
        if !self.counts {
            return None;
        }
        let before = self.asked;
        if dir == SERVER {
            return Some(before);
        }
        if jumps {
            (self.asked, self.broken) = (self.asked.next_run(), true);
        }
        if self.broken {
            return None;
        }
        self.asked.pass(bytes);
        whole.then_some(before)
    }

    pub fn now(&self) -> Option<Asked> {
        self.counts.then_some(self.asked)
    }
}

impl Observer {
    pub fn new(budget: usize) -> Observer {
        Observer {
            budget,
            next: [None; 2],
            began: [0; 2],
            holes: Default::default(),
            dir: None,
            message: MessageEnd::default(),
            requests: Requests::default(),
        }
    }

    /// The connection's first sequence numbers, from its handshake.
    pub fn handshake(mut self, client: u32, server: u32) -> Observer {
        self.next = [Some(server), Some(client)];
        self
    }

    pub fn see(&mut self, packet: Packet) -> Option<Event> {
        let index = packet.dir.index();
        let next = self.next[index].unwrap_or(packet.seq);
        let end = packet.seq.wrapping_add(packet.payload.len() as u32);
        let ahead = |a: u32, b: u32| a.wrapping_sub(b) as i32;
        let fills = self.holes[index].iter().any(|&(from, to)| ahead(packet.seq, to) < 0 && ahead(end, from) > 0);
        let progress = ahead(end, next) > 0;
        let mut prev = None;
        let mut asked = None;
        if progress {
            let (old, starts) = (next.wrapping_sub(packet.seq), self.dir != Some(packet.dir));
            let new = &packet.payload[usize::try_from(old as i32).unwrap_or(0)..];
            asked = self.requests.pass(packet.dir, new, starts, ahead(packet.seq, next) > 0, old == 0);
            if ahead(packet.seq, next) > 0 {
                self.holes[index].push((next, packet.seq));
            }
            if self.dir != Some(packet.dir) {
                prev = Some(self.message);
                self.dir = Some(packet.dir);
                self.began[index] = next;
                self.message = MessageEnd { turn: self.message.turn + 1, first: packet.at, ..MessageEnd::default() };
            }
            self.message.bytes += u64::from(end.wrapping_sub(next));
            self.next[index] = Some(end);
            let keep = packet.payload.len().min(8);
            self.message.tail.rotate_left(keep);
            self.message.tail[8 - keep..].copy_from_slice(&packet.payload[packet.payload.len() - keep..]);
            self.message.tail_len = (self.message.tail_len + keep as u8).min(8);
        }
        let turn = if self.dir == Some(packet.dir) {
            if progress || fills {
                self.message.packets += 1;
                self.message.last = packet.at;
            }
            self.message.turn
        } else if fills && self.message.turn > 1 {
            self.message.turn - 1
        } else {
            return None;
        };
        let offset = ahead(packet.seq, self.began[index]);
        let from = usize::try_from(-i64::from(offset)).unwrap_or(0);
        let room = self.budget.saturating_sub(usize::try_from(offset).unwrap_or(0));
        let to = (from + room).min(packet.payload.len());
        let (first, prev) = (prev.is_some(), prev.filter(|end| end.turn > 0));
        (from < to || first).then_some(Event { turn, first, prev, from, to, packet, asked })
    }
}

#[derive(Default)]
pub struct Found {
    pub records: Vec<L7Record>,
    pub lost: Vec<(LossReason, u64)>,
    pub unasked: u64,
}

impl Out for Found {
    fn record(&mut self, record: L7Record) {
        self.records.push(record);
    }

    fn lost(&mut self, reason: LossReason, count: u64) {
        self.lost.push((reason, count));
    }

    fn unasked(&mut self, count: u64) {
        self.unasked += count;
    }
}

impl Found {
    pub fn lost_count(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }
}

pub fn hand_over(tcp: &mut Tcp, event: &Event, found: &mut Found) {
    if let Some(prev) = &event.prev {
        tcp.message_ended(prev, found);
    }
    let Packet { dir, at, seq, ref payload, snap, acked } = event.packet;
    let to = event.to.min(snap.max(event.from));
    tcp.piece(
        &Piece {
            dir,
            at,
            seq: seq.wrapping_add(event.from as u32),
            turn: event.turn,
            first: event.first,
            wire_len: (payload.len() - event.from) as u32,
            payload: &payload[event.from..to],
            acked,
            walked: l7::Walked { asked: event.asked, ..l7::Walked::default() },
        },
        found,
    );
}

/// One line for a record: `GET /a 200 [10..30] 18>40 notes`, times in milliseconds.
pub fn line(record: &L7Record) -> String {
    let Detail::Http(http) = &record.detail else { return format!("{:?}", record.detail) };
    let mut text = String::new();
    let method = if http.method.is_empty() { "-" } else { &http.method };
    let target = if http.target.is_empty() { "-" } else { &http.target };
    let status = http.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let outcome = if record.outcome == Outcome::Answered { "" } else { " unanswered" };
    let ms = |at: Ts| at.0 / 1_000_000;
    write!(
        text,
        "{method} {target} {status}{outcome} [{}..{}] {}>{}",
        ms(record.start),
        ms(record.end),
        record.request_bytes,
        record.response_bytes
    )
    .unwrap();
    for (note, name) in Notes::NAMES {
        if record.notes.has(note) {
            write!(text, " {name}").unwrap();
        }
    }
    text
}

/// A conversation as it is told to `check`.
pub enum Do {
    /// The client sends this.
    C(Vec<u8>),
    /// The server sends this.
    S(Vec<u8>),
    /// As above, but the packet's event finds the ring full.
    LostC(Vec<u8>),
    LostS(Vec<u8>),
    /// The packet passes and the capture does not see it at all.
    UnseenC(Vec<u8>),
    UnseenS(Vec<u8>),
    /// The capture has only the beginning of the packet.
    SnapC(Vec<u8>, usize),
    SnapS(Vec<u8>, usize),
    /// The sampler looks.
    Sample,
    Wait(u64),
    Close(Close),
    /// The connection's end did not come with a count.
    Gone,
}

/// A line for each record, and what else came out.
pub fn told(found: &Found, line: impl Fn(&L7Record) -> String) -> String {
    let mut text: String = found.records.iter().map(|record| line(record) + "\n").collect();
    for (reason, count) in &found.lost {
        writeln!(text, "lost {count} {}", reason.as_str()).unwrap();
    }
    if found.unasked > 0 {
        writeln!(text, "unasked {}", found.unasked).unwrap();
    }
    text
}

/// How an exchange with a database ended, its times in milliseconds, bytes and notes, behind `said`.
pub fn database_line(said: &str, record: &L7Record) -> String {
    let ms = |at: Ts| at.0 / 1_000_000;
    let outcome = match record.outcome {
        Outcome::Answered => "",
        Outcome::Unanswered => " unanswered",
        Outcome::OneWay => " one-way",
    };
    let (start, end, sent, received) = (ms(record.start), ms(record.end), record.request_bytes, record.response_bytes);
    let mut text = format!("{said}{outcome} [{start}..{end}] {sent}>{received}");
    for (note, name) in Notes::NAMES {
        if record.notes.has(note) {
            write!(text, " {name}").unwrap();
        }
    }
    text
}

pub struct Story {
    pub limits: Limits,
    pub budget: usize,
    pub role: Role,
    pub handshake: bool,
    pub acks: bool,
}

pub fn story() -> Story {
    Story {
        limits: Limits { keep_strings: true, ..Limits::default() },
        budget: 4096,
        role: Role::Client,
        handshake: true,
        acks: false,
    }
}

impl Story {
    pub fn replay(mut self) -> Story {
        self.limits.report_partial = true;
        self.budget = usize::MAX >> 1;
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Story {
        change(&mut self.limits);
        self
    }

    /// Packets acknowledge all that was sent before them, seen or not.
    pub fn acks(mut self) -> Story {
        self.acks = true;
        self
    }

    pub fn midway(mut self) -> Story {
        self.handshake = false;
        self.role = Role::Unknown;
        self
    }

    /// Plays the conversation, one packet every 10 ms, and lists what came out.
    pub fn play(&self, acts: Vec<Do>) -> String {
        let (found, tcp) = self.run(acts);
        let mut text = told(&found, line);
        if tcp.1 == Interest::Nothing {
            writeln!(text, "quiet").unwrap();
        }
        text
    }

    pub fn run(&self, acts: Vec<Do>) -> (Found, (Tcp, Interest)) {
        let mut observer = Observer::new(self.budget);
        let mut seqs = [7u32, u32::MAX - 60];
        if self.handshake {
            observer = observer.handshake(seqs[1], seqs[0]);
        }
        let mut tcp = Tcp::new(&self.limits, self.role);
        if self.handshake {
            tcp.starts_at(CLIENT, seqs[CLIENT.index()]);
            tcp.starts_at(SERVER, seqs[SERVER.index()]);
        }
        let mut found = Found::default();
        let mut now = 0;
        let mut interest = Interest::Heads;
        let mut send = |dir: Direction, payload: Vec<u8>, snap: usize, now: u64| {
            let seq = seqs[dir.index()];
            seqs[dir.index()] = seq.wrapping_add(payload.len() as u32);
            let acked = self.acks.then_some(seqs[dir.reverse().index()]);
            Packet { dir, at: Ts(now * 1_000_000), seq, payload, snap, acked }
        };
        for act in acts {
            now += 10;
            let (packet, keep) = match act {
                Do::C(bytes) => (send(CLIENT, bytes, usize::MAX, now), true),
                Do::S(bytes) => (send(SERVER, bytes, usize::MAX, now), true),
                Do::LostC(bytes) => (send(CLIENT, bytes, usize::MAX, now), false),
                Do::LostS(bytes) => (send(SERVER, bytes, usize::MAX, now), false),
                Do::SnapC(bytes, snap) => (send(CLIENT, bytes, snap, now), true),
                Do::SnapS(bytes, snap) => (send(SERVER, bytes, snap, now), true),
                Do::UnseenC(bytes) => {
                    send(CLIENT, bytes, 0, now);
                    continue;
                }
                Do::UnseenS(bytes) => {
                    send(SERVER, bytes, 0, now);
                    continue;
                }
                Do::Wait(ms) => {
                    now += ms;
                    continue;
                }
                Do::Sample => {
                    if tcp.waiting_for_end() {
                        tcp.progress(&observer.message, Ts(now * 1_000_000), &mut found);
                    }
                    continue;
                }
                Do::Close(close) => {
                    let last = Some(observer.message).filter(|message| message.turn > 0);
                    interest = tcp.interest();
                    tcp.closed(Ts(now * 1_000_000), close, last.as_ref(), observer.message.turn, &mut found);
                    continue;
                }
                Do::Gone => {
                    tcp.closed(Ts(now * 1_000_000), Close::Gone, None, 0, &mut found);
                    continue;
                }
            };
            if let Some(event) = observer.see(packet).filter(|_| keep) {
                hand_over(&mut tcp, &event, &mut found);
            }
            interest = tcp.interest();
        }
        (found, (tcp, interest))
    }
}

pub fn c(text: &str) -> Do {
    Do::C(text.as_bytes().to_vec())
}

pub fn s(text: &str) -> Do {
    Do::S(text.as_bytes().to_vec())
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

pub fn ok(length: usize) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    response.resize(response.len() + length, b'x');
    response
}
