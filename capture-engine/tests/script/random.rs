//! Random scripts, and what their client and server know of them: who sent which bytes, what was
//! sent again past the observer, who closed. The observer is at the server's interface, so what the
//! network loses, reorders and doubles of the client's packets happens before it, and what it loses
//! of the server's behind it.

use super::{Connection, Packet, Told};

/// xorshift64*.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        dice.below(2);
        dice
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % u64::from(bound.max(1))) as u32
    }

    pub fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance
    }
}

/// What both ends know of one connection; pairs are of client and server.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    isn: [u32; 2],
    pub stream: [Vec<u8>; 2],
    /// Who said so many bytes, in turn.
    pub messages: Vec<(usize, usize)>,
    fin: [bool; 2],
    seen: [Vec<bool>; 2],
    fin_seen: [bool; 2],
    /// Whether the other end has the byte, and the FIN.
    has: [Vec<bool>; 2],
    has_fin: [bool; 2],
    pub packets: [u64; 2],
    pub retransmits: [u32; 2],
    pub how: Option<&'static str>,
    /// Packets and retransmissions when it ended.
    at_end: Option<([u64; 2], [u32; 2])>,
    /// Never had more than one hole in a direction: with several, the programs keep their hull.
    exact: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    at: usize,
    length: usize,
    fin: bool,
}

pub struct Story {
    dice: Dice,
    pub packets: Vec<Packet>,
    pub truth: Vec<Truth>,
    /// Doubles of the client's segments that the network still has.
    late: Vec<(usize, Packet, Segment)>,
}

impl Story {
    pub fn new(seed: u64) -> Story {
        let mut story = Story { dice: Dice::new(seed), packets: Vec::new(), truth: Vec::new(), late: Vec::new() };
        story.connection();
        while story.packets.len() < 40 && story.dice.percent(50) {
            story.connection();
        }
        story
    }

    fn current(&mut self) -> &mut Truth {
        self.truth.last_mut().unwrap()
    }

    fn connection(&mut self) {
        // Later numbers than those of the connection before (RFC 6191).
        let base = self.truth.last().map_or([self.dice.below(u32::MAX), self.dice.below(u32::MAX)], |old| old.isn);
        let isn = base.map(|isn| isn.wrapping_add((1 << 26) + self.dice.below(1 << 28)));
        if let Some(old) = self.truth.last_mut().filter(|old| old.how.is_none()) {
            // Both ends have forgotten it.
            old.how = Some("gone");
        }
        self.truth.push(Truth { isn, exact: true, ..Truth::default() });
        self.open();
        for _ in 0..1 + self.dice.below(3) {
            self.say(0, false);
            self.say(1, false);
        }
        match self.dice.below(6) {
            0 => {}
            1 => {
                let half = self.dice.percent(50);
                self.say(0, true);
                if half {
                    self.say(1, true);
                } else {
                    self.finish(1);
                }
            }
            2 => {
                self.finish(1);
                if self.dice.percent(50) {
                    self.say(0, true);
                } else {
                    self.finish(0);
                }
            }
            3 => {
                self.finish(0);
                self.finish(1);
            }
            who => self.reset(who as usize - 4),
        }
        for _ in 0..self.dice.below(3) {
            self.something_late();
        }
    }

    fn open(&mut self) {
        let [client, server] = self.current().isn;
        let mut answered = false;
        loop {
            if !answered || self.dice.percent(40) {
                if self.dice.percent(15) {
                    continue; // lost before it came here
                }
                self.pass(0, "S", client, 0, &[]);
                if answered {
                    self.current().retransmits[0] += 1;
                } else if self.dice.percent(15) {
                    self.pass(0, "S", client, 0, &[]);
                    self.current().retransmits[0] += 1;
                }
            }
            self.pass(1, "SA", server, client.wrapping_add(1), &[]);
            self.current().retransmits[1] += u32::from(answered);
            answered = true;
            if self.dice.percent(80) {
                break;
            }
        }
        if self.dice.percent(80) {
            self.acknowledge(0);
        }
    }

    /// A message, in segments, the last with a FIN where this is the last message.
    fn say(&mut self, who: usize, fin: bool) {
        let mut segments = Vec::new();
        let number = 1 + self.dice.below(4);
        let start = self.current().stream[who].len();
        for index in 0..number {
            let length = 2 + self.dice.below(19) as usize;
            let truth = self.truth.last_mut().unwrap();
            let at = truth.stream[who].len();
            truth.stream[who].extend((at..at + length).map(|at| b'a' + (at % 26) as u8));
            segments.push(Segment { at, length, fin: fin && index + 1 == number });
        }
        if let Some(last) = segments.last_mut().filter(|last| last.fin && self.dice.percent(50)) {
            last.fin = false;
            let at = last.at + last.length;
            segments.push(Segment { at, length: 0, fin: true });
        }
        let truth = self.current();
        let end = truth.stream[who].len();
        truth.messages.push((who, end - start));
        self.transfer(who, &segments, fin);
    }

    fn finish(&mut self, who: usize) {
        let at = self.current().stream[who].len();
        self.transfer(who, &[Segment { at, length: 0, fin: true }], true);
    }

    /// Until the other end has all.
    fn transfer(&mut self, who: usize, segments: &[Segment], fin: bool) {
        let truth = self.truth.last_mut().unwrap();
        let length = truth.stream[who].len();
        truth.fin[who] |= fin;
        truth.seen[who].resize(length, false);
        truth.has[who].resize(length, false);
        let mut open: Vec<Segment> = segments.to_vec();
        let mut again = Vec::new();
        for round in 0.. {
            if who == 0 {
                for at in 1..open.len() {
                    if self.dice.percent(25) {
                        open.swap(at, at - 1);
                    }
                }
            }
            let loss = if round < 3 { 15 } else { 0 };
            for segment in std::mem::take(&mut open) {
                let lost = self.dice.percent(loss);
                if lost {
                    open.push(segment);
                    if who == 0 {
                        continue;
                    }
                }
                let packet = self.segment(who, segment);
                if who == 0 && self.dice.percent(10) {
                    self.late.push((self.truth.len() - 1, packet, segment));
                }
                if lost {
                    continue;
                }
                let truth = self.current();
                truth.has[who][segment.at..segment.at + segment.length].fill(true);
                truth.has_fin[who] |= segment.fin;
                // What acknowledges it may get lost.
                if self.dice.percent(10) {
                    again.push(segment);
                }
            }
            if fin || self.dice.percent(70) {
                self.acknowledge(1 - who);
            }
            self.disturb();
            open.append(&mut again);
            if open.is_empty() {
                return;
            }
        }
    }

    fn segment(&mut self, who: usize, segment: Segment) -> Packet {
        let Segment { at, length, fin } = segment;
        let (truth, ack) = (self.truth.last().unwrap(), self.expects(who));
        let seq = truth.isn[who].wrapping_add(1).wrapping_add(at as u32);
        let payload = truth.stream[who][at..at + length].to_vec();
        self.pass(who, if fin { "FA" } else { "A" }, seq, ack, &payload);
        let packet = self.packets.last().unwrap().clone();
        self.current().sees(who, segment);
        packet
    }

    /// The number that `who` expects of the other.
    fn expects(&self, who: usize) -> u32 {
        let (truth, other) = (self.truth.last().unwrap(), 1 - who);
        let bytes = truth.has[other].iter().take_while(|has| **has).count();
        let fin = truth.has_fin[other] && bytes == truth.stream[other].len();
        truth.isn[other].wrapping_add(1).wrapping_add(bytes as u32).wrapping_add(u32::from(fin))
    }

    /// The number of what `who` sends next.
    fn next(&self, who: usize) -> u32 {
        let truth = self.truth.last().unwrap();
        let fin = u32::from(truth.fin[who]);
        truth.isn[who].wrapping_add(1).wrapping_add(truth.stream[who].len() as u32).wrapping_add(fin)
    }

    fn acknowledge(&mut self, who: usize) {
        let (seq, ack) = (self.next(who), self.expects(who));
        self.pass(who, "A", seq, ack, &[]);
    }

    fn reset(&mut self, who: usize) {
        let (seq, ack) = (self.next(who), self.expects(who));
        let flags = if self.dice.percent(50) { "R" } else { "RA" };
        self.pass(who, flags, seq, ack, &[]);
        self.current().ends("reset");
    }

    fn pass(&mut self, who: usize, flags: &'static str, seq: u32, ack: u32, payload: &[u8]) {
        self.current().packets[who] += 1;
        let ack = if flags.contains('A') { ack } else { 0 };
        self.packets.push(Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload: payload.to_vec() });
    }

    fn something_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let place = self.dice.below(self.late.len() as u32) as usize;
        let (of, packet, segment) = self.late.swap_remove(place);
        self.packets.push(packet);
        let now = self.truth.len() - 1;
        self.current().packets[0] += 1;
        if of == now {
            self.current().sees(0, segment);
        }
    }

    /// Strangers, and what is left of the past. None of it changes the connection.
    fn disturb(&mut self) {
        if !self.dice.percent(15) || self.current().how.is_some() {
            return;
        }
        let who = self.dice.below(2) as usize;
        let isn = self.current().isn[who];
        let (next, ack, far) = (self.next(who), self.expects(who), self.dice.below(1 << 20));
        match self.dice.below(9) {
            0 => self.pass(who, "R", next.wrapping_add((1 << 28) + far), 0, &[]),
            1 => self.pass(who, "RA", isn.wrapping_sub(1 + far), ack, &[]),
            2 => {
                let beyond = 2 + self.dice.below(60_000);
                self.pass(who, "R", next.wrapping_add(beyond), 0, b"why");
                self.acknowledge(1 - who);
            }
            3 => {
                let seq = self.dice.below(u32::MAX);
                let payload: &[u8] = if self.dice.percent(30) { b"fast" } else { b"" };
                if seq != isn {
                    self.pass(who, "S", seq, 0, payload);
                    self.acknowledge(1 - who);
                }
            }
            4 => {
                let flags = if who == 0 { "S" } else { "SA" };
                self.pass(who, flags, isn, self.current_isn(1 - who).wrapping_add(1), &[]);
                self.current().retransmits[who] += 1;
            }
            5 => self.pass(who, "-", next, 0, b"none"),
            6 => self.pass(who, "A", next.wrapping_sub(1), ack, &[]),
            7 => self.pass(who, "A", isn.wrapping_sub(50), ack, b"before it"),
            _ => self.something_late(),
        }
    }

    fn current_isn(&self, who: usize) -> u32 {
        self.truth.last().unwrap().isn[who]
    }
}

impl Truth {
    /// The segment passes the observer.
    fn sees(&mut self, who: usize, segment: Segment) {
        let Segment { at, length, fin } = segment;
        let seen = &mut self.seen[who];
        let range = at..at + length;
        let again = if length > 0 { seen[range.clone()].iter().all(|seen| *seen) } else { fin && self.fin_seen[who] };
        self.retransmits[who] += u32::from(again);
        seen[range].fill(true);
        self.fin_seen[who] |= fin;
        let last = seen.iter().rposition(|seen| *seen).map_or(0, |last| last + 1);
        let holes = seen[..last].chunk_by(|a, b| a == b).filter(|run| !run[0]).count();
        self.exact &= holes <= 1;
        let whole = |who: usize| self.fin_seen[who] && self.seen[who].iter().all(|seen| *seen);
        if self.how.is_none() && whole(0) && whole(1) {
            self.ends("fin");
        }
    }

    fn ends(&mut self, how: &'static str) {
        self.how = Some(how);
        self.at_end = Some((self.packets, self.retransmits));
    }

    /// What `told` says wrong.
    fn differs(&self, told: &Connection, is_last: bool) -> Option<String> {
        let Some(end) = &told.end else { return Some("no last word".to_owned()) };
        let how = self.how.unwrap_or("open");
        // What still passes after the end is not told where the tuple is used again; with several holes, the end
        // is known from an acknowledgment.
        let (packets, retransmits) = match self.at_end.filter(|_| !is_last && self.exact) {
            Some(at_end) => at_end,
            None => (self.packets, self.retransmits),
        };
        let known = (end.how, end.turns as usize, end.established, end.midway, end.roles);
        if known != (how, self.messages.len(), true, false, true) {
            return Some(format!("{known:?} is not {how}, {} messages", self.messages.len()));
        }
        if (self.exact || is_last) && end.packets != packets {
            return Some(format!("packets {:?}, not {packets:?}", end.packets));
        }
        let fewer = (0..2).all(|who| end.retransmits[who] <= retransmits[who]);
        if if self.exact { end.retransmits != retransmits } else { !fewer } {
            return Some(format!("retransmits {:?}, not {retransmits:?}", end.retransmits));
        }
        let mut starts = [0; 2];
        for (&(who, length), turn) in self.messages.iter().zip(1..) {
            let first = self.isn[who].wrapping_add(1).wrapping_add(starts[who] as u32);
            let bytes = &self.stream[who][starts[who]..starts[who] + length];
            starts[who] += length;
            let mut told_of = vec![false; length];
            for piece in told.pieces.iter().filter(|piece| piece.turn == turn) {
                let at = piece.seq.wrapping_sub(first) as usize;
                let range = at..at.saturating_add(piece.payload.len());
                if piece.from_client != (who == 0) || bytes.get(range.clone()) != Some(piece.payload.as_slice()) {
                    return Some(format!("{piece:?} is not of message {turn}"));
                }
                told_of[range].fill(true);
            }
            if !told_of.iter().all(|told| *told) {
                return Some(format!("message {turn} was not told whole"));
            }
            let next = told.pieces.iter().find(|piece| piece.turn == turn + 1 && piece.before.is_some());
            let counted = next.map_or(end.last, |piece| piece.before.unwrap());
            if counted != length as u64 {
                return Some(format!("message {turn} has {counted} bytes, not {length}"));
            }
        }
        (told.pieces.iter().any(|piece| piece.turn as usize > self.messages.len()))
            .then(|| "a piece of nothing".to_owned())
    }
}

/// Why what was told of the story is not what its ends know.
pub fn differs(story: &Story, told: &Told) -> Option<String> {
    let Told(connections) = told;
    if connections.len() != story.truth.len() {
        return Some(format!("{} connections, not {}", connections.len(), story.truth.len()));
    }
    let last = connections.len() - 1;
    connections
        .iter()
        .zip(&story.truth)
        .enumerate()
        .find_map(|(place, (told, truth))| truth.differs(told, place == last))
}

/// The packets of a story, as the table writes them.
pub fn write(story: &Story) -> String {
    let line = |packet: &Packet| {
        let Packet { from_client, flags, seq, ack, payload, .. } = packet;
        let who = if *from_client { 'c' } else { 's' };
        let ack = if flags.contains('A') { format!(" {ack}") } else { String::new() };
        format!("{who} {flags} {seq}{ack} {}\n", String::from_utf8_lossy(payload))
    };
    story.packets.iter().map(line).collect()
}

/// How many scripts, and the first one's seed: `PILOTFISH_SCRIPTS` and `PILOTFISH_SCRIPTS_SEED`, else
/// `few` and one of chance.
pub fn scale(few: u64) -> (u64, u64) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let chance = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0u8) >> 16;
    (number("PILOTFISH_SCRIPTS").unwrap_or(few), number("PILOTFISH_SCRIPTS_SEED").unwrap_or(chance))
}

/// Runs random scripts through `run`, and compares with what their ends know.
#[track_caller]
pub fn check(few: u64, mut run: impl FnMut(&Story) -> Result<Told, String>) {
    let (count, first) = scale(few);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let story = Story::new(seed);
        let wrong = match run(&story) {
            Ok(told) => differs(&story, &told).map(|wrong| format!("{wrong}\n{told}")),
            Err(wrong) => Some(wrong),
        };
        if let Some(wrong) = wrong {
            panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}\n{}told: {wrong}", write(&story));
        }
    }
}
