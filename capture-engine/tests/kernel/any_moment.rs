//! Random connections beside a ring that is full now and then, with rounds through the table, removals
//! and repeated packets at any moment. There is no model: the client knows what it sent, and of each
//! port counted and lost are that, never more.

use crate::frames::{Bench, Tcp};
use crate::script::random::{self, Dice};
use capture_engine::event::{FlowKey, Sample};
use capture_engine::kernel::{KernelConfig, KernelStats};
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
/// Ports of connections that take the room of others and say nothing.
const FILLERS: std::ops::Range<u16> = 1000..1100;
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
    port: u16,
    packets: Vec<Packet>,
    next: usize,
    /// How often long after had passed when it ended.
    ended: Option<u32>,
}

impl Connection {
    fn new(port: u16, dice: &mut Dice, is_answered: bool) -> Connection {
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
        let ending = if is_answered { 1 + dice.below(3) } else { dice.below(4) };
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
        Connection { port, packets, next: 0, ended: None }
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
    /// The table's room comes and goes.
    room: Option<Room>,
}

#[derive(Default)]
struct Room {
    /// Ports of those that take it.
    filled: Vec<u16>,
    /// Each connection has ports of its own.
    next: u16,
    /// Answers without a flow that were told before the script began.
    answers: u64,
}

impl Scene {
    fn new(ring_bytes: u32, aside: u32, room: Option<Room>) -> Scene {
        let bench = Bench::new(&KernelConfig { ring_bytes, flows: FLOWS, aside, ..KernelConfig::default() });
        let config = PipelineConfig { flows: FLOWS as usize, has_aside: true, ..PipelineConfig::default() };
        let pipeline = Pipeline::new(config, Told::default());
        let connections = vec![Connection::default(); PORTS.into()];
        Scene { bench, pipeline, dice: Dice::new(0), connections, sent: BTreeMap::new(), long_after: 0, room }
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
        // What is sent again of a connection that has left the table begins no flow, but where there is no room for
        // one nobody knows that its answer was told.
        let goes_on = || !connection.packets[..connection.next].iter().any(|packet| packet.flags.contains(['F', 'R']));
        let may_repeat = may_repeat && (self.room.is_none() || goes_on());
        if may_repeat && connection.next > 3 && self.dice.percent(20) {
            let which = 3 + self.dice.below(connection.next as u32 - 3) as usize;
            let packet = self.connections[usize::from(port)].packets[which];
            return self.send(self.connections[usize::from(port)].port, packet);
        }
        if connection.next == connection.packets.len() {
            let next = match &mut self.room {
                Some(room) => {
                    room.next = room.next % 30_000 + 1;
                    2000 + room.next
                }
                None => port + 1,
            };
            self.connections[usize::from(port)] = Connection::new(next, &mut self.dice, self.room.is_some());
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
        let port = connection.port;
        *self.sent.entry(port).or_default() += u64::from(packet.payload == GET);
        self.send(port, packet);
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
        bench.take_aside(pipeline);
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

    /// Others take the room that there is, or give up some of it.
    fn others(&mut self) {
        let Some(room) = self.room.as_mut() else { return };
        if self.dice.percent(50) {
            for port in FILLERS {
                if !room.filled.contains(&port) {
                    Tcp { bench: &mut self.bench, peer_port: port }.handshake();
                    room.filled.push(port);
                }
            }
            return;
        }
        let mut sampler = self.bench.kernel.sampler();
        let keys: Vec<FlowKey> = sampler.turn(FLOWS as usize).expect("a turn").samples().map(|flow| flow.key).collect();
        let of_others = keys.into_iter().filter(|key| FILLERS.contains(&key.tuple.remote.port));
        let some: Vec<FlowKey> = of_others.take(1 + self.dice.below(20) as usize).collect();
        room.filled.retain(|port| some.iter().all(|key| key.tuple.remote.port != *port));
        sampler.remove(&some).expect("removed");
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
                36 | 37 if self.room.is_some() => self.others(),
                _ => self.upkeep(),
            }
        }
        for port in 0..PORTS {
            while self.connections[usize::from(port)].next < self.connections[usize::from(port)].packets.len() {
                self.go_on(port);
            }
        }
        self.read(usize::MAX);
        self.bench.take_aside(&mut self.pipeline);
        self.pipeline.settle_aside(u64::MAX, true);
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
        if let Some(room) = self.room.as_mut() {
            room.filled.clear();
            let answers = self.bench.kernel.sampler().answers().iter().sum::<u64>();
            let refused = answers - std::mem::replace(&mut room.answers, answers);
            let sent: u64 = self.sent.values().sum();
            let [counted, lost] = [0, 1].map(|what| told.values().map(|told| told[what]).sum::<u64>());
            if counted + lost + refused != sent {
                return Err(format!(
                    "{sent} sent, {counted} counted, {lost} lost, {refused} without a flow: {told:?} {:?}",
                    self.sent
                ));
            }
            return Ok(());
        }
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

/// Random scripts, one after the other.
fn play(mut scene: Scene, scripts: u64) -> KernelStats {
    // The server is known from here on.
    let mut known = Connection::new(KNOWN, &mut Dice::new(1), false);
    known.packets.truncate(5);
    for packet in known.packets {
        scene.send(KNOWN, packet);
    }
    scene.read(usize::MAX);
    let (count, first) = random::scale(scripts);
    eprintln!("{count} scripts from PILOTFISH_SCRIPTS_SEED={first} on");
    for seed in first..first.saturating_add(count) {
        if let Err(wrong) = scene.play(seed) {
            panic!("PILOTFISH_SCRIPTS=1 PILOTFISH_SCRIPTS_SEED={seed}: {wrong}");
        }
    }
    let stats = scene.bench.kernel.stats().expect("stats");
    eprintln!(
        "{} records refused, {} flows without room, {} beyond their share",
        stats.ring_full, stats.flows_full, stats.flows_share
    );
    stats
}

#[test]
fn of_random_connections_each_exchange_is_counted_or_lost_once_whenever_the_table_is_looked_through() {
    let stats = play(Scene::new(RING, 4096, None), 150);
    assert!(stats.ring_full > 0 && stats.flows_full == 0 && stats.aside > 0 && stats.replaced_full == 0);
}

#[test]
fn of_random_connections_whose_room_comes_and_goes_each_exchange_is_counted_or_lost_once() {
    for ring in [1 << 20, RING] {
        let stats = play(Scene::new(ring, 4096, Some(Room::default())), 25);
        assert!(stats.flows_share > 0 && (stats.ring_full > 0) == (ring == RING));
    }
}
