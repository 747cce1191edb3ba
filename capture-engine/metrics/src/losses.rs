//! `pilotfish_lost_total{stage,reason}`: where something was dropped, in the unit of that place.

use agent_api::LossRow;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One place that can drop something. Cheap to clone and to count with: one atomic.
#[derive(Clone, Debug)]
pub struct Loss(Arc<AtomicU64>);

impl Loss {
    /// Counts `n` more, in the unit of the place.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// For what someone else counts (the kernel): its total since it began. Never goes down, so
    /// that a source that was restarted does not look like a reset of this process.
    pub fn set_total(&self, total: u64) {
        self.0.fetch_max(total, Relaxed);
    }

    /// What this process has counted; what a predecessor lost is in `Losses::rows` only.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Clone, Debug)]
struct Registered {
    unit: &'static str,
    loss: Loss,
}

type Inherited = BTreeMap<(String, String), u64>;
type Places = BTreeMap<(&'static str, &'static str), Registered>;

/// All places that can drop something. A handle: clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    places: Arc<ArcSwap<Places>>,
    registering: Arc<Mutex<()>>,
    /// What a predecessor had lost, by stage and reason. Apart from the counters, since those of the kernel begin anew.
    inherited: Arc<ArcSwap<Inherited>>,
}

impl Losses {
    /// The counter of a place, made on first use and shown from then on, at zero too. `unit` is
    /// what one count means, in the plural ("message heads"); the first one given for a place
    /// stays. Meant for start-up, not for the hot path.
    pub fn place(&self, stage: &'static str, reason: &'static str, unit: &'static str) -> Loss {
        let _one_at_a_time = self.registering.lock();
        let mut places = Places::clone(&self.places.load());
        let loss = places
            .entry((stage, reason))
            .or_insert_with(|| Registered { unit, loss: Loss(Arc::default()) })
            .loss
            .clone();
        self.places.store(Arc::new(places));
        loss
    }

    /// Goes on from what a predecessor had lost. Places that are not asked for stay unseen, and are kept for the
    /// next process.
    pub fn restore<'a>(&self, totals: impl Iterator<Item = (&'a str, &'a str, u64)>) {
        let inherited = totals.map(|(stage, reason, total)| ((stage.to_owned(), reason.to_owned()), total)).collect();
        self.inherited.store(Arc::new(inherited));
    }

    /// What a predecessor had lost at places that nobody has asked for yet, for the next process.
    pub(crate) fn unseen(&self) -> Vec<(String, String, u64)> {
        let places = self.places.load();
        let is_seen = |(stage, reason): &(String, String)| places.contains_key(&(stage.as_str(), reason.as_str()));
        let inherited = self.inherited.load();
        let unseen = inherited.iter().filter(|(place, _)| !is_seen(place));
        unseen.map(|((stage, reason), total)| (stage.clone(), reason.clone(), *total)).collect()
    }

    /// Sorted by stage and reason.
    #[must_use]
    pub fn rows(&self) -> Vec<LossRow> {
        let inherited = self.inherited.load();
        let row = |(&(stage, reason), Registered { unit, loss }): (&(&'static str, &'static str), &Registered)| {
            let before = match inherited.is_empty() {
                true => 0,
                false => inherited.get(&(stage.to_owned(), reason.to_owned())).copied().unwrap_or(0),
            };
            LossRow { stage: stage.into(), reason: reason.into(), unit: (*unit).into(), total: before + loss.get() }
        };
        self.places.load().iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_asked_for_twice_is_one_counter() {
        let losses = Losses::default();
        losses.place("kernel", "ring_full", "message heads").add(2);
        losses.clone().place("kernel", "ring_full", "message heads").add(3);
        let row =
            LossRow { stage: "kernel".into(), reason: "ring_full".into(), unit: "message heads".into(), total: 5 };
        assert_eq!(losses.rows(), [row]);
    }

    #[test]
    fn a_total_that_falls_is_kept_where_it_was() {
        let loss = Losses::default().place("kernel", "flow_table", "flows");
        loss.set_total(7);
        loss.set_total(3);
        assert_eq!(loss.get(), 7);
    }
}
