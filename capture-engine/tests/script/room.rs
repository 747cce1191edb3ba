//! Connections that are followed, at either end, only now and then, since the flow table's room comes and goes: each
//! exchange is counted, told as lost, or told by an answer without a flow.

use super::random::Dice;
use super::sys::Library;
use super::{Packet, host};
use capture_engine::event::{Counters, Event, FlowId, FlowKey, Sample, Segment};
use capture_engine::pipeline::{Pipeline, PipelineConfig};
use capture_wire as wire;
use flow_model::{Close, Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, L7Record, LossReason, Role, Sink, Slot};
use flow_model::{Transport, Ts};
use host::Entry;
use std::net::Ipv6Addr;
use std::time::Duration;
use zerocopy::FromBytes;

const GET: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Two records of payload or three, and some ends.
const RING: u32 = 1600;
/// Flows are quiet after it.
const QUIET: u64 = 1_000_000_000;

/// Counted and lost.
#[derive(Debug, Default)]
struct Told {
    counted: u64,
    lost: Vec<(LossReason, u64)>,
}

impl Sink for Told {
    type PerFlow = ();

    fn exchange(&mut self, _: &FlowInfo, (): &mut (), _: &L7Record) {
        self.counted += 1;
    }

    fn exchanges_lost(&mut self, _: &FlowInfo, (): &mut (), reason: LossReason, count: u64) {
        self.lost.push((reason, count));
    }

    fn flow(&mut self, _: &FlowInfo, (): &mut (), _: &FlowDelta) {}
}

/// The packets of a connection whose requests are all answered, and how many these are.
fn connection(dice: &mut Dice) -> (Vec<Packet>, u64) {
    let mut packets = Vec::new();
    let mut next = [dice.below(u32::MAX), dice.below(u32::MAX)];
    let mut send = |who: usize, flags: &'static str, payload: &[u8]| {
        let ack = if flags.contains('A') { next[1 - who] } else { 0 };
        packets.push(Packet {
            from_client: who == 0,
            flags,
            seq: next[who],
            ack,
            window: 64_000,
            payload: payload.to_vec(),
        });
        let takes = payload.len() as u32 + u32::from(flags.contains(['S', 'F']));
        next[who] = next[who].wrapping_add(takes);
    };
    send(0, "S", b"");
    send(1, "SA", b"");
    send(0, "A", b"");
    let exchanges = 1 + dice.below(3);
    for _ in 0..exchanges {
        send(0, "A", GET);
        if dice.percent(30) {
            send(1, "A", b"");
        }
        send(1, "A", OK);
        if dice.percent(70) {
            send(0, "A", b"");
        }
    }
    let (first, second) = if dice.percent(50) { (0, 1) } else { (1, 0) };
    send(first, "FA", b"");
    if dice.percent(30) {
        send(second, "A", b"");
    }
    send(second, "FA", b"");
    send(first, "A", b"");
    (packets, exchanges.into())
}

/// What is wrong with this seed's connections, if anything is.
pub fn differs(seed: u64) -> Option<String> {
    let mut dice = Dice::new(seed);
    let (ring_is_full, at_client) = (dice.percent(50), dice.percent(50));
    let dir = |packet: &Packet| u32::from(if packet.from_client == at_client { wire::EGRESS } else { wire::INGRESS });
    let mut library = Library::get().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    library.reset(4096);
    if ring_is_full {
        library.ring_bytes(RING);
    }
    let before = <[u64; 3]>::read_from_bytes(library.answers()).unwrap();
    let mut pipeline = Pipeline::new(PipelineConfig::default(), Told::default());
    // Whom no script before this one had: the places of answers stay theirs for a second.
    let [.., a, b, c, d] = seed.to_be_bytes();
    let (client, mut port) = ([a | 1, b, c, d], 1024);
    let mut under: Vec<(u16, std::vec::IntoIter<Packet>)> = Vec::new();
    let (mut begun, mut sent, mut frame, mut story) = (0, 0, Vec::new(), Vec::new());
    // The server is known from the first one.
    for packet in connection(&mut dice).0.into_iter().take(5) {
        packet.frame_of((client, 1023), &mut frame);
        library.packet(7, dir(&packet), &frame);
    }
    host::records(&library.take_ring(), &mut |record| hear(&mut pipeline, record));
    sent += 1;
    let most = 1 + dice.below(4);
    while begun < most || !under.is_empty() {
        if begun < most && (under.is_empty() || dice.percent(20)) {
            let (packets, exchanges) = connection(&mut dice);
            begun += 1;
            sent += exchanges;
            port += 1;
            under.push((port, packets.into_iter()));
        }
        let who = dice.below(under.len() as u32) as usize;
        let Some(packet) = under[who].1.next() else {
            under.swap_remove(who);
            continue;
        };
        if dice.percent(25) {
            let has_room = dice.percent(50);
            library.room(if has_room { 16 } else { 0 });
            story.push(format!("room {has_room}"));
        }
        story.push(format!("{} {} {} {}", under[who].0, packet.from_client, packet.flags, packet.payload.len()));
        packet.frame_of((client, under[who].0), &mut frame);
        library.packet(7, dir(&packet), &frame);
        if !ring_is_full || dice.percent(20) {
            story.push("read".into());
            host::records(&library.take_ring(), &mut |record| hear(&mut pipeline, record));
        }
    }
    host::records(&library.take_ring(), &mut |record| hear(&mut pipeline, record));
    for entry in library.flows().chunks_exact(size_of::<Entry>()) {
        let Entry { used, key, flow } = Entry::read_from_bytes(entry).unwrap();
        if used != 0 {
            let sample = sample(&key, &flow);
            story.push(format!("{:?} left: turns {}, closed {:?}", sample.key.tuple, sample.turns, sample.closed));
            if sample.closed.is_none() || pipeline.is_untold(&sample) {
                pipeline.sample(&sample, sample.at.plus(Duration::from_nanos(QUIET)));
            }
        }
    }
    pipeline.finish(Ts(u64::MAX));
    let after = <[u64; 3]>::read_from_bytes(library.answers()).unwrap();
    let [to, from, full] = [0, 1, 2].map(|which| after[which] - before[which]);
    let Told { counted, lost } = pipeline.sink();
    let told = counted + lost.iter().map(|(_, count)| count).sum::<u64>() + to + from + full;
    (told != sent).then(|| {
        format!(
            "{sent} sent, {counted} counted, {lost:?} lost, {to} + {from} + {full} without a flow\n{}",
            story.join("\n")
        )
    })
}

fn hear(pipeline: &mut Pipeline<Told>, record: &[u8]) {
    match u32::read_from_prefix(record).unwrap().0 {
        wire::EVENT_SEGMENT => {
            let (header, payload) = wire::Segment::read_from_prefix(record).unwrap();
            let starts = header.flags & wire::SEG_MESSAGE_START != 0;
            let key = key(&header.key);
            pipeline.event(&Event::Segment(Segment {
                key,
                id: FlowId(header.flow_id),
                role: role(header.flow_flags),
                joined_midway: header.flow_flags & wire::FLOW_MIDWAY != 0,
                transport: key.tuple.transport,
                dir: if header.dir == wire::INGRESS { Direction::Ingress } else { Direction::Egress },
                at: Ts(header.at_ns),
                seq: header.seq,
                turn: header.turn,
                first: starts,
                wire_len: header.captured,
                prev: if starts { message(&header.prev) } else { None },
                payload: &payload[..header.captured as usize],
                acked: None,
                walked: l7::Walked::default(),
            }));
        }
        wire::EVENT_CLOSED => {
            let (closed, _) = wire::Closed::read_from_prefix(record).unwrap();
            pipeline.event(&Event::Closed(Sample {
                key: key(&closed.key),
                id: FlowId(closed.flow_id),
                at: Ts(closed.at_ns),
                role: role(closed.flow_flags),
                joined_midway: closed.flow_flags & wire::FLOW_MIDWAY != 0,
                established: true,
                counters: Counters::default(),
                turns: closed.turn,
                message: message(&closed.last),
                closed: close(closed.flow_flags).or(Some(Close::Gone)),
                half_closed: false,
            }));
        }
        _ => {}
    }
}

fn sample(of: &wire::Key, flow: &wire::Flow) -> Sample {
    Sample {
        key: key(of),
        id: FlowId(flow.flow_id),
        at: Ts(flow.last_ns),
        role: role(flow.flags),
        joined_midway: flow.flags & wire::FLOW_MIDWAY != 0,
        established: true,
        counters: Counters::default(),
        turns: flow.turn,
        message: message(&flow.message),
        closed: close(flow.flags),
        half_closed: false,
    }
}

fn key(key: &wire::Key) -> FlowKey {
    let end = |ip: [u8; 16], port| Endpoint { ip: Ipv6Addr::from(ip).to_canonical(), port };
    let (local, remote) = (end(key.local_ip, key.local_port), end(key.remote_ip, key.remote_port));
    FlowKey { slot: Slot(key.slot), tuple: FiveTuple { transport: Transport::Tcp, local, remote } }
}

fn role(flags: u32) -> Role {
    match (flags & wire::FLOW_LOCAL_CLIENT != 0, flags & wire::FLOW_LOCAL_SERVER != 0) {
        (true, false) => Role::Client,
        (false, true) => Role::Server,
        _ => Role::Unknown,
    }
}

fn close(flags: u32) -> Option<Close> {
    match (flags & wire::FLOW_CLOSED != 0, flags & wire::FLOW_RST != 0) {
        (false, _) => None,
        (true, true) => Some(Close::Reset),
        (true, false) => Some(Close::Fin),
    }
}

fn message(message: &wire::Message) -> Option<l7::MessageEnd> {
    let wire::Message { first_ns, last_ns, bytes, packets, turn, tail, tail_len, .. } = *message;
    let (first, last) = (Ts(first_ns), Ts(last_ns));
    (turn != 0).then_some(l7::MessageEnd { turn, bytes, packets, first, last, tail, tail_len: tail_len.min(8) })
}
