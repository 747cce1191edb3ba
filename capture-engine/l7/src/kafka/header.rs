//! What a request begins with: its length, what it asks for, its number, and the name of the client.

use super::api::{self, Call};
use super::error;
use super::schema::{Cursor, End, Seen};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of a frame before what is kept of its body: its length, and of a request the key and the
/// version, of a response the number.
pub(super) const HEAD: usize = 8;

/// Bytes of the length.
pub(super) const LENGTH: usize = 4;

/// Bytes of a frame that are looked at, by captures too, so that both say the same.
pub(super) const KEPT: usize = 512;

/// A request has a number and the length of a name, at least; a response a number.
pub(super) const LEAST: [u64; 2] = [4, 10];

/// No message is longer: brokers refuse more than 100 MB, where they are left as they come, and answer as
/// many bytes as a client asks for: 50 MB and one batch, where it is left as it comes.
pub(super) const LONGEST: u64 = 1 << 28;

/// Names of clients that are believed are no longer.
const LONGEST_CLIENT: usize = 255;

/// So many versions newer than what is known here are believed.
const NEWER: i16 = 3;

/// Of a client that is known, keys and versions below these are.
const LAST_KEY: i16 = 256;
const LAST_VERSION: i16 = 64;

/// A request, as far as it is known.
#[derive(Debug)]
pub(super) struct Asks<'a> {
    pub call: Call,
    pub id: i32,
    /// What the client calls itself, as a hash.
    pub client: u64,
    /// Characters of that.
    pub named: usize,
    pub seen: Seen<'a>,
    pub end: End,
    /// All of its bytes are here, also those that are not looked at.
    pub is_whole: bool,
}

/// Length of a frame by its first four bytes, those included; `None` where it is none.
pub(super) fn length(head: [u8; 4], from_client: bool) -> Option<u64> {
    let length = u64::from(u32::from_be_bytes(head));
    (LEAST[usize::from(from_client)]..=LONGEST).contains(&length).then_some(4 + length)
}

/// The number in the head of a response.
pub(super) fn id(head: [u8; HEAD]) -> i32 {
    let [_, _, _, _, a, b, c, d] = head;
    i32::from_be_bytes([a, b, c, d])
}

/// Reads a request of `length` bytes, of which `body` follows the head. `None` where it is surely none.
/// `client`: what the client is known to call itself. From it what is newer is believed, too.
pub(super) fn request(head: [u8; HEAD], body: &[u8], length: u64, client: Option<u64>) -> Option<Asks<'_>> {
    let [.., a, b, c, d] = head;
    let call = Call::new(i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let version = call.version;
    let known = call.api.is_some_and(|api| (0..=api.newest.saturating_add(NEWER)).contains(&version));
    let possible = client.is_some() && (0..LAST_KEY).contains(&call.key) && (0..LAST_VERSION).contains(&version);
    if !known && !possible {
        return None;
    }
    let mut cursor = Cursor::new(body, length.saturating_sub(HEAD as u64));
    let id = cursor.i32().ok()?;
    let mut asks = Asks { call, id, client: 0, named: 0, seen: Seen::default(), end: End::Part, is_whole: false };
    if !call.has_client() {
        return Some(asks);
    }
    let name = match cursor.text(false) {
        Ok(name) => name,
        Err(End::Part) => return Some(asks),
        Err(_) => return None,
    };
    if name.is_some_and(|name| !is_name(name)) {
        return None;
    }
    (asks.client, asks.named) = (hash(name), name.map_or(0, <[u8]>::len));
    if !known && client != Some(asks.client) {
        return None;
    }
    let tags = if call.is_flexible() { cursor.tags() } else { Ok(()) };
    asks.end = match (tags, call.known()) {
        (Err(end), _) => end,
        (_, Some(api)) if !api.request.is_empty() => {
            cursor.walk(api.request, version, call.is_flexible(), &mut asks.seen)
        }
        _ => End::Part,
    };
    Some(asks)
}

/// What a response says: `body` follows its number.
pub(super) fn response(call: Call, body: &[u8], length: u64) -> (End, Seen<'_>) {
    let mut seen = Seen::default();
    let mut cursor = Cursor::new(body, length.saturating_sub(HEAD as u64));
    let Some(api) = call.known().filter(|api| !api.response.is_empty()) else { return (End::Part, seen) };
    if call.response_has_tags()
        && let Err(end) = cursor.tags()
    {
        return (end, seen);
    }
    let end = cursor.walk(api.response, call.version, call.is_flexible(), &mut seen);
    // A broker that does not know the version answers as of version 0 (KIP-511).
    let old = call.key == api::API_VERSIONS && seen.error == error::UNSUPPORTED_VERSION;
    (if old { End::Part } else { end }, seen)
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= LONGEST_CLIENT && std::str::from_utf8(name).is_ok_and(|name| !name.contains(char::is_control))
}

fn hash(name: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
