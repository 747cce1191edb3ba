//! The series of one family of exchanges: found by edge and labels, made while there is room.

use crate::families::{Described, ERROR, FamilyId, GivesUp, Step};
use crate::label_sets::{LabelSets, LabelsId};
use crate::losses::{Loss, Losses};
use crate::series::{Edge, ExchangeSeries};
use crate::shares::Shares;
use crate::table::{Edges, Table};
use crate::texts::Texts;
use flow_model::Ts;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Exchanges {
    family: FamilyId,
    labels: LabelSets,
    table: Table<(u64, LabelsId), ExchangeSeries>,
    shares: Shares,
    losses: Losses,
    /// Not shown before there was one.
    given_up: Option<GivenUp>,
}

/// Observations by what they are shown without; names are counted by `Texts`, workloads by `Golden`.
#[derive(Debug)]
struct GivenUp {
    status: Loss,
    method: Loss,
}

impl GivenUp {
    fn new(losses: &Losses) -> GivenUp {
        GivenUp {
            status: losses.place("metrics", "status_cap", "observations shown with the class of their status"),
            method: losses.place("metrics", "method_cap", "observations shown without their method"),
        }
    }
}

impl Exchanges {
    pub(crate) fn new(family: FamilyId, cap: usize, losses: &Losses) -> Exchanges {
        let (labels, table, shares) = (LabelSets::default(), Table::new(cap), Shares::default());
        Exchanges { family, labels, table, shares, losses: losses.clone(), given_up: None }
    }

    /// The series of these labels, or what stands in for it where its edge or its namespace has
    /// taken its share: without the route or operation, then with the class of the status, then
    /// without the method, and at last the overflow's, as where the table is full. Allocates where
    /// a series is made and nowhere else.
    pub(crate) fn get(
        &mut self,
        edges: &Edges,
        texts: &mut Texts,
        edge: &Arc<Edge>,
        described: &Described<'_>,
        now: Ts,
    ) -> Arc<ExchangeSeries> {
        if let Some(series) = self.find(edge, described) {
            return series.clone();
        }
        if edge.overflow {
            return self.overflow(edges, edge, described, now);
        }
        let family = self.family.family();
        let room = self.shares.room(edge, self.table.free());
        let mut named = *described;
        if described.has_free_text() {
            named = texts.bound(edge.id, family, described, room.is_there(Step::Whole));
            if let Some(series) = self.find(edge, &named) {
                return series.clone();
            }
        }
        let mut step = if named == *described { Step::Whole } else { Step::NewName };
        let mut shown = named;
        for next in [Step::Name, Step::Status, Step::Method] {
            let folded = family.fold(&named, next);
            // What has nothing to give up at a step has the room of that step.
            if folded != shown {
                if room.is_there(step) {
                    break;
                }
                shown = folded;
                if let Some(series) = self.find(edge, &shown) {
                    let series = series.clone();
                    self.count(texts, &named, &shown);
                    return series;
                }
            }
            step = next;
        }
        if !room.is_there(step) {
            return self.overflow(edges, edge, &named, now);
        }
        self.count(texts, &named, &shown);
        self.make(edge, &shown, now)
    }

    /// What `shown` has given up of `named`.
    fn count(&mut self, texts: &mut Texts, named: &Described<'_>, shown: &Described<'_>) {
        if named == shown {
            return;
        }
        let family = self.family.family();
        let is_less = |place: usize| named.codes()[place] != shown.codes()[place];
        let gave_up = |what| family.labels.iter().enumerate().any(|(at, label)| label.gives_up == what && is_less(at));
        if gave_up(GivesUp::Name) {
            texts.gave_up();
        }
        let (status, method) = (gave_up(GivesUp::Status) || is_less(ERROR), gave_up(GivesUp::Method));
        let given_up = self.given_up.get_or_insert_with(|| GivenUp::new(&self.losses));
        given_up.status.add(u64::from(status));
        given_up.method.add(u64::from(method));
    }

    fn overflow(&mut self, edges: &Edges, edge: &Arc<Edge>, described: &Described<'_>, now: Ts) -> Arc<ExchangeSeries> {
        let described = self.family.family().over_cap(described);
        self.make(edges.overflow(edge.reporter), &described, now)
    }

    /// The series of exactly these, made if there is none yet.
    fn make(&mut self, edge: &Arc<Edge>, described: &Described<'_>, now: Ts) -> Arc<ExchangeSeries> {
        let labels = self.labels.get(self.family.family(), described);
        let Exchanges { family, table, shares, .. } = self;
        table.insert((edge.id, labels.id), || {
            shares.add(edge);
            ExchangeSeries::new(edge.clone(), *family, labels, now)
        })
    }

    fn find(&self, edge: &Edge, described: &Described<'_>) -> Option<&Arc<ExchangeSeries>> {
        let labels = self.labels.find(described)?;
        self.table.find(&(edge.id, labels.id))
    }

    pub(crate) fn expire(&mut self, before: Ts) -> usize {
        let gone = self.table.expire(before);
        if gone > 0 {
            self.left();
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
            self.left();
        }
        taken
    }

    /// Series have left the table.
    fn left(&mut self) {
        self.labels.sweep();
        self.shares = Shares::of(self.table.iter().map(|series| &*series.edge));
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
