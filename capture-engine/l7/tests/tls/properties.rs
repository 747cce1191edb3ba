//! Generated handshakes; the handshake itself is the reference.

use super::support::packets::{Dice, FIRST, disturbed, packets};
use super::support::{CLIENT, Event, Found, Observer, Packet, SERVER, hand_over};
use super::words::*;
use flow_model::{Close, Detail, L7Record, Notes, Outcome, Role, TlsHandshake};
use l7::{Interest, Limits, Tcp};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Clone, Debug)]
struct Shape {
    /// 0x0301 to 0x0304.
    version: u16,
    resumed: bool,
    retried: bool,
    /// Certificates of the server and, where there are any, of the client.
    certificate: usize,
    own: Option<usize>,
    share: usize,
    /// Bytes of a record of a hello.
    pieces: usize,
    name: String,
    alert: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let lengths = (100_usize..3000, prop::option::of(100_usize..900), 32_usize..1300, 1_usize..600);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    (0x0301_u16..=0x0304, flags, lengths, "[a-z]{1,20}\\.example").prop_map(
        |(version, (resumed, retried, alert), (certificate, own, share, pieces), name)| Shape {
            version,
            resumed,
            retried: retried && version == 0x0304,
            certificate,
            own: own.filter(|_| !resumed),
            share,
            pieces,
            name,
            alert,
        },
    )
}

/// What is said, message by message of the flow; the first of the client.
fn messages(shape: &Shape) -> Vec<Vec<u8>> {
    let Shape { version, resumed, retried, certificate: length, own, share, pieces, name, alert: refused } = shape;
    let mut asking = client();
    (asking.sni, asking.share) = (name.clone(), *share);
    let cut = |message: &[u8]| message.chunks(*pieces).flat_map(handshake).collect::<Vec<u8>>();
    let hello = cut(&asking.hello());
    let data = [sealed(23, 300), sealed(23, 900)];
    let mut answer = server(*version, if *version == 0x0304 { 0x1301 } else { 0xc02f });
    let mut all = vec![hello.clone()];
    if *refused {
        all.push(alert(2, 40));
        return all;
    }
    if *version == 0x0304 {
        answer.group = Some(0x001d);
        answer.psk = *resumed;
        if *retried {
            all.push([handshake(&answer.retry()), change()].concat());
            all.push([change(), hello].concat());
        }
        let certificates = if *resumed { vec![] } else { vec![sealed(23, *length), sealed(23, 280)] };
        all.push(
            [vec![cut(&answer.hello()), change(), sealed(23, 40)], certificates, vec![sealed(23, 53)]]
                .concat()
                .concat(),
        );
        let own = own.map_or(vec![], |length| vec![sealed(23, length + 100), sealed(23, 281)]);
        all.push([vec![change()], own, vec![sealed(23, 53), data[0].clone()]].concat().concat());
        all.push([sealed(23, 250), data[1].clone()].concat());
    } else if *resumed {
        all.push([handshake(&answer.hello()), change(), sealed(22, 40)].concat());
        all.push([change(), sealed(22, 40), data[0].clone()].concat());
        all.push(data[1].clone());
    } else {
        answer.session = vec![8; 32];
        let flight = [answer.hello(), certificate(*length), key_exchange(0x17), message(14, &[])];
        all.push(flight.iter().flat_map(|message| cut(message)).collect());
        let own = own.map_or(vec![], |length| handshake(&certificate(length)));
        all.push([own, handshake(&message(16, &[65; 66])), change(), sealed(22, 40)].concat());
        all.push([handshake(&message(4, &[3; 180])), change(), sealed(22, 40)].concat());
        all.extend(data);
    }
    all
}

/// Does a record say of the handshake what it was?
fn fits(record: &L7Record, shape: &Shape) -> bool {
    let Detail::Tls(tls) = &record.detail else { panic!("{record:?}") };
    let TlsHandshake { sni, version, alert, cipher, resumed, retried, alert_encrypted, .. } = tls;
    let unknown = record.notes.has(Notes(Notes::REQUEST_CUT.0 | Notes::NO_REQUEST.0));
    let names = ["1.0", "1.1", "1.2", "1.3"];
    let name_fits = **sni == *shape.name || unknown && sni.is_empty();
    let answer_fits = if shape.alert {
        (*version, *alert, *cipher) == ("", Some(40), None)
    } else {
        let cipher = (*cipher).is_none_or(|cipher| cipher == if shape.version == 0x0304 { 0x1301 } else { 0xc02f });
        *version == names[usize::from(shape.version - 0x0301)] && alert.is_none() && cipher
    };
    let session_fits = unknown || shape.alert || *resumed == shape.resumed;
    let retry_fits = unknown || record.notes.has(Notes::JOINED_MIDWAY) || *retried == (shape.retried && !shape.alert);
    name_fits && answer_fits && session_fits && retry_fits && !alert_encrypted && record.outcome == Outcome::Answered
}

struct Capture {
    tcp: Tcp,
    observer: Observer,
    found: Found,
}

impl Capture {
    fn replay() -> Capture {
        let mut capture = Capture::new(true, usize::MAX >> 1);
        capture.tcp.starts_at(CLIENT, FIRST[CLIENT.index()]);
        capture.tcp.starts_at(SERVER, FIRST[SERVER.index()]);
        capture.observer = capture.observer.handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
        capture
    }

    fn live() -> Capture {
        let mut capture = Capture::new(false, 4096);
        capture.tcp.seen_to_begin();
        capture.observer = capture.observer.handshake(FIRST[CLIENT.index()], FIRST[SERVER.index()]);
        capture
    }

    fn new(report_partial: bool, budget: usize) -> Capture {
        let limits = Limits { keep_strings: report_partial, report_partial, ..Limits::default() };
        let (observer, found) = (Observer::new(budget), Found::default());
        Capture { tcp: Tcp::new(&limits, Role::Unknown), observer, found }
    }

    fn see(&mut self, packet: &Packet) -> Option<Event> {
        self.observer.see(packet.clone())
    }

    fn take(&mut self, packet: &Packet) {
        if let Some(event) = self.see(packet) {
            hand_over(&mut self.tcp, &event, &mut self.found);
        }
    }

    fn close(mut self) -> Found {
        let last = self.observer.message;
        self.tcp.closed(last.last, Close::Fin, Some(&last), last.turn, &mut self.found);
        assert_eq!(self.tcp.buffered(), 0);
        self.found
    }
}

/// What is the same however it was cut, its times and sizes included.
fn essence(record: &L7Record) -> String {
    let mut record = record.clone();
    if let Detail::Tls(tls) = &mut record.detail {
        tls.offer = None;
    }
    format!("{record:?}")
}

proptest! {
    // A failure prints its seed and is kept beside this file, to be played again first.
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn cutting_reordering_and_repeating_changes_nothing(
        shape in shape(),
        seed in 1u64..,
        largest in prop_oneof![Just(20usize), Just(1460), Just(65_000)],
    ) {
        let mut dice = Dice(seed);
        let mut capture = Capture::replay();
        for packet in disturbed(packets(&messages(&shape), &mut dice, largest), &mut dice) {
            capture.take(&packet);
        }
        let found = capture.close();
        prop_assert_eq!((found.records.len(), found.lost_count()), (1, 0));
        prop_assert!(fits(&found.records[0], &shape), "{:?}", found.records);
        prop_assert_eq!(found.records[0].notes, Notes::default());
    }

    #[test]
    fn live_and_replay_say_the_same(mut shape in shape(), seed in 1u64..) {
        // Live, 4 KiB of each message are copied; the records of a hello are not that small.
        shape.pieces = shape.pieces.max(50);
        let mut told = Vec::new();
        for live in [true, false] {
            let mut capture = if live { Capture::live() } else { Capture::replay() };
            let mut interest = Interest::Heads;
            for packet in packets(&messages(&shape), &mut Dice(seed), 1460).iter().flatten() {
                capture.take(packet);
                interest = capture.tcp.interest();
            }
            prop_assert_eq!(interest, Interest::Nothing, "nothing more is wanted");
            let found = capture.close();
            prop_assert_eq!((found.records.len(), found.lost_count()), (1, 0));
            told.push(essence(&found.records[0]));
        }
        prop_assert_eq!(&told[0], &told[1]);
    }

    #[test]
    fn a_full_ring_loses_the_handshake_and_says_so(shape in shape(), seed in 1u64.., rarity in 2usize..10) {
        let mut dice = Dice(seed);
        let mut capture = Capture::live();
        let messages = messages(&shape);
        let mut any = false;
        for message in packets(&messages, &mut dice, 1460) {
            let lost = dice.one_in(rarity);
            for packet in &message {
                if let Some(event) = capture.see(packet).filter(|_| !lost) {
                    hand_over(&mut capture.tcp, &event, &mut capture.found);
                    any = true;
                }
            }
        }
        let found = capture.close();
        if any {
            prop_assert_eq!(found.records.len() as u64 + found.lost_count(), 1, "{:?}", found.lost);
        }
        prop_assert!(found.records.iter().all(|record| fits(record, &shape)), "{:?}", found.records);
    }

    #[test]
    fn dropped_packets_make_no_wrong_record(shape in shape(), seed in 1u64.., rarity in 2usize..30) {
        let mut dice = Dice(seed);
        let mut capture = Capture::replay();
        let packets: Vec<Packet> = packets(&messages(&shape), &mut dice, 1460).into_iter().flatten().collect();
        let (last, mut gone) = (packets.len() - 1, 0);
        for (number, packet) in packets.iter().enumerate() {
            // That more was to come after the last packet nobody can know.
            if number < last && dice.one_in(rarity) {
                gone += 1;
            } else {
                capture.take(packet);
            }
        }
        let found = capture.close();
        for record in &found.records {
            let seen = fits(record, &shape);
            prop_assert!(seen || record.outcome == Outcome::Unanswered, "{record:?}");
        }
        prop_assert!(found.records.len() as u64 + found.lost_count() <= 1);
        prop_assert!(gone > 0 || found.records.len() == 1);
    }

    #[test]
    fn starting_in_the_middle_makes_no_wrong_record(shape in shape(), seed in 1u64..) {
        let mut dice = Dice(seed);
        let all: Vec<Packet> = packets(&messages(&shape), &mut dice, 1460).into_iter().flatten().collect();
        let skip = dice.below(all.len());
        for partial in [false, true] {
            let mut capture = Capture::new(partial, 1 << 30);
            all[skip..].iter().for_each(|packet| capture.take(packet));
            let found = capture.close();
            prop_assert!(found.records.len() as u64 + found.lost_count() <= 1);
            prop_assert!(found.records.iter().all(|record| fits(record, &shape)), "{:?}", found.records);
            prop_assert!(skip == 0 || partial || found.records.is_empty());
        }
    }

    #[test]
    fn any_bytes_behind_a_hello_do_no_harm(
        shape in shape(),
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..200), 14u8..30), 0..20),
        seed in 1u64..,
    ) {
        let mut dice = Dice(seed);
        let mut said = messages(&shape);
        said.truncate(1 + dice.below(said.len()));
        for (record, bytes, kind) in pieces {
            said.push(if record { super::words::record(kind, &bytes) } else { bytes });
        }
        let mut capture = Capture::live();
        packets(&said, &mut dice, 1460).iter().flatten().for_each(|packet| capture.take(packet));
        let found = capture.close();
        prop_assert_eq!(found.records.len() as u64 + found.lost_count(), 1);
    }

    #[test]
    fn random_bytes_are_no_handshake(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 1..6),
        kind in prop::option::of(0x14_u8..=0x17),
        seed in 1u64..,
    ) {
        let mut messages = messages;
        if let Some(kind) = kind {
            // The weaker signs of a record, and then anything. A hello needs its own kind, length and version.
            messages[0].splice(0..0, [kind]);
        }
        let mut capture = Capture::live();
        packets(&messages, &mut Dice(seed), 1460).iter().flatten().for_each(|packet| capture.take(packet));
        let found = capture.close();
        let tls = |record: &&L7Record| matches!(record.detail, Detail::Tls(_));
        prop_assert_eq!(found.records.iter().filter(tls).count(), 0);
    }
}

#[test]
fn the_openings_of_other_protocols_are_no_handshake() {
    let openings: [&[u8]; 14] = [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"J\x00\x00\x00\x0a8.0.36\x00",
        b"AMQP\x00\x00\x09\x01",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"\x05\x01\x00",
        // RDP, SMB, DCE-RPC, RTMP, BitTorrent.
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
        b"\x00\x00\x00\x54\xffSMB\x72\x00\x00\x00\x00",
        b"\x05\x00\x0b\x03\x10\x00\x00\x00\x48\x00\x00\x00\x01\x00\x00\x00",
        b"\x03\x00\x00\x00\x00\x00\x00\x00\x00\x16\x03\x01",
        b"\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05",
    ];
    for opening in openings {
        for answer in openings {
            let mut capture = Capture::live();
            let said = [opening.to_vec(), answer.to_vec()];
            packets(&said, &mut Dice(1), 1460).iter().flatten().for_each(|packet| capture.take(packet));
            let found = capture.close();
            assert!(!found.records.iter().any(|record| matches!(record.detail, Detail::Tls(_))), "{opening:?}");
        }
    }
}
