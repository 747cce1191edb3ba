//! The series of several agents as one table: what they counted lately, added up, and which of them
//! have a part in a row.
//!
//! Rates are made of what each agent counted between its pushes, added up. So an agent that comes,
//! goes or begins anew makes no rate negative and no spike; a sum of totals would. Histograms add up
//! bucket by bucket, so a quantile over nodes is as exact as one of a node.

use crate::extras::Extra;
use crate::families::{Cell, FamilyId};
use crate::labels::{ERROR_TYPE, Reporter, UNANSWERED};
use crate::rows::{Of, RowKey, RowValue};
use crate::view::{Key, Name, Stats, View};
use agent_api::{EdgeRow, LossRow, WorkloadRow};
use flow_model::Transport;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What was counted in a step of time.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) began: Duration,
    pub(crate) edges: BTreeMap<Key, Stats>,
    /// For who asks of one edge.
    pub(crate) extras: BTreeMap<Key, Extra>,
    lost: BTreeMap<Place, u64>,
}

impl Slot {
    fn new(began: Duration) -> Slot {
        Slot { began, edges: BTreeMap::new(), extras: BTreeMap::new(), lost: BTreeMap::new() }
    }
}

/// A place of loss: stage, reason, unit.
type Place = (Box<str>, Box<str>, Box<str>);
/// There are some hundred. A hostile agent may name as many as its names have room.
const PLACES: usize = 1_000;

/// What all agents counted in the last steps. As large as there are edges, whatever the number of
/// agents.
#[derive(Debug)]
pub struct Cluster {
    step: Duration,
    kept: usize,
    pub(crate) slots: VecDeque<Slot>,
}

/// How many agents have a series of a row, and how many of them push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Those that push now.
    pub live: u32,
    /// All of which a copy is there.
    pub all: u32,
}

/// A row with the agents behind it. Where not all of them push it says less than there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Covered<R> {
    /// What was counted.
    pub row: R,
    /// By whom.
    pub nodes: Nodes,
}

/// A table at one time.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    pub(crate) view: View,
    pub(crate) nodes: BTreeMap<Key, Nodes>,
    servers: BTreeMap<Name, Nodes>,
    /// Exchanges that are in no series, by edge.
    pub(crate) lost: BTreeMap<(Name, Name, Reporter), u64>,
    losses: Vec<LossRow>,
}

impl Cluster {
    /// Keeps `kept` steps beside the one that is under way.
    #[must_use]
    pub fn new(step: Duration, kept: usize) -> Cluster {
        Cluster { step, kept: kept.max(1), slots: VecDeque::new() }
    }

    /// Somebody is about to count: what comes is of the time from now on, also where nobody asks for
    /// a table before.
    pub fn begin(&mut self, now: Duration) {
        self.pass(now);
    }

    /// An agent's series went from `was` to `value`. `None`: it began since.
    pub fn count(&mut self, now: Duration, key: &RowKey, was: Option<&RowValue>, value: &RowValue) {
        let mut value = was.map_or_else(|| value.clone(), |was| value.since(was));
        value.numbers.open = 0;
        if value == RowValue::default() {
            return;
        }
        self.pass(now);
        let Some(slot) = self.slots.back_mut() else { return };
        if let Some(place) = place(key) {
            let stats = stats(key, &value);
            slot.extras.entry(place.clone()).or_default().count(key, &value, stats.requests);
            slot.edges.entry(place).or_default().add(&stats);
        } else if let Some(place) = place_of_loss(key)
            && (slot.lost.len() < PLACES || slot.lost.contains_key(&place))
        {
            let lost = slot.lost.entry(place).or_default();
            *lost = lost.saturating_add(value.numbers.total);
        }
    }

    /// Begins a step where one is due, and forgets the oldest.
    fn pass(&mut self, now: Duration) {
        let Some(latest) = self.slots.back().map(|slot| slot.began) else {
            return self.slots.push_back(Slot::new(now));
        };
        let steps = now.saturating_sub(latest).as_nanos().checked_div(self.step.as_nanos()).unwrap_or(0);
        // After a pause all that is kept is empty.
        let first = steps.saturating_sub(self.kept as u128).max(1);
        for n in first..=steps {
            let began = latest + self.step.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
            self.slots.push_back(Slot::new(began));
        }
        while self.slots.len() > self.kept + 1 {
            self.slots.pop_front();
        }
    }

    /// The table now. `agents` are the copies: whether the agent pushes, and its series.
    pub fn table<'a, A>(&mut self, now: Duration, agents: impl Iterator<Item = (bool, A)>) -> ClusterView
    where
        A: Iterator<Item = (&'a RowKey, RowValue)>,
    {
        self.pass(now);
        let mut edges: BTreeMap<Key, Stats> = BTreeMap::new();
        for slot in &self.slots {
            slot.edges.iter().for_each(|(key, stats)| edges.entry(key.clone()).or_default().add(stats));
        }
        let span = self.slots.front().map(|slot| now.saturating_sub(slot.began)).filter(|span| !span.is_zero());
        let mut there = There::default();
        agents.for_each(|(live, rows)| there.agent(live, rows));
        for (place, open) in &there.open {
            edges.entry(place.clone()).or_default().tcp_open += open;
        }
        let mut view = there.table(edges, span);
        self.slots.iter().for_each(|slot| view.miss(slot));
        let losses: BTreeMap<&Place, u64> = self.slots.iter().flat_map(|slot| &slot.lost).fold(
            BTreeMap::new(),
            |mut all: BTreeMap<_, u64>, (place, lost)| {
                let sum = all.entry(place).or_default();
                *sum = sum.saturating_add(*lost);
                all
            },
        );
        let row = |((stage, reason, unit), total): (&Place, u64)| LossRow {
            stage: stage.to_string().into(),
            reason: reason.to_string().into(),
            unit: unit.to_string().into(),
            total,
        };
        view.losses = losses.into_iter().map(row).collect();
        view
    }

    /// What all agents have counted since their beginnings.
    pub fn totals<'a, A>(agents: impl Iterator<Item = (bool, A)>) -> ClusterView
    where
        A: Iterator<Item = (&'a RowKey, RowValue)>,
    {
        let mut edges: BTreeMap<Key, Stats> = BTreeMap::new();
        let mut there = There::default();
        for (live, rows) in agents {
            let counted = |(key, value): &(&RowKey, RowValue)| {
                if let Some(place) = place(key) {
                    edges.entry(place).or_default().add(&stats(key, value));
                }
            };
            there.agent(live, rows.inspect(counted));
        }
        there.table(edges, None)
    }
}

/// Where something was lost, if that is what the total counts.
fn place_of_loss(key: &RowKey) -> Option<Place> {
    let label = |name| key.label(name).unwrap_or_default().into();
    match key.of {
        Of::Lost => Some((label("stage"), label("reason"), key.unit.clone())),
        Of::Missed => Some(("exchanges".into(), label("reason"), "exchanges".into())),
        Of::Exchanges(_) | Of::Tcp | Of::Udp | Of::Counted => None,
    }
}

/// The row that a series adds to; totals have none.
fn place(key: &RowKey) -> Option<Key> {
    let edge = key.edge.as_ref()?;
    let protocol = match key.of {
        Of::Exchanges(id) => id.family().name,
        Of::Tcp => "tcp",
        Of::Udp => "udp",
        Of::Counted | Of::Missed | Of::Lost => return None,
    };
    Some(Key {
        client: Name::of(&edge.client),
        server: Name::of(&edge.server),
        service: edge.service.clone(),
        reporter: edge.reporter,
        protocol,
    })
}

/// What a series adds to its row.
pub(crate) fn stats(key: &RowKey, value: &RowValue) -> Stats {
    match key.of {
        Of::Exchanges(_) => {
            let error = key.label(ERROR_TYPE);
            let unanswered = error == Some(UNANSWERED);
            Stats::of_exchanges(value.histogram.clone(), value.numbers.value(Cell::OneWay), error.is_some(), unanswered)
        }
        Of::Tcp => Stats { tcp_open: value.numbers.open, bytes: value.numbers.bytes, ..Stats::default() },
        Of::Udp => Stats { bytes: value.numbers.bytes, ..Stats::default() },
        Of::Counted | Of::Missed | Of::Lost => Stats::default(),
    }
}

/// Who has which rows.
#[derive(Default)]
struct There {
    agents: u64,
    /// With the last agent that was counted for it.
    nodes: BTreeMap<Key, (Nodes, u64)>,
    servers: BTreeMap<Name, (Nodes, u64)>,
    /// Of those that push: what was open at an agent that is silent may be closed.
    open: BTreeMap<Key, u64>,
}

impl There {
    fn agent<'a>(&mut self, live: bool, rows: impl Iterator<Item = (&'a RowKey, RowValue)>) {
        self.agents += 1;
        let agent = self.agents;
        let count = |entry: &mut (Nodes, u64)| {
            if entry.1 != agent {
                entry.0.all += 1;
                entry.0.live += u32::from(live);
                entry.1 = agent;
            }
        };
        for (key, value) in rows {
            let Some(place) = place(key) else { continue };
            count(self.servers.entry(place.server.clone()).or_default());
            if live && value.numbers.open > 0 {
                *self.open.entry(place.clone()).or_default() += value.numbers.open;
            }
            count(self.nodes.entry(place).or_default());
        }
    }

    fn table(self, mut edges: BTreeMap<Key, Stats>, span: Option<Duration>) -> ClusterView {
        let mut nodes: BTreeMap<Key, Nodes> = self.nodes.into_iter().map(|(key, (nodes, _))| (key, nodes)).collect();
        for (transport, alone) in [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")] {
            let apart: Vec<Key> = nodes.keys().filter(|key| key.protocol == alone).cloned().collect();
            for key in apart {
                // An edge's transport is shown with the first family that was recognised on it.
                let families = FamilyId::ALL.map(FamilyId::family);
                let of_transport = families.iter().filter(|family| family.transport == transport);
                let shown = of_transport.map(|family| Key { protocol: family.name, ..key.clone() });
                if let Some(shown) = shown.into_iter().find(|shown| nodes.contains_key(shown)) {
                    nodes.remove(&key);
                    if let Some(stats) = edges.remove(&key) {
                        edges.entry(shown).or_default().add(&stats);
                    }
                }
            }
        }
        // What nobody has any more counted in the window all the same.
        let servers = self.servers.into_iter().map(|(name, (nodes, _))| (name, nodes)).collect();
        ClusterView { view: View { edges, span }, nodes, servers, ..ClusterView::default() }
    }
}

impl ClusterView {
    fn miss(&mut self, slot: &Slot) {
        for (key, extra) in slot.extras.iter().filter(|(_, extra)| extra.lost() > 0) {
            let lost = self.lost.entry((key.client.clone(), key.server.clone(), key.reporter)).or_default();
            *lost = lost.saturating_add(extra.lost());
        }
    }

    /// What agents lost in the last steps, by place; `total` is of that time.
    #[must_use]
    pub fn losses(&self) -> &[LossRow] {
        &self.losses
    }

    /// In which the table was counted; none before anything was.
    #[must_use]
    pub fn span(&self) -> Option<Duration> {
        self.view.span
    }

    /// One row for each observer of an edge. An edge that both its ends report has two.
    #[must_use]
    pub fn edges(&self) -> Vec<Covered<EdgeRow>> {
        self.view.edges.iter().map(|(key, stats)| self.edge(key, stats)).collect()
    }

    /// As `edges`, but what both ends report is shown as the client saw it.
    #[must_use]
    pub fn edges_once(&self) -> Vec<Covered<EdgeRow>> {
        self.view.once().map(|(key, stats)| self.edge(key, stats)).collect()
    }

    fn edge(&self, key: &Key, stats: &Stats) -> Covered<EdgeRow> {
        Covered { row: self.view.edge_row(key, stats), nodes: self.nodes.get(key).copied().unwrap_or_default() }
    }

    /// What each workload did as a server.
    #[must_use]
    pub fn workloads(&self) -> Vec<Covered<WorkloadRow>> {
        let covered = |(name, row)| Covered { row, nodes: self.servers.get(name).copied().unwrap_or_default() };
        self.view.servers().into_iter().map(covered).collect()
    }
}
