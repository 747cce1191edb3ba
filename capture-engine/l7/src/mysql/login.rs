//! What begins a connection: the server's greeting, and what the client says to it.

use super::command;
use super::packet::{
    self, COMPRESS, CONNECT_WITH_DB, DEPRECATE_EOF, LENENC_AUTH, PROTOCOL_41, SECURE_CONNECTION, SSL, ZSTD, until_nul,
};

/// The first part of what a client says: capabilities, and zeros.
pub(super) const FIXED: usize = 32;

/// What a client says to a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub capabilities: u32,
    /// It goes on encrypted, and says the rest there.
    pub encrypts: bool,
    pub database: Option<Box<str>>,
}

impl Login {
    pub(super) fn read(payload: &[u8], length: u64) -> Option<Login> {
        let capabilities = fixed(payload)?;
        let encrypts = length == FIXED as u64 && capabilities & SSL != 0;
        let database = database(payload.get(FIXED..)?, capabilities).and_then(command::database);
        Some(Login { capabilities, encrypts, database })
    }

    /// What follows the login is compressed.
    pub(super) fn compresses(&self, server: u32) -> bool {
        self.capabilities & server & (COMPRESS | ZSTD) != 0
    }

    /// Whether results end with EOF packets.
    pub(super) fn eof(&self, server: u32) -> bool {
        self.capabilities & server & DEPRECATE_EOF == 0
    }
}

/// Capabilities of a client, where these are the first bytes of what it says to a greeting: MariaDB's
/// have capabilities of their own in the last four of the zeros.
pub(super) fn fixed(payload: &[u8]) -> Option<u32> {
    let capabilities = u32::from_le_bytes(*payload.first_chunk()?);
    let zeros = payload.get(9..FIXED - 4)?;
    let filled = payload.get(FIXED - 4..FIXED)?;
    let longer = filled.iter().any(|byte| *byte != 0);
    // A client of MariaDB says with the lowest bit that it is none of MySQL.
    let fits = capabilities & PROTOCOL_41 != 0 && zeros.iter().all(|byte| *byte == 0);
    (fits && (!longer || capabilities & 1 == 0)).then_some(capabilities)
}

/// Whether what follows the fixed part of a packet of this length may be a user's name, empty for nobody,
/// and what authenticates it with its length before it (`SECURE_CONNECTION`); of a client that goes on
/// encrypted nothing follows.
pub(super) fn names_user(rest: &[u8], length: u32, capabilities: u32) -> bool {
    let Some(room) = (length as usize).checked_sub(FIXED).filter(|room| *room > 0) else {
        return capabilities & SSL != 0;
    };
    let name = rest.iter().take_while(|byte| **byte != 0).count();
    let is_text = rest.iter().take(name).all(|byte| !byte.is_ascii_control());
    let fits = match rest.get(name + 1) {
        // A token of thousands of bytes, whose length needs two more.
        Some(0xfc) if capabilities & LENENC_AUTH != 0 => name + 4 <= room,
        Some(secret) => *secret < 0xfb && name + 2 + usize::from(*secret) <= room,
        // The length is there, if it is 0, and is not kept.
        None => name + 2 <= room,
    };
    is_text && fits
}

/// The database behind the user's name and what authenticates it.
fn database(rest: &[u8], capabilities: u32) -> Option<&[u8]> {
    if capabilities & CONNECT_WITH_DB == 0 {
        return None;
    }
    let (_user, rest) = until_nul(rest)?;
    let rest = if capabilities & LENENC_AUTH != 0 {
        let (length, rest) = packet::integer(rest)?;
        rest.get(usize::try_from(length).ok()?..)?
    } else if capabilities & SECURE_CONNECTION != 0 {
        let (&length, rest) = rest.split_first()?;
        rest.get(usize::from(length)..)?
    } else {
        until_nul(rest)?.1
    };
    until_nul(rest).map(|(name, _)| name)
}

/// Whether these are the first bytes of the payload of a greeting (protocol 10); `None` where more decide.
/// Its capabilities.
pub(super) fn greeting(payload: &[u8]) -> Option<Result<u32, NoGreeting>> {
    let Some((&10, rest)) = payload.split_first() else {
        return if payload.is_empty() { None } else { Some(Err(NoGreeting)) };
    };
    let version = rest.iter().take(64).take_while(|byte| byte.is_ascii_graphic()).count();
    // A number of several parts: 8.0.36, 5.7.25-TiDB, 10.11.6-MariaDB.
    let has_parts = |version: &[u8]| version.contains(&b'.');
    let ends_wrong = |end: &u8| *end != 0 || !rest.get(..version).is_some_and(has_parts);
    if !rest.first().is_none_or(u8::is_ascii_digit) || rest.get(version).is_some_and(ends_wrong) {
        return Some(Err(NoGreeting));
    }
    // Number of the connection, first part of the scramble, zero, capabilities.
    let rest = rest.get(version + 1..)?;
    let [zero, low, high, _charset, _, _, low2, high2, _length, reserved @ ..] = rest.get(12..)? else { return None };
    let capabilities = u32::from_le_bytes([*low, *high, *low2, *high2]);
    let reserved = reserved.get(..6)?;
    let fits = *zero == 0 && capabilities & PROTOCOL_41 != 0 && reserved.iter().all(|byte| *byte == 0);
    Some(if fits { Ok(capabilities) } else { Err(NoGreeting) })
}

/// It is something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoGreeting;
