//! Totals that outlive the process: taken when everything is settled, given back to the process
//! that follows, so that a series goes on where it was. All is kept by name (family, label,
//! protocol, reason), so that what one version adds leaves the counters of the others as they are.
//!
//! The process that follows may be an older one. What it does not know (a field, a family, a label,
//! a protocol, a reason) it keeps word for word and hands on. In return, later versions may add
//! names, and never give one another meaning.
//!
//! Belongs to one end and one beginning: a state that is older than what was scraped last would
//! make counters fall.

mod json;
mod legacy;
mod raw;
mod row;
mod words;

pub(crate) use row::end;
pub(crate) use words::Foreign;
pub use words::Saved;

use crate::families::{Cell, Described, FamilyId, Value};
use crate::golden::Golden;
use crate::labels::Reporter;
use crate::losses::Losses;
use crate::series::{Edge, Totals};
use crate::snapshot::Snapshot;
use crate::waiting::Taken;
use flow_model::{LossReason, Names, Protocol, Ts};
use row::{ExchangeRow, Row, SavedEdge, TcpRow, UdpRow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use words::ByName;

/// Protocols and reasons of another version that are kept. What does not fit is counted.
const FOREIGN_NAMES: usize = 1_000;

impl Snapshot {
    /// What a successor needs. Exact once the writer has ended.
    #[must_use]
    pub fn save(&self) -> Saved {
        let mut series: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for (id, of_family) in FamilyId::ALL.iter().zip(&self.published.exchanges) {
            let rows = of_family.iter().map(|series| Row::Exchanges(ExchangeRow::of(series)));
            series.insert(id.family().name.to_owned(), rows.collect());
        }
        let tcp = self.published.tcp.iter().map(|series| Row::Tcp(TcpRow::of(series)));
        series.insert("tcp".to_owned(), tcp.collect());
        let udp = self.published.udp.iter().map(|series| Row::Udp(UdpRow::of(series)));
        series.insert("udp".to_owned(), udp.collect());

        let foreign = self.shared.foreign.load();
        for (family, rows) in &foreign.series {
            series.entry(family.clone()).or_default().extend(rows.iter().cloned().map(Row::Foreign));
        }
        series.retain(|_, rows| !rows.is_empty());
        let Totals { exchanges, lost, expired } = self.totals();
        let seen = self.lost().into_iter().map(|row| (row.stage.into_owned(), row.reason.into_owned(), row.total));
        Saved {
            series,
            exchanges: by_name(exchanges, &Protocol::ALL.map(Protocol::as_str), &foreign.exchanges),
            lost: by_name(lost, &LossReason::ALL.map(LossReason::as_str), &foreign.lost),
            expired: expired.load(Relaxed),
            losses: seen.chain(self.losses.unseen()).collect(),
            rest: foreign.rest.clone(),
            dropped: 0,
        }
    }
}

fn by_name<const N: usize>(cells: &[[AtomicU64; N]; 3], names: &[&str; N], foreign: &ByName) -> ByName {
    let mut all = foreign.clone();
    for (reporter, cells) in Reporter::ALL.iter().zip(cells) {
        let of_reporter = all.entry(reporter.as_str().to_owned()).or_default();
        for (name, cell) in names.iter().zip(cells) {
            of_reporter.insert((*name).to_owned(), cell.load(Relaxed));
        }
    }
    all
}

impl<N: Names> Golden<N> {
    /// Takes over what a predecessor counted, before anything is counted here. What does not fit
    /// under this one's caps loses its labels, not its counts.
    pub fn restore(&mut self, saved: &Saved, losses: &Losses, now: Ts) {
        self.begin_at(now);
        let Saved { series, exchanges, lost, expired, losses: places, rest, dropped } = saved;
        let mut foreign = Foreign { rest: rest.clone(), ..Foreign::default() };
        for (family, rows) in series {
            for row in rows {
                if self.restore_row(family, row).is_none()
                    && let Some(raw) = row.raw()
                {
                    foreign.series.entry(family.clone()).or_default().push(raw);
                }
            }
        }
        let totals = self.totals();
        let protocols = Protocol::ALL.map(Protocol::as_str);
        let reasons = LossReason::ALL.map(LossReason::as_str);
        let dropped = dropped
            + restore_names(&totals.exchanges, &protocols, exchanges, &mut foreign.exchanges)
            + restore_names(&totals.lost, &reasons, lost, &mut foreign.lost);
        totals.expired.fetch_add(*expired, Relaxed);
        losses.restore(places.iter().map(|(stage, reason, total)| (stage.as_str(), reason.as_str(), *total)));
        if dropped > 0 {
            losses
                .place("metrics", "foreign_full", "series and fields of another version that were not kept")
                .add(dropped);
        }
        self.shared.foreign.store(Arc::new(foreign));
        self.publish();
    }

    /// `None` where this version cannot show it.
    fn restore_row(&mut self, family: &str, row: &Row) -> Option<()> {
        match row {
            Row::Exchanges(row) => {
                let id = FamilyId::named(family)?;
                let described = id.family().read(&row.labels)?;
                let edge = self.edge_of(&row.edge)?;
                self.add_exchanges(id, &edge, &described, row);
            }
            Row::Tcp(row) => {
                let edge = self.edge_of(&row.edge)?;
                self.add_tcp(&edge, row);
            }
            Row::Udp(row) => {
                let edge = self.edge_of(&row.edge)?;
                self.add_udp(&edge, row);
            }
            Row::Foreign(_) => return None,
        }
        Some(())
    }

    fn add_exchanges(&mut self, id: FamilyId, edge: &Arc<Edge>, described: &Described<'_>, row: &ExchangeRow) {
        let series = self.exchange_series(id, edge, described);
        series.duration.restore(&row.duration);
        for cell in Cell::ALL {
            series.add(cell, row.cells.get(cell.as_str()).copied().unwrap_or(0));
        }
    }

    fn add_tcp(&mut self, edge: &Arc<Edge>, row: &TcpRow) {
        let TcpRow { edge: _, bytes, retransmits, zero_windows, opened, closed, lost, handshake_rtt } = row;
        let series = self.tcp_series(edge);
        add(&series.bytes, bytes);
        add(&series.retransmits, retransmits);
        add(&series.zero_windows, zero_windows);
        add(&series.closed, closed);
        series.opened.fetch_add(*opened, Relaxed);
        series.lost.fetch_add(*lost, Relaxed);
        if let Some(rtt) = handshake_rtt {
            series.handshake_rtt.get_or_init(Box::default).restore(rtt);
        }
    }

    fn add_udp(&mut self, edge: &Arc<Edge>, row: &UdpRow) {
        let UdpRow { edge: _, bytes, lost } = row;
        let series = self.udp_series(edge);
        add(&series.bytes, bytes);
        series.lost.fetch_add(*lost, Relaxed);
    }

    /// Adds what waited for a name to the series that it belongs to.
    pub(crate) fn add_taken(&mut self, taken: &Taken) {
        let Taken { exchanges, tcp, udp } = taken;
        for series in exchanges {
            let (id, row) = (series.family, ExchangeRow::of(series));
            let edge = series.edge.named();
            // What it shows is of its sets; if it ever is not, its counts stay.
            let stand_in = || id.family().over_cap(&Described::new([], Value::None));
            let described = id.family().read(&row.labels).unwrap_or_else(stand_in);
            self.add_exchanges(id, edge, &described, &row);
        }
        for series in tcp {
            self.add_tcp(series.edge.named(), &TcpRow::of(series));
        }
        for series in udp {
            self.add_udp(series.edge.named(), &UdpRow::of(series));
        }
    }

    fn edge_of(&mut self, saved: &SavedEdge) -> Option<Arc<Edge>> {
        let (client, server, service, reporter) = saved.read()?;
        Some(self.edge_between(client, server, service, reporter))
    }
}

/// Returns how many names of another version were not kept.
fn restore_names<const N: usize>(
    cells: &[[AtomicU64; N]; 3],
    names: &[&str; N],
    saved: &ByName,
    foreign: &mut ByName,
) -> u64 {
    let (mut left, mut dropped) = (FOREIGN_NAMES, 0);
    for (reporter, counts) in saved {
        let of_reporter = Reporter::ALL.iter().zip(cells).find(|(known, _)| known.as_str() == reporter);
        for (name, count) in counts {
            let cell = of_reporter.and_then(|(_, cells)| Some(&cells[names.iter().position(|known| known == name)?]));
            match cell {
                Some(cell) => {
                    cell.fetch_add(*count, Relaxed);
                }
                None if left > 0 => {
                    left -= 1;
                    foreign.entry(reporter.clone()).or_default().insert(name.clone(), *count);
                }
                None => dropped += 1,
            }
        }
    }
    dropped
}

fn add<const N: usize>(cells: &[AtomicU64; N], values: &[u64; N]) {
    cells.iter().zip(values).for_each(|(cell, value)| {
        cell.fetch_add(*value, Relaxed);
    });
}
