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

const GET: &str = "PUT /orders HTTP/1.1\r\nHost: shop";
const OK: &str = "HTTP/1.1 200 OK";
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

/// A packet of a connection, and the message that it is of, if it has payload.
type Step = (Packet, Option<usize>);

/// What is said on a connection, and how often each request is answered.
struct Connection {
    steps: Vec<Step>,
    answered: u64,
    unanswered: u64,
}

/// The packets of a connection as they are sent first.
struct Talk<'a> {
    dice: &'a mut Dice,
    steps: Vec<Step>,
    next: [u32; 2],
    messages: usize,
}

impl Talk<'_> {
    fn send(&mut self, who: usize, flags: &'static str, payload: &[u8], of: Option<usize>) {
        let ack = if flags.contains('A') { self.next[1 - who] } else { 0 };
        let (seq, payload) = (self.next[who], payload.to_vec());
        let takes = payload.len() as u32 + u32::from(flags.contains(['S', 'F']));
        self.next[who] = seq.wrapping_add(takes);
        self.steps.push((Packet { from_client: who == 0, flags, seq, ack, window: 64_000, payload }, of));
    }

    /// A head, and a body that comes with it, behind it or not at all, in so many pieces.
    fn say(&mut self, who: usize, first: &str) {
        let body = [0, 2, 20, 60][self.dice.below(4) as usize];
        let mut bytes = format!("{first}\r\nContent-Length: {body}\r\n\r\n").into_bytes();
        let head = bytes.len();
        bytes.resize(head + body, b'x');
        // Each answer begins a packet, and its first one has all of its head.
        let mut cuts: Vec<usize> =
            (0..self.dice.below(3)).map(|_| head + self.dice.below(body as u32) as usize).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut from = 0;
        for to in cuts {
            if to > from {
                self.send(who, "A", &bytes[from..to], Some(self.messages));
            }
            from = to;
        }
        self.messages += 1;
    }

    fn end(&mut self) {
        let (first, second) = if self.dice.percent(50) { (0, 1) } else { (1, 0) };
        if self.dice.percent(20) {
            return self.send(first, "RA", b"", None);
        }
        self.send(first, "FA", b"", None);
        if self.dice.percent(30) {
            self.send(second, "A", b"", None);
        }
        self.send(second, "FA", b"", None);
        self.send(first, "A", b"", None);
    }
}

impl Connection {
    /// `again`: of a hundred packets with payload, so many are sent again.
    fn new(dice: &mut Dice, again: u32) -> Connection {
        let next = [dice.below(u32::MAX), dice.below(u32::MAX)];
        let mut talk = Talk { dice, steps: Vec::new(), next, messages: 0 };
        talk.send(0, "S", b"", None);
        talk.send(1, "SA", b"", None);
        talk.send(0, "A", b"", None);
        let answered = 1 + u64::from(talk.dice.below(3));
        for _ in 0..answered {
            talk.say(0, GET);
            if talk.dice.percent(30) {
                talk.send(1, "A", b"", None);
            }
            talk.say(1, OK);
            if talk.dice.percent(70) {
                talk.send(0, "A", b"", None);
            }
        }
        let unanswered = u64::from(talk.dice.percent(15));
        if unanswered > 0 {
            talk.say(0, GET);
        }
        talk.end();
        let Talk { dice, steps, .. } = talk;
        Connection { steps: with_repeats(dice, steps, again), answered, unanswered }
    }
}

/// A message is sent again until its sender knows that it came: at the latest by what answers the answer. The other
/// end, or a network between, may have lost what the observer saw.
fn with_repeats(dice: &mut Dice, steps: Vec<Step>, again: u32) -> Vec<Step> {
    let ends: Vec<usize> = (0..steps.len())
        .map(|place| {
            let of = steps[place].1.map_or(usize::MAX, |of| of + 2);
            steps.iter().position(|step| step.1.is_some_and(|it| it >= of)).unwrap_or(steps.len() + 1)
        })
        .collect();
    let mut timed: Vec<(usize, Step)> = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        timed.push((place * 1000, step.clone()));
        let mut repeat = step.clone();
        if step.1.is_none() || !dice.percent(again) {
            continue;
        }
        let of_it = |place: &usize| steps.get(*place).is_some_and(|it| it.1 == step.1);
        // What is sent again may be put together. Of a request whose middle alone comes again, nobody knows later that
        // its end was there: see docs/limits.md.
        let middle = step.0.from_client && place > 0 && of_it(&(place - 1));
        let mut from = place + 1;
        while of_it(&from) && (middle || dice.percent(40)) {
            repeat.0.payload.extend(&steps[from].0.payload);
            from += 1;
        }
        let room = ends[place].max(from + 1) - from;
        timed.push((from * 1000 - 1 - dice.below(900) as usize + 1000 * dice.below(room as u32) as usize, repeat));
    }
    timed.sort_by_key(|(at, _)| *at);
    // Each acknowledges what has come by then.
    let mut acks: [Option<u32>; 2] = [None; 2];
    for (_, (packet, _)) in &mut timed {
        let ack = &mut acks[usize::from(packet.from_client)];
        match ack {
            Some(ack) if packet.ack.wrapping_sub(*ack) > 1 << 31 => packet.ack = *ack,
            _ if packet.flags.contains('A') => *ack = Some(packet.ack),
            _ => {}
        }
    }
    timed.into_iter().map(|(_, step)| step).collect()
}

/// What a run of scripts is made of.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Of a hundred packets with payload, so many are sent again.
    pub again: u32,
    /// Of a hundred pairs of packets that may be handled at the same time, so many are.
    pub together: u32,
}

/// What is wrong with this seed's connections, if anything is.
pub fn differs(seed: u64, kind: Kind) -> Option<String> {
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
    let mut under: Vec<(u16, std::iter::Peekable<std::vec::IntoIter<Step>>)> = Vec::new();
    let (mut begun, mut frame, mut story) = (0, Vec::new(), Vec::new());
    // The server is known from the first one.
    let mut known = Talk { dice: &mut Dice::new(1), steps: Vec::new(), next: [1, 1], messages: 0 };
    known.send(0, "S", b"", None);
    known.send(1, "SA", b"", None);
    known.say(0, GET);
    known.say(1, OK);
    for (packet, _) in known.steps {
        packet.frame_of((client, 1023), &mut frame);
        library.packet(7, dir(&packet), &frame);
        host::records(&library.take_ring(), &mut |record| hear(&mut pipeline, record));
    }
    let (mut answered, mut unanswered) = (1, 0);
    let most = 1 + dice.below(4);
    while begun < most || !under.is_empty() {
        if begun < most && (under.is_empty() || dice.percent(20)) {
            let connection = Connection::new(&mut dice, kind.again);
            begun += 1;
            answered += connection.answered;
            unanswered += connection.unanswered;
            port += 1;
            under.push((port, connection.steps.into_iter().peekable()));
        }
        let who = dice.below(under.len() as u32) as usize;
        let Some((packet, _)) = under[who].1.next() else {
            drop(under.swap_remove(who));
            continue;
        };
        if dice.percent(25) {
            let has_room = dice.percent(50);
            library.room(if has_room { 16 } else { 0 });
            story.push(format!("room {has_room}"));
        }
        let of = under[who].0;
        let mut tell = |of: u16, packet: &Packet, how: &str| {
            let Packet { from_client, flags, seq, ack, payload, .. } = packet;
            let head = String::from_utf8_lossy(&payload[..payload.len().min(8)]).into_owned();
            story.push(format!("{of} {from_client} {flags} {seq} {ack} {} {head:?}{how}", payload.len()));
        };
        tell(of, &packet, "");
        packet.frame_of((client, of), &mut frame);
        let other = dice.below(under.len() as u32) as usize;
        // Of one connection, what is sent one way; but no piece of a message before another one, and no RST before the
        // message that begins a flow: see docs/limits.md.
        let same_way = |next: &Step| {
            let overtakes = !packet.payload.is_empty() && (next.1.is_some() || next.0.flags.contains('R'));
            other != who || next.0.from_client == packet.from_client && !overtakes
        };
        let second = if dice.percent(kind.together) { under[other].1.next_if(same_way) } else { None };
        if let Some((second, _)) = second {
            let (port, calls) = (under[other].0, dice.below(24));
            tell(port, &second, &format!(", after {calls} calls of the one before"));
            let mut meanwhile = Vec::new();
            second.frame_of((client, port), &mut meanwhile);
            library.two_packets(7, (dir(&packet), &frame), (dir(&second), &meanwhile), calls);
        } else {
            library.packet(7, dir(&packet), &frame);
        }
        if !ring_is_full || dice.percent(20) {
            story.push("read".into());
            host::records(&library.take_ring(), &mut |record| hear(&mut pipeline, record));
        }
    }
    let (told, how) = all_told(&mut library, &mut pipeline, before);
    // A request without a flow that nobody answers is in no count.
    (!(answered..=answered + unanswered).contains(&told))
        .then(|| format!("{answered} answered, {unanswered} not, {how}\n{}", story.join("\n")))
}

/// How many exchanges are counted, lost, or told by an answer without a flow in the end, and how. `before`: what
/// `Library::answers` said at the beginning.
fn all_told(library: &mut Library, pipeline: &mut Pipeline<Told>, before: [u64; 3]) -> (u64, String) {
    host::records(&library.take_ring(), &mut |record| hear(pipeline, record));
    let mut left = Vec::new();
    for entry in library.flows().chunks_exact(size_of::<Entry>()) {
        let Entry { used, key, flow } = Entry::read_from_bytes(entry).unwrap();
        if used != 0 {
            let sample = sample(&key, &flow);
            left.push(format!("{}: {} messages, {:?}", sample.key.tuple.remote.port, sample.turns, sample.closed));
            if sample.closed.is_none() || pipeline.is_untold(&sample) {
                pipeline.sample(&sample, sample.at.plus(Duration::from_nanos(QUIET)));
            }
        }
    }
    pipeline.finish(Ts(u64::MAX));
    let after = <[u64; 3]>::read_from_bytes(library.answers()).unwrap();
    let unfollowed = [0, 1, 2].map(|which| after[which] - before[which]);
    let Told { counted, lost } = pipeline.sink();
    let told = counted + lost.iter().map(|(_, count)| count).sum::<u64>() + unfollowed.iter().sum::<u64>();
    (told, format!("{counted} counted, {lost:?} lost, {unfollowed:?} without a flow, flows {left:?}"))
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
    let (first, last, tail_len) = (Ts(first_ns), Ts(last_ns), tail_len.min(8));
    (turn != 0).then_some(l7::MessageEnd { turn, bytes, packets, first, last, tail, tail_len, asked: None })
}
