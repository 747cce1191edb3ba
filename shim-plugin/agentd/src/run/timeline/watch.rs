//! The pipeline's part: of each exchange that is counted or lost, those that a server of this node
//! left without a whole answer. Costs the others two comparisons.

use super::unanswered::{UNSEEN, Unanswered};
use crate::clock;
use flow_model::{Detail, FlowInfo, L7Record, LossReason, Notes, Outcome, Transport};
use golden_metrics::{Edge, Feed, Losses, Observer, Reporter};
use std::borrow::Cow;
use std::sync::mpsc::Receiver;

/// Taken five times a second: twenty thousand requests without an answer in a second.
const QUEUE: usize = 4096;

#[derive(Debug)]
pub struct CutWatch(Feed<Unanswered>);

/// The observer, and where it tells.
#[must_use]
pub fn watch(losses: &Losses) -> (CutWatch, Receiver<Unanswered>) {
    let (feed, told) = Feed::new("timeline", "requests without an answer", QUEUE, losses);
    (CutWatch(feed), told)
}

impl Observer for CutWatch {
    fn exchange(&mut self, edge: &Edge, flow: &FlowInfo, record: &L7Record) {
        let broken_off = match record.outcome {
            Outcome::Unanswered => false,
            Outcome::Answered if record.notes.has(Notes::END_ASSUMED) => true,
            Outcome::Answered | Outcome::OneWay => return,
        };
        // Nobody waits for the answer to a probe.
        if edge.reporter == Reporter::Server && !record.notes.has(Notes::PROBE) {
            self.0.push(Unanswered {
                began: record.start,
                what: what(&record.detail),
                broken_off,
                is_stream: record.notes.has(Notes::UPGRADED) || matches!(record.detail, Detail::Channel(_)),
                ..unanswered(edge, flow, 1)
            });
        }
    }

    fn lost(&mut self, edge: &Edge, flow: &FlowInfo, reason: LossReason, count: u64) {
        if reason == LossReason::Unfinished && edge.reporter == Reporter::Server {
            self.0.push(unanswered(edge, flow, count));
        }
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

fn unanswered(edge: &Edge, flow: &FlowInfo, count: u64) -> Unanswered {
    Unanswered {
        slot: flow.slot,
        began: flow.opened,
        opened: flow.opened,
        // A record has the time of the last byte that was seen. It is given up now, some
        // milliseconds after its connection closed.
        at: clock::now(),
        client: edge.client.clone(),
        server: edge.server.clone(),
        service: edge.service.clone(),
        what: UNSEEN,
        broken_off: false,
        is_stream: false,
        over_udp: flow.tuple.transport == Transport::Udp,
        count,
    }
}

/// Of a closed set: words of a protocol are borrowed, what a client made up is not.
fn what(detail: &Detail) -> &'static str {
    match detail {
        Detail::Http(exchange) => match &exchange.method {
            Cow::Borrowed(method) if !method.is_empty() => method,
            _ => "HTTP",
        },
        Detail::Dns(_) => "DNS",
        Detail::Rpc(call) => call.system,
        Detail::Db(operation) => operation.system,
        Detail::Messaging(operation) => operation.system,
        Detail::Tls(_) => "TLS",
        Detail::Channel(_) => "channel",
    }
}
