//! Packets through the software flow table: what the kernel's program would tell of them. Packets
//! are built by etherparse.

use capture_engine::event::Event;
use capture_engine::replay::{Replay, Summary};
use etherparse::{IpFragOffset, PacketBuilder};
use flow_model::{Close, Direction};
use proptest::prelude::*;
use std::fmt::Write;
use std::io::Cursor;

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);

/// A packet of the one connection of these stories.
#[derive(Clone, Copy)]
struct Tcp<'a> {
    from_client: bool,
    flags: &'a str,
    seq: u32,
    payload: &'a [u8],
}

fn c<'a>(flags: &'a str, seq: u32, payload: &'a [u8]) -> Tcp<'a> {
    Tcp { from_client: true, flags, seq, payload }
}

fn s<'a>(flags: &'a str, seq: u32, payload: &'a [u8]) -> Tcp<'a> {
    Tcp { from_client: false, flags, seq, payload }
}

fn build(tcp: &Tcp<'_>) -> Vec<u8> {
    build_ack(tcp, 1)
}

/// Packets that acknowledge all that the other side has sent.
fn build_all(packets: &[Tcp<'_>]) -> Vec<Vec<u8>> {
    let mut ends = [1; 2];
    let build = |tcp: &Tcp<'_>| {
        let numbers = tcp.payload.len() + tcp.flags.matches(['S', 'F']).count();
        let end = tcp.seq.wrapping_add(numbers as u32);
        let [mine, theirs] = if tcp.from_client { [0, 1] } else { [1, 0] };
        if tcp.flags.contains('S') || end.wrapping_sub(ends[mine]) < 1 << 31 {
            ends[mine] = end;
        }
        build_ack(tcp, ends[theirs])
    };
    packets.iter().map(build).collect()
}

fn build_ack(tcp: &Tcp<'_>, ack: u32) -> Vec<u8> {
    let (from, to) = if tcp.from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64).tcp(from.1, to.1, tcp.seq, 64000);
    for flag in tcp.flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(ack),
            'F' => builder.fin(),
            'R' => builder.rst(),
            _ => builder,
        };
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, tcp.payload).unwrap();
    bytes
}

/// (milliseconds, wire length where more than captured, bytes), of a link type.
fn file(link: u32, packets: &[(u64, Option<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut file = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, link].map(u32::to_le_bytes).concat();
    for (ms, wire, data) in packets {
        let wire = wire.unwrap_or(data.len()) as u32;
        let header = [(ms / 1000) as u32, (ms % 1000) as u32 * 1_000_000, data.len() as u32, wire];
        file.extend(header.map(u32::to_le_bytes).concat());
        file.extend(data);
    }
    file
}

/// Everything told, in one line each.
fn tell(file: Vec<u8>) -> (String, Summary) {
    let mut text = String::new();
    let summary = Replay::new(Cursor::new(file)).unwrap().run(|event| match event {
        Event::Segment(segment) => {
            let way = if segment.dir == Direction::Egress { '>' } else { '<' };
            let payload = String::from_utf8_lossy(segment.payload);
            let cut = segment.wire_len as usize - segment.payload.len();
            let _ = write!(text, "{way}{} {} {payload:?}", segment.turn, segment.seq);
            if cut > 0 {
                let _ = write!(text, " cut {cut}");
            }
            if let Some(prev) = segment.prev {
                let _ = write!(text, " after {}: {} bytes in {}", prev.turn, prev.bytes, prev.packets);
            }
            text.push('\n');
        }
        Event::Closed(sample) => {
            let counters = sample.counters;
            let close = sample.closed.unwrap_or(Close::Gone);
            let _ = write!(text, "{:?} {close:?} {:?}", sample.role, counters.packets);
            if sample.joined_midway {
                text.push_str(" midway");
            }
            if counters.retransmits != [0, 0] {
                let _ = write!(text, " retransmits {:?}", counters.retransmits);
            }
            if let Some(rtt) = counters.rtt_ns {
                let _ = write!(text, " rtt {}ms", rtt / 1_000_000);
            }
            text.push('\n');
        }
    });
    (text, summary)
}

fn story(packets: &[Tcp<'_>], expected: expect_test::Expect) {
    let packets: Vec<_> = build_all(packets).into_iter().zip(0..).map(|(bytes, ms)| (ms * 10, None, bytes)).collect();
    expected.assert_eq(&tell(file(1, &packets)).0);
}

#[test]
fn messages_are_numbered_by_changes_of_direction() {
    story(
        &[
            c("S", 99, b""),
            s("SA", 499, b""),
            c("A", 100, b""),
            c("A", 100, b"ask"),
            s("A", 500, b"ans"),
            s("A", 503, b"wer"),
            c("A", 103, b"more"),
            c("FA", 107, b""),
            s("FA", 506, b""),
            c("A", 108, b""),
        ],
        expect_test::expect![[r#"
            >1 100 "ask"
            <2 500 "ans" after 1: 3 bytes in 1
            <2 503 "wer"
            >3 103 "more" after 2: 6 bytes in 2
            Client Fin [4, 6] rtt 10ms
        "#]],
    );
}

#[test]
fn retransmissions_count_once_and_late_pieces_belong_to_their_message() {
    story(
        &[
            c("A", 100, b"one"),
            c("A", 100, b"one"),
            c("A", 106, b"three"),
            s("A", 500, b"answer"),
            c("A", 103, b"two"),
            s("A", 500, b"answer"),
        ],
        expect_test::expect![[r#"
            >1 100 "one"
            >1 100 "one"
            >1 106 "three"
            <2 500 "answer" after 1: 11 bytes in 2
            >1 103 "two"
            <2 500 "answer"
            Unknown Gone [2, 4] midway retransmits [1, 1]
        "#]],
    );
}

#[test]
fn tuple_that_is_used_again_is_another_connection() {
    story(
        &[c("S", 99, b""), s("RA", 0, b""), c("S", 99, b""), c("S", 7099, b""), s("SA", 1, b"")],
        expect_test::expect![[r#"
            Client Reset [1, 2] retransmits [0, 1]
            Client Gone [1, 1] rtt 10ms
        "#]],
    );
}

#[test]
fn sequence_numbers_may_wrap_and_time_may_go_backwards() {
    let packets = [
        (50, None, build(&c("A", u32::MAX - 1, b"abcd"))),
        (20, None, build(&s("A", 500, b"x"))),
        (30, None, build(&c("A", 2, b"ef"))),
    ];
    expect_test::expect![[r#"
        >1 4294967294 "abcd"
        <2 500 "x" after 1: 4 bytes in 1
        >3 2 "ef" after 2: 1 bytes in 1
        Unknown Gone [1, 2] midway
    "#]]
    .assert_eq(&tell(file(1, &packets)).0);
}

#[test]
fn what_the_snaplen_cut_off_is_known_by_its_length() {
    let whole = build(&c("A", 100, b"a long request"));
    let packets = [(0, Some(whole.len()), whole[..whole.len() - 8].to_vec()), (1, None, build(&c("A", 114, b"rest")))];
    let (text, summary) = tell(file(1, &packets));
    expect_test::expect![[r#"
        >1 100 "a long" cut 8
        >1 114 "rest"
        Unknown Gone [0, 2] midway
    "#]]
    .assert_eq(&text);
    assert_eq!(summary.cut_packets, 1);
}

fn with_link(link: u32, header: &[u8]) -> String {
    let packet = build(&c("A", 100, b"hello"));
    let (text, _) = tell(file(link, &[(0, None, [header, &packet[14..]].concat())]));
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn links_tags_and_tunnels_are_stripped() {
    let ethernet = |tail: &[u8]| [[2; 12].as_slice(), tail].concat();
    let inner = build(&c("A", 100, b"hello")).len() - 14;
    let outer = |proto: u8, extra: usize| {
        let total = ((20 + extra + inner) as u16).to_be_bytes();
        [&[0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, proto, 0, 0], [1; 8].as_slice()].concat()
    };
    let gre = [outer(47, 8), vec![0x20, 0, 8, 0, 0, 0, 0, 7]].concat();
    for (name, link, header) in [
        ("ethernet", 1, ethernet(&[8, 0])),
        ("vlan", 1, ethernet(&[0x81, 0, 0, 5, 8, 0])),
        ("three tags", 1, ethernet(&[0x88, 0xa8, 0, 5, 0x91, 0, 0, 6, 0x81, 0, 0, 7, 8, 0])),
        ("pppoe", 1, ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 47, 0, 0x21])),
        ("cooked", 113, [[0; 14].as_slice(), &[8, 0]].concat()),
        ("cooked v2", 276, [[8, 0].as_slice(), &[0; 18]].concat()),
        ("raw", 101, vec![]),
        ("raw v4", 228, vec![]),
        ("null", 0, vec![2, 0, 0, 0]),
        ("loop", 108, vec![0, 0, 0, 2]),
        ("nflog", 239, vec![2, 0, 0, 0, 6, 0, 10, 0, b'x', 0, 0, 0, 49, 0, 9, 0]),
        ("ip in ip", 101, outer(4, 0)),
        ("gre with a key", 101, gre),
    ] {
        assert_eq!(with_link(link, &header), r#">1 100 "hello""#, "{name}");
    }
}

#[test]
fn fragments_are_put_together_in_any_order_and_overlaps_are_not() {
    let payload: Vec<u8> = (0..100u8).collect();
    let datagram = {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(CLIENT.0, SERVER.0, 64).udp(9, 9).write(&mut bytes, &payload).unwrap();
        bytes[20..].to_vec()
    };
    let fragment = |offset: usize, end: usize, more: bool| {
        let mut header =
            etherparse::Ipv4Header::new((end - offset) as u16, 64, etherparse::IpNumber::UDP, CLIENT.0, SERVER.0)
                .unwrap();
        header.identification = 77;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new((offset / 8) as u16).unwrap();
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend(&datagram[offset..end]);
        (0, None, bytes)
    };
    let parts = [fragment(80, 108, false), fragment(0, 40, true), fragment(0, 40, true), fragment(40, 80, true)];
    let (text, summary) = tell(file(101, &parts));
    assert!(text.starts_with(&format!(">1 0 {:?}", String::from_utf8_lossy(&payload))), "{text}");
    assert_eq!((summary.udp_packets, summary.skipped.fragments), (1, 3));

    let overlapping = [fragment(80, 108, false), fragment(0, 48, true), fragment(40, 80, true)];
    let (text, summary) = tell(file(101, &overlapping));
    assert_eq!((text.as_str(), summary.fragments_given_up), ("", 1));
}

#[test]
fn full_table_reports_flows_early_and_counts_them() {
    let packets: Vec<_> = (1..=100u16)
        .map(|port| {
            let mut bytes = Vec::new();
            PacketBuilder::ipv4(CLIENT.0, SERVER.0, 64).udp(port, 9).write(&mut bytes, b"x").unwrap();
            (u64::from(port), None, bytes)
        })
        .collect();
    let mut closed = 0;
    let summary = Replay::new(Cursor::new(file(101, &packets)))
        .unwrap()
        .with_flows(10)
        .run(|event| closed += u64::from(matches!(event, Event::Closed(_))));
    assert_eq!((closed, summary.flows, summary.flows_evicted), (100, 100, 90));
}

proptest! {
    /// Bytes changed anywhere: nothing panics, and packets end up in a flow or in a count.
    #[test]
    fn packets_with_any_damage_are_counted(
        link in prop::sample::select(vec![0u32, 1, 12, 101, 113, 229, 239, 276, 999]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = build(&c("SA", 100, b"GET / HTTP/1.1\r\n\r\n"));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let (_, summary) = tell(file(link, &[(0, Some(100), bytes.clone()), (1, None, bytes)]));
        let skipped = summary.skipped;
        let counted = skipped.link_type + skipped.not_ip + skipped.other_protocol + skipped.unparsed + skipped.fragments;
        prop_assert_eq!(summary.tcp_packets + summary.udp_packets + counted, 2);
    }

    /// Where etherparse finds a TCP segment in an IPv4 packet, so do we, with the same payload.
    #[test]
    fn agrees_with_etherparse(damage in prop::collection::vec((0usize..40, any::<u8>()), 0..3)) {
        let mut bytes = build(&c("A", 100, b"hello world"))[14..].to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        let (text, _) = tell(file(228, &[(0, None, bytes.clone())]));
        let theirs = etherparse::SlicedPacket::from_ip(&bytes);
        if let Ok(packet) = &theirs
            && let Some(etherparse::TransportSlice::Tcp(tcp)) = &packet.transport
            && !tcp.payload().is_empty()
            && bytes[0] >> 4 == 4
            // What has no ACK is dropped, and what a RST says is for people (RFC 9293 3.10.7.4).
            && tcp.ack() && !tcp.rst() && !(tcp.syn() && tcp.fin())
        {
            let payload = format!("{:?}", String::from_utf8_lossy(tcp.payload()));
            prop_assert!(text.contains(&payload), "{text} lacks {payload}");
        }
    }
}

/// Segments of a server that acknowledge what its client is not seen to send: they wait for that.
#[test]
fn what_waits_for_its_order_has_a_bound_over_all_flows_and_all_of_it_is_told() {
    const FLOWS: u16 = 4000;
    const EACH: usize = 4;
    let payload = vec![b'z'; 1400];
    let mut packets = Vec::new();
    let mut add = |port: u16, server: bool, flags: &str, seq: u32, ack: u32, payload: &[u8]| {
        let client = (CLIENT.0, port);
        let (from, to) = if server { (SERVER, client) } else { (client, SERVER) };
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64).tcp(from.1, to.1, seq, 64_000);
        let builder = if flags.contains('S') { builder.syn() } else { builder };
        let builder = if flags.contains('A') { builder.ack(ack) } else { builder };
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        packets.push((0, None, frame));
    };
    for port in 1000..1000 + FLOWS {
        add(port, false, "S", 0, 0, b"");
        add(port, true, "SA", 0, 1, b"");
        add(port, false, "A", 1, 1, b"");
    }
    for piece in 0..EACH as u32 {
        for port in 1000..1000 + FLOWS {
            add(port, true, "A", 1 + piece * 1400, 1000, &payload);
        }
    }
    let mut told = 0;
    let summary = Replay::new(Cursor::new(file(1, &packets))).expect("a capture").run(|event| {
        if let Event::Segment(segment) = event {
            told += segment.payload.len();
        }
    });
    assert_eq!(told, FLOWS as usize * EACH * payload.len(), "each byte once");
    assert!(summary.unordered > 0, "more than 16 MiB of them would have waited");
}
