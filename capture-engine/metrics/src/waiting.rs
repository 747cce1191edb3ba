//! Edges whose names are on the way. What is seen of them is counted into series of their own,
//! which nobody is shown yet: what was shown never moves. When the name is there, or after
//! `PATIENCE`, they are added to the series that are shown.
//!
//! Only for an end of which the Kubernetes API or containerd may tell within moments
//! (`Names::awaits`). An edge that was waited for in vain is not waited for again so soon: traffic to
//! the outside waits once.

use crate::exchanges::Exchanges;
use crate::families::FamilyId;
use crate::losses::{Loss, Losses};
use crate::series::{Edge, ExchangeSeries, TcpSeries, UdpSeries};
use crate::table::{EdgeKey, Edges, Table};
use flow_model::{FlowInfo, Ts};
use hashbrown::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long it takes at most until what was seen is shown. The API tells of a pod a second late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Edges that wait at a time: a start among some hundred pods. More are counted as they are called.
const MOST_EDGES: usize = 512;
/// Series of one family that wait: less than a MiB.
const MOST_SERIES: usize = 1_024;
/// How long an edge is not waited for after it was in vain.
const IN_VAIN: Duration = Duration::from_secs(60);
/// Edges that are remembered for that.
const MOST_IN_VAIN: usize = 4_096;

/// An edge as it is called now, at one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) edge: EdgeKey,
    pub(crate) remote: IpAddr,
    /// The server's, where that is the remote end.
    pub(crate) port: Option<u16>,
}

/// An edge that waits, and flows that its name can be asked for.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) edge: Arc<Edge>,
    /// The earliest and the latest question, each about a flow and a time: an address may pass on
    /// between them.
    pub(crate) first: (FlowInfo, Ts),
    pub(crate) last: (FlowInfo, Ts),
    until: Ts,
}

#[derive(Debug)]
pub(crate) struct Waiting {
    entries: HashMap<Key, Entry>,
    in_vain: HashMap<Key, Ts>,
    pub(crate) exchanges: [Exchanges; FamilyId::ALL.len()],
    pub(crate) tcp: Table<u64, TcpSeries>,
    pub(crate) udp: Table<u64, UdpSeries>,
    losses: Losses,
    /// A place of loss once something waits.
    full: Option<Loss>,
    /// Of the names when they were asked last.
    version: u64,
}

/// Series that nobody counts into any more.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) exchanges: Vec<Arc<ExchangeSeries>>,
    pub(crate) tcp: Vec<Arc<TcpSeries>>,
    pub(crate) udp: Vec<Arc<UdpSeries>>,
}

impl Waiting {
    pub(crate) fn new(losses: &Losses) -> Waiting {
        Waiting {
            entries: HashMap::new(),
            in_vain: HashMap::new(),
            exchanges: FamilyId::ALL.map(|family| Exchanges::new(family, MOST_SERIES, losses)),
            tcp: Table::new(MOST_SERIES),
            udp: Table::new(MOST_SERIES),
            losses: losses.clone(),
            full: None,
            version: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where `flow` counts until `until`; None: under what is known now.
    pub(crate) fn place(
        &mut self,
        edges: &mut Edges,
        key: Key,
        flow: &FlowInfo,
        at: Ts,
        now: Ts,
        until: Ts,
    ) -> Option<(Arc<Edge>, Ts)> {
        if let Some(entry) = self.entries.get_mut(&key) {
            let when = |(flow, at): &(FlowInfo, Ts)| (flow.opened, *at);
            if (flow.opened, at) < when(&entry.first) {
                entry.first = (flow.clone(), at);
            }
            if (flow.opened, at) > when(&entry.last) {
                entry.last = (flow.clone(), at);
            }
            return Some((entry.edge.clone(), entry.until.min(until)));
        }
        if self.in_vain.get(&key).is_some_and(|since| now.since(*since) < IN_VAIN) {
            return None;
        }
        let place = || self.losses.place("names", "wait_full", "edges that did not wait for a name, at each question");
        let full = self.full.get_or_insert_with(place).clone();
        if self.entries.len() >= MOST_EDGES || !self.has_room() {
            full.add(1);
            return None;
        }
        let edge = edges.aside(key.edge.clone());
        let asked = (flow.clone(), at);
        let entry = Entry { edge: edge.clone(), first: asked.clone(), last: asked, until };
        self.entries.insert(key, entry);
        Some((edge, until))
    }

    fn has_room(&self) -> bool {
        self.tcp.has_room() && self.udp.has_room() && self.exchanges.iter().all(Exchanges::has_room)
    }

    /// Those whose wait is over: by their time, or because `is_known`, which is asked where the
    /// names have moved to `version`. `in_vain` tells of the former that nothing is known yet.
    pub(crate) fn over(&mut self, now: Ts, version: u64, is_known: impl Fn(&Key, &Entry) -> bool) -> Vec<(Key, Entry)> {
        let has_moved = std::mem::replace(&mut self.version, version) != version;
        let is_over = |key: &Key, entry: &mut Entry| now >= entry.until || (has_moved && is_known(key, entry));
        let over: Vec<(Key, Entry)> = self.entries.extract_if(|key, entry| is_over(key, entry)).collect();
        for (key, _) in over.iter().filter(|(_, entry)| now >= entry.until) {
            if self.in_vain.len() >= MOST_IN_VAIN {
                self.in_vain.retain(|_, since| now.since(*since) < IN_VAIN);
            }
            if self.in_vain.len() < MOST_IN_VAIN {
                self.in_vain.insert(key.clone(), now);
            }
        }
        over
    }

    /// Every one.
    pub(crate) fn all(&mut self) -> Vec<(Key, Entry)> {
        self.entries.drain().collect()
    }

    /// The series of these edges, and those that stand in where too many waited.
    pub(crate) fn take(&mut self, is_of: impl Fn(&Edge) -> bool) -> Taken {
        let is_it = |edge: &Edge| edge.overflow || is_of(edge);
        Taken {
            exchanges: self.exchanges.iter_mut().flat_map(|family| family.take(is_it)).collect(),
            tcp: self.tcp.take(is_it),
            udp: self.udp.take(is_it),
        }
    }
}
