//! A connection as it is read: its packets are observed, and what that tells is handed over, or lost.

use super::packets::{Dice, FIRST};
use super::{CLIENT, Event, Found, Observer, Packet, SERVER, hand_over};
use flow_model::{Close, Role};
use l7::{Interest, Limits, MessageEnd, Tcp};

pub struct Capture {
    pub tcp: Tcp,
    pub observer: Observer,
    pub found: Found,
    counts: bool,
}

/// Of a capture file, or of live traffic.
pub fn limits(report_partial: bool) -> Limits {
    Limits { report_partial, ..Limits::default() }
}

impl Capture {
    /// From its handshake on; `budget` bytes of each message are copied.
    pub fn new(limits: Limits, budget: usize) -> Capture {
        let mut tcp = Tcp::new(&limits, Role::Client);
        if limits.report_partial {
            // A capture has the handshake's numbers; live, those of the messages have to do.
            tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
            tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        }
        tcp.seen_to_begin();
        let observer = Observer::new(budget).handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
        Capture { tcp, observer, found: Found::default(), counts: false }
    }

    /// Requests are counted where that is wanted.
    pub fn counting(self) -> Capture {
        Capture { counts: true, ..self }
    }

    /// From somewhere in the middle on.
    pub fn joined(limits: Limits) -> Capture {
        let (tcp, observer) = (Tcp::new(&limits, Role::Unknown), Observer::new(1 << 30));
        Capture { tcp, observer, found: Found::default(), counts: false }
    }

    pub fn see(&mut self, packet: &Packet) -> Option<Event> {
        self.observer.requests.wanted = self.counts && matches!(self.tcp.interest(), Interest::Pipeline(_));
        self.observer.see(packet.clone())
    }

    pub fn take(&mut self, packet: &Packet) {
        self.take_unless(false, packet);
    }

    /// The packet passed; what it tells is `lost`, or handed over.
    pub fn take_unless(&mut self, lost: bool, packet: &Packet) {
        if let Some(event) = self.see(packet).filter(|_| !lost) {
            hand_over(&mut self.tcp, &event, &mut self.found);
        }
    }

    /// All messages, but for what one packet tells, of message `from` or a later one. In which message it is, and
    /// where there.
    pub fn take_all_but_one(&mut self, cut: &[Vec<Packet>], dice: &mut Dice, from: usize) -> (usize, usize) {
        let (at, which) = one_of(cut, dice, from);
        for (number, message) in cut.iter().enumerate() {
            for (index, packet) in message.iter().enumerate() {
                self.take_unless((number, index) == (at, which), packet);
            }
        }
        (at, which)
    }

    /// What one message in `rarity` tells is lost. Whether anything was not, and which messages were kept.
    pub fn take_some(&mut self, cut: &[Vec<Packet>], dice: &mut Dice, rarity: usize) -> (bool, Vec<bool>) {
        let mut kept = Vec::new();
        for message in cut {
            let lost = dice.one_in(rarity);
            kept.push(!lost);
            message.iter().for_each(|packet| self.take_unless(lost, packet));
        }
        let any = cut.iter().zip(&kept).any(|(message, kept)| *kept && !message.is_empty());
        (any, kept)
    }

    pub fn close(mut self) -> Found {
        let last = MessageEnd { asked: self.observer.requests.now(), ..self.observer.message };
        self.tcp.closed(last.last, Close::Fin, Some(&last), last.turn, &mut self.found);
        assert_eq!(self.tcp.buffered(), 0);
        self.found
    }
}

/// A packet of message `from` or a later one: the message, and its place there.
pub fn one_of(cut: &[Vec<Packet>], dice: &mut Dice, from: usize) -> (usize, usize) {
    let at = from + dice.below(cut.len().saturating_sub(from));
    (at, dice.below(cut.get(at).map_or(0, Vec::len)))
}
