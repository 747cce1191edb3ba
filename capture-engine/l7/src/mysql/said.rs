//! Packets of a client, read: only what is kept of them.

use super::command::Command;
use super::login::Login;
use super::packet::Packet;
use flow_model::Ts;

/// A packet of the client that is read: only what is kept of it.
#[derive(Debug)]
pub(super) enum Said {
    Login(Box<Login>),
    Command(Box<Command>),
    /// What the server has asked for: a file, what authenticates.
    More,
    /// Nothing that a client says.
    Nonsense,
}

/// What a packet was, without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub length: u64,
    pub last_number: u8,
    pub first: Ts,
    pub last: Ts,
    pub turn: u32,
}

/// Reads it where the borrow of the payload ends.
pub(super) fn read(it: &Packet<'_>, awaits_login: bool) -> (Seen, Said) {
    let Packet { length, number, last_number, first, last, turn, .. } = *it;
    let seen = Seen { length, last_number, first, last, turn };
    let said = if awaits_login {
        Login::read(it.body, it.payload).map_or(Said::Nonsense, |login| Said::Login(Box::new(login)))
    } else if number == 0 {
        let whole = it.body.len() as u64 == it.payload;
        Command::read(it.body, whole).map_or(Said::Nonsense, |command| Said::Command(Box::new(command)))
    } else {
        Said::More
    };
    (seen, said)
}
