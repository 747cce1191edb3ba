use super::servers::ServerEnd;
use crate::event::{Counters, FlowId, FlowKey, Sample, Segment};
use flow_model::{Close, FlowDelta, FlowInfo, L7Record, LossReason, Role, Sink, Slot, Ts};
use l7::dns::Datagram;
use l7::{Interest, Length, Limits, Out, Piece, Wire, Wires};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The instance of a connection of which no packet was seen: the kernel counts from its start, which is never 0.
pub(super) const SEEDED: FlowId = FlowId(0);

/// In each container's own network. What it is asked at port 53 is translated to another port before
/// it is seen on the loopback, and what it answers is translated back before that: no flow has both
/// the query and its answer, and each lookup would be one without.
const DOCKERS_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Messages of a conversation that is probably over after them: a request and its response.
const SHORT: u32 = 2;

/// One flow of the table: what is known of it, its dissector, and what the sink keeps of it.
#[derive(Debug)]
pub(super) struct Flow<P> {
    key: FlowKey,
    id: FlowId,
    info: FlowInfo,
    dissector: Dissector,
    cache: P,
    reported: Counters,
    /// What the kernel was last told.
    interest: Told,
    /// Wait before the next look at the flow; zero while no timer runs.
    probe_after: Duration,
    announced: bool,
    seen: Seen,
    /// Messages by the kernel's last count.
    turns: u32,
    /// Heads that were lost before the protocol showed, as the dissector had it when the flow ended.
    unsettled: u32,
    /// Pairs of messages of which nothing was seen and that were told as lost exchanges.
    settled_pairs: u32,
    part: Part,
}

/// An [`Interest`] in one byte: which frames they are changes with the protocol only, and between two
/// protocols heads are asked for. Of whole packets or their beginnings, it changes with what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Heads,
    Everything,
    Frames,
    Packets,
    Nothing,
}

impl From<Interest> for Told {
    fn from(interest: Interest) -> Told {
        match interest {
            Interest::Heads => Told::Heads,
            // Who asks does not change.
            Interest::Everything | Interest::Pipeline(_) => Told::Everything,
            Interest::Frames(walk) if walk.length == Length::Packets && walk.keep[0] == u32::MAX => Told::Packets,
            Interest::Frames(_) => Told::Frames,
            Interest::Nothing => Told::Nothing,
        }
    }
}

/// How much of a flow was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    /// A piece of payload was handed over.
    Pieces,
    /// It is known what it carries.
    Protocol,
}

/// What the namespace that shows a flow has to do with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// One of its ends lives there; nobody has told whose the addresses are.
    #[default]
    Unjudged,
    /// One of its ends lives there.
    End,
    /// It only passes through. Nothing of it is told to the sink.
    PassedOn,
}

/// The two kinds of conversation. TCP's is boxed by the flow itself; both are small when idle.
#[derive(Debug)]
enum Dissector {
    Tcp(l7::Tcp),
    Udp(l7::dns::Udp),
}

/// What one call into a dissector produced; reused between calls so that the hot path does not allocate.
#[derive(Debug, Default)]
pub(super) struct Collected {
    records: Vec<L7Record>,
    lost: [u64; LossReason::ALL.len()],
    any_lost: bool,
    unasked: u64,
}

impl Collected {
    /// Responses to nothing, since the beginning.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }
}

impl Out for Collected {
    fn record(&mut self, record: L7Record) {
        self.records.push(record);
    }

    fn lost(&mut self, reason: LossReason, count: u64) {
        self.lost[reason.index()] += count;
        self.any_lost = true;
    }

    fn unasked(&mut self, count: u64) {
        self.unasked += count;
    }
}

impl<P: Default> Flow<P> {
    pub fn new(key: FlowKey, id: FlowId, role: Role, joined_midway: bool, at: Ts, limits: &Limits) -> Self {
        let nothing = Limits { wires: Wires::only(&[]), ..*limits };
        let has_resolver = [key.tuple.local.ip, key.tuple.remote.ip].contains(&DOCKERS_RESOLVER);
        let limits = if has_resolver { &nothing } else { limits };
        let dissector = if key.is_udp() {
            Dissector::Udp(l7::dns::Udp::new(limits, key.tuple.local.port, key.tuple.remote.port))
        } else {
            let mut tcp = l7::Tcp::new(limits, role);
            if !joined_midway {
                tcp.seen_to_begin();
            }
            Dissector::Tcp(tcp)
        };
        Flow {
            key,
            id,
            info: FlowInfo { slot: key.slot, tuple: key.tuple, role, opened: at, joined_midway, peer: None },
            dissector,
            cache: P::default(),
            reported: Counters::default(),
            interest: Told::default(),
            probe_after: Duration::ZERO,
            announced: false,
            seen: Seen::default(),
            turns: 0,
            unsettled: 0,
            settled_pairs: 0,
            part: Part::default(),
        }
    }

    /// From its next exchange on. Names of DNS are kept in any case.
    pub fn keep_strings(&mut self, keep: bool) {
        if let Dissector::Tcp(tcp) = &mut self.dissector {
            tcp.keep_strings(keep);
        }
    }

    pub fn part(&self) -> Part {
        self.part
    }

    pub fn is_passed_on(&self) -> bool {
        self.part == Part::PassedOn
    }

    /// Before anything was made of it.
    pub fn with_part(self, part: Part) -> Self {
        Flow { part, ..self }
    }

    /// It is known by now to be an end, or that it is none: what was made of it until now is
    /// forgotten. An end begins with the next message; those that passed meanwhile are then lost.
    pub fn turns_out<S: Sink<PerFlow = P>>(&mut self, part: Part, limits: &Limits, sink: &mut S) {
        if self.part == Part::PassedOn || part == Part::PassedOn {
            if self.announced {
                self.report_gone(Close::Gone, sink);
            }
            let FlowInfo { role, joined_midway, opened, .. } = self.info;
            let anew = Flow::new(self.key, self.id, role, joined_midway, opened, limits);
            let (reported, interest) = (self.reported, self.interest);
            *self = Flow { reported, interest, ..anew };
        }
        self.part = part;
    }

    /// Whether the kernel is to be told that nothing more is wanted of a flow that only passes on.
    /// Not of those that are over before it hears of it.
    pub fn wants_nothing_more(&mut self, turn: u32) -> bool {
        let tell = turn > SHORT && self.interest != Told::Nothing;
        if tell {
            self.interest = Told::Nothing;
        }
        tell
    }

    pub fn key(&self) -> FlowKey {
        self.key
    }

    pub fn id(&self) -> FlowId {
        self.id
    }

    /// Known from a seed only: no packet of it was seen yet.
    pub fn is_seeded(&self) -> bool {
        self.id == SEEDED
    }

    /// The first packet of a seeded connection: from here on it is this instance. What was observed outranks the seed.
    pub fn adopt(&mut self, id: FlowId, role: Role) {
        self.id = id;
        self.suggest_role(role);
    }

    /// A role from outside the bytes: taken where none is known.
    pub fn suggest_role(&mut self, role: Role) {
        if self.info.role == Role::Unknown && role != Role::Unknown {
            self.info.role = role;
            if let Dissector::Tcp(tcp) = &mut self.dissector {
                tcp.set_role(role);
            }
        }
    }

    /// The other end is seen, too.
    pub fn set_peer(&mut self, peer: Slot) {
        self.info.peer = Some(peer);
    }

    /// Makes a seeded connection known to the sink: it is open though nothing was counted on it yet.
    pub fn announce<S: Sink<PerFlow = P>>(&mut self, sink: &mut S) {
        sink.flow(&self.info, &mut self.cache, &FlowDelta::default());
    }

    pub fn segment(&mut self, segment: &Segment<'_>, out: &mut Collected) {
        if self.seen == Seen::Nothing {
            self.seen = Seen::Pieces;
        }
        match &mut self.dissector {
            Dissector::Tcp(tcp) => {
                if let Some(end) = &segment.prev {
                    tcp.message_ended(end, out);
                }
                let piece = Piece {
                    dir: segment.dir,
                    at: segment.at,
                    seq: segment.seq,
                    turn: segment.turn,
                    first: segment.first,
                    wire_len: segment.wire_len,
                    payload: segment.payload,
                    acked: segment.acked,
                    walked: segment.walked,
                };
                tcp.piece(&piece, out);
            }
            Dissector::Udp(udp) => {
                let Segment { dir, at, turn, wire_len, payload, .. } = *segment;
                udp.datagram(Datagram { dir, at, turn, wire_len, payload }, out);
            }
        }
    }

    /// Messages that the sample counts and no event told of are lost; a close settles the rest.
    pub fn sample(&mut self, sample: &Sample, out: &mut Collected) {
        self.turns = sample.turns;
        match &mut self.dissector {
            Dissector::Tcp(tcp) => match sample.closed {
                Some(close) => {
                    tcp.sampled_turns(sample.turns, out);
                    self.unsettled = tcp.unsettled();
                    tcp.closed(sample.at, close, sample.message.as_ref(), sample.turns, out);
                }
                None => {
                    // Before the first piece the dissector can't tell whose heads are missing;
                    // `settle_open` and that piece do.
                    if self.seen != Seen::Nothing {
                        tcp.sampled_turns(sample.turns, out);
                    }
                    if let Some(message) = &sample.message {
                        if self.seen != Seen::Nothing {
                            tcp.sampled_requests(message, out);
                        }
                        tcp.progress(message, sample.at, out);
                    }
                }
            },
            Dissector::Udp(udp) => {
                udp.sampled(sample.turns, sample.at);
                if sample.closed.is_some() {
                    udp.closed(sample.at, out);
                }
            }
        }
    }

    pub fn progress(&mut self, sample: &Sample, now: Ts, out: &mut Collected) {
        if let (Dissector::Tcp(tcp), Some(message)) = (&mut self.dissector, &sample.message) {
            tcp.progress(message, now, out);
        }
    }

    pub fn closed(&mut self, at: Ts, close: Close, out: &mut Collected) {
        match &mut self.dissector {
            Dissector::Tcp(tcp) => {
                self.unsettled = tcp.unsettled();
                tcp.closed(at, close, None, 0, out);
            }
            Dissector::Udp(udp) => udp.closed(at, out),
        }
    }

    pub fn expire(&mut self, now: Ts, out: &mut Collected) {
        match &mut self.dissector {
            Dissector::Tcp(tcp) => tcp.expire(now, out),
            Dissector::Udp(udp) => udp.expire(now, out),
        }
    }

    pub fn waits_for_end(&self) -> bool {
        matches!(&self.dissector, Dissector::Tcp(tcp) if tcp.waiting_for_end())
    }

    /// When this flow must be looked at again, if no timer of it is running.
    pub fn want_timer(&mut self, at: Ts, first: Duration) -> Option<Ts> {
        if !self.probe_after.is_zero() {
            return None;
        }
        if self.waits_for_end() {
            self.probe_after = first;
            return Some(at.plus(first));
        }
        let deadline = self.deadline()?;
        self.probe_after = first;
        Some(deadline)
    }

    /// After a timer ran out: the next one, later each time up to `most`.
    pub fn rearm(&mut self, now: Ts, most: Duration) -> Option<Ts> {
        if self.waits_for_end() {
            self.probe_after = (self.probe_after * 2).min(most);
            return Some(now.plus(self.probe_after));
        }
        let deadline = self.deadline();
        if deadline.is_none() {
            self.probe_after = Duration::ZERO;
        }
        deadline
    }

    fn deadline(&self) -> Option<Ts> {
        match &self.dissector {
            Dissector::Tcp(tcp) => tcp.next_deadline(),
            Dissector::Udp(udp) => udp.next_deadline(),
        }
    }

    /// How much the dissector needs, when that is not what the kernel was last told.
    pub fn interest_if_changed(&mut self) -> Option<Interest> {
        let interest = match &self.dissector {
            Dissector::Tcp(tcp) => tcp.interest(),
            Dissector::Udp(udp) => udp.interest(),
        };
        let told = Told::from(interest);
        (told != self.interest).then(|| {
            self.interest = told;
            interest
        })
    }

    /// Where the next header of each direction begins, for the kernel that follows frames.
    pub fn headers(&self) -> [Option<u32>; 2] {
        match &self.dissector {
            Dissector::Tcp(tcp) => tcp.headers(),
            Dissector::Udp(_) => [None; 2],
        }
    }

    /// What the connection speaks, once it has shown; of UDP nothing.
    pub fn wire(&self) -> Option<Wire> {
        match &self.dissector {
            Dissector::Tcp(tcp) => tcp.wire(),
            Dissector::Udp(_) => None,
        }
    }

    /// The server's end, once it is known that this flow carries a protocol of ours. Told once.
    pub fn newly_recognised(&mut self) -> Option<ServerEnd> {
        if self.seen == Seen::Protocol {
            return None;
        }
        let is_known = match &self.dissector {
            Dissector::Tcp(tcp) => tcp.wire().is_some(),
            Dissector::Udp(udp) => udp.recognised(),
        };
        if !is_known {
            return None;
        }
        self.seen = Seen::Protocol;
        Some(self.server_end())
    }

    pub fn server_end(&self) -> ServerEnd {
        (self.key.slot, self.info.client_server().1)
    }

    /// Exchanges whose heads were all lost, on a connection that is quiet, stays open, and has not
    /// shown what it carries. Each is told once; a message without its answer waits.
    pub fn settle_open(&mut self) -> u64 {
        let Dissector::Tcp(tcp) = &mut self.dissector else { return 0 };
        if self.seen != Seen::Nothing {
            return u64::from(tcp.take_unsettled_pairs());
        }
        let pairs = (self.turns / 2).saturating_sub(self.settled_pairs);
        if pairs > 0 {
            self.settled_pairs += pairs;
            // Nothing is collected from it: no piece was seen, so nothing is pending.
            tcp.sampled_turns(self.settled_pairs * 2, &mut Collected::default());
        }
        u64::from(pairs)
    }

    /// Bytes that its dissector holds on to.
    pub fn held(&self) -> usize {
        match &self.dissector {
            Dissector::Tcp(tcp) => tcp.held(),
            Dissector::Udp(udp) => udp.held(),
        }
    }

    /// Lets go of what its dissector holds: what waits for an answer is lost to a bound.
    pub fn shed(&mut self, out: &mut Collected) {
        match &mut self.dissector {
            Dissector::Tcp(tcp) => tcp.shed(out),
            Dissector::Udp(udp) => udp.shed(out),
        }
    }

    /// Holes in its streams that were given up.
    pub fn holes(&self) -> l7::Counters {
        match &self.dissector {
            Dissector::Tcp(tcp) => tcp.counters(),
            Dissector::Udp(_) => l7::Counters::default(),
        }
    }

    /// It speaks what is not to be read.
    pub fn is_left_out(&self) -> bool {
        match &self.dissector {
            Dissector::Tcp(tcp) => tcp.is_left_out(),
            Dissector::Udp(udp) => udp.is_left_out(),
        }
    }

    /// What it carries is not known yet.
    pub fn is_unrecognised(&self) -> bool {
        self.seen != Seen::Protocol
    }

    /// Exchanges that took place unseen on a connection that ends without ever having shown what it carried.
    pub fn unsettled(&self) -> u64 {
        match &self.dissector {
            // Not a single head or datagram was seen: the dissector doesn't even know which direction began.
            _ if self.seen == Seen::Nothing => u64::from(self.turns.div_ceil(2).saturating_sub(self.settled_pairs)),
            Dissector::Tcp(_) => u64::from(self.unsettled).div_ceil(2),
            Dissector::Udp(_) => 0,
        }
    }

    /// Hands what was collected to the sink; returns the number of exchanges.
    pub fn deliver<S: Sink<PerFlow = P>>(&mut self, collected: &mut Collected, sink: &mut S) -> u64 {
        if collected.records.is_empty() && !collected.any_lost {
            return 0;
        }
        // The bytes know better than a seed; a handshake is never wrong.
        let role = match &self.dissector {
            Dissector::Tcp(tcp) => tcp.role(),
            Dissector::Udp(udp) => udp.role(),
        };
        if role != Role::Unknown {
            self.info.role = role;
        }
        let delivered = collected.records.len() as u64;
        for record in &collected.records {
            sink.exchange(&self.info, &mut self.cache, record);
        }
        collected.records.clear();
        if collected.any_lost {
            collected.any_lost = false;
            for (reason, count) in LossReason::ALL.iter().zip(&mut collected.lost) {
                if *count > 0 {
                    sink.exchanges_lost(&self.info, &mut self.cache, *reason, std::mem::take(count));
                }
            }
        }
        delivered
    }

    /// Tells the sink what the flow's packets did since the last report.
    pub fn report<S: Sink<PerFlow = P>>(&mut self, sample: &Sample, sink: &mut S) {
        let opened = !self.announced && sample.established && !self.info.joined_midway && !self.key.is_udp();
        let delta = FlowDelta { opened, ..self.since_last(sample) };
        self.announced |= opened;
        sink.flow(&self.info, &mut self.cache, &delta);
    }

    /// What its packets did since this was asked last.
    pub fn since_last(&mut self, sample: &Sample) -> FlowDelta {
        let now = &sample.counters;
        let before = &self.reported;
        let delta = FlowDelta {
            packets: less(now.packets, before.packets),
            bytes: less(now.bytes, before.bytes),
            retransmits: less32(now.retransmits, before.retransmits),
            zero_windows: less32(now.zero_windows, before.zero_windows),
            handshake_rtt_ns: now.rtt_ns.filter(|_| before.rtt_ns.is_none()),
            opened: false,
            closed: sample.closed,
        };
        self.reported = *now;
        delta
    }

    /// The flow went without a last word from the kernel.
    pub fn report_gone<S: Sink<PerFlow = P>>(&mut self, close: Close, sink: &mut S) {
        let delta = FlowDelta { closed: Some(close), ..FlowDelta::default() };
        sink.flow(&self.info, &mut self.cache, &delta);
    }
}

fn less(now: [u64; 2], before: [u64; 2]) -> [u64; 2] {
    [now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1])]
}

fn less32(now: [u32; 2], before: [u32; 2]) -> [u32; 2] {
    [now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_makes_no_flow_larger() {
        assert_eq!(size_of::<Flow<()>>(), 400);
    }
}
