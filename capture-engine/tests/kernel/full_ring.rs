//! A ring that is full, and connections that are short: what is counted and what is told as lost are
//! all that was asked. Frames go through the programs, and what they tell goes through the pipeline.

use crate::frames::{Bench, PEER, POD, Tcp};
use crate::script::{host, random};
use crate::scripts::run;
use capture_engine::event::{Event, FlowKey};
use capture_engine::kernel::KernelConfig;
use capture_engine::pipeline::{Pipeline, PipelineConfig};
use capture_wire as wire;
use etherparse::PacketBuilder;
use flow_model::Direction::{Egress, Ingress};
use flow_model::{FlowDelta, FlowInfo, L7Record, LossReason, Sink, Ts};
use std::time::Duration;

/// Holds some 80 connections with their requests and responses.
const RING: u32 = 64 << 10;
const FLOWS: u32 = 8192;
const GET: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(Debug, Default)]
struct Told {
    counted: u64,
    lost: u64,
    ended: u64,
}

impl Sink for Told {
    type PerFlow = ();

    fn exchange(&mut self, _: &FlowInfo, (): &mut (), _: &L7Record) {
        self.counted += 1;
    }

    fn exchanges_lost(&mut self, _: &FlowInfo, (): &mut (), _: LossReason, count: u64) {
        self.lost += count;
    }

    fn flow(&mut self, _: &FlowInfo, (): &mut (), delta: &FlowDelta) {
        self.ended += u64::from(delta.closed.is_some());
    }
}

/// How a connection goes on when it is open.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// The client closes, and the server after it.
    Fin,
    /// The client resets it after the answer.
    Reset,
    /// The server resets it instead of an answer.
    Instead,
}

struct Scene {
    bench: Bench,
    pipeline: Pipeline<Told>,
    asked: u64,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(4096)
    }

    /// So many ends find room aside.
    fn with(aside: u32) -> Scene {
        let bench = Bench::new(&KernelConfig { ring_bytes: RING, flows: FLOWS, aside, ..KernelConfig::default() });
        let config = PipelineConfig { flows: FLOWS as usize, has_aside: true, ..PipelineConfig::default() };
        let mut scene = Scene { bench, pipeline: Pipeline::new(config, Told::default()), asked: 0 };
        // The server is known from here on.
        scene.connection(1, Ends::Fin);
        scene.read(usize::MAX);
        assert_eq!(scene.told(), (1, 0, 1));
        scene
    }

    /// A request, and what comes of it.
    fn connection(&mut self, peer_port: u16, ends: Ends) {
        self.connection_from(1000, peer_port, ends);
    }

    /// The same, of which `start` is the first byte's number.
    fn connection_from(&mut self, start: u32, peer_port: u16, ends: Ends) {
        self.asked += 1;
        let flow = Tcp { bench: &mut self.bench, peer_port };
        flow.send(Ingress, start - 1, "S", b"");
        flow.send(Egress, start - 1, "SA", b"");
        flow.send(Ingress, start, "A", b"");
        flow.request(start, GET);
        if matches!(ends, Ends::Instead) {
            return flow.send(Egress, start, "R", b"");
        }
        flow.response(start, OK);
        let (asked, answered) = (start + GET.len() as u32, start + OK.len() as u32);
        if matches!(ends, Ends::Reset) {
            return flow.send(Ingress, asked, "R", b"");
        }
        flow.send(Ingress, asked, "FA", b"");
        flow.send(Egress, answered, "FA", b"");
        flow.send(Ingress, asked + 1, "A", b"");
    }

    /// The reader takes so many events, and what is over is taken out of the table.
    fn read(&mut self, events: usize) {
        let Scene { bench, pipeline, .. } = self;
        bench.hear_some(events, &mut |event| pipeline.event(&event));
        bench.take_aside(pipeline);
        let sampler = bench.kernel.sampler();
        let of_it = |(key, id): &(FlowKey, _)| sampler.lookup(key).expect("a look").is_some_and(|now| now.id == *id);
        let over: Vec<FlowKey> =
            pipeline.requests().take_removable(Ts::default()).into_iter().filter(of_it).map(|(key, _)| key).collect();
        sampler.remove(&over).expect("removed");
    }

    /// A round through the table, long after.
    fn round(&mut self) {
        let mut sampler = self.bench.kernel.sampler();
        let page = sampler.turn(FLOWS as usize).expect("a turn");
        for sample in page.samples() {
            self.pipeline.sample(&sample, sample.at.plus(Duration::from_secs(1)));
        }
    }

    /// Counted, lost, and connections that ended.
    fn told(&self) -> (u64, u64, u64) {
        let Told { counted, lost, ended } = *self.pipeline.sink();
        (counted, lost, ended)
    }

    #[track_caller]
    fn adds_up(&self, what: &str) {
        let (counted, lost, ended) = self.told();
        let stats = self.bench.kernel.stats().expect("stats");
        eprintln!("{what}: {counted} counted, {lost} lost, {} records refused", stats.ring_full);
        assert!(lost > 0 && stats.ring_full > 0, "{what}: the ring was not full");
        assert_eq!((counted + lost, ended), (self.asked, self.asked), "{what}: counted and lost, ends");
    }
}

/// It is never empty, and nobody goes through the table.
#[test]
fn connections_that_are_short_are_counted_or_lost_beside_a_ring_that_stays_full() {
    for ends in [Ends::Fin, Ends::Reset, Ends::Instead] {
        let mut scene = Scene::new();
        // Two of each three records are read, of which one is the end.
        let read = if matches!(ends, Ends::Instead) { 1 } else { 2 };
        for peer_port in 2..1500 {
            scene.connection(peer_port, ends);
            scene.read(read);
        }
        scene.read(usize::MAX);
        scene.adds_up(&format!("{ends:?}"));
        assert_eq!(scene.bench.kernel.stats().expect("stats").flows_full, 0);
    }
}

/// Each connection has the addresses and ports of the one before.
#[test]
fn a_tuple_that_is_used_again_beside_a_full_ring_is_told_each_time() {
    let mut scene = Scene::new();
    for round in 0..600_u32 {
        let flow = Tcp { bench: &mut scene.bench, peer_port: 5 };
        let start = 1000 + round * 100_000;
        flow.send(Ingress, start - 1, "S", b"");
        flow.send(Egress, start - 1, "SA", b"");
        flow.request(start, GET);
        flow.response(start, OK);
        flow.send(Ingress, start + GET.len() as u32, "FA", b"");
        // The server's FIN is not seen on every second one.
        if round % 2 == 0 {
            flow.send(Egress, start + OK.len() as u32, "FA", b"");
        }
        scene.asked += 1;
        scene.read(2);
    }
    scene.read(usize::MAX);
    scene.round();
    let (counted, lost, _) = scene.told();
    assert!(lost > 0, "the ring was not full");
    // The last one is open.
    assert!((scene.asked - 1..=scene.asked).contains(&(counted + lost)), "{counted} + {lost} of {}", scene.asked);
}

/// The reader sleeps until even ends find no room, and addresses and ports are used again meanwhile.
#[test]
fn ends_that_a_full_ring_refuses_are_told_though_their_places_are_used_again() {
    for ends in [Ends::Fin, Ends::Reset, Ends::Instead] {
        let mut scene = Scene::new();
        for again in 0..20 {
            for peer_port in 2..100 {
                scene.connection_from(1000 + again * 100_000, peer_port, ends);
            }
        }
        scene.read(usize::MAX);
        // What lay aside is told once the ring has been read.
        scene.read(usize::MAX);
        scene.read(usize::MAX);
        scene.round();
        scene.adds_up(&format!("{ends:?}, used again"));
        let stats = scene.bench.kernel.stats().expect("stats");
        assert!(stats.aside > 1000 && stats.replaced_full == 0, "{stats:?}");
    }
}

/// And until nothing finds room aside: an end keeps its place, and what comes after it is told by its answers.
#[test]
fn an_end_that_finds_no_room_anywhere_keeps_its_place_and_what_comes_after_it_is_told() {
    for ends in [Ends::Fin, Ends::Reset] {
        let mut scene = Scene::with(8);
        let before: u64 = scene.bench.kernel.sampler().answers().iter().sum();
        for again in 0..20 {
            for peer_port in 2..100 {
                scene.connection_from(1000 + again * 100_000, peer_port, ends);
            }
        }
        let stats = scene.bench.kernel.stats().expect("stats");
        assert!(stats.aside == 8 && stats.replaced_full > 1000, "{stats:?}");
        scene.read(usize::MAX);
        scene.read(usize::MAX);
        scene.round();
        // It has its place again, whoever has told of the one before.
        for peer_port in 2..100 {
            scene.connection_from(5_000_000, peer_port, ends);
            scene.read(usize::MAX);
        }
        scene.read(usize::MAX);
        let answers: u64 = scene.bench.kernel.sampler().answers().iter().sum::<u64>() - before;
        let (counted, lost, _) = scene.told();
        eprintln!("{ends:?}: {counted} counted, {lost} lost, {answers} told by their answers");
        assert!(counted >= 98, "{counted} counted");
        assert_eq!(counted + lost + answers, scene.asked, "{counted} counted, {lost} lost, {answers} by their answers");
    }
}

/// Until even the ends find no room: these are in the table.
#[test]
fn what_ended_while_the_reader_slept_is_found_in_the_table() {
    let mut scene = Scene::new();
    for peer_port in 2..1000 {
        scene.connection(peer_port, Ends::Fin);
    }
    scene.read(usize::MAX);
    let (_, _, ended) = scene.told();
    assert!(ended < scene.asked, "the ring had room for all ends");
    scene.round();
    scene.adds_up("a reader that slept");
    // Each one's place is free again, long after.
    let requests = scene.pipeline.requests().take_removable(Ts(u64::MAX));
    let over: Vec<FlowKey> = requests.into_iter().map(|(key, _)| key).collect();
    let mut sampler = scene.bench.kernel.sampler();
    sampler.remove(&over).expect("removed");
    assert!(sampler.turn(FLOWS as usize).expect("a turn").is_empty());
}

/// A client that asks again and again over one connection, and closes it.
#[test]
fn a_connection_tells_at_its_end_what_was_refused_of_it() {
    let mut scene = Scene::new();
    for peer_port in 2..200 {
        let flow = Tcp { bench: &mut scene.bench, peer_port };
        flow.handshake();
        let (mut asked, mut answered) = (1000, 1000);
        for _ in 0..10 {
            flow.request(asked, GET);
            flow.response(answered, OK);
            (asked, answered) = (asked + GET.len() as u32, answered + OK.len() as u32);
        }
        flow.send(Ingress, asked, "FA", b"");
        flow.send(Egress, answered, "FA", b"");
        scene.asked += 10;
        scene.read(7);
    }
    scene.read(usize::MAX);
    let (counted, lost, ended) = scene.told();
    assert!(lost > 0, "the ring was not full");
    assert_eq!((counted + lost, ended), (scene.asked, 199));
}

/// Of DNS there is no news of an end: the flow's number of datagrams tells.
#[test]
fn lookups_are_counted_or_lost_beside_a_ring_that_is_full() {
    let mut scene = Scene::new();
    let asked = 800_u16;
    for port in 10_000..10_000 + asked {
        for (dir, second) in [(Egress, 1), (Ingress, 0x81)] {
            let mut message = vec![7, 7, second, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            message.extend(b"\x04shop\x07example\0\0\x01\0\x01");
            let (from, to, ports) = if dir == Egress { (POD, PEER, (port, 53)) } else { (PEER, POD, (53, port)) };
            let mut frame = Vec::new();
            let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64).udp(ports.0, ports.1);
            packet.write(&mut frame, &message).expect("a frame");
            scene.bench.run(dir, &frame);
        }
        scene.read(1);
    }
    scene.read(usize::MAX);
    scene.round();
    scene.asked += u64::from(asked);
    let end = Ts(u64::MAX);
    scene.pipeline.finish(end);
    let (counted, lost, _) = scene.told();
    assert!(lost > 0, "the ring was not full");
    assert_eq!(counted + lost, scene.asked, "{counted} counted, {lost} lost");
}

/// More comes with each event that is read: it ends, and no turn of it takes longer than it may.
#[test]
fn a_ring_that_is_never_empty_does_not_keep_its_reader() {
    const MOST: usize = 20;
    let mut scene = Scene::new();
    let ports = 2..50;
    for peer_port in ports.clone() {
        scene.connection(peer_port, Ends::Fin);
    }
    let flow = Tcp { bench: &mut scene.bench, peer_port: 60 };
    flow.handshake();
    let again = flow.frame(Ingress, 1000, "A", 1000, GET);
    let mut ended = Vec::new();
    let turns = scene.bench.hear_present((Ingress, again.as_slice()), MOST, &mut |event| {
        if let Event::Closed(sample) = event {
            ended.push(sample.key.tuple.remote.port);
        }
    });
    assert_eq!(ended, ports.collect::<Vec<u16>>(), "all that was there");
    let most = RING as usize / (size_of::<wire::Closed>() + 8);
    let read: usize = turns.iter().sum();
    assert!((3 * ended.len() + 1..=most).contains(&read), "{read}");
    // All but the last take as many as they may.
    let (last, whole) = turns.split_last().expect("a turn");
    assert!(whole.iter().all(|events| *events == MOST) && *last <= MOST && whole.len() >= 7, "{turns:?}");
}

/// As the kernel tells each process (getauxval(3), AT_PAGESZ).
fn page_size() -> u64 {
    let auxv = std::fs::read("/proc/self/auxv").expect("a process has one");
    let words: Vec<u64> = auxv.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    words.chunks_exact(2).find(|pair| pair[0] == 6).expect("it says so")[1]
}

/// The same records are refused, and the same ends are told: on kernels with pages of 4 KiB, whose
/// ring is as small as that of the host.
#[test]
fn a_full_ring_refuses_of_random_scripts_what_it_refuses_for_the_host() {
    const SMALL: u32 = 4096;
    if !host::can_run() || page_size() != u64::from(SMALL) {
        return;
    }
    let mut bench = Bench::new(&KernelConfig { ring_bytes: SMALL, flows: 64, ..KernelConfig::default() });
    let (count, first) = random::scale(3000);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        let story = random::Story::new(seed);
        let (told, host) = (run(&mut bench, &story.packets), host::run_in(&story.packets, SMALL));
        assert_eq!(told, host, "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}\n{}", random::write(&story));
    }
    assert!(bench.kernel.stats().expect("stats").ring_full > 0);
}

/// A client of HTTP/1 that keeps several requests under way, in packets that are cut anywhere, and its server.
struct Asking {
    dice: random::Dice,
    asked: u32,
    answered: u32,
    /// What the client has yet to send, and how many of its requests are not answered.
    rest: Vec<u8>,
    open: u32,
}

impl Asking {
    /// The client sends up to `most` requests more, in one packet or in some, and may keep something of the last back.
    fn ask(&mut self, scene: &mut Scene, peer_port: u16, most: u32) {
        for _ in 0..1 + self.dice.below(most) {
            match self.dice.below(4) {
                0 => self.rest.extend(b"POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nno HTTP/1"),
                1 => self.rest.extend(b"GET /a?b=%20HTTP/1.1 HTTP/1.1\r\nHost: shop\r\nReferer: /\r\n\r\n"),
                _ => self.rest.extend(GET),
            }
            self.open += 1;
            scene.asked += 1;
        }
        let keep = if self.dice.percent(30) { self.dice.below(40) as usize } else { 0 };
        self.send(scene, peer_port, keep);
    }

    fn send(&mut self, scene: &mut Scene, peer_port: u16, keep: usize) {
        let flow = Tcp { bench: &mut scene.bench, peer_port };
        while self.rest.len() > keep {
            let length = if self.dice.percent(60) { self.rest.len() } else { 1 + self.dice.below(90) as usize };
            let packet: Vec<u8> = self.rest.drain(..length.min(self.rest.len() - keep)).collect();
            flow.request(self.asked, &packet);
            self.asked += packet.len() as u32;
        }
    }

    /// The server answers some, which it has whole.
    fn answer(&mut self, scene: &mut Scene, peer_port: u16) {
        let whole = self.open - u32::from(!self.rest.is_empty()).min(self.open);
        let count = self.dice.below(whole + 1);
        if count > 0 {
            let answers = OK.repeat(count as usize);
            Tcp { bench: &mut scene.bench, peer_port }.response(self.answered, &answers);
            self.answered += answers.len() as u32;
            self.open -= count;
        }
    }
}

impl Scene {
    /// What the pipeline wants of flows is done.
    fn follow(&mut self) {
        let overrides = self.bench.kernel.overrides();
        for (key, id, interest) in self.pipeline.requests().take_interests() {
            overrides.set(&key, id, interest).expect("an override");
        }
    }
}

/// Several requests in a packet, requests in several packets, and records refused anywhere: the client and its server
/// know how many there were.
#[test]
fn a_pipeline_beside_a_full_ring_is_counted_or_lost_to_the_last_request() {
    let (count, first) = random::scale(12);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    let (mut all, mut refused) = (0, 0);
    let mut scene = Scene::new();
    for (seed, peer_port) in (first..first.saturating_add(count)).zip((2..60_000).cycle()) {
        let dice = random::Dice::new(seed);
        let mut talk = Asking { dice, asked: 1000, answered: 1000, rest: Vec::new(), open: 0 };
        Tcp { bench: &mut scene.bench, peer_port }.handshake();
        // It shows what it is before the ring is full.
        for _ in 0..3 {
            talk.ask(&mut scene, peer_port, 4);
            talk.send(&mut scene, peer_port, 0);
            talk.answer(&mut scene, peer_port);
            scene.read(usize::MAX);
            scene.follow();
        }
        let room = talk.dice.below(4) as usize;
        for _ in 0..600 {
            talk.ask(&mut scene, peer_port, 6);
            talk.answer(&mut scene, peer_port);
            scene.read(room);
            if talk.dice.percent(1) {
                scene.read(usize::MAX);
            }
            scene.follow();
        }
        talk.send(&mut scene, peer_port, 0);
        let flow = Tcp { bench: &mut scene.bench, peer_port };
        flow.send(Ingress, talk.asked, "FA", b"");
        flow.send(Egress, talk.answered, "FA", b"");
        flow.send(Ingress, talk.asked + 1, "A", b"");
        scene.read(usize::MAX);
        let (counted, lost, _) = scene.told();
        assert_eq!(counted + lost, scene.asked, "PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}: {lost} lost");
        (all, refused) = (counted + lost, lost);
    }
    let stats = scene.bench.kernel.stats().expect("stats");
    eprintln!("{refused} of {all} lost, {} records refused", stats.ring_full);
    assert!(refused > all / 20 && refused < all && stats.ring_full > 0, "{refused} of {all}");
}
