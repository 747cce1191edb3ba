//! What a client asks: the command's name, and what its arguments do to the connection. No argument is kept.

use super::names::COMMANDS;
use super::scan::{KEPT, number};

/// The place of a command in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(u16);

impl Name {
    /// Not in the list, or not seen.
    pub(super) const OTHER: Name = Name(u16::MAX);

    pub(super) fn of(word: &[u8]) -> Name {
        let mut capitals = [0; KEPT];
        let Some(capitals) = capitals.get_mut(..word.len()) else { return Name::OTHER };
        capitals.copy_from_slice(word);
        capitals.make_ascii_uppercase();
        let found = COMMANDS.binary_search_by(|name| name.as_bytes().cmp(capitals));
        found.ok().and_then(|at| u16::try_from(at).ok()).map_or(Name::OTHER, Name)
    }

    pub(super) fn as_str(self) -> &'static str {
        COMMANDS.get(usize::from(self.0)).copied().unwrap_or("other")
    }
}

/// What a command does beside being answered once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ask {
    #[default]
    Reply,
    /// Waits on purpose until there is something to tell, or a time is over.
    Waits,
    /// Each of so many channels is confirmed.
    Subscribe(u32),
    /// Another database.
    Select(u32),
    /// A transaction ends, or is given up.
    Exec,
    Discard,
    /// All that others ask is told from here on.
    Monitor,
    /// It is a replica: the connection becomes a stream.
    Sync,
    /// Back to how connections begin.
    Reset,
    /// `CLIENT REPLY ON`, `OFF` and `SKIP`.
    Replies(Mode),
}

/// Whether commands are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    On,
    Off,
    /// Not the next one.
    Skip,
}

/// A command of which arguments are to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub name: Name,
    pub ask: Ask,
    /// Arguments that have come, the name included.
    seen: u32,
    look: Look,
}

/// What the arguments that are to come may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Look {
    #[default]
    Nothing,
    /// `CLIENT`.
    Client,
    /// `CLIENT REPLY`.
    Replies,
    Select,
    /// `XREAD` and its like, before `STREAMS`.
    Block,
    Channels,
}

impl Command {
    pub(super) const NONE: Command = Command { name: Name::OTHER, ask: Ask::Reply, seen: 0, look: Look::Nothing };

    /// Its name has come.
    pub(super) fn is_named(&self) -> bool {
        self.seen > 0
    }

    /// Takes the next argument, of which `text` is the beginning.
    pub(super) fn argument(&mut self, text: &[u8]) {
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            return self.name(text);
        }
        let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
        match self.look {
            Look::Nothing => {}
            Look::Client if is("REPLY") => self.look = Look::Replies,
            Look::Block if is("BLOCK") => self.ask = Ask::Waits,
            Look::Block if !is("STREAMS") => {}
            Look::Channels => self.ask = Ask::Subscribe(self.seen - 1),
            Look::Replies => {
                self.look = Look::Nothing;
                let modes = [("ON", Mode::On), ("OFF", Mode::Off), ("SKIP", Mode::Skip)];
                if let Some((_, mode)) = modes.into_iter().find(|(word, _)| is(word)) {
                    self.ask = Ask::Replies(mode);
                }
            }
            Look::Select => {
                self.look = Look::Nothing;
                if let Some(database) = number(text).and_then(|number| u32::try_from(number).ok()) {
                    self.ask = Ask::Select(database);
                }
            }
            Look::Client | Look::Block => self.look = Look::Nothing,
        }
    }

    fn name(&mut self, text: &[u8]) {
        self.name = Name::of(text);
        (self.ask, self.look) = match self.name.as_str() {
            "CLIENT" => (Ask::Reply, Look::Client),
            "SELECT" => (Ask::Reply, Look::Select),
            "XREAD" | "XREADGROUP" => (Ask::Reply, Look::Block),
            "BLPOP" | "BRPOP" | "BRPOPLPUSH" | "BLMOVE" | "BLMPOP" | "BZPOPMIN" | "BZPOPMAX" | "BZMPOP" | "WAIT"
            | "WAITAOF" => (Ask::Waits, Look::Nothing),
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" => {
                (Ask::Subscribe(1), Look::Channels)
            }
            "EXEC" => (Ask::Exec, Look::Nothing),
            "DISCARD" => (Ask::Discard, Look::Nothing),
            "MONITOR" => (Ask::Monitor, Look::Nothing),
            "SYNC" | "PSYNC" => (Ask::Sync, Look::Nothing),
            "RESET" => (Ask::Reset, Look::Nothing),
            _ => (Ask::Reply, Look::Nothing),
        };
    }

    /// A command in a line of its own, its words between blanks. False where it is none: who sends an
    /// unknown one gets an error, and is seldom met.
    pub(super) fn inline(&mut self, line: &[u8]) -> bool {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
        line.split(is_blank).filter(|word| !word.is_empty()).for_each(|word| self.argument(word));
        self.name != Name::OTHER
    }
}

/// What the first element of an array or a push says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Word {
    #[default]
    Nothing,
    /// Something was published.
    Message,
    /// A channel is or is no more listened to, as that command asks.
    Confirms(Name),
}

impl Word {
    pub(super) fn of(text: &[u8]) -> Word {
        match text {
            b"message" | b"pmessage" | b"smessage" => Word::Message,
            b"subscribe" | b"psubscribe" | b"ssubscribe" | b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => {
                Word::Confirms(Name::of(text))
            }
            _ => Word::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> (&'static str, Ask) {
        let mut command = Command::NONE;
        assert!(command.inline(line.as_bytes()), "{line}");
        (command.name.as_str(), command.ask)
    }

    #[test]
    fn the_list_of_commands_is_sorted_and_none_is_longer_than_what_is_kept() {
        assert!(COMMANDS.is_sorted());
        assert!(
            COMMANDS.iter().all(|name| name.len() < KEPT && Name::of(name.to_lowercase().as_bytes()).as_str() == *name)
        );
        assert_eq!(Name::of(b"hunter2").as_str(), "other");
        assert_eq!(Name::of(&[b'X'; 40]).as_str(), "other");
    }

    #[test]
    fn arguments_that_change_the_connection_are_understood() {
        for (line, expected) in [
            ("get a", ("GET", Ask::Reply)),
            ("client reply off", ("CLIENT", Ask::Replies(Mode::Off))),
            ("CLIENT REPLY skip", ("CLIENT", Ask::Replies(Mode::Skip))),
            ("CLIENT SETNAME REPLY OFF", ("CLIENT", Ask::Reply)),
            ("SELECT 3", ("SELECT", Ask::Select(3))),
            ("SELECT x", ("SELECT", Ask::Reply)),
            ("XREAD COUNT 1 BLOCK 0 STREAMS s $", ("XREAD", Ask::Waits)),
            ("XREAD COUNT 1 STREAMS block 0", ("XREAD", Ask::Reply)),
            ("XREADGROUP GROUP g c BLOCK 5 STREAMS s >", ("XREADGROUP", Ask::Waits)),
            ("BLPOP l 0", ("BLPOP", Ask::Waits)),
            ("SUBSCRIBE a b c", ("SUBSCRIBE", Ask::Subscribe(3))),
            ("UNSUBSCRIBE", ("UNSUBSCRIBE", Ask::Subscribe(1))),
        ] {
            assert_eq!(ask(line), expected, "{line}");
        }
        for line in [&b"\x01GET"[..], b"  ", b"nonsense"] {
            let mut command = Command::NONE;
            assert!(!command.inline(line), "{}", line.escape_ascii());
        }
    }
}
