//! Exchanges of flows that found no room: what is known of them is that there was an answer. The
//! kernel programs count the same of flows that their table has no room for (`bpf/refused.h`, where
//! it is said why these are at least so many).

use super::Pipeline;
use crate::event::Segment;
use flow_model::{Direction, Endpoint, FiveTuple, FlowInfo, LossReason, Role, Sink, Slot, Transport, Ts};
use std::net::{IpAddr, Ipv4Addr};

const DNS: u16 = 53;

impl<S: Sink> Pipeline<S> {
    /// Exchanges whose answers the kernel saw and whose flows it could not follow, `role` being
    /// what the node's ends of them were.
    pub fn unfollowed(&mut self, role: Role, answers: u64) {
        let nobody = Endpoint { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0 };
        let tuple = FiveTuple { transport: Transport::Tcp, local: nobody, remote: nobody };
        self.lose(Slot::FIRST_OF_NODE, tuple, role, Ts::default(), answers);
    }

    /// A segment of a flow that found this table full.
    pub(super) fn refused(&mut self, segment: &Segment<'_>) {
        if is_answer(segment) {
            let role = if segment.dir == Direction::Egress { Role::Server } else { Role::Client };
            self.lose(segment.key.slot, segment.key.tuple, role, segment.at, 1);
        }
    }

    fn lose(&mut self, slot: Slot, tuple: FiveTuple, role: Role, opened: Ts, count: u64) {
        if count > 0 {
            let info = FlowInfo { slot, tuple, role, opened, joined_midway: false, peer: None };
            self.sink.exchanges_lost(&info, &mut S::PerFlow::default(), LossReason::Limit, count);
        }
    }
}

/// A final response of HTTP/1 (RFC 9112 section 4) or of DNS (RFC 1035 section 4.1.1) begins here.
fn is_answer(segment: &Segment<'_>) -> bool {
    let Segment { payload, key, dir, .. } = *segment;
    if key.is_udp() {
        let from = if dir == Direction::Egress { key.tuple.local } else { key.tuple.remote };
        return from.port == DNS && matches!(payload, [_, _, flags, _, 0, 1, ..] if flags & 0xf8 == 0x80);
    }
    matches!(payload.strip_prefix(b"HTTP/1."), Some([b'0' | b'1', b' ', b'2'..=b'5', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, FlowId, FlowKey};
    use crate::pipeline::PipelineConfig;
    use flow_model::{FlowDelta, L7Record};

    #[derive(Debug, Default)]
    struct Lost(Vec<(Role, LossReason, u64)>);

    impl Sink for Lost {
        type PerFlow = ();

        fn exchange(&mut self, _: &FlowInfo, (): &mut (), _: &L7Record) {}

        fn exchanges_lost(&mut self, flow: &FlowInfo, (): &mut (), reason: LossReason, count: u64) {
            self.0.push((flow.role, reason, count));
        }

        fn flow(&mut self, _: &FlowInfo, (): &mut (), _: &FlowDelta) {}
    }

    fn segment(transport: Transport, ports: (u16, u16), dir: Direction, payload: &[u8]) -> Event<'_> {
        let end = |port| Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port };
        let tuple = FiveTuple { transport, local: end(ports.0), remote: end(ports.1) };
        Event::Segment(Segment {
            key: FlowKey { slot: Slot(1), tuple },
            id: FlowId(1),
            role: Role::Unknown,
            joined_midway: false,
            transport,
            dir,
            at: Ts(1),
            seq: 1,
            turn: 1,
            wire_len: payload.len() as u32,
            first: true,
            prev: None,
            payload,
            acked: None,
            walked: l7::Walked::default(),
        })
    }

    #[test]
    fn answers_of_flows_beyond_the_table_are_exchanges_lost_and_nothing_else_is() {
        use Direction::{Egress, Ingress};
        use Transport::{Tcp, Udp};
        let mut pipeline = Pipeline::new(PipelineConfig { flows: 1, ..PipelineConfig::default() }, Lost::default());
        pipeline.event(&segment(Tcp, (1, 1), Egress, b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(pipeline.sink().0, [], "this one has room");
        let answer = [7, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        let query = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for (transport, ports, dir, payload) in [
            (Tcp, (80, 2), Ingress, &b"GET / HTTP/1.1\r\n\r\n"[..]),
            (Tcp, (80, 2), Egress, b"HTTP/1.1 100 Continue\r\n\r\n"),
            (Tcp, (80, 2), Egress, b"HTTP/1."),
            (Tcp, (80, 2), Egress, b"HTTP/1.1 404 Not Found\r\n\r\n"),
            (Tcp, (2, 80), Ingress, b"HTTP/1.0 200 OK\r\n\r\n"),
            (Udp, (40_000, 53), Egress, &query),
            (Udp, (40_000, 54), Ingress, &answer),
            (Udp, (40_000, 53), Ingress, &answer),
            (Udp, (53, 40_000), Egress, &answer[..5]),
        ] {
            pipeline.event(&segment(transport, ports, dir, payload));
        }
        let limit = |role| (role, LossReason::Limit, 1);
        assert_eq!(pipeline.sink().0, [limit(Role::Server), limit(Role::Client), limit(Role::Client)]);
        assert_eq!(pipeline.stats().table_full, 9);
        pipeline.unfollowed(Role::Server, 0);
        pipeline.unfollowed(Role::Server, 5);
        assert_eq!(pipeline.sink().0.last(), Some(&(Role::Server, LossReason::Limit, 5)));
    }
}
