//! The figures of the map, made of the cluster's table. Bounded: what a page cannot show is left out,
//! the least traffic first, and how much that is stands on the page.

use super::wire::{Agents, Edge, Figures, LeftOut, Loss, Map, Part, Trouble, Workload};
use crate::apis::why;
use crate::counts::FleetCounts;
use crate::shown::{AgentRow, Shown, Standing};
use golden_metrics::{Covered, Figures as Golden, Nodes, Pair, Party, WorkloadRow};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

/// Workloads that a page shows.
pub const WORKLOADS: usize = 3_000;
/// Edges that a page shows.
pub const EDGES: usize = 12_000;
/// Agents that do not push and are listed by name.
const TROUBLE: usize = 200;

/// The map at one time.
#[derive(Debug, Default)]
pub struct Document {
    /// As the page reads it.
    pub json: Vec<u8>,
    /// Workloads and edges that are not on it.
    pub left_out: usize,
    edges: HashMap<u64, (Party, Party, u64), foldhash::fast::RandomState>,
}

impl Document {
    /// Of what is shown to all. `counts` are what the companion itself could not take, now and a window
    /// ago.
    #[must_use]
    pub fn of(shown: &Shown, counts: [FleetCounts; 2], period: Duration) -> Document {
        let (pairs, workloads, left_out) = chosen(shown);
        let mut places = HashMap::<Party, usize, foldhash::fast::RandomState>::default();
        let mut listed = Vec::with_capacity(workloads.len());
        for (party, (golden, nodes)) in workloads {
            let Party { name, namespace, kind } = party.clone();
            let (id, figures) = (format!("{:016x}", hash(&[&party])), figures(&golden));
            listed.push(Workload { id, ns: namespace, name, kind, live: nodes.live, all: nodes.all, figures });
            places.insert(party, listed.len() - 1);
        }
        let mut edges = Vec::with_capacity(pairs.len());
        let mut known = HashMap::default();
        for Pair { client, server, golden, nodes, protocols, lost } in pairs {
            let (Some(c), Some(s)) = (places.get(&client), places.get(&server)) else { continue };
            let id = hash(&[&client, &server]);
            edges.push(Edge {
                id: format!("{id:016x}"),
                c: *c,
                s: *s,
                live: nodes.live,
                all: nodes.all,
                figures: figures(&golden),
                open: golden.tcp_connections,
                lost,
                by: protocols.iter().map(|(p, golden)| Part { p, figures: figures(golden) }).collect(),
            });
            known.insert(id, (client, server, golden.tcp_connections));
        }
        let map = Map {
            version: env!("CARGO_PKG_VERSION"),
            window_s: shown.table.span().unwrap_or_default().as_secs_f64(),
            period_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
            agents: agents(&shown.agents),
            losses: losses(shown, &counts),
            workloads: listed,
            edges,
            left_out,
        };
        let json = serde_json::to_vec(&map).unwrap_or_default();
        Document { json, left_out: left_out.workloads + left_out.edges, edges: known }
    }

    /// Client, server and open connections of an edge that is on the page.
    #[must_use]
    pub fn edge(&self, id: u64) -> Option<&(Party, Party, u64)> {
        self.edges.get(&id)
    }
}

type Workloads = BTreeMap<Party, (Golden, Nodes)>;

/// Edges and their ends, as many as are shown, and how many are not.
fn chosen(shown: &Shown) -> (Vec<Pair>, Workloads, LeftOut) {
    let mut pairs = shown.table.pairs();
    let mut left_out = LeftOut { workloads: 0, edges: pairs.len().saturating_sub(EDGES) };
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.golden.requests, pair.golden.bytes)));
    pairs.truncate(EDGES);
    let served = shown.table.workloads();
    let served: HashMap<Party, (Golden, Nodes), foldhash::fast::RandomState> = served
        .into_iter()
        .map(|Covered { row: WorkloadRow { workload, golden }, nodes }| (workload, (golden, nodes)))
        .collect();
    let mut workloads = Workloads::new();
    let before = pairs.len();
    let mut refused = BTreeMap::<Party, ()>::new();
    pairs.retain(|pair| {
        let ends = [&pair.client, &pair.server];
        let new = ends.iter().filter(|end| !workloads.contains_key(**end)).count();
        if workloads.len() + new > WORKLOADS {
            for end in ends.into_iter().filter(|end| !workloads.contains_key(*end)) {
                refused.insert(end.clone(), ());
            }
            return false;
        }
        for end in ends {
            if !workloads.contains_key(end) {
                // Who serves nothing has the nodes of what it asks.
                let of = served.get(end).copied().unwrap_or_else(|| (Golden::default(), pair.nodes));
                workloads.insert(end.clone(), of);
            }
        }
        true
    });
    left_out.edges += before - pairs.len();
    left_out.workloads = refused.keys().filter(|end| !workloads.contains_key(*end)).count();
    (pairs, workloads, left_out)
}

fn figures(golden: &Golden) -> Figures {
    // Four digits are more than is shown.
    let short = |value: f64| {
        let scale = 10_f64.powf(4.0 - value.abs().max(1e-9).log10().ceil());
        (value * scale).round() / scale
    };
    Figures { r: short(golden.rps), ok: golden.success, p95: golden.p95.map(short) }
}

fn agents(rows: &[AgentRow]) -> Agents {
    let mut agents = Agents::default();
    for row @ AgentRow { node, version, standing, series: _, strangers: _, stranger_findings: _ } in rows {
        let count = match standing {
            Standing::Live => &mut agents.live,
            Standing::Silent { .. } => &mut agents.silent,
            Standing::Ended { .. } => &mut agents.ended,
            Standing::Absent => &mut agents.absent,
        };
        *count += 1;
        if *standing == Standing::Live {
            continue;
        }
        if agents.trouble.len() < TROUBLE {
            let (node, version) = (node.clone(), version.clone());
            agents.trouble.push(Trouble { node, state: standing.word(), why: why(row), version });
        } else {
            agents.more += 1;
        }
    }
    agents
}

/// What agents lost, and what the companion did.
fn losses<'a>(shown: &'a Shown, [now, before]: &[FleetCounts; 2]) -> Vec<Loss<'a>> {
    let of_agents = shown.table.losses().iter().filter(|loss| loss.total > 0);
    let of_agents =
        of_agents.map(|loss| Loss { stage: &loss.stage, reason: &loss.reason, unit: &loss.unit, lately: loss.total });
    let own = [
        ("no_room", now.no_room - before.no_room),
        ("unnamed", now.unnamed - before.unnamed),
        ("unreadable", now.unreadable - before.unreadable),
        ("stranger", now.stranger - before.stranger),
    ];
    let own = own.into_iter().filter(|(_, lately)| *lately > 0);
    of_agents
        .chain(own.map(|(reason, lately)| Loss { stage: "companion", reason, unit: "values of series", lately }))
        .collect()
}

/// The same in every process of this version.
fn hash(parties: &[&Party]) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(1).build_hasher();
    for Party { name, namespace, kind } in parties {
        (namespace, name, kind).hash(&mut hasher);
    }
    hasher.finish()
}
