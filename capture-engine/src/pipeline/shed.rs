//! What all flows hold together, for a source that may bring whatever it likes: a capture.

use super::{Pipeline, Shed};
use flow_model::Sink;

impl<S: Sink> Pipeline<S> {
    /// Keeps what the dissectors of all flows hold within `bytes`: when it is more, those that hold
    /// most let go of it, until it is half of that. Their open exchanges are told as lost to a limit.
    /// It walks over the table: call it after so much input that it costs little beside it.
    pub fn shed(&mut self, bytes: usize) -> Shed {
        let Pipeline { flows, collected, sink, stats, .. } = self;
        let mut shed = Shed { held: flows.values().map(|flow| flow.held()).sum(), flows: 0 };
        if shed.held <= bytes {
            return shed;
        }
        let mut largest: Vec<_> = flows.values_mut().map(|flow| (flow.held(), flow)).collect();
        largest.sort_unstable_by_key(|(held, _)| std::cmp::Reverse(*held));
        for (held, flow) in largest {
            if shed.held <= bytes / 2 {
                break;
            }
            flow.shed(collected);
            stats.exchanges += flow.deliver(collected, sink);
            shed.held = shed.held.saturating_sub(held).saturating_add(flow.held());
            shed.flows += 1;
        }
        shed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, FlowId, FlowKey, Segment};
    use crate::pipeline::PipelineConfig;
    use flow_model::{
        Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, L7Record, LossReason, Role, Slot, Transport, Ts,
    };

    #[derive(Default)]
    struct Told {
        records: Vec<(u16, bool)>,
        lost: Vec<(u16, LossReason, u64)>,
    }

    impl Sink for Told {
        type PerFlow = ();

        fn exchange(&mut self, flow: &FlowInfo, (): &mut (), record: &L7Record) {
            self.records.push((flow.tuple.local.port, record.response_start.is_some()));
        }

        fn exchanges_lost(&mut self, flow: &FlowInfo, (): &mut (), reason: LossReason, count: u64) {
            self.lost.push((flow.tuple.local.port, reason, count));
        }

        fn flow(&mut self, _: &FlowInfo, (): &mut (), _: &FlowDelta) {}
    }

    struct Flow {
        port: u16,
        transport: Transport,
        turn: u32,
        seq: [u32; 2],
    }

    impl Flow {
        fn new(port: u16, transport: Transport) -> Flow {
            Flow { port, transport, turn: 0, seq: [1; 2] }
        }

        fn says(&mut self, pipeline: &mut Pipeline<Told>, dir: Direction, begins: bool, payload: &[u8]) {
            self.turn += u32::from(begins);
            let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
            let server = if self.transport == Transport::Tcp { 80 } else { 53 };
            let tuple = FiveTuple { transport: self.transport, local: end(1, self.port), remote: end(2, server) };
            let seq = self.seq[dir.index()];
            self.seq[dir.index()] += payload.len() as u32;
            pipeline.event(&Event::Segment(Segment {
                key: FlowKey { slot: Slot(1), tuple },
                id: FlowId(u64::from(self.port)),
                role: Role::Client,
                joined_midway: false,
                transport: self.transport,
                dir,
                at: Ts(1),
                seq,
                turn: self.turn,
                wire_len: payload.len() as u32,
                first: true,
                prev: None,
                payload,
                acked: None,
                walked: l7::Walked::default(),
            }));
        }
    }

    fn pipeline() -> Pipeline<Told> {
        let l7 = l7::Limits { keep_strings: true, report_partial: true, ..l7::Limits::default() };
        Pipeline::new(PipelineConfig { l7, ..PipelineConfig::default() }, Told::default())
    }

    const OUT: Direction = Direction::Egress;
    const IN: Direction = Direction::Ingress;
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// A hundred pipelined requests, and the bytes of one more.
    fn many() -> Vec<u8> {
        let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(500));
        [request.repeat(100).as_bytes(), b"GET /rest HTTP/1.1\r\n"].concat()
    }

    #[test]
    fn flows_that_hold_most_let_go_and_each_of_their_exchanges_is_lost_once() {
        let mut pipeline = pipeline();
        let (mut modest, mut greedy) = (Flow::new(1, Transport::Tcp), Flow::new(2, Transport::Tcp));
        modest.says(&mut pipeline, OUT, true, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        greedy.says(&mut pipeline, OUT, true, &many());
        let before = pipeline.shed(usize::MAX);
        assert!(before.flows == 0 && before.held > 50_000, "{before:?}");
        let after = pipeline.shed(20_000);
        assert!(after.flows == 1 && after.held < 10_000, "{after:?}");
        assert_eq!(
            pipeline.sink().lost.iter().map(|(port, _, count)| (*port, *count)).fold((0, 0), |sum, (port, count)| {
                assert_eq!(port, 2);
                (port, sum.1 + count)
            }),
            (2, 101)
        );
        assert!(pipeline.sink().lost.iter().all(|(_, reason, _)| *reason == LossReason::Limit));
        modest.says(&mut pipeline, IN, true, OK);
        assert_eq!(pipeline.sink().records, [(1, true)]);
        // The answers to what was lost are no exchanges of their own; what comes after them is.
        greedy.says(&mut pipeline, OUT, false, b"Host: a\r\n\r\n");
        greedy.says(&mut pipeline, IN, true, &OK.repeat(101));
        for _ in 0..3 {
            greedy.says(&mut pipeline, OUT, true, b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
            greedy.says(&mut pipeline, IN, true, OK);
        }
        let lost: u64 = pipeline.sink().lost.iter().map(|(_, _, count)| count).sum();
        let told = pipeline.sink().records.iter().filter(|(port, _)| *port == 2).count() as u64;
        assert_eq!(told + lost, 104, "{:?}", pipeline.sink().lost);
        assert!(told >= 1);
    }

    #[test]
    fn open_lookups_are_lost_and_the_flow_is_read_on() {
        let mut pipeline = pipeline();
        let mut flow = Flow::new(1, Transport::Udp);
        let message =
            |id: u8, response: u8| [&[0, id, response, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1][..]].concat();
        for id in 0..100 {
            flow.says(&mut pipeline, OUT, true, &message(id, 1));
        }
        assert!(pipeline.shed(usize::MAX).held > 5_000);
        assert_eq!(pipeline.shed(1_000), Shed { held: 0, flows: 1 });
        flow.says(&mut pipeline, OUT, true, &message(200, 1));
        flow.says(&mut pipeline, IN, true, &message(200, 0x81));
        assert_eq!(pipeline.sink().lost, [(1, LossReason::Limit, 100)]);
        assert_eq!(pipeline.sink().records, [(1, true)]);
    }
}
