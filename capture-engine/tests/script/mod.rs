//! Packet scripts of single TCP connections, and what is told of them: the same for the kernel
//! programs, for these programs as built for the host, and for replay.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

mod beginnings;
pub mod dns;
mod endings;
pub mod frames;
pub mod host;
pub mod kafka;
pub mod lines;
pub mod mysql;
pub mod postgres;
pub mod protocols;
pub mod random;
pub mod redis;
pub mod refused;
pub mod room;
pub mod streams;
mod sys;
pub mod walks;

use std::fmt::Write;

pub const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 2], 40_000);
pub const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 80);

/// One packet. `seq` and `ack` are as in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from_client: bool,
    pub flags: &'static str,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub payload: Vec<u8>,
}

impl Packet {
    /// `c SA 100 501 text`: who sends, flags (`-`: none), sequence number, what is acknowledged
    /// where there is an `A`, payload. `w0` at the end: the window is shut.
    pub fn parse(line: &str) -> Packet {
        let mut words = line.split_whitespace();
        let from_client = match words.next() {
            Some("c") => true,
            Some("s") => false,
            _ => panic!("who sends? {line}"),
        };
        let flags = words.next().unwrap();
        let flags = *["-", "A", "S", "SA", "F", "FA", "R", "RA", "SF", "SR"].iter().find(|it| **it == flags).unwrap();
        let seq = words.next().unwrap().parse().unwrap();
        let ack = if flags.contains('A') { words.next().unwrap().parse().unwrap() } else { 0 };
        let mut rest: Vec<&str> = words.collect();
        let window = if rest.last() == Some(&"w0") { 0 } else { 64_000 };
        rest.retain(|word| *word != "w0");
        Packet { from_client, flags, seq, ack, window, payload: rest.join(" ").into_bytes() }
    }

    pub fn ethernet(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        self.frame(&mut frame);
        frame
    }

    /// Into `frame`, in the place of what was there. Checksums are zeros: nobody looks at them.
    pub fn frame(&self, frame: &mut Vec<u8>) {
        self.frame_of(CLIENT, frame);
    }

    /// The same, of a connection of another client.
    pub fn frame_of(&self, client: ([u8; 4], u16), frame: &mut Vec<u8>) {
        let (from, to) = if self.from_client { (client, SERVER) } else { (SERVER, client) };
        let total = (40 + self.payload.len()) as u16;
        let flags = [('F', 1), ('S', 2), ('R', 4), ('A', 16)];
        let flags: u8 = flags.iter().filter(|(name, _)| self.flags.contains(*name)).map(|(_, bit)| bit).sum();
        frame.clear();
        frame.extend([2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0, 0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(from.0);
        frame.extend(to.0);
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([5 << 4, flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(&self.payload);
    }
}

/// A row of the table.
pub struct Script {
    pub name: &'static str,
    /// The rule that it stands for.
    pub rule: &'static str,
    /// One packet a line, see [`Packet::parse`]; a comment may follow `#`.
    pub packets: &'static str,
    /// What is told, as [`Told`] prints it; written by hand from the rule.
    pub told: &'static str,
}

impl Script {
    pub fn packets(&self) -> Vec<Packet> {
        let lines = self.packets.lines().map(|line| line.split('#').next().unwrap().trim());
        lines.filter(|line| !line.is_empty()).map(Packet::parse).collect()
    }

    /// Empty when this is what had to be told.
    pub fn differs(&self, told: &Told) -> String {
        let lines = |text: &str| text.lines().map(|line| format!("    {}\n", line.trim())).collect::<String>();
        let Script { name, rule, packets, told: expected } = self;
        let (told, expected) = (lines(&told.to_string()), lines(expected));
        if told == expected {
            return String::new();
        }
        format!("{name} ({rule}):\n{}told:\n{told}instead of:\n{expected}\n", lines(packets))
    }
}

/// Runs the whole table through `run`.
#[track_caller]
pub fn check_table(mut run: impl FnMut(&[Packet]) -> Told) {
    let wrong: String = endings::ENDINGS
        .iter()
        .chain(beginnings::BEGINNINGS)
        .map(|script| script.differs(&run(&script.packets())))
        .collect();
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A piece of payload that was handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub from_client: bool,
    pub turn: u32,
    pub seq: u32,
    pub payload: Vec<u8>,
    /// Bytes of the message before, where this piece is the first of its message.
    pub before: Option<u64>,
}

/// A connection's last state; pairs are of client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `fin`, `reset`, `gone`: its tuple was used again, `open`.
    pub how: &'static str,
    pub packets: [u64; 2],
    pub retransmits: [u32; 2],
    pub turns: u32,
    pub last: u64,
    pub established: bool,
    pub midway: bool,
    /// The client is known.
    pub roles: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub id: u64,
    pub pieces: Vec<Piece>,
    pub end: Option<End>,
}

/// What was told of a script: its connections, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told(pub Vec<Connection>);

impl Told {
    pub fn of(&mut self, id: u64) -> &mut Connection {
        let place = self.0.iter().position(|connection| connection.id == id).unwrap_or_else(|| {
            self.0.push(Connection { id, pieces: Vec::new(), end: None });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// In the order of their beginnings, which their ids have. The last one has not been used again.
    pub fn sorted(mut self) -> Told {
        self.0.sort_by_key(|connection| connection.id);
        let last = self.0.last_mut().and_then(|connection| connection.end.as_mut());
        if let Some(end) = last.filter(|end| end.how == "gone") {
            end.how = "open";
        }
        for (connection, id) in self.0.iter_mut().zip(1..) {
            connection.id = id;
        }
        self
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Connection { pieces, end, .. } in &self.0 {
            for Piece { from_client, turn, seq, payload, before } in pieces {
                let who = if *from_client { 'c' } else { 's' };
                write!(f, "{who}{turn} @{seq} {}", String::from_utf8_lossy(payload))?;
                writeln!(f, "{}", before.map_or_else(String::new, |bytes| format!(" | {bytes} before")))?;
            }
            let Some(end) = end else { continue };
            let mut text =
                format!("{}: {}+{} packets, {} messages", end.how, end.packets[0], end.packets[1], end.turns);
            if end.turns > 0 {
                write!(text, ", last {}", end.last)?;
            }
            if end.retransmits != [0, 0] {
                write!(text, ", retransmits {}+{}", end.retransmits[0], end.retransmits[1])?;
            }
            let notes = [(!end.established, "half open"), (end.midway, "midway"), (!end.roles, "roles unknown")];
            for (_, note) in notes.iter().filter(|(is, _)| *is) {
                write!(text, ", {note}")?;
            }
            writeln!(f, "{text}")?;
        }
        Ok(())
    }
}

/// What capture-engine says, from the kernel or from a file.
pub mod engine {
    use super::{CLIENT, End, Piece, Told};
    use capture_engine::event::{Event, FlowKey, Sample, Segment};
    use flow_model::{Close, Direction, Role};

    fn client_dir(key: &FlowKey) -> Direction {
        if key.tuple.local.port == CLIENT.1 { Direction::Egress } else { Direction::Ingress }
    }

    pub fn hear(told: &mut Told, event: &Event<'_>) {
        match event {
            Event::Segment(segment) => {
                let Segment { key, id, dir, seq, turn, prev, payload, .. } = *segment;
                let pieces = &mut told.of(id.0).pieces;
                let mut before = prev.map(|end| end.bytes);
                // Replay says first, by a piece without payload, what the capture missed at a direction's beginning.
                if let Some(missed) = pieces.pop_if(|last| last.payload.is_empty()) {
                    before = missed.before;
                }
                let (from_client, payload) = (dir == client_dir(&key), payload.to_vec());
                pieces.push(Piece { from_client, turn, seq, payload, before });
            }
            Event::Closed(sample) => end(told, sample),
        }
    }

    /// The last word on it so far.
    pub fn end(told: &mut Told, sample: &Sample) {
        let client = client_dir(&sample.key);
        let pair = [client.index(), client.reverse().index()];
        told.of(sample.id.0).end = Some(End {
            how: match sample.closed {
                Some(Close::Fin) => "fin",
                Some(Close::Reset) => "reset",
                Some(Close::Gone) | None => "gone",
            },
            packets: pair.map(|way| sample.counters.packets[way]),
            retransmits: pair.map(|way| sample.counters.retransmits[way]),
            turns: sample.turns,
            last: sample.message.map_or(0, |end| end.bytes),
            established: sample.established,
            midway: sample.joined_midway,
            roles: sample.role == if client == Direction::Egress { Role::Client } else { Role::Server },
        });
    }
}
