//! Flows that a namespace only passes on are no exchanges of its own. Each flow is judged once, when
//! it comes, and anew when more becomes known of what belongs to its namespace.

use super::Pipeline;
use super::flow::{Part, SEEDED};
use crate::event::{FlowId, FlowKey};
use flow_model::{Sink, Slot, Ts};
use l7::Interest;
use netns::Own;

impl<S: Sink> Pipeline<S> {
    /// What belongs to a namespace, from now on. Without it, each of its flows is an end.
    pub fn own(&mut self, slot: Slot, own: Own, at: Ts) {
        self.stats.address_late += self.forwarding.know(slot, own, at);
    }

    /// How many flows each namespace has passed on, of those that did.
    pub fn forwarded(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.forwarding.flows()
    }

    /// What a new flow is to its namespace.
    pub(super) fn judge(&mut self, key: &FlowKey, id: FlowId) -> Part {
        // A socket is an end whatever its address is (IP_TRANSPARENT).
        if id == SEEDED {
            return Part::End;
        }
        let part = self.forwarding.part(key);
        if part == Part::PassedOn {
            self.stats.forwarded_flows += 1;
            self.forwarding.passed_on(key.slot);
        }
        part
    }

    /// There is a socket of this flow.
    pub(super) fn proved(&mut self, key: &FlowKey) {
        self.turns_out(key, Part::End);
    }

    /// Looks again at the flows of namespaces of which more is known by now. What is an end stays
    /// one: its address may have been taken away meanwhile.
    pub(super) fn judge_again(&mut self, now: Ts) {
        let Some(again) = self.forwarding.due(now) else { return };
        let is_open = |part| part != Part::End;
        let flows = self.flows.values().filter(|flow| is_open(flow.part()) && again.contains(&flow.key().slot));
        let keys: Vec<FlowKey> = flows.map(|flow| flow.key()).collect();
        for key in keys {
            let part = self.forwarding.part(&key);
            self.turns_out(&key, part);
        }
    }

    fn turns_out(&mut self, key: &FlowKey, part: Part) {
        let Pipeline { flows, config, sink, requests, stats, forwarding, .. } = self;
        let Some(flow) = flows.get_mut(key) else { return };
        let before = flow.part();
        if before == part {
            return;
        }
        flow.turns_out(part, &config.l7, sink);
        match (before, part) {
            (_, Part::PassedOn) => {
                stats.forwarded_flows += 1;
                forwarding.passed_on(key.slot);
            }
            (Part::PassedOn, _) => {
                if flow.interest_if_changed().is_some() {
                    requests.interest(*key, flow.id(), Interest::Heads);
                }
                self.meet(key);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forwarding::{AGAIN, ENDED, LATE};
    use super::*;
    use crate::event::{Counters, Event, Sample, Segment};
    use crate::pipeline::PipelineConfig;
    use flow_model::{
        Close, Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, FlowSeed, L7Record, LossReason, Role, Transport,
    };
    use netns::IfAddress;
    use std::time::Duration;

    /// By the local end's address.
    #[derive(Default)]
    struct Told(Vec<String>);

    impl Sink for Told {
        type PerFlow = ();

        fn exchange(&mut self, flow: &FlowInfo, (): &mut (), _: &L7Record) {
            self.0.push(format!("{} {} exchange", flow.tuple.local.ip, format!("{:?}", flow.role).to_lowercase()));
        }

        fn exchanges_lost(&mut self, flow: &FlowInfo, (): &mut (), _: LossReason, count: u64) {
            self.0.push(format!("{} lost {count}", flow.tuple.local.ip));
        }

        fn flow(&mut self, flow: &FlowInfo, (): &mut (), delta: &FlowDelta) {
            let closed = if delta.closed.is_some() { " closed" } else { "" };
            self.0.push(format!("{} {} bytes{closed}", flow.tuple.local.ip, delta.bytes.iter().sum::<u64>()));
        }
    }

    const SLOT: Slot = Slot(1);
    const SERVER: [u8; 4] = [10, 9, 0, 1];
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    /// What `OK` and `GET` have together.
    const BOTH: u64 = (GET.len() + OK.len()) as u64;

    fn own(addresses: &[[u8; 4]]) -> Own {
        let of = |ip: &[u8; 4]| IfAddress { index: 2, ip: (*ip).into(), prefix: 24, scope: 0, leads_out: true };
        Own::of(&[], &addresses.iter().map(of).collect::<Vec<_>>(), &[])
    }

    struct Scene {
        pipeline: Pipeline<Told>,
        now: Ts,
    }

    struct Conversation {
        key: FlowKey,
        id: FlowId,
        turns: u32,
        seq: [u32; 2],
        bytes: u64,
    }

    fn scene() -> Scene {
        Scene { pipeline: Pipeline::new(PipelineConfig::default(), Told::default()), now: Ts(1) }
    }

    /// With a web server behind `local`'s other end.
    fn conversation(local: [u8; 4], port: u16) -> Conversation {
        let end = |ip: [u8; 4], port| Endpoint { ip: ip.into(), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(local, port), remote: end(SERVER, 80) };
        let key = FlowKey { slot: SLOT, tuple };
        Conversation { key, id: FlowId(port.into()), turns: 0, seq: [1; 2], bytes: 0 }
    }

    impl Scene {
        fn message(&mut self, of: &mut Conversation, dir: Direction, payload: &[u8]) {
            of.turns += 1;
            of.bytes += payload.len() as u64;
            let seq = of.seq[dir.index()];
            of.seq[dir.index()] += payload.len() as u32;
            self.pipeline.event(&Event::Segment(Segment {
                key: of.key,
                id: of.id,
                role: Role::Client,
                joined_midway: false,
                transport: Transport::Tcp,
                dir,
                at: self.now,
                seq,
                turn: of.turns,
                wire_len: payload.len() as u32,
                first: true,
                prev: None,
                payload,
                acked: None,
                walked: l7::Walked::default(),
            }));
        }

        fn exchange(&mut self, of: &mut Conversation) {
            self.message(of, Direction::Egress, GET);
            self.message(of, Direction::Ingress, OK);
        }

        fn sample(&mut self, of: &Conversation, closed: Option<Close>) {
            let sample = Sample {
                key: of.key,
                id: of.id,
                at: self.now,
                role: Role::Client,
                joined_midway: false,
                established: true,
                counters: Counters { packets: [of.turns.into(), 0], bytes: [of.bytes, 0], ..Counters::default() },
                turns: of.turns,
                message: None,
                closed,
                half_closed: false,
            };
            match closed {
                Some(_) => self.pipeline.event(&Event::Closed(sample)),
                None => self.pipeline.sample(&sample, self.now.plus(Duration::from_secs(1))),
            }
        }

        fn owns(&mut self, addresses: &[[u8; 4]]) {
            self.pipeline.own(SLOT, own(addresses), self.now);
        }

        fn later(&mut self, by: Duration) {
            self.now = self.now.plus(by);
            self.pipeline.tick(self.now, |_| None);
        }

        fn told(&mut self) -> Vec<String> {
            std::mem::take(&mut self.pipeline.sink_mut().0)
        }

        fn asked_of_kernel(&mut self) -> Vec<Interest> {
            self.pipeline.requests().take_interests().map(|(_, _, interest)| interest).collect()
        }

        /// Flows, packets and bytes.
        fn forwarded(&self) -> [u64; 3] {
            let stats = self.pipeline.stats();
            [stats.forwarded_flows, stats.forwarded_packets, stats.forwarded_bytes]
        }
    }

    const POD: [u8; 4] = [10, 1, 0, 5];
    const OTHER: [u8; 4] = [10, 2, 0, 7];

    #[test]
    fn what_is_passed_on_is_counted_as_that_and_told_to_nobody() {
        let mut scene = scene();
        scene.owns(&[POD]);
        let (mut own, mut others) = (conversation(POD, 1), conversation(OTHER, 2));
        for _ in 0..3 {
            scene.exchange(&mut own);
            scene.exchange(&mut others);
        }
        // Once, and not for what is over after a request and its response.
        assert_eq!(scene.asked_of_kernel(), [Interest::Nothing]);
        assert_eq!(scene.told(), ["10.1.0.5 client exchange"; 3]);
        scene.sample(&others, None);
        assert_eq!(scene.forwarded(), [1, 6, 3 * BOTH]);
        scene.exchange(&mut others);
        scene.sample(&others, Some(Close::Fin));
        scene.sample(&own, Some(Close::Fin));
        assert_eq!(scene.told(), [format!("10.1.0.5 {} bytes closed", 3 * BOTH)]);
        assert_eq!(scene.forwarded(), [1, 8, 4 * BOTH]);
        assert_eq!(scene.pipeline.forwarded().collect::<Vec<_>>(), [(SLOT, 1)]);
        let stats = scene.pipeline.stats();
        assert_eq!((stats.flows_opened, stats.flows_closed, stats.exchanges, scene.pipeline.len()), (2, 2, 3, 0));
        let closed: Vec<FlowKey> =
            scene.pipeline.requests().take_removable(Ts(u64::MAX)).into_iter().map(|(key, _)| key).collect();
        assert_eq!(closed, [others.key, own.key], "the kernel's entries go as others do");
        scene.pipeline.namespace_gone(SLOT, scene.now);
        assert_eq!(scene.pipeline.forwarded().count(), 0);
    }

    #[test]
    fn of_a_namespace_of_which_nothing_is_known_each_flow_is_an_end() {
        let mut scene = scene();
        scene.pipeline.own(Slot(2), own(&[POD]), scene.now);
        scene.exchange(&mut conversation(OTHER, 1));
        assert_eq!(scene.told(), ["10.2.0.7 client exchange"]);
        assert_eq!(scene.forwarded(), [0; 3]);
    }

    #[test]
    fn a_socket_is_an_end_whatever_its_address() {
        let mut scene = scene();
        scene.owns(&[POD]);
        let (mut before, mut after) = (conversation(OTHER, 1), conversation(OTHER, 2));
        let seed = |of: &Conversation| FlowSeed { slot: SLOT, tuple: of.key.tuple, role: Role::Client, pid: 0 };
        scene.pipeline.seed(&seed(&before), scene.now);
        assert_eq!(scene.told(), ["10.2.0.7 0 bytes"]);
        scene.exchange(&mut before);
        assert_eq!(scene.told(), ["10.2.0.7 client exchange"]);
        scene.exchange(&mut after);
        scene.pipeline.seed(&seed(&after), scene.now);
        scene.exchange(&mut after);
        assert_eq!(scene.told(), ["10.2.0.7 lost 1", "10.2.0.7 client exchange"], "the one before was seen by nobody");
    }

    #[test]
    fn an_address_that_comes_late_loses_what_passed_before_and_no_more() {
        let mut scene = scene();
        scene.owns(&[POD]);
        let mut flow = conversation(OTHER, 1);
        for _ in 0..2 {
            scene.exchange(&mut flow);
        }
        assert_eq!(scene.asked_of_kernel(), [Interest::Nothing]);
        scene.sample(&flow, None);
        assert_eq!((scene.told().len(), scene.forwarded()), (0, [1, 4, 2 * BOTH]));
        scene.owns(&[POD, OTHER]);
        scene.later(AGAIN);
        assert_eq!(scene.asked_of_kernel(), [Interest::Heads]);
        for _ in 0..3 {
            scene.exchange(&mut flow);
        }
        scene.sample(&flow, Some(Close::Fin));
        let exchange = "10.2.0.7 client exchange";
        let bytes = format!("10.2.0.7 {} bytes closed", 3 * BOTH);
        assert_eq!(scene.told(), ["10.2.0.7 lost 2", exchange, exchange, exchange, &bytes]);
        assert_eq!((scene.forwarded(), scene.pipeline.stats().address_late), ([1, 4, 2 * BOTH], 0));
    }

    #[test]
    fn what_ended_before_its_address_came_is_counted_and_bounded() {
        let mut scene = scene();
        scene.owns(&[POD]);
        let pass = |scene: &mut Scene, local, port| {
            let mut flow = conversation(local, port);
            scene.exchange(&mut flow);
            scene.sample(&flow, Some(Close::Fin));
        };
        pass(&mut scene, OTHER, 1);
        scene.now = scene.now.plus(LATE + Duration::from_secs(1));
        for port in 2..5 {
            pass(&mut scene, OTHER, port);
            pass(&mut scene, [10, 3, 0, 7], port);
        }
        scene.owns(&[POD, OTHER]);
        assert_eq!(scene.pipeline.stats().address_late, 3, "the first was long over");
        scene.owns(&[POD]);
        scene.owns(&[POD, OTHER]);
        assert_eq!(scene.pipeline.stats().address_late, 3, "each once");
        scene.owns(&[POD]);
        for port in 5..5000 {
            pass(&mut scene, OTHER, port);
        }
        assert_eq!(scene.pipeline.forwarding.remembered(), ENDED);
    }

    #[test]
    fn flows_from_before_anything_was_known_are_judged_and_an_end_stays_one() {
        let mut scene = scene();
        let (mut own, mut others) = (conversation(POD, 1), conversation(OTHER, 2));
        for flow in [&mut own, &mut others] {
            scene.exchange(flow);
            scene.sample(flow, None);
        }
        // A request that is open by then.
        scene.message(&mut others, Direction::Egress, GET);
        scene.told();
        scene.owns(&[POD]);
        scene.later(AGAIN);
        assert_eq!(scene.told(), ["10.2.0.7 0 bytes closed"], "it was told as open");
        scene.owns(&[[10, 1, 0, 6]]);
        scene.later(AGAIN);
        for flow in [&mut own, &mut others] {
            scene.exchange(flow);
            scene.sample(flow, Some(Close::Fin));
        }
        let bytes = format!("10.1.0.5 {BOTH} bytes closed");
        assert_eq!(scene.told(), ["10.1.0.5 client exchange", &bytes], "its address was taken away meanwhile");
        assert_eq!(scene.forwarded(), [1, 3, BOTH + GET.len() as u64]);
    }

    #[test]
    fn addresses_that_change_without_end_cost_ten_walks_a_second() {
        let mut scene = scene();
        scene.owns(&[POD]);
        scene.later(AGAIN);
        let mut flow = conversation(OTHER, 1);
        scene.exchange(&mut flow);
        let mut judged = 0;
        for round in 0..100_u8 {
            scene.owns(&[POD, [10, 4, 0, round]]);
            judged += u32::from(scene.pipeline.forwarding.due(scene.now).is_some());
            scene.now = scene.now.plus(AGAIN / 10);
        }
        assert!((9..=11).contains(&judged), "{judged}");
        scene.later(AGAIN);
        scene.owns(&[POD, [10, 4, 0, 99]]);
        assert!(scene.pipeline.forwarding.due(Ts(u64::MAX)).is_none(), "nothing has changed");
    }
}
