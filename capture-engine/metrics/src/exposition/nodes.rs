//! The series of many agents as a scraper reads them: as they came, each with a label `node`. Nothing
//! is added up: a sum over nodes falls when a node goes, and scrapers take a fall for a reset.

use super::walk::{LabelSet, Walk};
use crate::families::Cell;
use crate::histogram::HistogramSnapshot;
use crate::labels::Reporter;
use crate::rows::{EdgeName, Numbers, Of, RowKey, RowValue};
use agent_api::LossRow;
use std::collections::BTreeMap;

struct Row<'a> {
    node: &'a str,
    key: &'a RowKey,
    value: &'a [u8],
}

/// Rows of agents, to be shown together. Borrows them.
pub struct NodePage<'a> {
    /// In the order of `Of::index`.
    rows: [Vec<Row<'a>>; Of::ALL],
}

impl std::fmt::Debug for NodePage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodePage").field("rows", &self.rows.iter().map(Vec::len).sum::<usize>()).finish()
    }
}

impl Default for NodePage<'_> {
    fn default() -> Self {
        NodePage { rows: [const { Vec::new() }; Of::ALL] }
    }
}

impl<'a> NodePage<'a> {
    /// A series of the agent of `node`. A node names each key once.
    pub fn add(&mut self, node: &'a str, key: &'a RowKey, value: &'a [u8]) {
        self.rows[key.of.index()].push(Row { node, key, value });
    }

    fn of(&self, of: Of) -> &[Row<'a>] {
        &self.rows[of.index()]
    }

    /// Places that lose something, with their units.
    pub(super) fn losses(&self) -> Vec<LossRow> {
        let mut units = BTreeMap::new();
        for row in self.of(Of::Lost) {
            let label = |name| row.key.label(name).unwrap_or_default();
            units.entry((label("stage"), label("reason"))).or_insert(&*row.key.unit);
        }
        let row = |((stage, reason), unit): ((&str, &str), &str)| LossRow {
            stage: stage.to_owned().into(),
            reason: reason.to_owned().into(),
            unit: unit.to_owned().into(),
            total: 0,
        };
        units.into_iter().map(row).collect()
    }
}

impl<'a> Row<'a> {
    fn labels(&self) -> LabelSet<'a> {
        let mut set = match &self.key.edge {
            Some(EdgeName { client, server, service, reporter }) => LabelSet::of(client, server, service, *reporter),
            None => LabelSet::new(),
        };
        self.key.labels().for_each(|(name, value)| set.add(name, value));
        set.with("node", self.node)
    }

    fn seen(&self, by: &dyn Fn(Reporter) -> bool) -> bool {
        self.key.edge.as_ref().is_some_and(|edge| by(edge.reporter))
    }
}

impl Walk for NodePage<'_> {
    fn has(&self, of: Of) -> bool {
        !self.of(of).is_empty()
    }

    fn histograms(
        &self,
        of: Of,
        seen: &dyn Fn(Reporter) -> bool,
        each: &mut dyn FnMut(LabelSet<'_>, &HistogramSnapshot),
    ) {
        for row in self.of(of).iter().filter(|row| row.seen(seen)) {
            let Some(histogram) = RowValue::read_histogram(row.value) else { continue };
            // What asks for no answer has no duration, and not each connection a handshake.
            let is_there = || {
                let numbers = Numbers::read(row.value).unwrap_or_default();
                of != Of::Tcp && numbers.value(Cell::OneWay) == 0
            };
            if histogram.count > 0 || is_there() {
                each(row.labels(), &histogram);
            }
        }
    }

    fn numbers(&self, of: Of, each: &mut dyn FnMut(LabelSet<'_>, &Numbers)) {
        for row in self.of(of) {
            if let Some(numbers) = Numbers::read(row.value) {
                each(row.labels(), &numbers);
            }
        }
    }
}
