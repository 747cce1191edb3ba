//! The cells that one thread writes and any number of threads read: atomics without ordering, since every value stands for itself.

use crate::histogram::Histogram;
use crate::labels::{DnsEnd, End, HttpEnd, Method, QuestionType, Reporter};
use flow_model::Ts;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Who talks to whom, and who says so. Shared by the series of the edge; unique per set of labels.
#[derive(Debug)]
pub struct Edge {
    /// Never reused: part of the keys of its series.
    pub(crate) id: u64,
    pub client: End,
    pub server: End,
    /// Kubernetes' Service by which clients reach the server; empty where none is known.
    pub service: Arc<str>,
    pub reporter: Reporter,
    /// Takes what did not fit under a family's cap.
    pub(crate) overflow: bool,
    /// TCP connections open now, whether or not their opening was seen.
    pub(crate) open: AtomicI64,
}

impl Edge {
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        u64::try_from(self.open.load(Relaxed)).unwrap_or(0)
    }
}

/// What decides how long a series stays in its family.
#[derive(Debug)]
pub(crate) struct Life {
    last: AtomicU64,
    /// Out of the family: whoever still holds the series looks it up anew, so that nothing is counted where nobody reads.
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

/// What the families need to know of their series.
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
series!(HttpSeries, DnsSeries, TcpSeries, UdpSeries);

#[derive(Debug)]
pub struct HttpSeries {
    pub edge: Arc<Edge>,
    pub method: Method,
    pub end: HttpEnd,
    pub duration: Histogram,
    pub(crate) request_bytes: AtomicU64,
    pub(crate) response_bytes: AtomicU64,
    pub(crate) life: Life,
}

impl HttpSeries {
    pub(crate) fn new(edge: Arc<Edge>, method: Method, end: HttpEnd, now: Ts) -> HttpSeries {
        let (request_bytes, response_bytes) = Default::default();
        HttpSeries {
            edge,
            method,
            end,
            duration: Histogram::default(),
            request_bytes,
            response_bytes,
            life: Life::begin(now),
        }
    }
}

#[derive(Debug)]
pub struct DnsSeries {
    pub edge: Arc<Edge>,
    pub question: QuestionType,
    pub end: DnsEnd,
    pub duration: Histogram,
    pub(crate) life: Life,
}

impl DnsSeries {
    pub(crate) fn new(edge: Arc<Edge>, question: QuestionType, end: DnsEnd, now: Ts) -> DnsSeries {
        DnsSeries { edge, question, end, duration: Histogram::default(), life: Life::begin(now) }
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
    /// Many edges never see a handshake: allocated with the first.
    pub(crate) handshake_rtt: OnceLock<Box<Histogram>>,
    pub(crate) life: Life,
}

impl TcpSeries {
    pub(crate) fn new(edge: Arc<Edge>, now: Ts) -> TcpSeries {
        let (bytes, retransmits, zero_windows, opened, closed, handshake_rtt) = Default::default();
        TcpSeries { edge, bytes, retransmits, zero_windows, opened, closed, handshake_rtt, life: Life::begin(now) }
    }
}

/// UDP flows have bytes and nothing else that is counted.
#[derive(Debug)]
pub struct UdpSeries {
    pub edge: Arc<Edge>,
    /// (sent, received) by the reporter.
    pub(crate) bytes: [AtomicU64; 2],
    pub(crate) life: Life,
}

impl UdpSeries {
    pub(crate) fn new(edge: Arc<Edge>, now: Ts) -> UdpSeries {
        UdpSeries { edge, bytes: Default::default(), life: Life::begin(now) }
    }
}

/// Counts that belong to no edge and never expire: with `lost`, they close the equation `sent == counted + lost` of each reporter.
#[derive(Debug, Default)]
pub struct Totals {
    /// [reporter][protocol]
    pub(crate) exchanges: [[AtomicU64; 2]; 3],
    /// [reporter][reason], in the order of `LossReason::ALL`
    pub(crate) lost: [[AtomicU64; 5]; 3],
    pub(crate) expired: AtomicU64,
}

#[cfg(test)]
mod tests {
    use flow_model::LossReason;

    #[test]
    fn reasons_are_counted_in_the_order_in_which_they_are_shown() {
        for (i, reason) in LossReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
        }
    }
}
