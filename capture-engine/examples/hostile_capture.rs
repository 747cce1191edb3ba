//! Writes a capture to standard output that is made to be slow or large to read:
//! `cargo run --release -p capture-engine --example hostile_capture -- heads 1000 | pilotfish replay -`
//!
//! The first word says of what kind, the second how many MB it is to have (1000 by default).

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const SYN: u8 = 2;
const ACK: u8 = 16;

struct Capture<W> {
    to: W,
    packets: u64,
    bytes: u64,
}

impl<W: Write> Capture<W> {
    fn new(mut to: W) -> io::Result<Capture<W>> {
        // Nanoseconds, version 2.4, no snap length to speak of, raw IP.
        let head = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 101].map(u32::to_le_bytes);
        to.write_all(head.as_flattened())?;
        Ok(Capture { to, packets: 0, bytes: 24 })
    }

    /// A packet of the IP protocol `kind` with this header and payload, 10 us after the one before.
    fn packet(&mut self, from: [u8; 4], to: [u8; 4], kind: u8, header: &[u8], payload: &[u8]) -> io::Result<()> {
        let length = 20 + header.len() + payload.len();
        let at = self.packets * 10_000;
        let (seconds, nanos) = ((at / 1_000_000_000) as u32, (at % 1_000_000_000) as u32);
        self.to.write_all([seconds, nanos, length as u32, length as u32].map(u32::to_le_bytes).as_flattened())?;
        let mut ip = [0; 20];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        (ip[8], ip[9]) = (64, kind);
        ip[12..16].copy_from_slice(&from);
        ip[16..20].copy_from_slice(&to);
        self.to.write_all(&ip)?;
        self.to.write_all(header)?;
        self.to.write_all(payload)?;
        self.packets += 1;
        self.bytes += 16 + length as u64;
        Ok(())
    }

    fn tcp(&mut self, asks: bool, client: u16, numbers: [u32; 2], flags: u8, payload: &[u8]) -> io::Result<()> {
        let (from, to, ports) = if asks { (CLIENT, SERVER, [client, 80]) } else { (SERVER, CLIENT, [80, client]) };
        let mut header = [0; 20];
        header[..4].copy_from_slice(ports.map(u16::to_be_bytes).as_flattened());
        header[4..12].copy_from_slice(numbers.map(u32::to_be_bytes).as_flattened());
        (header[12], header[13], header[14]) = (0x50, flags, 0x40);
        self.packet(from, to, 6, &header, payload)
    }

    fn handshake(&mut self, client: u16) -> io::Result<()> {
        self.tcp(true, client, [0, 0], SYN, b"")?;
        self.tcp(false, client, [0, 1], SYN | ACK, b"")?;
        self.tcp(true, client, [1, 1], ACK, b"")
    }

    fn udp(&mut self, from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> io::Result<()> {
        let length = 8 + payload.len() as u16;
        let header = [from.1, to.1, length, 0].map(u16::to_be_bytes);
        self.packet(from.0, to.0, 17, header.as_flattened(), payload)
    }
}

/// A DNS message with one question, whose name is made of `number`; an answer where `answer` says so.
fn dns(number: u64, answer: bool) -> Vec<u8> {
    let mut message = (number as u16).to_be_bytes().to_vec();
    message.extend([if answer { 0x81 } else { 1 }, if answer { 0x80 } else { 0 }, 0, 1, 0, u8::from(answer)]);
    message.extend([0, 0, 0, 0]);
    for label in [format!("{:060x}", number), format!("{:060x}", !number), "example".to_owned()] {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    if answer {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10]);
        message.extend(&(number as u32).to_be_bytes()[1..]);
    }
    message
}

fn write(kind: &str, most: u64, out: impl Write) -> io::Result<bool> {
    let mut capture = Capture::new(out)?;
    let mut seq = 1u32;
    let mut number = 0u64;
    // Of one flow where the kind is of one.
    if matches!(kind, "heads" | "tiny") {
        capture.handshake(40_000)?;
    }
    while capture.bytes < most {
        let port = 1024 + (number % 64_000) as u16;
        match kind {
            // Requests, pipelined and never answered.
            "heads" => {
                let heads = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n".repeat(48);
                capture.tcp(true, 40_000, [seq, 1], ACK, &heads)?;
                seq = seq.wrapping_add(heads.len() as u32);
            }
            // The same on many connections.
            "many-heads" => {
                let round = (number / 4096) as u32;
                let client = 1024 + (number % 4096) as u16;
                if round == 0 {
                    capture.handshake(client)?;
                }
                let heads = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n".repeat(48);
                capture.tcp(true, client, [1 + round * heads.len() as u32, 1], ACK, &heads)?;
            }
            // One endless head, a byte in each segment.
            "tiny" => {
                let bytes = b"GET / HTTP/1.1\r\nx: ";
                let byte = bytes.get(number as usize).copied().unwrap_or(b'y');
                capture.tcp(true, 40_000, [seq, 1], ACK, &[byte])?;
                seq = seq.wrapping_add(1);
            }
            // Queries without answers.
            "dns-open" => capture.udp((CLIENT, port), (SERVER, 53), &dns(number, false))?,
            // The same of one socket.
            "dns-socket" => capture.udp((CLIENT, 5000), (SERVER, 53), &dns(number, false))?,
            // Every answer names another address.
            "dns-names" => {
                capture.udp((CLIENT, port), (SERVER, 53), &dns(number, false))?;
                capture.udp((SERVER, 53), (CLIENT, port), &dns(number, true))?;
            }
            // Connections that are never closed: each has a tuple of its own.
            "flows" => {
                let client = [10, (number >> 16) as u8 | 1, (number >> 8) as u8, number as u8];
                let mut header = [0; 20];
                header[..4].copy_from_slice([4000u16, 80].map(u16::to_be_bytes).as_flattened());
                (header[12], header[13]) = (0x50, SYN);
                header[7] = (number >> 24) as u8;
                capture.packet(client, SERVER, 6, &header, b"")?;
            }
            // Answers to requests that never come, four for each of many connections.
            "early" => {
                let client = 1024 + (number % 60_000) as u16;
                if number < 60_000 {
                    capture.handshake(client)?;
                }
                let round = (number / 60_000) as u32;
                let answer = [b'z'; 1400];
                capture.tcp(false, client, [1 + round * 1400, 1000], ACK, &answer)?;
            }
            _ => return Ok(false),
        }
        number += 1;
    }
    capture.to.flush()?;
    Ok(true)
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let kind = words.next().unwrap_or_default();
    let megabytes: u64 = words.next().and_then(|number| number.parse().ok()).unwrap_or(1000);
    match write(&kind, megabytes * 1_000_000, BufWriter::with_capacity(1 << 20, io::stdout().lock())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("of what kind? heads, many-heads, tiny, dns-open, dns-socket, dns-names, flows or early");
            ExitCode::from(64)
        }
        Err(error) => {
            eprintln!("writing to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
