//! HTTP/2 and gRPC, which are walked: streams that do not wait for each other, and bodies that are left out.

use super::random::Dice;
use super::{Packet, dns};

fn frame(kind: u8, flags: u8, stream: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn headers(end: bool, stream: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    frame(1, 4 | u8::from(end), stream, &fields.iter().flat_map(field).collect::<Vec<u8>>())
}

/// `length` bytes in frames of at most 16 KiB, and between them what concerns no stream.
fn data(end: bool, stream: u16, length: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    let body = vec![b'.'; length];
    let mut chunks = body.chunks(16 << 10).peekable();
    while let Some(chunk) = chunks.next() {
        let last = end && chunks.peek().is_none();
        bytes.extend(frame(0, u8::from(last), stream, chunk));
        match dice.below(4) {
            0 => bytes.extend(frame(8, 0, 0, &[0, 0, 1, 0])),
            1 => bytes.extend(frame(6, 0, 0, &[7; 8])),
            _ => {}
        }
    }
    bytes
}

/// Every second exchange is a call.
fn ask(id: u16, dice: &mut Dice) -> Vec<u8> {
    let (stream, path) = (2 * id - 1, format!("/shop.Cart/Call{id}"));
    let content = if id.is_multiple_of(2) { "application/grpc" } else { "text/plain" };
    let fields = [(":method", "POST"), (":path", &*path), ("content-type", content)];
    let length = [0, 10, 3000, 40_000][dice.below(4) as usize];
    [headers(length == 0, stream, &fields), data(true, stream, length, dice)].concat()
}

fn answer(id: u16, dice: &mut Dice) -> Vec<u8> {
    let stream = 2 * id - 1;
    let length = 1 + [40, 3000, 20_000, 60_000][dice.below(4) as usize] as usize;
    if !id.is_multiple_of(2) {
        let status = (400 + id).to_string();
        return [headers(false, stream, &[(":status", &status)]), data(true, stream, length, dice)].concat();
    }
    let head = headers(false, stream, &[(":status", "200"), ("content-type", "application/grpc")]);
    let code = (id % 17).to_string();
    [head, data(false, stream, length, dice), headers(true, stream, &[("grpc-status", &code)])].concat()
}

/// The packets of a connection, and how many exchanges there are.
pub fn conversation(seed: u64, rough: bool) -> (Vec<Packet>, u16) {
    let count = 10 + Dice::new(seed).below(30) as u16;
    let settings = frame(4, 0, 0, &[]);
    let first = [[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat(), settings];
    (dns::packets(seed, rough, first, count + 1, ask, answer), count)
}
