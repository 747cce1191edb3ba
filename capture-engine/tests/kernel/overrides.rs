//! What user space asks for of a flow: for that flow alone, and within a bound.

use crate::frames::{Bench, PEER_PORT, Seen, Tcp};
use capture_engine::event::Sample;
use capture_engine::kernel::KernelConfig;
use flow_model::Direction::{Egress, Ingress};
use l7::Interest;

fn bench() -> Bench {
    Bench::new(&KernelConfig { ring_bytes: 1 << 20, flows: 64, head_bytes: 16, ..Default::default() })
}

/// Whether it comes from the peer, its sequence number, flags and payload.
type Frame = (bool, u32, &'static str, &'static [u8]);

/// How the old connection goes, and the SYN of the new one with what follows it.
const WAYS: [(&str, &[Frame]); 4] = [
    ("closed by both", &[(true, 1001, "FA", b""), (false, 1000, "FA", b""), (true, 70_000, "S", b"")]),
    ("reset", &[(true, 1001, "R", b""), (true, 70_000, "S", b"")]),
    ("forgotten by the server", &[(true, 70_000, "S", b"")]),
    (
        "closed by both, and data with the SYN",
        &[(true, 1001, "FA", b""), (false, 1000, "FA", b""), (true, 70_000, "S", b"fast open is copied")],
    ),
];

#[test]
fn what_was_asked_for_of_the_old_connection_is_not_done_to_the_new_one() {
    for (what, packets) in WAYS {
        for interest in [Interest::Nothing, Interest::Everything] {
            let mut bench = bench();
            let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
            flow.handshake();
            flow.request(1000, b"x");
            let Sample { key, id, .. } = flow.bench.only_flow();
            flow.bench.kernel.overrides().set(&key, id, interest).expect("an override");
            for (from_peer, seq, flags, payload) in packets {
                flow.send(if *from_peer { Ingress } else { Egress }, *seq, flags, payload);
            }
            flow.send(Egress, 90_000, "SA", b"");
            let request = b"a request of the new connection";
            let seq = 70_001 + packets.last().map_or(0, |(.., payload)| payload.len() as u32);
            flow.request(seq, request);
            flow.response(90_001, b"its response, which is longer");
            let copied: Vec<_> = bench.copied().split_off(1);
            let expected = match what {
                "closed by both, and data with the SYN" => vec!["in 1 @70001 fast open is cop"],
                _ => vec!["in 1 @70001 a request of the"],
            };
            let expected = [expected, vec!["out 2 @90001 its response, wh"]].concat();
            assert_eq!(copied, expected, "{what}, {interest:?}");
        }
    }
}

#[test]
fn everything_of_a_message_ends_after_a_mebibyte_and_begins_again_with_the_next() {
    let mut bench = bench();
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
    flow.handshake();
    flow.request(1000, b"x");
    let Sample { key, id, .. } = flow.bench.only_flow();
    flow.bench.kernel.overrides().set(&key, id, Interest::Everything).expect("an override");
    let packet = [b'.'; 3000];
    let (mut copied, mut records, mut left_out) = (0, 0, 0);
    for number in 0..700 {
        flow.response(1000 + number * 3000, &packet);
        for seen in flow.bench.drain() {
            let segment = seen.segment().cloned();
            let Some(segment) = segment.filter(|segment| segment.turn == 2) else { continue };
            copied += segment.payload.len();
            left_out += segment.wire_len as usize - segment.payload.len();
            records += 1;
        }
    }
    assert_eq!((copied, records), (1 << 20, 350), "the rest makes no records");
    assert_eq!(left_out, 350 * 3000 - (1 << 20));
    flow.request(1001, &[b'y'; 1000]);
    let seen = bench.drain();
    let [Seen::Segment(next)] = seen.as_slice() else { panic!("one record: {seen:?}") };
    assert_eq!((next.payload.len(), next.turn), (1000, 3));
    let end = next.prev.expect("the end of the response");
    assert_eq!((end.bytes, end.packets, end.tail_len), (2_100_000, 700, 8));
}

#[test]
fn of_a_quiet_slot_nothing_is_copied_from_the_next_message_on_and_all_is_counted() {
    let mut bench = bench();
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
    flow.handshake();
    flow.request(1000, b"before");
    let Sample { key, .. } = flow.bench.only_flow();
    let overrides = flow.bench.kernel.overrides();
    overrides.quiet(key.slot, true).expect("an override");
    overrides.quiet(key.slot, true).expect("it is there");
    flow.response(1000, b"after");
    flow.request(1006, b"later");
    let other = Tcp { bench: &mut bench, peer_port: PEER_PORT + 1 };
    other.handshake();
    other.request(1000, b"another connection");
    let mut sampler = bench.kernel.sampler();
    let page = sampler.turn(16).expect("a turn");
    let sample = page.samples().find(|sample| sample.key == key).expect("the flow");
    assert_eq!((sample.turns, sample.counters.packets), (1, [4, 2]));
    assert_eq!(bench.copied(), ["in 1 @1000 before"]);

    overrides.quiet(key.slot, false).expect("cleared");
    let new = Tcp { bench: &mut bench, peer_port: PEER_PORT + 2 };
    new.handshake();
    new.request(1000, b"as usual");
    assert_eq!(bench.copied(), ["in 1 @1000 as usual"]);
}

#[test]
fn connections_to_a_server_that_is_known_are_copied_whole_until_something_is_said_of_them() {
    let long = [b'.'; 3000];
    let mut bench = bench();
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
    flow.handshake();
    flow.request(1000, b"x");
    let Sample { key, .. } = flow.bench.only_flow();
    let overrides = flow.bench.kernel.overrides();
    flow.bench.drain();
    let copied = |bench: &mut Bench| bench.drain().iter().filter_map(|seen| Some(seen.segment()?.payload.len())).sum();
    let mut talk = |peer_port: u16| -> [usize; 2] {
        let flow = Tcp { bench: &mut bench, peer_port };
        flow.handshake();
        flow.request(1000, &long);
        flow.response(1000, &long);
        let before = copied(flow.bench);
        for number in 1..700 {
            flow.response(1000 + number * 3000, &long);
            copied(flow.bench);
        }
        flow.request(4000, &long);
        flow.response(2_101_000, &long);
        [before, copied(flow.bench)]
    };
    let server = key.tuple.local;
    overrides.eager(server, true).expect("an override");
    overrides.eager(server, true).expect("it is there");
    // The server has said more than a mebibyte then, and the client has not.
    assert_eq!(talk(PEER_PORT + 1), [6000, 3016]);
    overrides.eager(server, false).expect("cleared");
    assert_eq!(talk(PEER_PORT + 2), [32, 32]);
    overrides.eager(key.tuple.remote, true).expect("an override");
    assert_eq!(talk(PEER_PORT + 3), [32, 32], "who is a client there is meant as a server");
}

/// Whose reader is late: what may be wanted of a known server takes no other's place.
#[test]
fn what_is_copied_of_a_known_server_leaves_room_for_others() {
    let long = [b'.'; 3000];
    let mut bench = bench();
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
    flow.handshake();
    flow.request(1000, b"x");
    let server = flow.bench.only_flow().key.tuple.local;
    flow.bench.kernel.overrides().eager(server, true).expect("an override");
    flow.bench.drain();
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT + 1 };
    flow.handshake();
    flow.request(1000, b"all of it");
    (0..340).for_each(|number| flow.response(1000 + number * 3000, &long));
    let other = Tcp { bench: &mut bench, peer_port: PEER_PORT + 2 };
    other.handshake();
    other.request(1000, b"the head of another");
    let copied = bench.copied();
    assert_eq!(copied.last().map(String::as_str), Some("in 1 @1000 the head of anot"));
    assert!(copied.len() > 100, "{} of 340 pieces, and two requests", copied.len());
    assert_eq!(bench.kernel.stats().expect("stats").ring_full, 0);
    // Once it was read, the next message is copied whole again.
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT + 1 };
    flow.request(1009, &long);
    let copied: usize = bench.drain().iter().filter_map(|seen| Some(seen.segment()?.payload.len())).sum();
    assert_eq!(copied, 3000);
}
