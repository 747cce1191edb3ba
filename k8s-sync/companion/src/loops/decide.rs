//! Whether requests go in circles: of what workloads asked each other in a window, those that come back. Pure.
//!
//! A request that goes in a circle is answered by nobody: it ends in a time limit, in a limit of hops, or in heads
//! that grew too long, and each hop passes the failure back. So the same request is seen on each hop, as often, and
//! fails; it is far more often on a hop than anybody asks for it; and who asked waits longer than the hops, which
//! are inside of that. Two services that use each other in health show none of the last three.

use flow_model::WorkloadKind;
use golden_metrics::End;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// From where requests are held for going in circles. All are judgement.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Looked back over. Nodes push every 10 s, each at its own moment: a push more or less is no difference.
    pub window: Duration,
    /// It has to hold for so long.
    pub held: Duration,
    /// Requests a second of each hop.
    pub rate: f64,
    /// Share of them that fail.
    pub failed: f64,
    /// The most frequent hop to the least frequent one.
    pub alike: f64,
    /// Of the least frequent hop to what all others ask the members for.
    pub amplified: f64,
    /// How long the others wait to how long the hops take. Of a chain of many equal hops it is 2.
    pub nested: f64,
    /// Hops that take so long wait for a time limit, and all of them for the same one.
    pub timeout: Duration,
    /// Members of a circle.
    pub members: usize,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            window: Duration::from_secs(90),
            held: Duration::from_secs(90),
            rate: 10.0,
            failed: 0.9,
            alike: 1.2,
            amplified: 10.0,
            nested: 1.3,
            timeout: Duration::from_secs(1),
            members: 4,
        }
    }
}

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) namespace: Arc<str>,
    pub(crate) workload: Arc<str>,
    kind: &'static str,
}

impl Who {
    pub(crate) fn of(end: &End) -> Who {
        let End { workload, namespace, kind } = end;
        Who { namespace: namespace.clone(), workload: workload.clone(), kind }
    }

    pub(crate) fn is(&self, end: &End) -> bool {
        self.workload == end.workload && self.namespace == end.namespace && self.kind == end.kind
    }

    /// Whether it is one: an address, a node or what has no name may be many.
    fn is_somebody(&self) -> bool {
        let many = [WorkloadKind::Service, WorkloadKind::Node, WorkloadKind::External, WorkloadKind::Address];
        let mut one = WorkloadKind::ALL.into_iter().filter(|kind| !many.contains(kind));
        one.any(|kind| kind.as_str() == self.kind)
    }

    pub(crate) fn text(&self) -> String {
        if self.namespace.is_empty() {
            self.workload.to_string()
        } else {
            format!("{}/{}", self.namespace, self.workload)
        }
    }
}

/// Method and route, or service and method of an RPC.
pub(crate) type What = [Box<str>; 2];

/// Requests of an edge in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) unanswered: u64,
    pub(crate) nanos: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, more: Sum) {
        let Sum { requests, failed, unanswered, nanos } = more;
        self.requests = self.requests.saturating_add(requests);
        self.failed = self.failed.saturating_add(failed);
        self.unanswered = self.unanswered.saturating_add(unanswered);
        self.nanos = self.nanos.saturating_add(nanos);
    }

    fn failed(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failed as f64 / self.requests as f64 }
    }

    fn mean(&self) -> Duration {
        Duration::from_nanos(self.nanos.checked_div(self.requests).unwrap_or(0))
    }
}

/// By what is asked, client and server.
pub(crate) type Asked = BTreeMap<What, BTreeMap<(Who, Who), Sum>>;

/// Requests that go in a circle.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loop {
    pub(crate) what: What,
    /// Each asks the next one, and the last one the first.
    pub(crate) members: Vec<Who>,
    /// Whom of them the others ask most.
    pub(crate) entry: Who,
    /// Requests a second of each hop, at least.
    pub(crate) rate: f64,
    /// Share of these that fail, at least.
    pub(crate) failed: f64,
    /// Mean of the slowest hop.
    pub(crate) takes: Duration,
    /// Requests a second of all others, and how long they take.
    pub(crate) others: f64,
    pub(crate) others_take: Duration,
    /// Failed requests of each other client.
    pub(crate) hurt: Vec<(String, u64)>,
}

/// What is looked at of circles of one kind of request at most: whoever makes more is hostile.
const MOST_STEPS: usize = 10_000;

/// All that are found, by what is asked.
pub(crate) fn loops(asked: &Asked, thresholds: &Thresholds) -> Vec<Loop> {
    let of_kind = |(what, edges): (&What, &BTreeMap<(Who, Who), Sum>)| {
        let is_hop = |sum: &Sum| rate(sum.requests, thresholds) >= thresholds.rate && sum.failed() >= thresholds.failed;
        let mut hops: BTreeMap<&Who, Vec<&Who>> = BTreeMap::new();
        for ((client, server), _) in edges.iter().filter(|(_, sum)| is_hop(sum)) {
            if client.is_somebody() && server.is_somebody() {
                hops.entry(client).or_default().push(server);
            }
        }
        let mut by_server: BTreeMap<&Who, Vec<(&Who, &Sum)>> = BTreeMap::new();
        for ((client, server), sum) in edges {
            by_server.entry(server).or_default().push((client, sum));
        }
        let mut found = Vec::new();
        let mut steps = MOST_STEPS;
        for first in hops.keys() {
            circles(&hops, &mut vec![*first], thresholds.members, &mut steps, &mut found);
        }
        let judged = |members: Vec<&Who>| judge(what, &by_server, &members, thresholds);
        found.into_iter().filter_map(judged).collect::<Vec<_>>()
    };
    asked.iter().flat_map(of_kind).collect()
}

fn rate(requests: u64, thresholds: &Thresholds) -> f64 {
    requests as f64 / thresholds.window.as_secs_f64().max(1.0)
}

/// Those that begin with this path; each circle once, from its least member on.
fn circles<'a>(
    hops: &BTreeMap<&'a Who, Vec<&'a Who>>,
    path: &mut Vec<&'a Who>,
    most: usize,
    steps: &mut usize,
    found: &mut Vec<Vec<&'a Who>>,
) {
    let (Some(first), Some(last)) = (path.first().copied(), path.last().copied()) else { return };
    for next in hops.get(last).into_iter().flatten().copied() {
        let Some(left) = steps.checked_sub(1) else { return };
        *steps = left;
        if next == first {
            found.push(path.clone());
        } else if next > first && path.len() < most && !path.contains(&next) {
            path.push(next);
            circles(hops, path, most, steps, found);
            path.pop();
        }
    }
}

fn judge(
    what: &What,
    asked: &BTreeMap<&Who, Vec<(&Who, &Sum)>>,
    members: &[&Who],
    thresholds: &Thresholds,
) -> Option<Loop> {
    let next = members.iter().cycle().skip(1);
    let hop =
        |(client, server): (&&Who, &&Who)| asked.get(server)?.iter().find(|(who, _)| who == client).map(|hop| hop.1);
    let hops: Vec<&Sum> = members.iter().zip(next).map(hop).collect::<Option<_>>()?;
    let (least, most) = (hops.iter().map(|hop| hop.requests).min()?, hops.iter().map(|hop| hop.requests).max()?);
    if most as f64 > least as f64 * thresholds.alike {
        return None;
    }
    let (mut others, mut by_member, mut hurt) = (Sum::default(), BTreeMap::<&Who, u64>::new(), BTreeMap::new());
    for server in members {
        for (client, sum) in asked.get(server).into_iter().flatten().filter(|(client, _)| !members.contains(client)) {
            others.add(**sum);
            *by_member.entry(server).or_default() += sum.requests;
            *hurt.entry(client.text()).or_default() += sum.failed;
        }
    }
    // Where nobody else asks it may be the members' own quarrel.
    let amplified = others.requests > 0 && least as f64 >= others.requests as f64 * thresholds.amplified;
    if !amplified || others.failed() < thresholds.failed {
        return None;
    }
    let takes = hops.iter().map(|hop| hop.mean()).max()?;
    let gave_up = others.unanswered * 2 > others.requests;
    let nested = others.mean().as_secs_f64() >= takes.as_secs_f64() * thresholds.nested;
    if !nested && !gave_up && takes < thresholds.timeout {
        return None;
    }
    let entry = by_member.into_iter().max_by_key(|(_, requests)| *requests)?.0.clone();
    Some(Loop {
        what: what.clone(),
        members: members.iter().map(|who| (*who).clone()).collect(),
        entry,
        rate: rate(least, thresholds),
        failed: hops.iter().map(|hop| hop.failed()).fold(1.0, f64::min),
        takes,
        others: rate(others.requests, thresholds),
        others_take: others.mean(),
        hurt: hurt.into_iter().filter(|(_, failed)| *failed > 0).collect(),
    })
}

#[cfg(test)]
mod tests;
