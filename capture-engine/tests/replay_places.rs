//! Packets that come twice or wrapped up: captures of several interfaces, and tunnels over UDP.

use capture_engine::event::Event;
use capture_engine::replay::{CaptureReader, Damage, Replay, Summary, TunnelKind};
use etherparse::PacketBuilder;
use proptest::prelude::*;
use std::io::Cursor;

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);

/// A packet of one connection, from its IP header on.
fn tcp(from_client: bool, flags: &str, seq: u32, payload: &[u8]) -> Vec<u8> {
    let (from, to) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let mut builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, seq, 64000);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(1),
            _ => builder.fin(),
        };
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from.0, to.0, 64).udp(from.1, to.1).write(&mut bytes, payload).unwrap();
    bytes
}

/// As `-i any` writes it (LINKTYPE_LINUX_SLL2).
fn at(interface: u32, outgoing: bool, ip: &[u8]) -> Vec<u8> {
    let kind = if outgoing { 4 } else { 3 };
    [&[8, 0, 0, 0], interface.to_be_bytes().as_slice(), &[0, 1, kind, 6, 0, 0, 0, 0, 0, 0, 0, 0], ip].concat()
}

fn ethernet(ip: &[u8]) -> Vec<u8> {
    [&[2; 12], [8, 0].as_slice(), ip].concat()
}

/// (microseconds, bytes) of a link type.
fn file(link: u32, packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, link].map(u32::to_le_bytes).concat();
    for (us, data) in packets {
        let header = [us / 1_000_000, us % 1_000_000, data.len() as u32, data.len() as u32];
        file.extend(header.map(u32::to_le_bytes).concat());
        file.extend(data);
    }
    file
}

/// Packets, bytes and retransmissions of a flow, `[from the client, to it]`.
type Counts = ([u64; 2], [u64; 2], [u32; 2]);

fn flows(file: Vec<u8>) -> (Vec<Counts>, Summary) {
    let mut flows = Vec::new();
    let summary = Replay::new(Cursor::new(file)).unwrap().run(|event| {
        if let Event::Closed(sample) = event {
            let counters = sample.counters;
            let turn = |[ingress, egress]: [u64; 2]| [egress, ingress];
            let [ingress, egress] = counters.retransmits;
            flows.push((turn(counters.packets), turn(counters.bytes), [egress, ingress]));
        }
    });
    (flows, summary)
}

fn connection() -> Vec<(bool, Vec<u8>)> {
    [
        (true, "S", 99, b"".as_slice()),
        (false, "SA", 499, b""),
        (true, "A", 100, b""),
        (true, "A", 100, b"ask"),
        (false, "A", 500, b"answer"),
        (true, "A", 103, b""),
        (true, "AF", 103, b""),
        (false, "AF", 506, b""),
        (true, "A", 104, b""),
    ]
    .into_iter()
    .map(|(from_client, flags, seq, payload)| (from_client, tcp(from_client, flags, seq, payload)))
    .collect()
}

fn alone() -> Counts {
    let packets: Vec<_> = connection().into_iter().zip(0..).map(|((_, ip), n)| (n * 1000, ethernet(&ip))).collect();
    flows(file(1, &packets)).0[0]
}

#[test]
fn a_bridge_s_packets_are_counted_once_each_where_they_were_seen_first() {
    let mut packets = Vec::new();
    for ((from_client, ip), n) in connection().into_iter().zip(0..) {
        let [first, bridge, last] = if from_client { [3, 9, 4] } else { [4, 9, 3] };
        packets.push((n * 1000, at(first, false, &ip)));
        packets.push((n * 1000 + 2, at(bridge, false, &ip)));
        packets.push((n * 1000 + 4, at(last, true, &ip)));
    }
    let (flows, summary) = flows(file(276, &packets));
    assert_eq!(flows, [alone()]);
    assert_eq!((summary.packets, summary.tcp_packets, summary.seen_again), (27, 9, 18));
}

#[test]
fn a_capture_that_began_between_two_interfaces_counts_each_packet_once_too() {
    let mut packets = Vec::new();
    for ((from_client, ip), n) in connection().into_iter().zip(0..) {
        let [first, last] = if from_client { [3, 4] } else { [4, 3] };
        packets.push((n * 1000, at(first, false, &ip)));
        packets.push((n * 1000 + 2, at(last, true, &ip)));
    }
    packets.remove(0);
    assert_eq!(flows(file(276, &packets)).0, [alone()]);
}

#[test]
fn bytes_that_another_interface_cuts_differently_are_no_retransmissions() {
    let whole = tcp(true, "A", 100, &[7; 3000]);
    let cut = [tcp(true, "A", 100, &[7; 1400]), tcp(true, "A", 1500, &[7; 1400]), tcp(true, "A", 2900, &[7; 200])];
    let mut packets = vec![(0, at(3, false, &whole))];
    packets.extend(cut.iter().map(|ip| (2, at(4, true, ip))));
    let (flows, summary) = flows(file(276, &packets));
    assert_eq!((flows[0].0, flows[0].2, summary.seen_again), ([1, 0], [0, 0], 3));
}

#[test]
fn what_is_sent_again_is_counted_again_and_its_second_sight_is_not() {
    let (ask, again) = (tcp(true, "A", 100, b"ask"), tcp(true, "A", 100, b"ask"));
    let packets = [(0, 3, &ask), (2, 4, &ask), (200_000, 3, &again), (200_002, 4, &again)];
    let packets = packets.map(|(us, interface, ip)| (us, at(interface, interface == 4, ip)));
    let (flows, _) = flows(file(276, &packets));
    assert_eq!((flows[0].0, flows[0].2), ([2, 0], [1, 0]));
}

#[test]
fn a_flow_whose_directions_or_packets_take_different_ways_is_whole() {
    let packets: Vec<_> = connection()
        .into_iter()
        .zip(0u32..)
        .map(|((from_client, ip), n)| (n * 1000, at(if from_client { 3 + n % 2 } else { 7 }, from_client, &ip)))
        .collect();
    let (flows, summary) = flows(file(276, &packets));
    assert_eq!((flows.as_slice(), summary.seen_again), ([alone()].as_slice(), 0));
}

#[test]
fn datagrams_are_told_apart_by_all_of_their_bytes() {
    let one = udp(CLIENT, ([10, 0, 0, 2], 5300), b"question 1");
    let two = udp(CLIENT, ([10, 0, 0, 2], 5300), b"question 2");
    let packets = [(0, 3, &one), (1, 3, &two), (2, 4, &one), (3, 4, &two), (5_000_000, 4, &one)];
    let packets = packets.map(|(us, interface, ip)| (us, at(interface, interface == 4, ip)));
    let (flows, summary) = flows(file(276, &packets));
    // The last one comes too late to be the same.
    assert_eq!((flows[0].0, summary.seen_again), ([3, 0], 2));
}

const NODES: [([u8; 4], u16); 2] = [([192, 168, 0, 1], 50000), ([192, 168, 0, 2], 4789)];

fn vxlan(ip: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0, 0, 0, 1, 0], ethernet(ip).as_slice()].concat()
}

fn geneve(ip: &[u8]) -> Vec<u8> {
    // One option of 8 bytes.
    [&[2, 0, 0x65, 0x58, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0], ethernet(ip).as_slice()].concat()
}

#[test]
fn what_a_tunnel_carries_are_flows_and_the_tunnel_is_kept_apart() {
    for (port, kind, wrap) in [
        (4789, TunnelKind::Vxlan, vxlan as fn(&[u8]) -> Vec<u8>),
        (8472, TunnelKind::Vxlan, vxlan),
        (6081, TunnelKind::Geneve, geneve),
    ] {
        let [from, to] = NODES;
        let wrap = |ip: &[u8]| udp(from, (to.0, port), &wrap(ip));
        let packets: Vec<_> = connection()
            .into_iter()
            .zip(0..)
            .map(|((_, ip), n)| (n * 1000, [&[2; 12], [0x81, 0, 0, 5, 8, 0].as_slice(), &wrap(&ip)].concat()))
            .collect();
        let (flows, summary) = flows(file(1, &packets));
        assert_eq!(flows, [alone()]);
        assert_eq!(summary.tunnels.len(), 1);
        let tunnel = summary.tunnels[0];
        assert_eq!((tunnel.kind, tunnel.packets, summary.udp_packets), (kind, [9, 0], 0));
        let outer: usize = packets.iter().map(|(_, data)| data.len() - 18).sum();
        assert_eq!(tunnel.bytes, [outer as u64, 0]);
        assert_eq!(tunnel.ends.map(|end| end.to_string()), ["192.168.0.1", "192.168.0.2"]);
    }
}

#[test]
fn a_packet_in_a_tunnel_and_before_it_is_one() {
    let [from, to] = NODES;
    let mut packets = Vec::new();
    for ((_, ip), n) in connection().into_iter().zip(0..) {
        packets.push((n * 1000, at(5, true, &ip)));
        packets.push((n * 1000 + 2, at(2, true, &udp(from, to, &vxlan(&ip)))));
    }
    let (flows, summary) = flows(file(276, &packets));
    assert_eq!((flows.as_slice(), summary.tunnels[0].packets), ([alone()].as_slice(), [9, 0]));
}

#[test]
fn other_datagrams_to_a_tunnel_s_port_are_flows_of_their_own() {
    let [from, to] = NODES;
    for payload in [b"".as_slice(), b"hello there", &[8, 0, 0], &[8, 1, 0, 0, 0, 0, 0, 0, 1, 2]] {
        let (flows, summary) = flows(file(1, &[(0, ethernet(&udp(from, to, payload)))]));
        assert_eq!((flows.len(), summary.udp_packets, summary.tunnels.len()), (1, 1, 0), "{payload:?}");
    }
}

#[test]
fn tunnels_in_tunnels_are_opened_a_few_deep_and_no_further() {
    let [from, to] = NODES;
    for (deep, inner) in [(3, 1), (4, 0), (40, 0)] {
        let mut ip = tcp(true, "A", 100, b"ask");
        for _ in 0..deep {
            ip = udp(from, to, &vxlan(&ip));
        }
        let (_, summary) = flows(file(1, &[(0, ethernet(&ip))]));
        assert_eq!((summary.tcp_packets, summary.skipped.other_protocol), (inner, 1 - inner), "{deep}");
        assert_eq!(summary.tunnels[0].packets, [1, 0]);
    }
}

#[test]
fn a_packet_that_says_it_is_larger_than_its_tunnel_counts_for_nothing() {
    let [from, to] = NODES;
    let mut ip = tcp(true, "A", 100, b"ask");
    ip[2..4].copy_from_slice(&60_000u16.to_be_bytes());
    let (flows, summary) = flows(file(1, &[(0, ethernet(&udp(from, to, &vxlan(&ip))))]));
    assert_eq!((flows.len(), summary.skipped.unparsed), (0, 1));
}

/// Half of all sequence numbers away it is neither before nor behind (RFC 9293 section 3.4).
#[test]
fn a_packet_as_far_away_as_can_be_is_counted() {
    let packets = [100, 100 ^ 1 << 31, 103].map(|seq| ethernet(&tcp(true, "A", seq, b"ask")));
    let (flows, summary) = flows(file(1, &(0..).zip(packets).collect::<Vec<_>>()));
    assert_eq!((flows.len(), summary.tcp_packets), (1, 3));
}

#[test]
fn files_that_others_compressed_are_named_with_what_to_do() {
    for (magic, by) in [
        (b"\x28\xb5\x2f\xfd".as_slice(), "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh91AY", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
    ] {
        let file = [magic, &[0; 100]].concat();
        let error = CaptureReader::new(Cursor::new(file)).unwrap_err();
        assert!(matches!(error, Damage::Compressed { .. }));
        assert!(error.to_string().contains(&format!("`{by} -dc FILE | pilotfish replay -`")), "{error}");
    }
}

proptest! {
    /// Whatever is in a tunnel: each packet is in a flow, skipped, or seen again; none panics.
    #[test]
    fn every_packet_is_accounted_for(
        packets in prop::collection::vec(
            (0u32..9, 0u32..3, 0usize..4, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)),
            0..60,
        ),
    ) {
        let [from, to] = NODES;
        let all = connection();
        let packets: Vec<_> = packets
            .into_iter()
            .zip(0..)
            .map(|((which, interface, deep, damage), n)| {
                let mut ip = all[which as usize].1.clone();
                for level in 0..deep {
                    ip = if level % 2 == 0 { udp(from, to, &vxlan(&ip)) } else { udp(from, (to.0, 6081), &geneve(&ip)) };
                }
                for (at, byte) in damage {
                    let at = at.index(ip.len());
                    ip[at] = byte;
                }
                (n * 100, at(interface, false, &ip))
            })
            .collect();
        let count = packets.len() as u64;
        let (_, summary) = flows(file(276, &packets));
        let skipped = summary.skipped;
        let skipped = skipped.link_type + skipped.not_ip + skipped.other_protocol + skipped.unparsed + skipped.fragments;
        // What was seen again may have been the tunnel, its content, or both.
        let flows = summary.tcp_packets + summary.udp_packets;
        prop_assert_eq!(summary.packets, count);
        prop_assert!(flows + skipped <= count && count <= flows + skipped + summary.seen_again);
    }
}
