//! A series as it is kept. A row that is not understood in full is handed on: all of it, or what is
//! left of it.

use super::raw::{Fields, Raw};
use crate::families::{Cell, FamilyId};
use crate::histogram::HistogramSnapshot;
use crate::labels::{End, OVERFLOW, Reporter, UNKNOWN};
use crate::series::{Edge, ExchangeSeries, TcpSeries, UdpSeries};
use flow_model::WorkloadKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    Exchanges(ExchangeRow),
    Tcp(TcpRow),
    Udp(UdpRow),
    /// Of another version.
    Foreign(Raw),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedEnd {
    workload: String,
    namespace: String,
    kind: String,
}

/// With a field more it is another edge than this version can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedEdge {
    client: SavedEnd,
    server: SavedEnd,
    /// Was not kept in the beginning.
    #[serde(default)]
    service: String,
    reporter: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct ExchangeRow {
    pub(super) edge: SavedEdge,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) duration: HistogramSnapshot,
    /// By name; those that are zero are left out.
    #[serde(flatten)]
    pub(super) cells: BTreeMap<&'static str, u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TcpRow {
    pub(super) edge: SavedEdge,
    pub(super) bytes: [u64; 2],
    pub(super) retransmits: [u64; 2],
    pub(super) zero_windows: [u64; 2],
    pub(super) opened: u64,
    pub(super) closed: [u64; 3],
    /// Was not kept in the beginning.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) lost: u64,
    pub(super) handshake_rtt: Option<HistogramSnapshot>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct UdpRow {
    pub(super) edge: SavedEdge,
    pub(super) bytes: [u64; 2],
    /// Was not kept in the beginning.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) lost: u64,
}

impl Row {
    /// What is understood of a row, and what is left to hand on.
    pub(super) fn read(family: &str, text: &str) -> (Option<Row>, Option<Raw>) {
        let Some((row, mut left, had)) = Row::understood(family, text) else { return (None, Raw::of(text)) };
        if left.is_empty() {
            return (Some(row), None);
        }
        // A row without a count of ours is nothing but what we hand on.
        if !had {
            return (None, Raw::of(text));
        }
        left.keep_from(text, &["edge", "labels"]);
        (Some(row), left.raw())
    }

    /// The row, the fields that are not of it, and whether it counts anything.
    fn understood(family: &str, text: &str) -> Option<(Row, Fields, bool)> {
        let mut fields = Fields::read(text)?;
        let edge: SavedEdge = fields.take("edge")??;
        edge.read()?;
        let names = fields.len();
        let row = match family {
            "tcp" => Row::Tcp(TcpRow {
                edge,
                bytes: fields.take("bytes")?.unwrap_or_default(),
                retransmits: fields.take("retransmits")?.unwrap_or_default(),
                zero_windows: fields.take("zero_windows")?.unwrap_or_default(),
                opened: fields.take("opened")?.unwrap_or_default(),
                closed: fields.take("closed")?.unwrap_or_default(),
                lost: fields.take("lost")?.unwrap_or_default(),
                handshake_rtt: fields.take::<Option<HistogramSnapshot>>("handshake_rtt")?.flatten(),
            }),
            "udp" => Row::Udp(UdpRow {
                edge,
                bytes: fields.take("bytes")?.unwrap_or_default(),
                lost: fields.take("lost")?.unwrap_or_default(),
            }),
            family => {
                let labels: BTreeMap<String, String> = fields.take("labels")?.unwrap_or_default();
                FamilyId::named(family)?.family().read(&labels)?;
                let names = fields.len();
                let duration = fields.take("duration")?.unwrap_or_default();
                let mut cells = BTreeMap::new();
                for cell in Cell::ALL {
                    if let Some(value) = fields.take(cell.as_str())? {
                        cells.insert(cell.as_str(), value);
                    }
                }
                let had = fields.len() < names;
                return Some((Row::Exchanges(ExchangeRow { edge, labels, duration, cells }), fields, had));
            }
        };
        let had = fields.len() < names;
        Some((row, fields, had))
    }

    /// As it is handed on where this version cannot show it after all.
    pub(super) fn raw(&self) -> Option<Raw> {
        match self {
            Row::Foreign(raw) => Some(raw.clone()),
            row => Raw::of(&serde_json::to_string(row).ok()?),
        }
    }
}

impl SavedEdge {
    fn of(edge: &Edge) -> SavedEdge {
        let end = |end: &End| SavedEnd {
            workload: end.workload.to_string(),
            namespace: end.namespace.to_string(),
            kind: end.kind.to_owned(),
        };
        SavedEdge {
            client: end(&edge.client),
            server: end(&edge.server),
            service: edge.service.to_string(),
            reporter: edge.reporter.as_str().to_owned(),
        }
    }

    /// `None` where a kind or the reporter is none of ours.
    pub(super) fn read(&self) -> Option<(End, End, Arc<str>, Reporter)> {
        let SavedEdge { client, server, service, reporter } = self;
        let reporter = Reporter::ALL.into_iter().find(|known| known.as_str() == reporter)?;
        Some((client.read()?, server.read()?, service.as_str().into(), reporter))
    }
}

impl SavedEnd {
    fn read(&self) -> Option<End> {
        let SavedEnd { workload, namespace, kind } = self;
        end(workload, namespace, kind)
    }
}

/// `None` where the kind is none of ours, or not of such a workload.
pub(crate) fn end(workload: &str, namespace: &str, kind: &str) -> Option<End> {
    let known = WorkloadKind::ALL.map(WorkloadKind::as_str).into_iter();
    let kind = known.chain(["NotFound", "Pending", "Ambiguous", ""]).find(|known| *known == kind)?;
    let named = kind.is_empty() == (workload == OVERFLOW) || workload == UNKNOWN;
    named.then(|| End { workload: workload.into(), namespace: namespace.into(), kind })
}

impl ExchangeRow {
    pub(super) fn of(series: &ExchangeSeries) -> ExchangeRow {
        let ExchangeSeries { edge, family: _, labels, duration, cells: _, life: _ } = series;
        let counted = Cell::ALL.into_iter().map(|cell| (cell.as_str(), series.value(cell)));
        ExchangeRow {
            edge: SavedEdge::of(edge),
            labels: labels.shown.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect(),
            duration: duration.snapshot(),
            cells: counted.filter(|(_, value)| *value > 0).collect(),
        }
    }
}

impl TcpRow {
    pub(super) fn of(series: &TcpSeries) -> TcpRow {
        let TcpSeries { edge, bytes, retransmits, zero_windows, opened, closed, lost, handshake_rtt, life: _ } = series;
        TcpRow {
            edge: SavedEdge::of(edge),
            bytes: values(bytes),
            retransmits: values(retransmits),
            zero_windows: values(zero_windows),
            opened: opened.load(Relaxed),
            closed: values(closed),
            lost: lost.load(Relaxed),
            handshake_rtt: handshake_rtt.get().map(|rtt| rtt.snapshot()),
        }
    }
}

impl UdpRow {
    pub(super) fn of(series: &UdpSeries) -> UdpRow {
        let UdpSeries { edge, bytes, lost, life: _ } = series;
        UdpRow { edge: SavedEdge::of(edge), bytes: values(bytes), lost: lost.load(Relaxed) }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn values<const N: usize>(cells: &[AtomicU64; N]) -> [u64; N] {
    cells.each_ref().map(|cell| cell.load(Relaxed))
}
