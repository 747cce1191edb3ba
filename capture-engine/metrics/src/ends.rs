//! Who the two ends of a flow are: asked when the flow is first heard of, and again while a better answer may come.
//!
//! A question is about a moment that does not change, so what changes an answer is news that came
//! late: labels of containerd after the first packet, a pod of another node some seconds after its
//! first connection, an owner after its pod. Nobody waits for such news. They are asked for when
//! the names have moved and some time has passed since the last question, twice the time before; so
//! a flow asks a dozen and a half times in its first minute at most, whatever its rate, and then
//! every `OPEN_CAP` or `KNOWN_CAP`, or never again once its names are final. Where all names of the
//! cluster come at once, after the agent began without them, each flow asks with its next exchange.

use crate::labels::{End, Reporter};
use crate::series::Edge;
use crate::table::{EdgeKey, Edges};
use crate::waiting::{Key, PATIENCE, Waiting};
use flow_model::{FlowInfo, Identity, Names, Role, Slot, Ts, Unknown, WorkloadKind};
use std::sync::Arc;
use std::time::Duration;

/// After a flow's first question; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest time in which better news of an address without a name goes unnoticed: 1 s.
const OPEN_CAP: u8 = 10;
/// The same for a name that may become a better one, as a pod becomes its Deployment: 33 s. Names
/// that are final stay from then on, 66 s after the first question: the API is behind the cluster
/// by seconds where it is not away, and by then it is known who took over an address.
const KNOWN_CAP: u8 = 15;

/// How good a name is. What is better replaces what is worse, also when it comes late; never the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing, or the address's class.
    Nobody,
    /// By DNS: right as long as nobody says who is behind it.
    Outside,
    /// A node or a Service where a pod may be meant; a pod or a Job that may have an owner.
    Improvable,
    /// Nothing is above it.
    Final,
}

fn rank(identity: &Identity) -> Rank {
    match identity {
        Identity::Unknown(_) => Rank::Nobody,
        Identity::Known(workload) => match workload.kind {
            WorkloadKind::Address => Rank::Nobody,
            WorkloadKind::External => Rank::Outside,
            WorkloadKind::Node
            | WorkloadKind::Service
            | WorkloadKind::Pod
            | WorkloadKind::Job
            | WorkloadKind::ReplicaSet => Rank::Improvable,
            WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::CronJob
            | WorkloadKind::Rollout
            | WorkloadKind::CloneSet
            | WorkloadKind::Container
            | WorkloadKind::Process => Rank::Final,
        },
    }
}

/// Kinds that only the Kubernetes API tells of, and behind which a Service can be.
fn is_of_cluster(identity: &Identity) -> bool {
    match identity {
        Identity::Unknown(_) => false,
        Identity::Known(workload) => !matches!(
            workload.kind,
            WorkloadKind::Address | WorkloadKind::External | WorkloadKind::Container | WorkloadKind::Process
        ),
    }
}

#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) edge: Arc<Edge>,
    local: Identity,
    remote: Identity,
    /// The time that `remote` answers for.
    remote_at: Ts,
    /// The role that `edge` was made for.
    role: Role,
    /// The other end as it was known then.
    peer: Option<Slot>,
    /// When they were asked first.
    began: Ts,
    /// `edge` is one that waits, until then.
    waits_until: Option<Ts>,
    /// Never asked again.
    settled: bool,
    /// Of the names when they were asked last.
    version: u64,
    /// The same, of names that were told all at once.
    whole: u64,
    /// They were asked about the time of an exchange, too.
    asked_of_exchange: bool,
    /// The pause since the last question is `FIRST_PAUSE << pause`, and ends at `again`.
    pause: u8,
    again: Ts,
    /// Of the edges, when they were asked for one.
    pub(crate) freed: u64,
}

impl Ends {
    /// Whether what is known of a flow's ends still holds, for an observation about `at` that is made `now`.
    pub(crate) fn hold<N: Names>(&self, names: &N, flow: &FlowInfo, at: Ts, now: Ts) -> bool {
        if self.role != flow.role || self.peer != flow.peer {
            return false;
        }
        if self.settled {
            return true;
        }
        if names.whole() != self.whole {
            return false;
        }
        let first_exchange = !self.asked_of_exchange && at != flow.opened && self.rank() <= Rank::Outside;
        if let Some(until) = self.waits_until {
            let is_open = now < until && self.edge.became.get().is_none();
            return is_open && !first_exchange && names.version() == self.version;
        }
        !first_exchange && (now < self.again || names.version() == self.version)
    }

    fn rank(&self) -> Rank {
        rank(&self.local).min(rank(&self.remote))
    }

    /// Asks, and keeps of `before` what was better. Where better news may come within moments the
    /// edge is one that waits for them.
    pub(crate) fn ask<N: Names>(
        before: Option<Ends>,
        names: &N,
        edges: &mut Edges,
        waiting: &mut Waiting,
        flow: &FlowInfo,
        at: Ts,
        now: Ts,
    ) -> Ends {
        let (version, whole) = (names.version(), names.whole());
        let before = before.as_ref();
        let Answer { local, remote, remote_at, called, rank, may_get_service } = Answer::of(before, names, flow, at);
        let began = before.map_or(now, |b| b.began);
        let (edge, waits_until) = match rank < Rank::Final || may_get_service {
            true if now.since(began) < PATIENCE && names.awaits(flow.slot, flow.tuple.remote, flow.opened) => {
                let is_client = flow.client_server().0 == flow.tuple.local;
                let port = is_client.then_some(flow.tuple.remote.port);
                let key = Key { edge: called.clone(), remote: flow.tuple.remote.ip, port };
                waiting.place(edges, key, flow, at, now, began.plus(PATIENCE)).unzip()
            }
            _ => (None, None),
        };
        let edge = edge.unwrap_or_else(|| edges.called(called));
        let cap = if rank <= Rank::Outside { OPEN_CAP } else { KNOWN_CAP };
        let settled = rank == Rank::Final && !may_get_service && before.is_some_and(|b| b.pause >= KNOWN_CAP);
        // The pauses begin when the wait is over.
        let had_to_wait = before.is_none_or(|b| b.waits_until.is_some());
        let pause = if had_to_wait { 0 } else { before.map_or(0, |b| (b.pause + 1).min(cap)) };
        Ends {
            edge,
            local,
            remote,
            remote_at,
            role: flow.role,
            peer: flow.peer,
            began,
            waits_until,
            settled,
            version,
            whole,
            asked_of_exchange: at != flow.opened || before.is_some_and(|b| b.asked_of_exchange),
            pause,
            again: now.plus(FIRST_PAUSE * (1 << pause)),
            freed: edges.freed(),
        }
    }
}

/// What is said of a flow's ends.
struct Answer {
    local: Identity,
    remote: Identity,
    remote_at: Ts,
    called: EdgeKey,
    rank: Rank,
    may_get_service: bool,
}

impl Answer {
    fn of<N: Names>(before: Option<&Ends>, names: &N, flow: &FlowInfo, at: Ts) -> Answer {
        let local = local(before, names, flow);
        let (remote, remote_at) = remote(before, names, flow, at);
        let is_client = flow.client_server().0 == flow.tuple.local;
        let (client, server) = if is_client { (&local, &remote) } else { (&remote, &local) };
        let (server_endpoint, server_at) = match is_client {
            true => (flow.tuple.remote, remote_at),
            false => (flow.tuple.local, flow.opened),
        };
        let service = names.service(server_endpoint, server_at);
        let service = service.or_else(|| match server {
            // Traffic to a Service of which no endpoint is known.
            Identity::Known(workload) if workload.kind == WorkloadKind::Service => Some(workload.name.clone()),
            _ => before.filter(|b| b.role == flow.role).map(|b| b.edge.service.clone()),
        });
        let service = service.unwrap_or_default();
        let may_get_service = service.is_empty() && is_of_cluster(server);
        let rank = rank(&local).min(rank(&remote));
        let called =
            EdgeKey { client: End::of(client), server: End::of(server), service, reporter: Reporter::of(flow) };
        Answer { local, remote, remote_at, called, rank, may_get_service }
    }
}

/// What an edge that waits is called by now, and whether that is all that may come.
pub(crate) fn called_now<N: Names>(names: &N, flow: &FlowInfo, at: Ts) -> (EdgeKey, bool) {
    let Answer { called, rank, may_get_service, .. } = Answer::of(None, names, flow, at);
    let may_be_better = rank < Rank::Final || may_get_service;
    (called, !may_be_better || !names.awaits(flow.slot, flow.tuple.remote, flow.opened))
}

fn local<N: Names>(before: Option<&Ends>, names: &N, flow: &FlowInfo) -> Identity {
    let before = before.map(|b| &b.local);
    if let Some(known) = before.filter(|known| rank(known) == Rank::Final) {
        return known.clone();
    }
    let found = match flow.slot {
        Slot(0) => names.remote(flow.slot, flow.tuple.local, flow.opened),
        slot => names.local(slot),
    };
    better(before, found)
}

/// The holder when the connection began is the one it is with. A connection may be older than what
/// is known of its peer: then it is asked who holds the address now, and that stays the question.
fn remote<N: Names>(before: Option<&Ends>, names: &N, flow: &FlowInfo, at: Ts) -> (Identity, Ts) {
    if let Some(peer) = flow.peer
        && let known @ Identity::Known(_) = names.local(peer)
    {
        return (known, flow.opened);
    }
    let ask = |at| names.remote(flow.slot, flow.tuple.remote, at);
    let had = before.map_or(Rank::Nobody, |b| rank(&b.remote));
    let asked = before.filter(|_| had > Rank::Nobody).map_or(flow.opened, |b| b.remote_at);
    let mut answer = (ask(asked), asked);
    let is_ambiguous = answer.0 == Identity::Unknown(Unknown::Ambiguous);
    if rank(&answer.0).max(had) < Rank::Improvable && !is_ambiguous && at != asked {
        let later = ask(at);
        if rank(&later) > rank(&answer.0) {
            answer = (later, at);
        }
    }
    match before {
        // That there were two is news, too: the first answer was a guess.
        Some(b) if rank(&answer.0) < had && !is_ambiguous => (b.remote.clone(), b.remote_at),
        _ => answer,
    }
}

fn better(before: Option<&Identity>, found: Identity) -> Identity {
    match before {
        Some(before) if rank(&found) < rank(before) => before.clone(),
        _ => found,
    }
}
