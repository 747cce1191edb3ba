//! What a packet costs. Ignored by default: it asserts nothing and turns on the statistics of all
//! programs of the machine for a moment. `cargo test -p capture-engine --test kernel -- --ignored
//! --nocapture cost`

use crate::bed::Bed;
use crate::frames::{Bench, PEER_PORT, Tcp, load};
use crate::node::Cgroup;
use crate::script::protocols::{POSTGRESQL, RUNS};
use capture_engine::attach::CgroupLinks;
use capture_engine::kernel::KernelConfig;
use flow_model::{Direction, Slot};
use l7::{Interest, Length, Walk};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The stub and the program over one frame again and again: all in the cache, no interface.
#[test]
#[ignore = "measures"]
fn cost_of_one_frame() {
    let mut bench = Bench::new(&KernelConfig::default());
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
    flow.handshake();
    flow.request(1000, b"x");
    let ack = flow.frame(Direction::Egress, 1000, "A", 1000, b"");
    let head = flow.frame(Direction::Ingress, 1001, "A", 1000, &[b'h'; 1024]);
    let old = flow.frame(Direction::Egress, 500, "A", 1000, &[b'h'; 1024]);
    for _ in 0..5 {
        let (_, ack) = bench.repeat(Direction::Egress, &ack, 200_000);
        let (_, old) = bench.repeat(Direction::Egress, &old, 200_000);
        let (_, head) = bench.repeat(Direction::Ingress, &head, 5000);
        bench.drain();
        eprintln!("one frame, hot: ACK {ack} ns, old payload {old} ns, 1 KiB copied {head} ns");
    }
}

/// A kind, and a length that counts itself.
static ROWS: Walk = POSTGRESQL;
static RUN: Walk = RUNS;
static UNWANTED: Walk = Walk { keep: [256, 0, 0, 0], ..ROWS };
static ALL_FRAMES: Walk = Walk { most: 64, rows: false, ..ROWS };
static PACKETS: Walk = Walk { length: Length::Packets, keep: [256; 4], ..ROWS };

/// What there is to choose from for a long answer in packets of 3,000 bytes: each packet once, in
/// the order of its numbers, so no two runs are the same.
#[test]
#[ignore = "measures"]
fn cost_of_rows() {
    let ways = [
        ("heads of messages", Interest::Heads),
        ("everything", Interest::Everything),
        ("256 bytes of each packet", Interest::Frames(&PACKETS)),
        ("frames, 5 bytes of each row", Interest::Frames(&ROWS)),
        ("frames, rows as a run", Interest::Frames(&RUN)),
        ("frames, no byte of a row", Interest::Frames(&UNWANTED)),
        ("every frame, 64 of a packet", Interest::Frames(&ALL_FRAMES)),
    ];
    for row in [30u32, 300, 8192] {
        for (what, interest) in ways {
            let mut costs: Vec<(u64, usize, usize)> = (0..5).map(|_| rows(row, interest)).collect();
            costs.sort_unstable();
            let (ns, records, bytes) = costs[costs.len() / 2];
            eprintln!("rows of {row}, {what}: {ns} ns a packet, {records} records, {bytes} bytes of 9000000");
        }
    }
}

fn rows(row: u32, interest: Interest) -> (u64, usize, usize) {
    let mut bench = Bench::new(&KernelConfig { ring_bytes: 32 << 20, ..KernelConfig::default() });
    let flow = Tcp { bench: &mut bench, peer_port: PEER_PORT };
    flow.handshake();
    flow.request(1000, b"x");
    let sample = flow.bench.only_flow();
    let overrides = flow.bench.kernel.overrides();
    overrides.set(&sample.key, sample.id, interest).expect("an override");
    let one = [&b"D"[..], &(row - 1).to_be_bytes(), &vec![b'.'; row as usize - 5]].concat();
    let stream: Vec<u8> = one.iter().copied().cycle().take(9_000_000).collect();
    let frames: Vec<Vec<u8>> = stream
        .chunks(3000)
        .zip(0u32..)
        .map(|(payload, number)| flow.frame(Direction::Egress, 1000 + number * 3000, "A", 1000, payload))
        .collect();
    flow.bench.drain();
    let mut ns = 0;
    for frame in &frames {
        ns += u64::from(flow.bench.repeat(Direction::Egress, frame, 1).1);
    }
    let seen = flow.bench.drain();
    let segments: Vec<_> = seen.iter().filter_map(|seen| seen.segment()).collect();
    let bytes = segments.iter().map(|segment| segment.payload.len()).sum();
    (ns / frames.len() as u64, segments.len(), bytes)
}

/// Ping-pong over a veth pair, as the kernel's statistics see it (about 50 ns of each run are
/// theirs): at the interface, and at the cgroup of the server's socket.
#[test]
#[ignore = "measures"]
fn cost_on_an_interface_and_at_a_cgroup() {
    for at_cgroup in [false, true] {
        for (what, size, config) in [
            ("counted only", 1024, KernelConfig { exclude_ports: vec![8080..=8080], ..Default::default() }),
            ("64 bytes copied", 64, KernelConfig::default()),
            ("1 KiB copied", 1024, KernelConfig::default()),
        ] {
            measure(at_cgroup, what, size, &config);
        }
    }
}

fn measure(at_cgroup: bool, what: &str, size: usize, config: &KernelConfig) {
    let (bed, cgroup) = (Bed::new(), Cgroup::new());
    let kernel = load(config);
    let cookie = bed.pod.run(|inside| inside.cookie()).expect("a thread");
    let _links = match at_cgroup {
        true => Some(CgroupLinks::attach(&kernel, Slot(1), cgroup.path(), cookie).expect("attached")),
        false => {
            bed.attach(&kernel, Slot(1));
            None
        }
    };
    let mut reader = kernel.reader().expect("epoll").expect("the first reader");
    let listener = cgroup.run(&bed.pod, || TcpListener::bind("10.77.0.1:8080").expect("a listener"));
    let done = AtomicBool::new(false);
    let before = std::fs::read_to_string(SWITCH).expect("the switch");
    std::fs::write(SWITCH, "1").expect("the switch");
    let mut events = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ping_pong(&bed, &listener, size, 30_000);
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            events += reader.drain(usize::MAX, &mut |_| ());
            reader.wait(Duration::from_millis(5)).expect("epoll_wait");
        }
    });
    std::fs::write(SWITCH, before.trim()).expect("the switch");
    events += reader.drain(usize::MAX, &mut |_| ());
    let stats = kernel.stats().expect("stats");
    let costs: Vec<String> = kernel
        .programs()
        .expect("programs")
        .iter()
        .filter(|p| p.run_count > 0)
        .map(|p| format!("{} {} ns ({} runs)", p.name, p.run_time_ns / p.run_count, p.run_count))
        .collect();
    eprintln!("{what}: {}; {events} events, {} lost", costs.join(", "), stats.ring_full);
}

fn ping_pong(bed: &Bed, listener: &TcpListener, size: usize, rounds: usize) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_nodelay(true).expect("nodelay");
            let mut buffer = vec![0; size];
            while stream.read_exact(&mut buffer).is_ok() {
                stream.write_all(&buffer).expect("an answer");
            }
        });
        let mut stream =
            bed.peer.run(|_| TcpStream::connect("10.77.0.1:8080")).expect("a thread").expect("a connection");
        stream.set_nodelay(true).expect("nodelay");
        let mut buffer = vec![1; size];
        for _ in 0..rounds {
            stream.write_all(&buffer).expect("a question");
            stream.read_exact(&mut buffer).expect("an answer");
        }
        drop(stream);
    });
}
