//! Messages, holes, retransmissions, handshakes: one frame at a time.

use crate::frames::{Bench, PEER, PEER_PORT, POD, POD_PORT, Seen, Tcp};
use capture_engine::event::Sample;
use capture_engine::kernel::KernelConfig;
use etherparse::{PacketBuilder, VlanId};
use flow_model::{Close, Direction::Egress, Direction::Ingress, Role, Slot};
use l7::Interest;

fn small(head_bytes: u32) -> KernelConfig {
    KernelConfig { ring_bytes: 1 << 16, flows: 64, head_bytes, ..Default::default() }
}

fn bench() -> Bench {
    Bench::new(&small(16))
}

fn tcp(bench: &mut Bench) -> Tcp<'_> {
    Tcp { bench, peer_port: PEER_PORT }
}

#[test]
fn a_change_of_direction_begins_a_message_and_tells_of_the_one_before() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1000, b"GET");
    flow.request(1003, b" /");
    flow.response(1000, b"200");
    flow.request(1005, b"GET");
    let seen = bench.drain();
    let segments: Vec<_> = seen.iter().filter_map(Seen::segment).collect();
    let copied: Vec<_> = segments.iter().map(|s| (s.dir, s.turn, s.seq, s.payload.as_slice())).collect();
    assert_eq!(
        copied,
        [
            (Ingress, 1, 1000, &b"GET"[..]),
            (Ingress, 1, 1003, b" /"),
            (Egress, 2, 1000, b"200"),
            (Ingress, 3, 1005, b"GET")
        ]
    );
    let ends: Vec<_> = segments.iter().map(|s| s.prev.map(|end| (end.turn, end.bytes, end.packets))).collect();
    assert_eq!(ends, [None, None, Some((1, 5, 2)), Some((2, 3, 1))]);
    assert!(
        segments.iter().all(|s| s.role == Role::Server && s.slot == Slot(7) && !s.midway && s.id == segments[0].id)
    );
}

#[test]
fn only_the_head_is_copied_and_the_tail_is_kept() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.response(1000, b"0123456789");
    flow.response(1010, b"abcdefghij");
    flow.response(1020, b"KLMNOPQRST");
    flow.response(1030, b"uvw");
    flow.request(1000, b"next");
    let seen = bench.drain();
    let segments: Vec<_> = seen.iter().filter_map(Seen::segment).collect();
    let copied: Vec<_> = segments.iter().map(|s| (s.payload.as_slice(), s.wire_len)).collect();
    assert_eq!(copied, [(&b"0123456789"[..], 10), (b"abcdef", 10), (b"next", 4)]);
    let end = segments[2].prev.expect("the end of the response");
    assert_eq!((end.bytes, end.packets, &end.tail, end.tail_len), (33, 4, b"PQRSTuvw", 8));
}

#[test]
fn pieces_of_the_head_are_copied_out_of_order_and_are_no_retransmissions() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1005, b"world");
    flow.request(1000, b"hello");
    flow.request(1000, b"hello");
    assert_eq!(bench.copied(), ["in 1 @1005 world", "in 1 @1000 hello", "in 1 @1000 hello"]);
    let sample = bench.only_flow();
    assert_eq!(sample.counters.retransmits, [1, 0]);
    assert_eq!(sample.message.map(|message| (message.bytes, message.packets)), Some((10, 2)));
}

#[test]
fn the_late_piece_of_an_answered_message_belongs_to_that_message() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1003, b"def");
    flow.response(1000, b"ok");
    flow.request(1000, b"abc");
    flow.response(1002, b"!!");
    assert_eq!(bench.copied(), ["in 1 @1003 def", "out 2 @1000 ok", "in 1 @1000 abc", "out 2 @1002 !!"]);
}

#[test]
fn old_bytes_and_probes_begin_no_message() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1000, b"abc");
    flow.response(1000, b"ok");
    flow.request(1000, b"abc"); // sent again
    flow.request(1002, b"c"); // keep-alive with a byte
    flow.request(1002, b""); // keep-alive without
    flow.bench.run(Egress, &flow.frame(Egress, 1002, "A", 0, b"")); // the pod's window is shut
    flow.request(1003, b"x"); // zero-window probe
    let sample = bench.only_flow();
    assert_eq!((sample.turns, sample.counters.retransmits, sample.counters.zero_windows), (2, [1, 0], [0, 1]));
    assert_eq!(bench.copied(), ["in 1 @1000 abc", "out 2 @1000 ok"]);
}

#[test]
fn sequence_numbers_wrap() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    let start = u32::MAX - 1;
    flow.send(Ingress, start.wrapping_sub(1), "S", b"");
    flow.send(Egress, 999, "SA", b"");
    flow.request(start, b"abcd");
    flow.request(2, b"ef");
    let sample = bench.only_flow();
    assert_eq!(sample.message.map(|message| message.bytes), Some(6));
    assert_eq!(sample.counters.retransmits, [0, 0]);
    assert_eq!(bench.copied().len(), 2);
}

#[test]
fn a_connection_joined_midway_says_so() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.send(Ingress, 5000, "A", b""); // an ACK alone makes no flow
    flow.request(5000, b"abc");
    let seen = bench.drain();
    let segment = seen[0].segment().expect("a segment");
    assert_eq!((segment.midway, segment.role, segment.turn), (true, Role::Unknown, 1));
    assert!(bench.only_flow().established);
    assert_eq!(bench.kernel.stats().expect("stats").stray, 1);
}

#[test]
fn the_handshake_gives_a_round_trip_time_at_both_ends() {
    let mut bench = bench();
    tcp(&mut bench).handshake();
    let sample = bench.only_flow();
    assert!(sample.established && sample.counters.rtt_ns.is_some(), "at the server: {sample:?}");

    let mut bench = self::bench();
    let flow = tcp(&mut bench);
    flow.send(Egress, 999, "S", b"");
    assert!(!flow.bench.only_flow().established);
    flow.send(Ingress, 999, "SA", b"");
    let sample = bench.only_flow();
    assert_eq!(sample.role, Role::Client);
    assert!(sample.established && sample.counters.rtt_ns.is_some(), "at the client: {sample:?}");
}

#[test]
fn a_handshake_that_was_sent_twice_gives_no_round_trip_time() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.send(Egress, 999, "S", b"");
    flow.send(Egress, 999, "S", b"");
    flow.send(Ingress, 999, "SA", b"");
    let sample = bench.only_flow();
    assert_eq!((sample.established, sample.counters.rtt_ns, sample.counters.retransmits), (true, None, [0, 1]));
}

#[test]
fn both_fins_or_a_reset_close_a_flow_once() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1000, b"abc");
    flow.send(Ingress, 1003, "FA", b"");
    flow.send(Egress, 1000, "FA", b"bye");
    flow.send(Ingress, 1004, "A", b"");
    let flow = Tcp { bench: &mut bench, peer_port: 40001 };
    flow.handshake();
    flow.send(Egress, 1000, "R", b"");
    let seen = bench.drain();
    let closed: Vec<_> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Closed(sample) => Some((sample.closed, sample.turns, sample.message.map(|end| end.bytes))),
            Seen::Segment(_) => None,
        })
        .collect();
    assert_eq!(closed, [(Some(Close::Fin), 2, Some(3)), (Some(Close::Reset), 0, None)]);
}

#[test]
fn a_new_syn_starts_the_flow_afresh_and_reports_the_old_one() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1000, b"abc");
    flow.send(Ingress, 70_000, "S", b"");
    flow.send(Egress, 90_000, "SA", b"");
    flow.request(70_001, b"def");
    let seen = bench.drain();
    let [Seen::Segment(first), Seen::Closed(closed), Seen::Segment(second)] = seen.as_slice() else {
        panic!("a piece, the end, a piece: {seen:?}")
    };
    assert_eq!((closed.id.0, closed.closed, closed.counters.packets), (first.id, Some(Close::Gone), [3, 1]));
    assert_eq!((second.turn, second.id != first.id), (1, true));
    assert_eq!(bench.kernel.stats().expect("stats").replaced, 1);
}

#[test]
fn overrides_hold_from_the_next_message_on() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1000, b"0123456789abcdefghij");
    let Sample { key, id, .. } = flow.bench.only_flow();
    let overrides = flow.bench.kernel.overrides();
    overrides.set(&key, id, Interest::Everything).expect("an override");
    flow.response(1000, b"0123456789abcdefghij");
    overrides.set(&key, id, Interest::Nothing).expect("an override");
    flow.request(1020, b"quiet");
    overrides.clear(&key).expect("cleared");
    flow.response(1020, b"0123456789abcdefghij");
    let copied = bench.copied();
    assert_eq!(
        copied,
        ["in 1 @1000 0123456789abcdef", "out 2 @1000 0123456789abcdefghij", "out 4 @1020 0123456789abcdef"]
    );
}

#[test]
fn an_excluded_port_is_counted_and_never_copied() {
    let mut bench = Bench::new(&KernelConfig { exclude_ports: vec![80..=80], ..small(16) });
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.request(1000, b"abc");
    let sample = bench.only_flow();
    assert_eq!((sample.turns, sample.counters.packets, sample.message), (0, [3, 1], None));
    assert!(bench.drain().is_empty());
}

#[test]
fn a_list_of_ports_includes_either_end() {
    let config = |ports| KernelConfig { include_ports: vec![ports], ..small(16) };
    for (ports, copied) in [(80..=80, 1), (39_000..=41_000, 1), (81..=90, 0)] {
        let mut bench = Bench::new(&config(ports));
        let flow = tcp(&mut bench);
        flow.handshake();
        flow.request(1000, b"abc");
        assert_eq!(bench.copied().len(), copied);
    }
}

#[test]
fn a_full_ring_is_counted_and_the_turns_go_on() {
    let mut bench = Bench::new(&KernelConfig { ring_bytes: 1 << 16, flows: 64, ..Default::default() });
    let flow = tcp(&mut bench);
    flow.handshake();
    let head = [b'x'; 1400];
    for turn in 0..60 {
        flow.request(1000 + turn * 1400, &head);
        flow.response(1000 + turn * 1400, &head);
    }
    flow.send(Ingress, 1000 + 60 * 1400, "R", b"");
    let stats = bench.kernel.stats().expect("stats");
    let sample = bench.only_flow();
    assert_eq!(sample.turns, 120);
    assert_eq!(sample.closed, Some(Close::Reset), "the table knows what the ring had no room for");
    let seen = bench.drain();
    assert_eq!(stats.events, seen.len() as u64);
    assert_eq!(stats.events + stats.ring_full, 121, "each message and the close: {stats:?}");
    assert!(stats.ring_full > 0);
}

#[test]
fn a_packet_larger_than_an_event_is_copied_in_parts_that_join() {
    let mut bench = Bench::new(&KernelConfig { head_bytes: u32::MAX, ..small(0) });
    let flow = tcp(&mut bench);
    flow.handshake();
    let payload: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
    flow.request(1000, &payload);
    flow.request(4000, &payload);
    let seen = bench.drain();
    let joined: Vec<u8> = seen.iter().filter_map(Seen::segment).flat_map(|s| s.payload.clone()).collect();
    assert_eq!(joined, [payload.clone(), payload].concat());
}

#[test]
fn ipv6_extension_headers_and_vlan_tags_are_followed() {
    let mut bench = bench();
    let mut frame = Vec::new();
    let local = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let remote = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let plain = {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .single_vlan(VlanId::try_new(5).expect("a tag"))
            .ipv6(remote, local, 64)
            .tcp(PEER_PORT, POD_PORT, 1000, 1000)
            .ack(1)
            .write(&mut frame, b"six")
            .expect("a frame");
        frame
    };
    // Between the IPv6 header (18 + 40 bytes) and TCP: hop-by-hop and destination options, 8 bytes each.
    frame.extend_from_slice(&plain[..58]);
    frame.extend_from_slice(&[60, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend_from_slice(&[6, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend_from_slice(&plain[58..]);
    frame[18 + 5] += 16; // payload length
    frame[18 + 6] = 0; // next header: hop-by-hop options
    bench.run(Ingress, &frame);
    bench.run(Ingress, &plain);
    let seen = bench.drain();
    let segment = seen[0].segment().expect("a segment");
    assert_eq!((segment.payload.as_slice(), segment.key.tuple.local.ip), (&b"six"[..], local.into()));
    assert_eq!(segment.key.tuple.remote.port, PEER_PORT);
    assert_eq!(bench.only_flow().counters.packets, [2, 0]);
}

#[test]
fn what_cannot_be_followed_is_counted_by_reason() {
    let bench = bench();
    let mut fragment = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(PEER, POD, 64)
        .udp(1, 2)
        .write(&mut fragment, b"abc")
        .expect("a frame");
    let whole = fragment.clone();
    fragment[14 + 7] = 3; // fragment offset
    bench.run(Ingress, &fragment);
    let mut arp = whole.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    bench.run(Ingress, &arp);
    let mut icmp = whole.clone();
    icmp[14 + 9] = 1;
    bench.run(Ingress, &icmp);
    let mut short = whole.clone();
    short[14] = 0x41; // an IPv4 header of 4 bytes
    bench.run(Ingress, &short);
    // The kernel hands no frame over that ends within its IP header.
    for length in 14 + 20..whole.len() {
        bench.run(Egress, &whole[..length]);
    }
    let stats = bench.kernel.stats().expect("stats");
    assert_eq!((stats.fragments, stats.other), (1, 2));
    assert!(stats.unparsed >= 1);
}

#[test]
fn of_unknown_udp_the_first_datagrams_are_copied_of_dns_all() {
    let mut bench = bench();
    for (port, copied) in [(5000, 2), (53, 6)] {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(POD, PEER, 64)
            .udp(PEER_PORT, port)
            .write(&mut frame, b"question")
            .expect("a frame");
        for _ in 0..6 {
            bench.run(Egress, &frame);
        }
        let seen = bench.drain();
        let turns: Vec<_> = seen.iter().filter_map(Seen::segment).map(|s| (s.turn, s.role)).collect();
        assert_eq!(turns, (1..=copied).map(|turn| (turn, Role::Client)).collect::<Vec<_>>());
    }
}

#[test]
fn flows_beyond_the_table_are_counted_and_removed_ones_make_room() {
    let mut bench = Bench::new(&KernelConfig { flows: 4, ..small(16) });
    for port in 0..10 {
        Tcp { bench: &mut bench, peer_port: 30_000 + port }.handshake();
    }
    let stats = bench.kernel.stats().expect("stats");
    // The ACK of a refused handshake is a stray: only the SYN and the SYN-ACK asked for a flow.
    assert_eq!((stats.flows_full, stats.stray), (12, 6));
    let mut sampler = bench.kernel.sampler();
    let mut keys = Vec::new();
    loop {
        let page = sampler.turn(3).expect("a turn");
        keys.extend(page.samples().map(|sample| sample.key));
        if page.last {
            break;
        }
    }
    assert_eq!(keys.len(), 4);
    assert_eq!(sampler.remove(&keys).expect("removed"), 4);
    assert_eq!(sampler.remove(&keys).expect("gone already"), 0);
    Tcp { bench: &mut bench, peer_port: 20_000 }.handshake();
    assert_eq!(bench.only_flow().counters.packets, [2, 1]);
}

#[test]
fn a_taken_flow_has_the_packets_after_its_close() {
    let mut bench = bench();
    let flow = tcp(&mut bench);
    flow.handshake();
    flow.send(Egress, 1000, "R", b"");
    flow.send(Ingress, 1000, "A", b"");
    let key = flow.bench.only_flow().key;
    let sampler = flow.bench.kernel.sampler();
    assert_eq!(sampler.lookup(&key).expect("a lookup").map(|sample| sample.counters.packets), Some([3, 2]));
    assert_eq!(sampler.take(&key).expect("a lookup").map(|sample| sample.counters.packets), Some([3, 2]));
    assert!(sampler.take(&key).expect("a lookup").is_none());
}
