//! What readers hold: the list of series as last published, whose cells go on counting.

use crate::families::FamilyId;
use crate::labels::Reporter;
use crate::losses::Losses;
use crate::saved::Foreign;
use crate::series::{ExchangeSeries, TcpSeries, Totals, UdpSeries};
use agent_api::LossRow;
use arc_swap::ArcSwap;
use flow_model::{LossReason, Protocol};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub(crate) struct Published {
    /// In the order of `FamilyId::ALL`.
    pub(crate) exchanges: [Vec<Arc<ExchangeSeries>>; FamilyId::ALL.len()],
    pub(crate) tcp: Vec<Arc<TcpSeries>>,
    pub(crate) udp: Vec<Arc<UdpSeries>>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) published: ArcSwap<Published>,
    pub(crate) totals: Totals,
    pub(crate) edges: AtomicU64,
    /// What a predecessor of another version had counted and this one cannot show.
    pub(crate) foreign: ArcSwap<Foreign>,
}

/// The reading side; any number of threads. Never makes the pipeline wait.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    losses: Losses,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, losses: Losses) -> Reader {
        Reader { shared, losses }
    }

    /// The series as last published. Copies pointers, no values.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            published: self.shared.published.load_full(),
            shared: self.shared.clone(),
            losses: self.losses.clone(),
        }
    }
}

/// The series that existed at one time. Values are read when they are asked for; `Snapshot::view` freezes them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) published: Arc<Published>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) losses: Losses,
}

impl Snapshot {
    /// Exchanges counted since the start, over all edges, also those whose series are gone.
    #[must_use]
    pub fn exchanges(&self, reporter: Reporter, protocol: Protocol) -> u64 {
        self.shared.totals.exchanges[reporter.index()][protocol.index()].load(Relaxed)
    }

    /// Exchanges that took place and are in no series.
    #[must_use]
    pub fn exchanges_lost(&self, reporter: Reporter, reason: LossReason) -> u64 {
        self.shared.totals.lost[reporter.index()][reason.index()].load(Relaxed)
    }

    /// Places that can drop something, at zero too, sorted by stage and reason.
    #[must_use]
    pub fn lost(&self) -> Vec<LossRow> {
        self.losses.rows()
    }

    /// Series in all families.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series_by_family().map(|(_, n)| n).sum()
    }

    /// Families that are named even where there is nothing of them, and those that have series.
    pub(crate) fn families(&self) -> impl Iterator<Item = (FamilyId, &[Arc<ExchangeSeries>])> {
        let all = FamilyId::ALL.into_iter().zip(self.published.exchanges.iter().map(Vec::as_slice));
        all.filter(|(id, series)| id.family().always || !series.is_empty())
    }

    pub(crate) fn series_by_family(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let Published { exchanges: _, tcp, udp } = &*self.published;
        let exchanges = self.families().map(|(id, series)| (id.family().name, series.len()));
        exchanges.chain([("tcp", tcp.len()), ("udp", udp.len())])
    }

    pub(crate) fn edges_known(&self) -> u64 {
        self.shared.edges.load(Relaxed)
    }

    pub(crate) fn expired(&self) -> u64 {
        self.shared.totals.expired.load(Relaxed)
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.shared.totals
    }

    /// Bytes that the series' cells take.
    #[must_use]
    pub fn memory(&self) -> usize {
        let p = &self.published;
        let exchanges = p.exchanges.iter().flatten();
        let exchanges = exchanges.map(|s| size_of::<ExchangeSeries>() - size_of_val(&s.duration) + s.duration.memory());
        let tcp = p.tcp.iter().map(|s| size_of::<TcpSeries>() + s.handshake_rtt.get().map_or(0, |h| h.memory()));
        exchanges.chain(tcp).sum::<usize>() + p.udp.len() * size_of::<UdpSeries>()
    }
}
