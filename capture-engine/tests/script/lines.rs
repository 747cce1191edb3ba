//! Random streams of a client, of which the ends of request lines are counted: what the programs tell against what the
//! client has said.

use super::random::Dice;
use super::sys::Library;
use super::walks::Told;
use super::{Packet, host};
use capture_wire as wire;
use l7::Asked;

const ISN: [u32; 2] = [u32::MAX - 2000, 70_000];
const WORDS: &[&str] = &[
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/1.",
    " HTTP/1.1\n",
    " HTTP/2.0\r\n",
    "HTTP/1.1\r\n",
    " ",
    "1\r\n",
    "\r",
    "\n",
    "\r\n",
    "GET /",
    "Host: a",
    "  ",
    " HTTP/1.1\r\n HTTP/1.7\r\n",
];

/// What the programs tell with which packet, and at last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub told: Vec<(usize, Told)>,
    pub last: Option<Asked>,
}

pub struct Story {
    pub packets: Vec<Packet>,
    /// From this packet on it is wanted.
    pub from: usize,
    stream: Vec<u8>,
    /// Behind each packet, so many bytes of the client had passed.
    passed: Vec<usize>,
    /// Packets that bring what is new of the client, and nothing else.
    new: Vec<bool>,
    mark: usize,
    damaged: bool,
    next: usize,
}

impl Story {
    /// `most`: bytes of a packet.
    pub fn new(seed: u64, most: u32, damaged: bool) -> Story {
        let mut story = Story {
            packets: Vec::new(),
            from: 0,
            stream: Vec::new(),
            passed: Vec::new(),
            new: Vec::new(),
            mark: 0,
            damaged,
            next: 0,
        };
        let mut dice = Dice::new(seed);
        story.send(0, "S", ISN[0], b"", false);
        story.send(1, "SA", ISN[1], b"", false);
        story.say(b"GET / HTTP/1.1\r\n\r\n GET ");
        let mut answered = 0;
        story.answer(&mut answered);
        (story.from, story.mark) = (story.packets.len(), story.stream.len());
        for _ in 0..4 + dice.below(30) {
            match dice.below(8) {
                0..5 => {
                    let bytes = words(&mut dice, most);
                    if damaged && dice.percent(10) {
                        // It is lost before it comes here.
                        story.stream.extend(&bytes);
                    } else {
                        story.say(&bytes);
                    }
                }
                5 => story.again(&mut dice, most),
                _ => story.answer(&mut answered),
            }
        }
        story.answer(&mut answered);
        story
    }

    fn send(&mut self, who: usize, flags: &'static str, seq: u32, payload: &[u8], new: bool) {
        let ack = ISN[1 - who].wrapping_add(if who == 0 { 1 } else { 1 + self.stream.len() as u32 });
        let ack = if flags.contains('A') { ack } else { 0 };
        self.packets.push(Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload: payload.to_vec() });
        if who == 0 && !payload.is_empty() {
            let at = seq.wrapping_sub(ISN[0].wrapping_add(1)) as usize;
            self.next = self.next.max(at + payload.len());
        }
        self.passed.push(self.next);
        self.new.push(new);
    }

    fn say(&mut self, bytes: &[u8]) {
        let seq = ISN[0].wrapping_add(1 + self.stream.len() as u32);
        self.stream.extend(bytes);
        self.send(0, "A", seq, bytes, true);
    }

    fn answer(&mut self, answered: &mut u32) {
        self.send(1, "A", ISN[1].wrapping_add(1 + *answered), b"HTTP/1.1 200 OK HTTP/1.1\r\n", false);
        *answered += 26;
    }

    /// Something is sent again, and perhaps more with it.
    fn again(&mut self, dice: &mut Dice, most: u32) {
        let back = 1 + dice.below((self.stream.len() as u32).min(most / 2));
        let at = self.stream.len() - back as usize;
        if self.damaged || dice.percent(30) {
            self.stream.extend(words(dice, most / 2));
        }
        let bytes = self.stream[at..].to_vec();
        self.send(0, "A", ISN[0].wrapping_add(1 + at as u32), &bytes, false);
    }

    /// What the programs for the host tell.
    pub fn on_the_host(&self) -> Heard {
        let mut library = Library::get().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        library.reset(4096);
        let (mut heard, mut frame) = (Heard::default(), Vec::new());
        for (number, packet) in self.packets.iter().enumerate() {
            if number == self.from {
                library.lines(wire::FRAMES_LINES_IN);
            }
            packet.frame(&mut frame);
            let dir = if packet.from_client { wire::INGRESS } else { wire::EGRESS };
            assert_eq!(library.packet(7, u32::from(dir), &frame), -1, "the packet goes on");
            host::records(&library.take_ring(), &mut |record| {
                heard.told.extend(Told::of(record).map(|told| (number, told)));
            });
        }
        heard.last = host::last_asked(&library);
        heard
    }

    /// Why that is not what the client has said; how many ends there were, and were counted.
    pub fn differs(&self, heard: &Heard) -> Result<(u32, u32), String> {
        let mut before: Option<(Asked, usize)> = None;
        let mut check = |asked: Asked, at: usize, what: &str| {
            if let Some((mut then, from)) = before.filter(|(then, _)| then.is_of_run(asked)) {
                let bytes = self.stream.get(from..at).unwrap_or_default();
                then.pass(bytes);
                if then != asked {
                    return Err(format!("{what}: {asked:?}, not {then:?} at {at}"));
                }
            } else if before.is_some() && !self.damaged {
                return Err(format!("{what}: another run"));
            } else if before.is_none() && !self.damaged {
                let mut then = Asked::default().next_run();
                then.pass(&self.stream[self.mark..at]);
                if then != asked {
                    return Err(format!("{what}: it begins with {asked:?}, not {then:?} at {at}"));
                }
            }
            before = Some((asked, at));
            Ok(())
        };
        let mut last = usize::MAX;
        for (number, told) in heard.told.iter().filter(|(number, _)| *number >= self.from) {
            let first = *number != last;
            last = *number;
            let counts = told.from_client || before_is_some(&heard.told, *number);
            match told.walked.asked {
                Some(_) if !first => return Err(format!("packet {number}: a piece that is not the first has a count")),
                Some(asked) if told.from_client => {
                    let at = told.seq.wrapping_sub(ISN[0].wrapping_add(1)) as usize;
                    check(asked, at, &format!("packet {number}"))?;
                }
                Some(asked) if asked.is_broken() => {}
                Some(asked) => check(asked, self.passed[*number], &format!("packet {number}"))?,
                None if first && counts && !self.damaged && (self.new[*number] || !told.from_client) => {
                    return Err(format!("packet {number}: no count"));
                }
                None => {}
            }
        }
        let mut all = Asked::default();
        let ends = all.pass(&self.stream[self.mark..]);
        let counted = heard.last.unwrap_or_default().word() >> 12;
        if counted > ends || counted != ends && !self.damaged && before.is_some() {
            return Err(format!("{counted} counted of {ends}"));
        }
        Ok((ends, counted))
    }
}

/// Whether a count came before this packet.
fn before_is_some(told: &[(usize, Told)], number: usize) -> bool {
    told.iter().any(|(of, told)| *of < number && told.walked.asked.is_some())
}

fn words(dice: &mut Dice, most: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + dice.below(12) {
        if dice.percent(8) {
            bytes.resize(bytes.len() + dice.below(most) as usize, b'.');
        }
        let word = WORDS[dice.below(WORDS.len() as u32) as usize].as_bytes();
        let part = if dice.percent(30) { dice.below(word.len() as u32) as usize } else { 0 };
        bytes.extend(&word[part..]);
    }
    bytes.truncate(dice.below(most.min(bytes.len() as u32)).max(1) as usize);
    bytes
}
