//! What the fuzz targets do with their bytes: one script of packets, losses, ends and times for
//! each dissector, and the bounds that must hold whatever the bytes say. `cargo xtask fuzz` runs
//! them under libFuzzer for a bounded time; the tests below run them on a few thousand
//! pseudo-random scripts, so that a broken harness is noticed without a fuzzer.
#![forbid(unsafe_code)]

use flow_model::{Close, Direction, L7Record, LossReason, Role, Ts};
use l7::dns::{Datagram, Udp};
use l7::{Asked, Limits, MessageEnd, Out, Piece, Tcp, Walked, Wire, Wires};
use std::time::Duration;

/// Counts what comes out, and looks at each.
#[derive(Debug, Default)]
struct Found {
    records: u64,
    lost: u64,
}

impl Out for Found {
    fn record(&mut self, record: L7Record) {
        assert!(record.end >= record.start, "an exchange ends before it begins: {record:?}");
        self.records += 1;
    }

    fn lost(&mut self, _reason: LossReason, count: u64) {
        self.lost += count;
    }
}

/// The bytes of a script, read from the front; zeros when they are used up.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn limits(choice: u8) -> Limits {
    Limits {
        reassembly_bytes: 4 << 10,
        gaps: 4,
        head_bytes: 1 << 10,
        open_exchanges: 16,
        keep_strings: choice & 1 == 1,
        routes: choice & 4 == 4,
        report_partial: choice & 2 == 2,
        wires: if choice >> 4 == 15 { Wires::only(&[Wire::Http1]) } else { Wires::ALL },
    }
}

/// A TCP connection: pieces in order, out of order, again, cut, with holes; message ends true and
/// false; silence; closes.
pub fn tcp(data: &[u8]) {
    connection(data, &[]);
}

/// The same, after a command of Redis: its dissector reads all of it.
pub fn redis(data: &[u8]) {
    connection(data, &[b"*1\r\n$4\r\nPING\r\n"]);
}

/// The same, after the login of a PostgreSQL client.
pub fn postgres(data: &[u8]) {
    connection(data, &[b"\0\0\0\x17\0\x03\0\0user\0joe\0\0\0\0\0\0\0"]);
}

/// The same, after HTTP/1 has agreed on WebSocket.
pub fn websocket(data: &[u8]) {
    let (ask, agree) =
        (&b"GET /a HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"[..], &b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"[..]);
    connection(data, &[ask, agree]);
}

/// The same, after the greeting of a MySQL server.
pub fn mysql(data: &[u8]) {
    connection(
        data,
        &[b"\x4a\0\0\0\x0a8.0.36\0\x09\0\0\0abcdefgh\0\xff\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0caching_sha2_password\0"],
    );
}

/// The same, after an exchange with a broker of Kafka.
pub fn kafka(data: &[u8]) {
    let ask = b"\0\0\0\x14\0\x03\0\x01\0\0\0\x07\0\x03app\0\0\0\x01\0\x01a";
    let answer = b"\0\0\0\x1a\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01a\0\0\0\0\0";
    connection(data, &[ask, answer]);
}

/// `openings` are said first, in turn, by the client and by the server.
fn connection(data: &[u8], openings: &[&[u8]]) {
    let mut script = Script(data);
    let start = script.byte();
    let limits = limits(start);
    let role = [Role::Unknown, Role::Client, Role::Server][usize::from(start >> 2) % 3];
    let mut tcp = Tcp::new(&limits, role);
    let mut found = Found::default();
    let mut next_seq = [u32::from(start) << 24, 0xffff_ff00];
    let (mut turn, mut last_dir, mut now) = (0_u32, None, Ts(1_000));
    for (opening, dir) in openings.iter().zip([Direction::Egress, Direction::Ingress]) {
        (turn, last_dir) = (turn + 1, Some(dir));
        let (seq, wire_len) = (next_seq[dir.index()], u32::try_from(opening.len()).unwrap_or(0));
        next_seq[dir.index()] = seq.wrapping_add(wire_len);
        let walked = Walked::default();
        let piece = Piece { dir, at: now, seq, turn, first: true, wire_len, payload: opening, acked: None, walked };
        tcp.piece(&piece, &mut found);
    }
    while !script.0.is_empty() {
        let op = script.byte();
        let dir = if op & 1 == 0 { Direction::Egress } else { Direction::Ingress };
        now = now.plus(Duration::from_micros(u64::from(script.byte())));
        let _ = tcp.headers();
        match op >> 1 & 7 {
            0..=3 => {
                let (skew, length) = (script.byte(), usize::from(script.byte()));
                let payload = script.bytes(length);
                if last_dir != Some(dir) || op & 0x80 != 0 {
                    turn = turn.wrapping_add(if last_dir == Some(dir) { 2 } else { 1 });
                    last_dir = Some(dir);
                }
                // Most pieces follow the one before; a skewed one leaves a hole or comes again.
                let offset = if op & 0x40 == 0 { 0 } else { i32::from(skew.cast_signed()) };
                let cut = if op & 0x20 == 0 { 0 } else { u32::from(skew) };
                let seq = next_seq[dir.index()].wrapping_add_signed(offset);
                let wire_len = u32::try_from(payload.len()).unwrap_or(0) + cut;
                next_seq[dir.index()] = seq.wrapping_add(wire_len);
                let first = op & 0x10 == 0;
                // As a source says it that follows frames.
                let frames = cut & 0x80 != 0;
                let skipped = if frames { cut & 0x0f } else { 0 };
                let asked = (cut & 0x81 == 0x01).then(|| asked(cut));
                let walked = Walked { skipped, frames, astray: cut & 0x10 != 0, tail: cut & 0x60 == 0x60, asked };
                tcp.piece(
                    &Piece { dir, at: now, seq, turn, first, wire_len, payload, acked: None, walked },
                    &mut found,
                );
            }
            4 => tcp.message_ended(&end(&mut script, turn, now), &mut found),
            5 => tcp.progress(&end(&mut script, turn, now), now, &mut found),
            6 => {
                now = now.plus(Duration::from_secs(u64::from(script.byte())));
                tcp.expire(now, &mut found);
            }
            _ => tcp.sampled_turns(turn.wrapping_add(u32::from(script.byte() & 3)), &mut found),
        }
        // Both directions may hold what waits for a hole and a head under way.
        let bound = 2 * (limits.reassembly_bytes + limits.head_bytes) + 1024;
        assert!(tcp.buffered() <= bound, "{} bytes held", tcp.buffered());
    }
    let last = end(&mut script, turn, now);
    tcp.closed(now, Close::Fin, Some(&last), turn, &mut found);
}

fn end(script: &mut Script<'_>, turn: u32, now: Ts) -> MessageEnd {
    let (size, tail_len) = (script.byte(), script.byte() % 9);
    let mut tail = [0; 8];
    let bytes = script.bytes(usize::from(tail_len));
    tail[8 - bytes.len()..].copy_from_slice(bytes);
    let turn = turn.wrapping_sub(u32::from(size & 1));
    MessageEnd {
        turn,
        bytes: u64::from(size) * 16,
        packets: u32::from(size),
        first: Ts(1_000),
        last: now,
        tail,
        tail_len,
        asked: (size & 2 != 0).then(|| asked(u32::from(size))),
    }
}

/// A count of requests as a source says it: true or not, of a few runs.
fn asked(byte: u32) -> Asked {
    Asked::from_word((byte >> 3) << 12 | (byte >> 1 & 3) << 4 | (byte & 0x0f))
}

/// A UDP flow on DNS's port or another one.
pub fn udp(data: &[u8]) {
    let mut script = Script(data);
    let start = script.byte();
    let port = if start & 4 == 0 { 53 } else { 5000 };
    let mut udp = Udp::new(&limits(start), 40_000, port);
    let mut found = Found::default();
    let (mut turn, mut now) = (0_u32, Ts(1_000));
    while !script.0.is_empty() {
        let op = script.byte();
        now = now.plus(Duration::from_millis(u64::from(script.byte())));
        turn = turn.wrapping_add(u32::from(op >> 1 & 3));
        if op & 0x80 != 0 {
            udp.expire(now.plus(Duration::from_secs(u64::from(op & 0x1f))), &mut found);
            continue;
        }
        let dir = if op & 1 == 0 { Direction::Egress } else { Direction::Ingress };
        let length = usize::from(script.byte()) * 2;
        let payload = script.bytes(length);
        let cut = u32::from(op >> 3 & 3);
        let wire_len = u32::try_from(payload.len()).unwrap_or(0) + cut;
        udp.datagram(Datagram { dir, at: now, turn, wire_len, payload }, &mut found);
    }
    udp.sampled(turn, now);
    udp.closed(now, &mut found);
}

/// One DNS message.
pub fn dns(data: &[u8]) {
    if let Some(message) = l7::dns::parse(data) {
        // A name of 255 bytes (RFC 1035 section 2.3.4), each of them written as \DDD.
        assert!(format!("{message:?}").len() < 1 << 16, "{} bytes made a large message", data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts that are bytes of an xorshift64 sequence with words of the protocols strewn in.
    fn check(target: fn(&[u8])) {
        const WORDS: &[&[u8]] = &[
            b"GET /items?i=1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x04demo\x00\x00\x01\x00\x01",
            b"\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03api\x04demo\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01",
            b"\xc0\x0c",
            b"\r\n\r\n",
            b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x13\x01\x01\x00\x00\x00",
            b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\x01\x00",
            b"\x14\x03\x03\x00\x01\x01\x16\x03\x03\x00\x04\x81\x82\x83\x84",
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\x17\x03\x03\x00\x35",
            b"\x00\x00\x00\x0a\x00\x08\x00\x00\x05a.com",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200\r\n",
            b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n*1\r\n$7\r\nMONITOR\r\n",
            b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n",
            b"*?\r\n%?\r\n|1\r\n+a\r\n:1\r\n$?\r\n;2\r\nab\r\n;0\r\n.\r\n.\r\n",
            b"+OK\r\n-MOVED 1 a:1\r\n$-1\r\n>3\r\n+message\r\n+a\r\n_\r\n",
            b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
            b"GET a\r\nMULTI\r\nSELECT 1\r\nEXEC\r\nRESET\r\n",
            b"$4294967290\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            b"\0\0\x0c\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a\x40\x01b\x02cd",
            b"\0\0\x05\x01\x04\0\0\0\x03\x83\x84\x86\xbe\xbf",
            b"\0\0\x04\x01\x04\0\0\0\x01\x88\x0f\x10\x00\0\0\x03\0\x01\0\0\0\x01abc",
            b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08",
            b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0",
            b"\0\0\x03\x01\x29\0\0\0\x05\xff\x80\x01",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
            b"\0\0\0\x11\0\x03\0\0user\0a\0\0\0",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
            b"Q\0\0\0\x0dSELECT 1\0",
            b"P\0\0\0\x11s\0UPDATE x\0\0\0B\0\0\0\x0d\0s\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0",
            b"S\0\0\0\x04",
            b"1\0\0\0\x042\0\0\0\x04C\0\0\0\x0dUPDATE 1\0",
            b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I",
            b"E\0\0\0\x15SERROR\0C23505\0\0\0",
            b"G\0\0\0\x07\0\0\0d\0\0\0\x06ab",
            b"c\0\0\0\x04",
            b"W\0\0\0\x07\0\0\0",
            b"D\0\x10\0\0",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            b"\x81\x05hello",
            b"\x81\x85\x01\x02\x03\x04hello",
            b"\x01\x02he\x89\x00\x80\x03llo",
            b"\x82\x7e\x01\x00",
            b"\x82\x7f\0\0\0\0\0\x01\0\0",
            b"\x88\x82\x01\x02\x03\x04\x02\xea",
            b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
            b"\x28\0\0\x01\x00\xa2\x08\x01\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0joe\0\0shop",
            b"\x20\0\0\x01\x00\xaa\x08\x01\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x07\0\0\x02\0\0\0\x02\0\0\0",
            b"\x07\0\0\x01\0\0\0\x0a\0\0\0",
            b"\x09\0\0\0\x03SELECT 1",
            b"\x12\0\0\0\x03\x01\x01\0\x01\xfe\0\x01a\x01bUSE abc",
            b"\x01\0\0\x01\x01\x08\0\0\x02\x03def\0\0\0\0\x05\0\0\x03\xfe\0\0\x02\0",
            b"\x02\0\0\x04\x01a\x07\0\0\x05\xfe\0\0\x02\0\0\0",
            b"\x09\0\0\0\x16SELECT ?",
            b"\x0c\0\0\x01\0\x01\0\0\0\x01\0\x01\0\0\0\0",
            b"\x0a\0\0\0\x17\x01\0\0\0\0\x01\0\0\0",
            b"\x05\0\0\0\x19\x01\0\0\0\x01\0\0\0\x0e",
            b"\x0b\0\0\x01\xff\x26\x04#23000ab",
            b"\x05\0\0\x01\xfbfile\x03\0\0\x02abc\0\0\0\x03",
            b"\x04\0\0\x01\xff\xff\xff\x01",
            b"\xff\xff\xff\0\x03",
            b"\0\0\0\x14\0\x03\0\x01\0\0\0\x08\0\x03app\0\0\0\x01\0\x01a",
            b"\0\0\0\x1a\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x01\0\x03\0\x01a\0\0\0\0\0",
            b"\0\0\0\x19\0\x12\0\x03\0\0\0\x09\0\x03app\0\x04lib\x041.0\0\0",
            b"\0\0\0\x30\0\0\0\x07\0\0\0\x0a\0\x03app\xff\xff\0\0\0\0\x0b\xb8\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\x10\0\0",
            b"\0\0\0\x06\0\0\0\x09\0\0",
            b"\0\0\0\x10\0\x11\0\0\0\0\0\x0b\0\x03app\0\x05PLAIN",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..3000 {
            let mut script = Vec::new();
            for _ in 0..random() % 12 {
                let word = WORDS[usize::try_from(random()).unwrap_or(0) % WORDS.len()];
                script.extend(random().to_le_bytes().iter().take(3));
                script.push(u8::try_from(word.len()).unwrap_or(0));
                script.extend(word);
            }
            target(&script);
        }
    }

    #[test]
    fn tcp_holds_its_bounds_on_scripts_of_protocol_words() {
        check(tcp);
        check(redis);
        check(postgres);
        check(websocket);
        check(mysql);
        check(kafka);
    }

    #[test]
    fn udp_and_dns_hold_theirs() {
        check(udp);
        check(dns);
    }
}
