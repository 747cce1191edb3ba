//! What a series is called: family = 1, client = 2, server = 3, service = 4, reporter = 5, labels = 6
//! (name = 1, value = 2), unit = 7. An end: workload = 1, namespace = 2, kind = 3.

use crate::families::FamilyId;
use crate::labels::{End, Reporter};
use crate::proto::{Field, Fields, bytes};
use crate::saved::end;
use crate::series::Edge;
use flow_model::{LossReason, Protocol};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Families that are no exchanges.
pub(super) const TCP: &str = "tcp";
pub(super) const UDP: &str = "udp";
/// Exchanges that are in a series, and those that are in none.
pub(super) const COUNTED: &str = "exchanges";
pub(super) const MISSED: &str = "exchanges_lost";
/// `pilotfish_lost_total`.
pub(super) const LOST: &str = "lost";

pub(super) fn write<'a>(
    out: &mut Vec<u8>,
    family: &str,
    edge: Option<&Edge>,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    unit: &str,
) {
    let text = |out: &mut Vec<u8>, field, text: &str| {
        if !text.is_empty() {
            bytes(out, field, text.as_bytes());
        }
    };
    text(out, 1, family);
    let mut message = Vec::new();
    if let Some(Edge { client, server, service, reporter, .. }) = edge {
        for (field, end) in [(2, client), (3, server)] {
            message.clear();
            text(&mut message, 1, &end.workload);
            text(&mut message, 2, &end.namespace);
            text(&mut message, 3, end.kind);
            bytes(out, field, &message);
        }
        text(out, 4, service);
        text(out, 5, reporter.as_str());
    }
    for (name, value) in labels {
        message.clear();
        text(&mut message, 1, name);
        text(&mut message, 2, value);
        bytes(out, 6, &message);
    }
    text(out, 7, unit);
}

/// What a row is a row of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Exchanges(FamilyId),
    Tcp,
    Udp,
    /// By reporter and protocol.
    Counted,
    /// By reporter and reason.
    Missed,
    /// By stage and reason, with their unit.
    Lost,
}

impl Of {
    pub(crate) const ALL: usize = FamilyId::ALL.len() + 5;

    /// From 0 on, in the order in which they are shown.
    pub(crate) fn index(self) -> usize {
        let exchanges = FamilyId::ALL.len();
        match self {
            Of::Exchanges(id) => id.index(),
            Of::Tcp => exchanges,
            Of::Udp => exchanges + 1,
            Of::Counted => exchanges + 2,
            Of::Missed => exchanges + 3,
            Of::Lost => exchanges + 4,
        }
    }
}

/// The ends of an edge, its Service, and who saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EdgeName {
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) service: Arc<str>,
    pub(crate) reporter: Reporter,
}

/// The name of a series of some agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    pub(crate) of: Of,
    /// Of series; totals have none.
    pub(crate) edge: Option<EdgeName>,
    /// In the order in which they are shown.
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    pub(crate) unit: Box<str>,
}

impl RowKey {
    /// `None` for what this version does not know, and for what nobody wrote.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<RowKey> {
        let (mut family, mut service, mut reporter, mut unit) = ("", "", "", "");
        let (mut client, mut server) = (None, None);
        let mut labels = Vec::new();
        for field in Fields(message) {
            let (number, Field::Bytes(bytes)) = field? else { return None };
            match number {
                1 => family = text(bytes)?,
                2 => client = Some(read_end(bytes)?),
                3 => server = Some(read_end(bytes)?),
                4 => service = text(bytes)?,
                5 => reporter = text(bytes)?,
                6 => labels.push(read_label(bytes)?),
                7 => unit = text(bytes)?,
                _ => return None,
            }
        }
        let edge = match (client, server) {
            (Some(client), Some(server)) => {
                Some(EdgeName { client, server, service: service.into(), reporter: known(reporter)? })
            }
            (None, None) if service.is_empty() && reporter.is_empty() => None,
            _ => return None,
        };
        let of = of(family, edge.is_some(), &labels)?;
        if of != Of::Lost && !unit.is_empty() {
            return None;
        }
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let key = RowKey { of, edge, labels, unit: unit.into() };
        // Fields twice or out of order: what looks like another series to whoever compares bytes.
        key.is(message).then_some(key)
    }

    /// Whether these bytes are how it is written.
    fn is(&self, message: &[u8]) -> bool {
        let family = match self.of {
            Of::Exchanges(id) => id.family().name,
            Of::Tcp => TCP,
            Of::Udp => UDP,
            Of::Counted => COUNTED,
            Of::Missed => MISSED,
            Of::Lost => LOST,
        };
        let edge = self.edge.as_ref().map(|name| {
            let EdgeName { client, server, service, reporter } = name.clone();
            Edge::apart(client, server, service, reporter)
        });
        let mut written = Vec::with_capacity(message.len());
        write(&mut written, family, edge.as_ref(), self.labels(), &self.unit);
        written == message
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether one of its ends is in this namespace; totals have no ends.
    #[must_use]
    pub fn is_of_namespace(&self, namespace: &str) -> bool {
        self.edge
            .as_ref()
            .is_some_and(|edge| [&edge.client, &edge.server].iter().any(|end| &*end.namespace == namespace))
    }

    /// The ends at which it was seen: of a replayed capture both, of live traffic one; totals have none.
    pub fn seen_at(&self) -> impl Iterator<Item = &End> {
        let ends = self.edge.as_ref().map(|EdgeName { client, server, reporter, .. }| match reporter {
            Reporter::Client => [Some(client), None],
            Reporter::Server => [Some(server), None],
            Reporter::Capture => [Some(client), Some(server)],
        });
        ends.into_iter().flatten().flatten()
    }

    /// Bytes that it takes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        let labels: usize = self.labels().map(|(name, value)| name.len() + value.len() + 32).sum();
        // An end's texts with their counts.
        let edge = self.edge.as_ref().map_or(0, |edge| {
            [&edge.client, &edge.server].iter().map(|end| end.workload.len() + end.namespace.len() + 32).sum()
        });
        size_of::<RowKey>() + labels + edge + self.unit.len()
    }
}

/// The row's family, where its labels are of that.
fn of(family: &str, has_edge: bool, labels: &[(&str, &str)]) -> Option<Of> {
    let only = |names: [&str; 2]| labels.iter().map(|(name, _)| *name).eq(names);
    let value = |at: usize| labels.get(at).map_or("", |(_, value)| *value);
    match (family, has_edge) {
        (TCP, true) => labels.is_empty().then_some(Of::Tcp),
        (UDP, true) => labels.is_empty().then_some(Of::Udp),
        (_, true) => {
            let id = FamilyId::named(family)?;
            let shown: BTreeMap<String, String> =
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            // Each label once, in the order in which we show them: so one series has one key.
            let places = id.family().places().map(|(_, name, _)| name).filter(|name| shown.contains_key(*name));
            let in_order = places.eq(labels.iter().map(|(name, _)| *name)) && shown.values().all(|v| !v.is_empty());
            (in_order && id.family().read(&shown).is_some()).then_some(Of::Exchanges(id))
        }
        (COUNTED, false) => {
            known(value(0))?;
            let is_known = Protocol::ALL.iter().any(|protocol| protocol.as_str() == value(1));
            (only(["reporter", "protocol"]) && is_known).then_some(Of::Counted)
        }
        (MISSED, false) => {
            known(value(0))?;
            let is_known = LossReason::ALL.iter().any(|reason| reason.as_str() == value(1));
            (only(["reporter", "reason"]) && is_known).then_some(Of::Missed)
        }
        (LOST, false) => only(["stage", "reason"]).then_some(Of::Lost),
        _ => None,
    }
}

fn known(reporter: &str) -> Option<Reporter> {
    Reporter::ALL.into_iter().find(|known| known.as_str() == reporter)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

fn read_end(message: &[u8]) -> Option<End> {
    let (mut workload, mut namespace, mut kind) = ("", "", "");
    for field in Fields(message) {
        let (number, Field::Bytes(bytes)) = field? else { return None };
        match number {
            1 => workload = text(bytes)?,
            2 => namespace = text(bytes)?,
            3 => kind = text(bytes)?,
            _ => return None,
        }
    }
    end(workload, namespace, kind)
}

fn read_label(message: &[u8]) -> Option<(&str, &str)> {
    let (mut name, mut value) = ("", "");
    for field in Fields(message) {
        let (number, Field::Bytes(bytes)) = field? else { return None };
        match number {
            1 => name = text(bytes)?,
            2 => value = text(bytes)?,
            _ => return None,
        }
    }
    Some((name, value))
}
