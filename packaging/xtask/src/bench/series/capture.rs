//! A capture of pods with names of their own, written packet by packet: each serves and asks 7
//! kinds of HTTP requests and asks 3 kinds of DNS questions, 100 times each.

use std::io::{self, Write};

const REQUESTS: u64 = 100;
const KINDS: [(&str, u16); 7] =
    [("GET", 200), ("GET", 304), ("GET", 404), ("GET", 500), ("POST", 201), ("POST", 503), ("DELETE", 204)];
/// Type and response code.
const QUESTIONS: [(u16, u16); 3] = [(1, 0), (28, 0), (1, 3)];

type Address = [u8; 4];
const CALLER: Address = [10, 255, 0, 1];
const CALLED: Address = [10, 255, 0, 2];
const RESOLVER: Address = [10, 255, 0, 3];

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 1;
const SYN: u8 = 2;
const PUSH: u8 = 8;
const ACK: u8 = 16;

pub struct Capture<W> {
    out: W,
    now_ns: u64,
}

/// One end of a connection.
#[derive(Clone, Copy)]
struct End {
    ip: Address,
    port: u16,
    sequence: u32,
}

impl<W: Write> Capture<W> {
    /// pcap with nanoseconds (magic a1b23c4d), link type 101: packets begin with their IP header.
    pub fn begin(mut out: W) -> io::Result<Capture<W>> {
        for field in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 65_535, 101u32] {
            out.write_all(&field.to_le_bytes())?;
        }
        Ok(Capture { out, now_ns: 1_000_000_000 })
    }

    pub fn pods(&mut self, pods: u32) -> io::Result<()> {
        for pod in 0..pods {
            let [_, a, b, c] = pod.to_be_bytes();
            let own = [10, a, b, c];
            self.http(CALLER, own)?;
            self.http(own, CALLED)?;
            self.dns(own)?;
        }
        self.out.flush()
    }

    fn http(&mut self, client: Address, server: Address) -> io::Result<()> {
        let mut client = End { ip: client, port: 40_000, sequence: 1 };
        let mut server = End { ip: server, port: 8080, sequence: 1 };
        self.segment(&mut client, &server, SYN, b"", 1_000)?;
        self.segment(&mut server, &client, SYN | ACK, b"", 50_000)?;
        self.segment(&mut client, &server, ACK, b"", 1_000)?;
        for i in 0..REQUESTS {
            for (n, (method, status)) in KINDS.into_iter().enumerate() {
                let request = format!("{method} / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n");
                let response = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n");
                self.segment(&mut client, &server, PUSH | ACK, request.as_bytes(), 10_000)?;
                let fastest = (n as u64 + 1) * 500_000;
                self.segment(&mut server, &client, PUSH | ACK, response.as_bytes(), took(i, fastest))?;
            }
        }
        self.segment(&mut client, &server, FIN | ACK, b"", 1_000)?;
        self.segment(&mut server, &client, FIN | ACK, b"", 1_000)?;
        self.segment(&mut client, &server, ACK, b"", 1_000)
    }

    /// `after_ns` the packet before.
    fn segment(&mut self, from: &mut End, to: &End, flags: u8, payload: &[u8], after_ns: u64) -> io::Result<()> {
        let acknowledged = if flags & ACK == 0 { 0 } else { to.sequence };
        let mut segment = ports(from.port, to.port);
        segment.extend(from.sequence.to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        // 20 bytes of header; a window of 64 KiB; no checksum, as a sender leaves it to its
        // interface.
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        let length = u32::try_from(payload.len()).unwrap_or(0) + u32::from(flags & (SYN | FIN) != 0);
        from.sequence = from.sequence.wrapping_add(length);
        self.packet(TCP, from.ip, to.ip, &segment, after_ns)
    }

    fn dns(&mut self, own: Address) -> io::Result<()> {
        for i in 0..REQUESTS {
            for (qtype, rcode) in QUESTIONS {
                let id = u16::try_from(i).unwrap_or(0);
                self.datagram((own, 50_000), (RESOLVER, 53), &question(id, 0x0100, qtype), 10_000)?;
                let answer = question(id, 0x8180 | rcode, qtype);
                self.datagram((RESOLVER, 53), (own, 50_000), &answer, took(i, 200_000))?;
            }
        }
        Ok(())
    }

    fn datagram(&mut self, from: (Address, u16), to: (Address, u16), payload: &[u8], after_ns: u64) -> io::Result<()> {
        let mut datagram = ports(from.1, to.1);
        datagram.extend(u16::try_from(payload.len() + 8).unwrap_or(8).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        self.packet(UDP, from.0, to.0, &datagram, after_ns)
    }

    fn packet(&mut self, protocol: u8, from: Address, to: Address, payload: &[u8], after_ns: u64) -> io::Result<()> {
        self.now_ns += after_ns;
        let length = u16::try_from(payload.len() + 20).map_err(io::Error::other)?;
        let [high, low] = length.to_be_bytes();
        let (seconds, nanos) = (self.now_ns / 1_000_000_000, self.now_ns % 1_000_000_000);
        for field in [seconds, nanos, length.into(), length.into()] {
            self.out.write_all(&u32::try_from(field).map_err(io::Error::other)?.to_le_bytes())?;
        }
        self.out.write_all(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0])?;
        self.out.write_all(&from)?;
        self.out.write_all(&to)?;
        self.out.write_all(payload)
    }
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

/// One question for api.shop, and no record.
fn question(id: u16, flags: u16, qtype: u16) -> Vec<u8> {
    let mut message: Vec<u8> = [id, flags, 1, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    message.extend(b"\x03api\x04shop\0");
    message.extend([qtype.to_be_bytes(), 1u16.to_be_bytes()].concat());
    message
}

/// Log-uniform from `fastest` to ten times that, from a fixed sequence.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn took(i: u64, fastest: u64) -> u64 {
    let step = i * 37 % REQUESTS;
    (fastest as f64 * 10f64.powf(step as f64 / REQUESTS as f64)) as u64
}
