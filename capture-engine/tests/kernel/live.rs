//! Real sockets over a veth pair.

use crate::bed::Bed;
use crate::frames::{Seen, SeenSegment, load, until};
use capture_engine::kernel::{Kernel, KernelConfig, RingReader};
use flow_model::{Close, Direction, Role, Slot};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

fn start(bed: &Bed, slot: Slot) -> (Kernel, RingReader) {
    let kernel = load(&KernelConfig { ring_bytes: 1 << 20, flows: 256, ..Default::default() });
    bed.attach(&kernel, slot);
    let reader = kernel.reader().expect("epoll").expect("the first reader");
    (kernel, reader)
}

fn collect(reader: &mut RingReader, what: &str, done: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    until(what, || {
        reader.drain(usize::MAX, &mut |event| seen.push(Seen::of(event)));
        done(&seen)
    });
    seen
}

fn closes(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Closed(_))).count()
}

/// `rounds` questions of 100 bytes and answers of 50,000 over one connection from the peer to the pod.
fn exchange(bed: &Bed, address: &str, rounds: usize) {
    let listener = bed.pod.run(|_| TcpListener::bind((address, 8080))).expect("a thread").expect("a listener");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut question = [0; 100];
        while stream.read_exact(&mut question).is_ok() {
            stream.write_all(&[b'a'; 50_000]).expect("an answer");
        }
    });
    let target = (address.to_owned(), 8080);
    bed.peer
        .run(move |_| {
            let mut stream = TcpStream::connect((target.0.as_str(), target.1)).expect("a connection");
            let mut answer = vec![0; 50_000];
            for _ in 0..rounds {
                stream.write_all(&[b'q'; 100]).expect("a question");
                stream.read_exact(&mut answer).expect("an answer");
            }
        })
        .expect("a thread");
    server.join().expect("the server");
}

#[test]
fn every_message_of_a_connection_is_seen_with_its_size_and_time() {
    for address in ["10.77.0.1", "fd77::1"] {
        let bed = Bed::new();
        let (kernel, mut reader) = start(&bed, Slot(42));
        exchange(&bed, address, 20);
        let seen = collect(&mut reader, "the close", |seen| closes(seen) == 1);
        let segments: Vec<&SeenSegment> = seen.iter().filter_map(Seen::segment).collect();
        assert!(segments.iter().all(|s| s.slot == Slot(42) && s.role == Role::Server));
        let mut ends: Vec<l7::MessageEnd> = segments.iter().filter_map(|s| s.prev).collect();
        let Some(Seen::Closed(closed)) = seen.last() else { panic!("the close comes last") };
        ends.extend(closed.message);
        assert_eq!(ends.iter().map(|end| end.turn).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        for end in &ends {
            let question = end.turn % 2 == 1;
            assert_eq!(end.bytes, if question { 100 } else { 50_000 });
            assert!(end.last >= end.first);
            if !question {
                assert_eq!((&end.tail, end.tail_len), (b"aaaaaaaa", 8));
            }
        }
        for turn in 1..=40 {
            let (dir, byte, copied) =
                if turn % 2 == 1 { (Direction::Ingress, b'q', 100) } else { (Direction::Egress, b'a', 4096) };
            let head: Vec<u8> =
                segments.iter().filter(|s| s.turn == turn && s.dir == dir).flat_map(|s| s.payload.clone()).collect();
            assert_eq!(head, vec![byte; copied], "turn {turn}");
        }
        assert_eq!((closed.closed, closed.turns, closed.established), (Some(Close::Fin), 40, true));
        assert!(closed.counters.rtt_ns.is_some_and(|rtt| rtt < 1_000_000_000), "{:?}", closed.counters);
        assert_eq!(kernel.stats().expect("stats").ring_full, 0);
    }
}

#[test]
fn a_refused_connection_is_a_reset_at_the_client() {
    let bed = Bed::new();
    let (_kernel, mut reader) = start(&bed, Slot(1));
    bed.pod.run(|_| TcpStream::connect(("10.77.0.2", 9)).expect_err("refused")).expect("a thread");
    let seen = collect(&mut reader, "the close", |seen| closes(seen) == 1);
    let Some(Seen::Closed(closed)) = seen.last() else { panic!("a close") };
    assert_eq!((closed.closed, closed.role, closed.established), (Some(Close::Reset), Role::Client, false));
}

#[test]
fn datagrams_come_whole_in_both_directions() {
    let bed = Bed::new();
    let (_kernel, mut reader) = start(&bed, Slot(3));
    let resolver = bed.peer.run(|_| UdpSocket::bind("10.77.0.2:53")).expect("a thread").expect("a socket");
    let client = bed.pod.run(|_| UdpSocket::bind("0.0.0.0:0")).expect("a thread").expect("a socket");
    client.send_to(b"who?", "10.77.0.2:53").expect("sent");
    let (_, from) = resolver.recv_from(&mut [0; 16]).expect("the question");
    resolver.send_to(b"me", from).expect("sent");
    let seen = collect(&mut reader, "both datagrams", |seen| seen.iter().filter_map(Seen::segment).count() == 2);
    let payloads: Vec<_> =
        seen.iter().filter_map(Seen::segment).map(|s| (s.payload.as_slice(), s.dir, s.turn)).collect();
    assert_eq!(payloads, [(&b"who?"[..], Direction::Egress, 1), (b"me", Direction::Ingress, 2)]);
}

#[test]
fn a_stub_that_stays_behind_lets_packets_pass_and_runs_nothing() {
    let bed = Bed::new();
    let (kernel, reader) = start(&bed, Slot(9));
    exchange(&bed, "10.77.0.1", 2);
    let main = kernel.programs().expect("programs");
    assert_eq!(main.iter().map(|program| program.stubs).collect::<Vec<_>>(), [1, 1]);
    let ids: Vec<u32> = main.iter().map(|program| program.id).collect();
    drop(reader);
    drop(kernel);
    // The array of programs is emptied when its last descriptor closes; the programs go a grace period later.
    until("the shared programs are unloaded", || {
        aya::programs::loaded_programs().filter_map(Result::ok).all(|program| !ids.contains(&program.id()))
    });
    exchange(&bed, "10.77.0.1", 2);
}

#[test]
fn a_sleeping_reader_is_woken_by_the_first_event() {
    let bed = Bed::new();
    let (_kernel, mut reader) = start(&bed, Slot(5));
    // Nothing comes: after 100 ms the reader sleeps for as long as it may.
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(150) {
        reader.wait(Duration::from_millis(20)).expect("epoll_wait");
        reader.drain(usize::MAX, &mut |_| ());
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            bed.pod
                .run(|_| UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"wake", "10.77.0.2:53")))
                .expect("a thread")
                .expect("sent");
        });
        let asleep = Instant::now();
        let mut events = 0;
        while events == 0 {
            reader.wait(Duration::from_secs(30)).expect("epoll_wait");
            events = reader.drain(usize::MAX, &mut |_| ());
        }
        assert!(asleep.elapsed() < Duration::from_secs(15), "woken, not timed out");
    });
}
