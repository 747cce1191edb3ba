//! The series of one family of exchanges: found by edge and labels, made while there is room.

use crate::families::{Described, FamilyId};
use crate::label_sets::{LabelSet, LabelSets, LabelsId};
use crate::series::{Edge, ExchangeSeries};
use crate::table::{Edges, Table};
use crate::texts::Texts;
use flow_model::Ts;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Exchanges {
    family: FamilyId,
    labels: LabelSets,
    table: Table<(u64, LabelsId), ExchangeSeries>,
}

impl Exchanges {
    pub(crate) fn new(family: FamilyId, cap: usize) -> Exchanges {
        Exchanges { family, labels: LabelSets::default(), table: Table::new(cap) }
    }

    /// The series of these labels, or what stands in for it: fewer names where there were too many,
    /// the overflow's where the table is full. Allocates where a series is made and nowhere else.
    pub(crate) fn get(
        &mut self,
        edges: &Edges,
        texts: &mut Texts,
        edge: &Arc<Edge>,
        described: &Described<'_>,
        now: Ts,
    ) -> Arc<ExchangeSeries> {
        let family = self.family.family();
        if let Some(series) = self.find(edge, described) {
            return series.clone();
        }
        let mut described = *described;
        if described.has_free_text() {
            described = match edge.overflow {
                true => family.over_cap(&described),
                false => texts.bound(edge.id, family, &described),
            };
            if let Some(series) = self.find(edge, &described) {
                return series.clone();
            }
        }
        let (edge, described) = match self.table.has_room() {
            true => (edge, described),
            false => (edges.overflow(edge.reporter), family.over_cap(&described)),
        };
        let labels = self.labels.get(family, &described);
        let make = |labels: Arc<LabelSet>| ExchangeSeries::new(edge.clone(), self.family, labels, now);
        self.table.insert((edge.id, labels.id), || make(labels))
    }

    fn find(&self, edge: &Edge, described: &Described<'_>) -> Option<&Arc<ExchangeSeries>> {
        let labels = self.labels.find(described)?;
        self.table.find(&(edge.id, labels.id))
    }

    pub(crate) fn expire(&mut self, before: Ts) -> usize {
        let gone = self.table.expire(before);
        if gone > 0 {
            self.labels.sweep();
        }
        gone
    }

    pub(crate) fn has_room(&self) -> bool {
        self.table.has_room()
    }

    /// As `Table::take`.
    pub(crate) fn take(&mut self, is_of: impl Fn(&Edge) -> bool) -> Vec<Arc<ExchangeSeries>> {
        let taken = self.table.take(is_of);
        if !taken.is_empty() {
            self.labels.sweep();
        }
        taken
    }

    pub(crate) fn take_dirty(&mut self) -> bool {
        self.table.take_dirty()
    }

    pub(crate) fn list(&self) -> Vec<Arc<ExchangeSeries>> {
        self.table.list()
    }

    /// Names from traffic that its series have: (edge, label, name).
    pub(crate) fn free_text(&self) -> impl Iterator<Item = (u64, &'static str, &str)> {
        let family = self.family.family();
        self.table
            .iter()
            .flat_map(move |series| series.labels.free_text(family).map(|(label, text)| (series.edge.id, label, text)))
    }
}
