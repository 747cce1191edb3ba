//! Which series exist: found by key, bounded per family, taken out when idle. Owned by the one thread that writes.

use crate::families::Step;
use crate::labels::{End, Reporter};
use crate::series::{Edge, Series};
use crate::shares::{Namespaces, payer};
use flow_model::Ts;
use hashbrown::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

type Hasher = foldhash::fast::RandomState;

/// What an edge is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EdgeKey {
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) service: Arc<str>,
    pub(crate) reporter: Reporter,
}

impl EdgeKey {
    fn overflow(reporter: Reporter) -> EdgeKey {
        EdgeKey { client: End::overflow(), server: End::overflow(), service: "".into(), reporter }
    }
}

/// Every edge that some series or flow refers to.
#[derive(Debug)]
pub(crate) struct Edges {
    by_key: HashMap<EdgeKey, Arc<Edge>, Hasher>,
    overflow: [Arc<Edge>; 3],
    next_id: u64,
    cap: usize,
    namespaces: Namespaces,
    /// Times that room was made.
    freed: u64,
}

impl Edges {
    pub(crate) fn new(cap: usize) -> Edges {
        let overflow = |reporter: Reporter| edge(reporter.index() as u64, EdgeKey::overflow(reporter), true);
        Edges {
            by_key: HashMap::default(),
            overflow: Reporter::ALL.map(|r| Arc::new(overflow(r))),
            next_id: Reporter::ALL.len() as u64,
            cap,
            namespaces: Namespaces::default(),
            freed: 0,
        }
    }

    pub(crate) fn get(&mut self, client: End, server: End, service: Arc<str>, reporter: Reporter) -> Arc<Edge> {
        self.called(EdgeKey { client, server, service, reporter })
    }

    /// The one edge of this name.
    pub(crate) fn called(&mut self, key: EdgeKey) -> Arc<Edge> {
        if let Some(edge) = self.by_key.get(&key) {
            return edge.clone();
        }
        // The workloads are the last to be given up.
        let payer = payer(&key.client, &key.server, key.reporter);
        let free = self.cap.saturating_sub(self.by_key.len());
        if !self.namespaces.has_room(payer, free, Step::Method) {
            return self.overflow(key.reporter).clone();
        }
        self.namespaces.add(payer);
        let found = Arc::new(edge(self.next_id, key.clone(), false));
        self.next_id += 1;
        self.by_key.insert(key, found.clone());
        found
    }

    /// One that is not among those that are shown, whatever else is called so.
    pub(crate) fn aside(&mut self, key: EdgeKey) -> Arc<Edge> {
        self.next_id += 1;
        Arc::new(Edge { waits: true, ..edge(self.next_id - 1, key, false) })
    }

    pub(crate) fn overflow(&self, reporter: Reporter) -> &Arc<Edge> {
        &self.overflow[reporter.index()]
    }

    /// How often room was made: who did not find any asks again when this has moved.
    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    /// Forgets the edges that neither a series nor a flow refers to.
    pub(crate) fn sweep(&mut self) {
        let had = self.by_key.len();
        self.by_key.retain(|_, edge| Arc::strong_count(edge) > 1);
        if self.by_key.len() < had {
            self.freed += 1;
            self.namespaces.clear();
            for key in self.by_key.keys() {
                self.namespaces.add(payer(&key.client, &key.server, key.reporter));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

fn edge(id: u64, key: EdgeKey, overflow: bool) -> Edge {
    let EdgeKey { client, server, service, reporter } = key;
    Edge {
        id,
        client,
        server,
        service,
        reporter,
        overflow,
        waits: false,
        became: OnceLock::new(),
        open: AtomicI64::new(0),
    }
}

/// Series of one kind, which share their labels' names.
#[derive(Debug)]
pub(crate) struct Table<K, S> {
    by_key: HashMap<K, Arc<S>, Hasher>,
    /// In the order of their making, for the readers.
    list: Vec<Arc<S>>,
    cap: usize,
    dirty: bool,
}

impl<K: Eq + Hash + Copy, S: Series> Table<K, S> {
    pub(crate) fn new(cap: usize) -> Table<K, S> {
        Table { by_key: HashMap::default(), list: Vec::new(), cap, dirty: false }
    }

    pub(crate) fn find(&self, key: &K) -> Option<&Arc<S>> {
        self.by_key.get(key)
    }

    /// The series of `key`, made whether or not there is room. Beyond the cap only the series that
    /// take the overflow are asked for: the closed sets of their remaining labels bound their number.
    pub(crate) fn insert(&mut self, key: K, make: impl FnOnce() -> S) -> Arc<S> {
        let series = self.by_key.entry(key).or_insert_with(|| {
            let series = Arc::new(make());
            self.list.push(series.clone());
            self.dirty = true;
            series
        });
        series.clone()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.free() > 0
    }

    /// Series that it has room for.
    pub(crate) fn free(&self) -> usize {
        self.cap.saturating_sub(self.by_key.len())
    }

    /// Takes out what was last written before `before` and whose edge has no open connection. Returns how many.
    pub(crate) fn expire(&mut self, before: Ts) -> usize {
        let had = self.by_key.len();
        self.by_key.retain(|_, series| {
            let keep = series.life().last() >= before || series.edge().open.load(Relaxed) > 0;
            if !keep {
                series.life().retire();
            }
            keep
        });
        let gone = had - self.by_key.len();
        if gone > 0 {
            self.list.retain(|series| !series.life().is_retired());
            self.dirty = true;
        }
        gone
    }

    /// Takes out the series of these edges. Nothing is counted into them any more.
    pub(crate) fn take(&mut self, is_of: impl Fn(&Edge) -> bool) -> Vec<Arc<S>> {
        let is_it = |series: &Arc<S>| is_of(series.edge());
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.list).into_iter().partition(is_it);
        self.list = kept;
        if !taken.is_empty() {
            self.by_key.retain(|_, series| !is_it(series));
            taken.iter().for_each(|series| series.life().retire());
        }
        taken
    }

    /// Whether the list changed since the last call.
    pub(crate) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<S>> {
        self.list.iter()
    }

    pub(crate) fn list(&self) -> Vec<Arc<S>> {
        self.list.clone()
    }
}

impl<S: Series> Table<u64, S> {
    /// The series of an edge, or the overflow's where the table is full.
    pub(crate) fn of_edge(&mut self, edges: &Edges, edge: &Arc<Edge>, make: impl FnOnce(Arc<Edge>) -> S) -> Arc<S> {
        if let Some(series) = self.find(&edge.id) {
            return series.clone();
        }
        let edge = if self.has_room() { edge } else { edges.overflow(edge.reporter) };
        self.insert(edge.id, || make(edge.clone()))
    }
}
