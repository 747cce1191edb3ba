//! What one exchange costs: a keep-alive GET with a small response, one piece each, as `l7::Tcp` sees it.
//!
//! `cargo run --release -p l7 --example throughput [exchanges] [connections]` prints nanoseconds
//! per exchange; under `valgrind --tool=callgrind` the instruction count divided by the number of
//! exchanges is independent of the machine's load.
#![allow(clippy::print_stdout)]

use flow_model::{Direction, L7Record, LossReason, Role, Ts};
use l7::{Limits, MessageEnd, Out, Piece, Tcp};
use std::time::Instant;

#[derive(Default)]
struct Counted {
    records: u64,
    status: u64,
    lost: u64,
}

impl Out for Counted {
    fn record(&mut self, record: L7Record) {
        self.records += 1;
        self.status += record.response_bytes;
    }

    fn lost(&mut self, _: LossReason, count: u64) {
        self.lost += count;
    }
}

const REQUEST: &[u8] = b"GET /api/v1/items?page=3&sort=name HTTP/1.1\r\nHost: items.shop.svc.cluster.local:8080\r\n\
    User-Agent: Go-http-client/1.1\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n\
    X-Request-Id: 5f3b2c1d-9a8e-4c7d-b6a5-4f3e2d1c0b9a\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 01 Jan 2028 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 27\r\nConnection: keep-alive\r\n\r\n{\"items\":[],\"page\":3,\"n\":0}";

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let exchanges = arguments.next().unwrap_or(2_000_000);
    let connections = arguments.next().unwrap_or(100).max(1);
    println!("size_of Tcp {} bytes", size_of::<Tcp>());
    for (kept, keep_strings, routes) in
        [("nothing", false, false), ("routes", false, true), ("targets and hosts", true, false)]
    {
        let limits = Limits { keep_strings, routes, ..Limits::default() };
        let mut tcps: Vec<Tcp> = (0..connections).map(|_| Tcp::new(&limits, Role::Server)).collect();
        let mut out = Counted::default();
        let (mut sent, mut round) = (0, 0u32);
        let began = Instant::now();
        while sent < exchanges {
            for tcp in &mut tcps {
                exchange(tcp, round, &mut out);
                sent += 1;
            }
            round += 1;
        }
        let took = began.elapsed();
        assert_eq!((out.records, out.lost), (sent as u64, 0));
        println!(
            "{kept} kept: {:.0} ns per exchange, {:.2} million a second, {connections} connections, {} bytes answered",
            took.as_nanos() as f64 / sent as f64,
            sent as f64 / took.as_secs_f64() / 1e6,
            out.status
        );
    }
}

/// Both messages of an exchange, each with the count of the one before it, as the kernel hands them over.
fn exchange(tcp: &mut Tcp, round: u32, out: &mut Counted) {
    let at = Ts(u64::from(round) * 1000);
    let sizes = [REQUEST.len() as u32, RESPONSE.len() as u32];
    for (index, (dir, payload)) in
        [(Direction::Ingress, REQUEST), (Direction::Egress, RESPONSE)].into_iter().enumerate()
    {
        let turn = round * 2 + 1 + index as u32;
        if turn > 1 {
            let bytes = u64::from(sizes[(index + 1) % 2]);
            tcp.message_ended(
                &MessageEnd { turn: turn - 1, bytes, packets: 1, first: at, last: at, ..MessageEnd::default() },
                out,
            );
        }
        let seq = round.wrapping_mul(sizes[index]);
        tcp.piece(
            &Piece {
                dir,
                at,
                seq,
                turn,
                first: true,
                wire_len: sizes[index],
                payload,
                acked: None,
                walked: l7::Walked::default(),
            },
            out,
        );
    }
}
