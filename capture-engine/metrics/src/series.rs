//! The cells that one thread writes and any number of threads read: atomics without ordering, since
//! every value stands for itself.

use crate::families::{Cell, FamilyId};
use crate::histogram::Histogram;
use crate::label_sets::LabelSet;
use crate::labels::{End, Reporter};
use flow_model::{LossReason, Protocol, Ts};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Who talks to whom, and who says so. Shared by the series of the edge; unique per set of labels.
#[derive(Debug)]
pub struct Edge {
    /// Never reused: part of the keys of its series.
    pub(crate) id: u64,
    /// Who asks.
    pub client: End,
    /// Who is asked.
    pub server: End,
    /// Kubernetes' Service by which clients reach the server; empty where none is known.
    pub service: Arc<str>,
    /// Which of the two saw it.
    pub reporter: Reporter,
    /// Takes what did not fit under a family's cap.
    pub(crate) overflow: bool,
    /// A name of an end is on the way: nobody is shown its series.
    pub(crate) waits: bool,
    /// The one that its series were added to when the wait was over.
    pub(crate) became: OnceLock<Arc<Edge>>,
    /// TCP connections open now, whether or not their opening was seen.
    pub(crate) open: AtomicI64,
}

impl Edge {
    /// Its number, never given to another one.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// One of no table, for its name.
    pub(crate) fn apart(client: End, server: End, service: Arc<str>, reporter: Reporter) -> Edge {
        let (became, open) = Default::default();
        Edge { id: 0, client, server, service, reporter, overflow: false, waits: false, became, open }
    }

    /// What it is called by now.
    pub(crate) fn named(self: &Arc<Edge>) -> &Arc<Edge> {
        self.became.get().unwrap_or(self)
    }

    /// TCP connections open now, those included that were there before the agent.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        u64::try_from(self.open.load(Relaxed)).unwrap_or(0)
    }
}

/// What decides how long a series stays in its family.
#[derive(Debug)]
pub(crate) struct Life {
    last: AtomicU64,
    /// Out of the family: whoever still holds the series looks it up anew, so that nothing is
    /// counted where nobody reads.
    retired: AtomicBool,
}

impl Life {
    fn begin(now: Ts) -> Life {
        Life { last: AtomicU64::new(now.0), retired: AtomicBool::new(false) }
    }

    pub(crate) fn touch(&self, now: Ts) {
        self.last.store(now.0, Relaxed);
    }

    pub(crate) fn last(&self) -> Ts {
        Ts(self.last.load(Relaxed))
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }
}

/// What the tables need to know of their series.
pub(crate) trait Series {
    fn edge(&self) -> &Arc<Edge>;
    fn life(&self) -> &Life;
}

macro_rules! series {
    ($($name:ident),+) => {$(
        impl Series for $name {
            fn edge(&self) -> &Arc<Edge> {
                &self.edge
            }
            fn life(&self) -> &Life {
                &self.life
            }
        }
    )+};
}
series!(ExchangeSeries, TcpSeries, UdpSeries);

/// Exchanges of one family on one edge that have the same labels.
#[derive(Debug)]
pub struct ExchangeSeries {
    pub edge: Arc<Edge>,
    pub(crate) family: FamilyId,
    pub(crate) labels: Arc<LabelSet>,
    pub duration: Histogram,
    /// In the order of `Cell::ALL`.
    pub(crate) cells: [AtomicU64; Cell::ALL.len()],
    pub(crate) life: Life,
}

impl ExchangeSeries {
    pub(crate) fn new(edge: Arc<Edge>, family: FamilyId, labels: Arc<LabelSet>, now: Ts) -> ExchangeSeries {
        let cells = Default::default();
        ExchangeSeries { edge, family, labels, duration: Histogram::default(), cells, life: Life::begin(now) }
    }

    pub(crate) fn add(&self, cell: Cell, n: u64) {
        self.cells[cell.index()].fetch_add(n, Relaxed);
    }

    pub(crate) fn value(&self, cell: Cell) -> u64 {
        self.cells[cell.index()].load(Relaxed)
    }
}

/// TCP health of an edge. Two-element arrays are (sent, received) by the reporter.
#[derive(Debug)]
pub struct TcpSeries {
    pub edge: Arc<Edge>,
    pub(crate) bytes: [AtomicU64; 2],
    pub(crate) retransmits: [AtomicU64; 2],
    pub(crate) zero_windows: [AtomicU64; 2],
    pub(crate) opened: AtomicU64,
    /// By reason: fin, reset, gone.
    pub(crate) closed: [AtomicU64; 3],
    /// Exchanges that are in no series.
    pub(crate) lost: AtomicU64,
    /// Many edges never see a handshake: allocated with the first.
    pub(crate) handshake_rtt: OnceLock<Box<Histogram>>,
    pub(crate) life: Life,
}

impl TcpSeries {
    pub(crate) fn new(edge: Arc<Edge>, now: Ts) -> TcpSeries {
        let (bytes, retransmits, zero_windows, opened, closed, lost, handshake_rtt) = Default::default();
        let life = Life::begin(now);
        TcpSeries { edge, bytes, retransmits, zero_windows, opened, closed, lost, handshake_rtt, life }
    }
}

/// UDP flows have bytes, and exchanges that are lost.
#[derive(Debug)]
pub struct UdpSeries {
    pub edge: Arc<Edge>,
    /// (sent, received) by the reporter.
    pub(crate) bytes: [AtomicU64; 2],
    /// Exchanges that are in no series.
    pub(crate) lost: AtomicU64,
    pub(crate) life: Life,
}

impl UdpSeries {
    pub(crate) fn new(edge: Arc<Edge>, now: Ts) -> UdpSeries {
        let (bytes, lost) = Default::default();
        UdpSeries { edge, bytes, lost, life: Life::begin(now) }
    }
}

/// Counts that belong to no edge and never expire: with `lost`, they close the equation `sent ==
/// counted + lost` of each reporter.
#[derive(Debug, Default)]
pub struct Totals {
    /// [reporter][protocol]
    pub(crate) exchanges: [[AtomicU64; Protocol::ALL.len()]; Reporter::ALL.len()],
    /// [reporter][reason]
    pub(crate) lost: [[AtomicU64; LossReason::ALL.len()]; Reporter::ALL.len()],
    pub(crate) expired: AtomicU64,
}
