//! How much of a table one edge may take, and one namespace. A pod that makes up statuses, methods
//! or names of others spoils its own figures and leaves room to everybody else.

use crate::families::Step;
use crate::labels::{End, Reporter};
use crate::series::Edge;
use hashbrown::HashMap;
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;

/// Of the series that an edge has in a family, 64 in all, those below may be of this step. The last
/// one has the room that its closed sets need: with 12 of them no edge of HTTP, DNS or RPC loses its
/// workloads.
fn of_edge(step: Step) -> usize {
    match step {
        Step::Whole => 44,
        Step::NewName => 46,
        Step::Name => 48,
        Step::Status => 52,
        Step::Method => 64,
    }
}

/// A namespace may take this many times what is left free: alone 3/4 of a table, two of them 3/7
/// each. So there is always something left for the next. What has given up nearly all may take more.
fn of_namespace(step: Step) -> usize {
    match step {
        Step::Method => 7,
        Step::Whole | Step::NewName | Step::Name | Step::Status => 3,
    }
}

/// Things of a table by the namespace that they are counted for.
#[derive(Debug, Default)]
pub(crate) struct Namespaces(HashMap<Arc<str>, usize, Hasher>);

/// That of whoever asks, who makes edges and methods; of the server where a client has none. Not of
/// a capture, whose names are addresses.
pub(crate) fn payer<'a>(client: &'a End, server: &'a End, reporter: Reporter) -> Option<&'a Arc<str>> {
    let ends = [&client.namespace, &server.namespace];
    ends.into_iter().find(|name| !name.is_empty()).filter(|_| reporter != Reporter::Capture)
}

impl Namespaces {
    pub(crate) fn add(&mut self, payer: Option<&Arc<str>>) {
        let Some(payer) = payer else { return };
        match self.0.get_mut(&**payer) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(payer.clone(), 1)),
        }
    }

    fn taken(&self, payer: Option<&Arc<str>>) -> usize {
        payer.and_then(|payer| self.0.get(&**payer)).copied().unwrap_or(0)
    }

    /// Whether one more may be taken of a table that has `free` places.
    pub(crate) fn has_room(&self, payer: Option<&Arc<str>>, free: usize, step: Step) -> bool {
        let edge = 0;
        Room { edge, namespace: self.taken(payer), free }.is_there(step)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What an edge and its namespace have taken, and what is free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    edge: usize,
    namespace: usize,
    free: usize,
}

impl Room {
    /// For one more that has given up so much.
    pub(crate) fn is_there(self, step: Step) -> bool {
        let Room { edge, namespace, free } = self;
        free > 0 && edge < of_edge(step) && namespace < free.saturating_mul(of_namespace(step))
    }
}

/// What is taken of one family's table.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    edges: HashMap<u64, usize, Hasher>,
    namespaces: Namespaces,
}

impl Shares {
    pub(crate) fn of<'a>(edges: impl Iterator<Item = &'a Edge>) -> Shares {
        let mut shares = Shares::default();
        edges.for_each(|edge| shares.add(edge));
        shares
    }

    pub(crate) fn add(&mut self, edge: &Edge) {
        if edge.overflow {
            return;
        }
        *self.edges.entry(edge.id).or_default() += 1;
        self.namespaces.add(payer(&edge.client, &edge.server, edge.reporter));
    }

    pub(crate) fn room(&self, edge: &Edge, free: usize) -> Room {
        let edges = self.edges.get(&edge.id).copied().unwrap_or(0);
        let namespace = self.namespaces.taken(payer(&edge.client, &edge.server, edge.reporter));
        Room { edge: edges, namespace, free }
    }
}
