use super::decode::Decoded;
use super::flow::{ACK, FIN, Flow, Piece, RST, SYN};
use super::handshake::Begin;
use crate::event::{Event, FlowId, FlowKey, Segment};
use flow_model::{Close, Direction, Endpoint, FiveTuple, Slot, Transport, Ts};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What still comes after a close is mostly the last ACK: it is waited for before the flow is reported.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of segments of all flows that wait for what they answer: reordering is by a few packets, so
/// no capture of real traffic has so much.
const WAITING: usize = 16 << 20;

/// Flows compared when one has to go: the oldest of so many is old enough.
const EVICT_SAMPLE: usize = 16;

/// Both ends without their order: the two directions of a flow have one key.
type Ends = ((u128, u16), (u128, u16), bool);

/// The kernel's flow table in software: same turns, same counts, no budget.
#[derive(Debug)]
pub(super) struct Table {
    index: HashMap<Ends, u32, foldhash::fast::RandomState>,
    flows: Vec<Flow>,
    bound: usize,
    hand: usize,
    next_id: u64,
    closing: VecDeque<(Ts, u32, FlowId)>,
    /// Bytes that wait, of all flows.
    waiting: usize,
    pub opened: u64,
    pub evicted: u64,
    /// Segments out of order that were handled at once, because too much was waiting.
    pub unordered: u64,
}

impl Table {
    pub fn new(bound: usize) -> Table {
        let bound = bound.clamp(1, u32::MAX as usize);
        Table {
            index: HashMap::default(),
            flows: Vec::new(),
            bound,
            hand: 0,
            next_id: 1,
            closing: VecDeque::new(),
            waiting: 0,
            opened: 0,
            evicted: 0,
            unordered: 0,
        }
    }

    pub fn packet(&mut self, packet: &Decoded<'_>, at: Ts, tell: &mut impl FnMut(Event<'_>)) {
        self.report_closed(at, tell);
        let ends = if packet.source <= packet.destination {
            (packet.source, packet.destination, packet.tcp)
        } else {
            (packet.destination, packet.source, packet.tcp)
        };
        let place = match self.index.get(&ends) {
            Some(&place) => place,
            None if !may_begin(packet) => return,
            None => self.make(ends, packet, at, tell),
        };
        let id = FlowId(self.next_id);
        let Some(flow) = self.flows.get_mut(place as usize) else { return };
        // Of all but this one.
        let waiting = self.waiting.saturating_sub(flow.waiting());
        let mut dir = direction(&flow.key, packet);
        if let Some(begin) = flow.begins_another(packet, dir) {
            if !flow.reported {
                flush(flow, tell);
                if let Begin::Before(again) = &begin {
                    flow.give_back(again);
                }
                tell(Event::Closed(flow.sample(at, Close::Gone)));
            }
            *flow = match begin {
                Begin::Here => Flow::new(key(packet), id, packet, Direction::Egress, at),
                Begin::Before(again) => {
                    // Its answer comes from the remote end.
                    let mut new = Flow::new(reversed(&key(packet)), id, packet, Direction::Ingress, at);
                    new.start_again(&again, packet, Direction::Egress);
                    new
                }
            };
            dir = direction(&flow.key, packet);
            self.next_id += 1;
            self.opened += 1;
        }
        if flow.must_wait(packet, dir) {
            if self.waiting + packet.held.len() < WAITING {
                flow.put_aside(packet, dir, at);
                self.waiting = waiting + flow.waiting();
                return;
            }
            self.unordered += 1;
        }
        let open = flow.closed.is_none();
        if packet.tcp && packet.tcp_flags & RST != 0 || flow.waits_in_vain(packet, dir) {
            flush(flow, tell);
        }
        handle(flow, packet, dir, at, tell);
        while let Some(early) = flow.take_early(false) {
            let (packet, dir, at) = early.parts();
            handle(flow, &packet, dir, at, tell);
        }
        self.waiting = waiting + flow.waiting();
        if open && flow.closed.is_some() {
            self.closing.push_back((at, place, flow.id));
        }
    }

    /// The capture is over: every flow's final state, oldest first.
    pub fn finish(&mut self, at: Ts, tell: &mut impl FnMut(Event<'_>)) {
        self.flows.sort_by_key(|flow| flow.id.0);
        for mut flow in self.flows.drain(..).filter(|flow| !flow.reported) {
            flush(&mut flow, tell);
            tell(Event::Closed(flow.sample(at, Close::Gone)));
        }
        self.index.clear();
        self.closing.clear();
    }

    fn make(&mut self, ends: Ends, packet: &Decoded<'_>, at: Ts, tell: &mut impl FnMut(Event<'_>)) -> u32 {
        let flow = Flow::new(key(packet), FlowId(self.next_id), packet, Direction::Egress, at);
        self.next_id += 1;
        self.opened += 1;
        let place = if self.flows.len() < self.bound {
            self.flows.push(flow);
            self.flows.len() - 1
        } else {
            let place = self.evict(at, tell);
            if let Some(old) = self.flows.get_mut(place) {
                *old = flow;
            }
            place
        };
        self.index.insert(ends, place as u32);
        place as u32
    }

    /// Frees the place of the flow that was silent for longest among the next few.
    fn evict(&mut self, at: Ts, tell: &mut impl FnMut(Event<'_>)) -> usize {
        let count = self.flows.len();
        let candidates = (0..EVICT_SAMPLE.min(count)).map(|step| (self.hand + step) % count);
        let oldest = candidates.min_by_key(|&place| self.flows.get(place).map(|flow| (!flow.reported, flow.last)));
        let place = oldest.unwrap_or(0);
        self.hand = (self.hand + EVICT_SAMPLE) % count;
        if let Some(flow) = self.flows.get_mut(place) {
            self.waiting = self.waiting.saturating_sub(flow.waiting());
            if !flow.reported {
                flush(flow, tell);
                self.evicted += 1;
                tell(Event::Closed(flow.sample(at, Close::Gone)));
            }
            self.index.remove(&ends_of(&flow.key));
        }
        place
    }

    fn report_closed(&mut self, now: Ts, tell: &mut impl FnMut(Event<'_>)) {
        while let Some(&(at, place, id)) = self.closing.front() {
            if now.since(at) < LINGER {
                break;
            }
            self.closing.pop_front();
            let Some(flow) = self.flows.get_mut(place as usize) else { continue };
            let same = flow.closed.is_some_and(|(_, when)| when == at);
            if flow.id == id && same && !flow.reported {
                self.waiting = self.waiting.saturating_sub(flow.waiting());
                flush(flow, tell);
                flow.reported = true;
                tell(Event::Closed(flow.sample(at, Close::Gone)));
            }
        }
    }
}

fn handle(flow: &mut Flow, packet: &Decoded<'_>, dir: Direction, at: Ts, tell: &mut impl FnMut(Event<'_>)) {
    let piece = if packet.tcp { flow.tcp(packet, dir, at) } else { flow.udp(packet, dir, at) };
    let Some(Piece { seq, turn, wire_len, first, prev, payload, missed }) = piece else { return };
    let mut segment = Segment {
        key: flow.key,
        id: flow.id,
        role: flow.role,
        joined_midway: flow.joined_midway,
        transport: flow.key.tuple.transport,
        dir,
        at,
        seq,
        turn,
        wire_len,
        first,
        prev,
        payload,
        acked: (packet.tcp && packet.tcp_flags & ACK != 0).then_some(packet.ack),
        walked: l7::Walked::default(),
    };
    if missed > 0 {
        let seq = seq.wrapping_sub(missed);
        tell(Event::Segment(Segment { seq, wire_len: missed, payload: &[], ..segment }));
        segment.prev = None;
    }
    tell(Event::Segment(segment));
}

/// Nothing more is waited for.
fn flush(flow: &mut Flow, tell: &mut impl FnMut(Event<'_>)) {
    while let Some(early) = flow.take_early(true) {
        let (packet, dir, at) = early.parts();
        handle(flow, &packet, dir, at, tell);
    }
}

/// What asks for both a beginning and an end is of no connection.
fn may_begin(packet: &Decoded<'_>) -> bool {
    !packet.tcp || packet.tcp_flags & SYN == 0 || packet.tcp_flags & (FIN | RST) == 0
}

fn direction(key: &FlowKey, packet: &Decoded<'_>) -> Direction {
    let local = key.tuple.local;
    // Both ends may be the same address and port: then all of it is egress.
    let egress = local.port == packet.source.1 && local.ip == ip(packet.source.0);
    if egress { Direction::Egress } else { Direction::Ingress }
}

fn reversed(key: &FlowKey) -> FlowKey {
    let FiveTuple { transport, local, remote } = key.tuple;
    FlowKey { slot: key.slot, tuple: FiveTuple { transport, local: remote, remote: local } }
}

/// The sender of a flow's first packet is local; of a SYN-ACK, the client whose SYN was missed is remote all the same.
fn key(packet: &Decoded<'_>) -> FlowKey {
    let end = |(address, port): (u128, u16)| Endpoint { ip: ip(address), port };
    let transport = if packet.tcp { Transport::Tcp } else { Transport::Udp };
    let tuple = FiveTuple { transport, local: end(packet.source), remote: end(packet.destination) };
    FlowKey { slot: Slot(0), tuple }
}

fn ends_of(key: &FlowKey) -> Ends {
    let end = |endpoint: Endpoint| {
        let number = match endpoint.ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        (number, endpoint.port)
    };
    let (local, remote) = (end(key.tuple.local), end(key.tuple.remote));
    let tcp = key.tuple.transport == Transport::Tcp;
    if local <= remote { (local, remote, tcp) } else { (remote, local, tcp) }
}

fn ip(address: u128) -> IpAddr {
    Ipv6Addr::from_bits(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::flow::ACK;
    use proptest::prelude::*;

    fn segment(port: u16, server: bool, seq: u32, ack: u32, held: &[u8]) -> Decoded<'_> {
        let ends = [(1, port), (2, 80)];
        let [source, destination] = if server { [ends[1], ends[0]] } else { ends };
        Decoded {
            source,
            destination,
            ip_bytes: 40 + held.len() as u32,
            tcp: true,
            tcp_flags: ACK,
            window: 1000,
            seq,
            ack,
            payload: held.len() as u32,
            held,
        }
    }

    proptest! {
        /// Whatever waits, is handled, makes way or is told as over: what is counted is what waits.
        #[test]
        fn the_count_of_what_waits_is_exact(
            packets in proptest::collection::vec((0u16..8, any::<bool>(), 0u32..40, 0u32..40, 0usize..9, 0u8..8), 0..200)
        ) {
            let mut table = Table::new(6);
            for (at, (port, server, seq, ack, length, flags)) in (0u64..).zip(packets) {
                let packet = segment(port, server, seq, ack, &[7; 9][..length]);
                let flags = [ACK, ACK, ACK, ACK, ACK | FIN, SYN, SYN | ACK, RST][usize::from(flags)];
                table.packet(&Decoded { tcp_flags: flags, ..packet }, Ts(at * 100_000_000), &mut |_| ());
                prop_assert_eq!(table.waiting, table.flows.iter().map(Flow::waiting).sum::<usize>());
            }
        }
    }
}
