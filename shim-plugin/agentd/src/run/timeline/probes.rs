//! The pipeline's part of the findings on probes: each request that a kubelet sent to see whether a
//! container of this node is well. Costs the others a comparison.

use flow_model::{Detail, Endpoint, FlowInfo, L7Record, Notes, Outcome, Ts};
use golden_metrics::{Edge, End, Feed, Losses, Observer, Reporter};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Taken five times a second: a node probes its pods some ten times a second.
const QUEUE: usize = 1024;

/// A probe as its server's interface saw it.
#[derive(Clone, Debug)]
pub struct ProbeSeen {
    /// Where it was asked.
    pub server: Endpoint,
    /// Whose that is.
    pub of: End,
    /// As it was sent.
    pub target: Box<str>,
    pub at: Ts,
    /// Until the whole answer; None where none came before the kubelet closed.
    pub took: Option<Duration>,
    /// Its status was from 200 to 399.
    pub good: bool,
}

#[derive(Debug)]
pub struct ProbeWatch(Feed<ProbeSeen>);

impl ProbeWatch {
    /// The observer, and where it tells.
    #[must_use]
    pub fn new(losses: &Losses) -> (ProbeWatch, Receiver<ProbeSeen>) {
        let (feed, told) = Feed::new("probes", "probes of the kubelet", QUEUE, losses);
        (ProbeWatch(feed), told)
    }
}

impl Observer for ProbeWatch {
    fn exchange(&mut self, edge: &Edge, flow: &FlowInfo, record: &L7Record) {
        if !record.notes.has(Notes::PROBE) || edge.reporter != Reporter::Server || !may_be_kubelet(&edge.client) {
            return;
        }
        let Detail::Http(http) = &record.detail else { return };
        self.0.push(ProbeSeen {
            server: flow.client_server().1,
            of: edge.server.clone(),
            target: http.target.clone(),
            at: record.start,
            took: (record.outcome == Outcome::Answered).then(|| record.end.since(record.start)),
            good: http.status.is_some_and(|status| (200..400).contains(&status)),
        });
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

/// The kubelet asks from an address of the node, or is one of its processes. Others may write its
/// User-Agent, too.
fn may_be_kubelet(client: &End) -> bool {
    !matches!(
        client.kind,
        "Deployment"
            | "StatefulSet"
            | "DaemonSet"
            | "Job"
            | "CronJob"
            | "ReplicaSet"
            | "Pod"
            | "Container"
            | "Service"
            | "External"
            | "Rollout"
            | "CloneSet"
    )
}
