//! Random connections beside a ring that is full now and then, with rounds through the table, removals
//! and repeated packets at any moment. There is no model: the client knows what it sent, and of each
//! port counted and lost are that, never more.

use crate::frames::{Bench, Tcp};
use crate::script::random::{self, Dice};
use capture_engine::event::{FlowKey, Sample};
use capture_engine::kernel::KernelConfig;
use capture_engine::pipeline::{Pipeline, PipelineConfig};
use flow_model::Direction::{self, Egress, Ingress};
use flow_model::{FlowDelta, FlowInfo, L7Record, LossReason, Sink, Ts};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Duration;

/// Some ten records of payload, and two ends.
const RING: u32 = 4096;
/// Few, so that what is over goes early.
const FLOWS: u32 = 64;
/// So few that each is used again and again.
const PORTS: u16 = 10;
const KNOWN: u16 = 100;
const GET: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// A flow is quiet after it.
const QUIET: Duration = Duration::from_secs(1);
/// Nothing of a connection comes so long after its end.
const LONG_AFTER: Duration = Duration::from_secs(3);

/// By the client's port: counted and lost.
#[derive(Debug, Default)]
struct Told(BTreeMap<u16, [u64; 2]>);

impl Told {
    fn add(&mut self, flow: &FlowInfo, what: usize, count: u64) {
        self.0.entry(flow.tuple.remote.port).or_default()[what] += count;
    }
}

impl Sink for Told {
    type PerFlow = ();

    fn exchange(&mut self, flow: &FlowInfo, (): &mut (), _: &L7Record) {
        self.add(flow, 0, 1);
    }

    fn exchanges_lost(&mut self, flow: &FlowInfo, (): &mut (), _: LossReason, count: u64) {
        self.add(flow, 1, count);
    }

    fn flow(&mut self, _: &FlowInfo, (): &mut (), _: &FlowDelta) {}
}

#[derive(Clone, Copy)]
struct Packet {
    dir: Direction,
    seq: u32,
    flags: &'static str,
    payload: &'static [u8],
}

/// A connection from its SYN to its end: what is sent in turn, and how far it is.
#[derive(Clone, Default)]
struct Connection {
    packets: Vec<Packet>,
    next: usize,
    /// How often long after had passed when it ended.
    ended: Option<u32>,
}

impl Connection {
    fn new(dice: &mut Dice) -> Connection {
        let mut packets = Vec::new();
        let mut seq = [1 + dice.below(1 << 30), 1 + dice.below(1 << 30)];
        let mut send = |dir: Direction, flags, payload: &'static [u8]| {
            let at = &mut seq[dir.index()];
            packets.push(Packet { dir, seq: *at, flags, payload });
            *at += payload.len() as u32 + u32::from(flags != "A" && flags != "R");
        };
        send(Ingress, "S", b"");
        send(Egress, "SA", b"");
        send(Ingress, "A", b"");
        for _ in 0..dice.below(3) {
            send(Ingress, "A", GET);
            send(Egress, "A", OK);
        }
        send(Ingress, "A", GET);
        let ending = dice.below(4);
        if ending > 0 {
            send(Egress, "A", OK);
        }
        let ends: &[(Direction, &str)] = match ending {
            0 => &[(Egress, "R")],
            1 => &[(Ingress, "R")],
            2 => &[(Ingress, "FA"), (Egress, "FA"), (Ingress, "A")],
            _ => &[(Egress, "FA"), (Ingress, "FA"), (Egress, "A")],
        };
        for (dir, flags) in ends {
            send(*dir, flags, b"");
        }
        Connection { packets, next: 0, ended: None }
    }
}

struct Scene {
    bench: Bench,
    pipeline: Pipeline<Told>,
    dice: Dice,
    /// By port.
    connections: Vec<Connection>,
    sent: BTreeMap<u16, u64>,
    /// How often everything was long over.
    long_after: u32,
}

impl Scene {
    fn new() -> Scene {
        let bench = Bench::new(&KernelConfig { ring_bytes: RING, flows: FLOWS, ..KernelConfig::default() });
        let config = PipelineConfig { flows: FLOWS as usize, ..PipelineConfig::default() };
        let pipeline = Pipeline::new(config, Told::default());
        let connections = vec![Connection::default(); PORTS.into()];
        Scene { bench, pipeline, dice: Dice::new(0), connections, sent: BTreeMap::new(), long_after: 0 }
    }

    fn send(&mut self, port: u16, packet: Packet) {
        let Packet { dir, seq, flags, payload } = packet;
        Tcp { bench: &mut self.bench, peer_port: port }.send(dir, seq, flags, payload);
    }

    /// The next packet of a connection, or one of it once more.
    fn packet(&mut self) {
        let port = self.dice.below(PORTS.into()) as u16;
        let connection = &self.connections[usize::from(port)];
        let may_repeat = connection.ended.is_none_or(|ended| ended == self.long_after);
        if may_repeat && connection.next > 3 && self.dice.percent(20) {
            let which = 3 + self.dice.below(connection.next as u32 - 3) as usize;
            let packet = self.connections[usize::from(port)].packets[which];
            return self.send(port + 1, packet);
        }
        if connection.next == connection.packets.len() {
            // A SYN tells what nobody has told of the connection before it, which has to find room: see 0045.
            self.read(2);
            self.connections[usize::from(port)] = Connection::new(&mut self.dice);
        }
        self.go_on(port);
    }

    fn go_on(&mut self, port: u16) {
        let connection = &mut self.connections[usize::from(port)];
        let packet = connection.packets[connection.next];
        connection.next += 1;
        if connection.next == connection.packets.len() {
            connection.ended = Some(self.long_after);
        }
        *self.sent.entry(port + 1).or_default() += u64::from(packet.payload == GET);
        self.send(port + 1, packet);
    }

    fn packets(&mut self, most: u32) {
        for _ in 0..self.dice.below(most) {
            self.packet();
        }
    }

    fn read(&mut self, events: usize) {
        let Scene { bench, pipeline, .. } = self;
        bench.hear_some(events, &mut |event| pipeline.event(&event));
    }

    /// Takes out of the table what is over, as its owner does.
    fn remove(&mut self, now: Ts) {
        let Scene { bench, pipeline, .. } = self;
        let sampler = bench.kernel.sampler();
        for (key, id) in pipeline.requests().take_removable(now) {
            if sampler.lookup(&key).expect("a lookup").is_some_and(|sample| sample.id == id) {
                sampler.remove(&[key]).expect("removed");
            }
        }
        pipeline.requests().forget(now, bench.ring().read(), bench.ring().written());
    }

    fn upkeep(&mut self) {
        let long_after = self.dice.percent(10);
        self.long_after += u32::from(long_after);
        self.remove(now().plus(if long_after { LONG_AFTER } else { Duration::ZERO }));
    }

    /// A round through the table, while packets come.
    fn round(&mut self) {
        let mut sampler = self.bench.kernel.sampler();
        loop {
            let page = sampler.turn(8).expect("a turn");
            let (samples, last): (Vec<Sample>, bool) = (page.samples().collect(), page.last);
            self.packets(12);
            let Scene { bench, pipeline, .. } = self;
            bench.hear_what_is_there(&mut |event| pipeline.event(&event));
            self.packets(4);
            let now = now().plus(if self.dice.percent(70) { QUIET } else { Duration::ZERO });
            samples.iter().for_each(|sample| self.pipeline.sample(sample, now));
            if last {
                break;
            }
            if self.dice.percent(50) {
                self.upkeep();
            }
        }
    }

    /// One seed's, from an empty table to an empty table.
    fn play(&mut self, seed: u64) -> Result<(), String> {
        self.dice = Dice::new(seed);
        self.sent.clear();
        self.connections = vec![Connection::default(); PORTS.into()];
        self.pipeline.sink_mut().0.clear();
        for _ in 0..100 {
            match self.dice.below(40) {
                0..28 => self.packets(12),
                28..34 => {
                    let events = self.dice.below(6) as usize;
                    self.read(events);
                }
                34 => self.read(usize::MAX),
                35 => self.round(),
                _ => self.upkeep(),
            }
        }
        for port in 0..PORTS {
            while self.connections[usize::from(port)].next < self.connections[usize::from(port)].packets.len() {
                self.go_on(port);
            }
        }
        self.read(usize::MAX);
        let mut sampler = self.bench.kernel.sampler();
        let page = sampler.turn(FLOWS as usize).expect("a turn");
        page.samples().for_each(|sample| self.pipeline.sample(&sample, sample.at.plus(QUIET)));
        let told = std::mem::take(&mut self.pipeline.sink_mut().0);
        let end = Ts(u64::MAX);
        self.remove(end);
        self.pipeline.requests().forget(end, u64::MAX, 0);
        let left: Vec<FlowKey> = sampler.turn(FLOWS as usize).expect("a turn").samples().map(|flow| flow.key).collect();
        sampler.remove(&left).expect("removed");
        self.pipeline.finish(end);
        self.remove(end);
        self.pipeline.requests().forget(end, u64::MAX, 0);
        self.pipeline.sink_mut().0.clear();
        for (port, sent) in &self.sent {
            let [counted, lost] = told.get(port).copied().unwrap_or_default();
            if counted + lost != *sent {
                return Err(format!("port {port}: {sent} sent, {counted} counted and {lost} lost"));
            }
        }
        Ok(())
    }
}

fn now() -> Ts {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    Ts(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[test]
fn of_random_connections_each_exchange_is_counted_or_lost_once_whenever_the_table_is_looked_through() {
    let mut scene = Scene::new();
    // The server is known from here on.
    let mut known = Connection::new(&mut Dice::new(1));
    known.packets.truncate(5);
    for packet in known.packets {
        scene.send(KNOWN, packet);
    }
    scene.read(usize::MAX);
    let (count, first) = random::scale(150);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        if let Err(wrong) = scene.play(seed) {
            panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}: {wrong}");
        }
    }
    let stats = scene.bench.kernel.stats().expect("stats");
    eprintln!("{} records refused, {} flows without room", stats.ring_full, stats.flows_full);
    assert!(stats.ring_full > 0 && stats.flows_full == 0);
}
