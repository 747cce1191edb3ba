//! The kernel's count of the packets that it drops, as findings want it.

use agent_api::Namespace;
use capture_engine::kernel;
use doctor::Subject;
use doctor::drops::{CountsDrops, Dropped, Drops, names as reasons};
use doctor::node::DropsReading;
use flow_model::in_full;
use golden_metrics::{Loss, Losses};
use netns::Netns;
use std::collections::BTreeMap;
use std::fmt;

struct Counter(kernel::Drops);

/// Counts from now on, until what it returns is dropped.
///
/// # Errors
/// For a person: why the kernel does not.
pub fn begin(reasons: &[&'static str]) -> Result<Box<dyn CountsDrops>, String> {
    match kernel::Drops::load(reasons, kernel::DropsRoom::default()) {
        Ok(drops) => Ok(Box::new(Counter(drops))),
        Err(error) => {
            let all = in_full(&error);
            // What the verifier had to say to each instruction is for developers.
            Err(all.split(" Verifier output").next().unwrap_or_default().to_owned())
        }
    }
}

impl CountsDrops for Counter {
    fn counts(&mut self) -> Result<Drops, String> {
        let unread = |error| format!("read what the kernel dropped: {error}");
        let (counts, missed) = (self.0.counts().map_err(unread)?, self.0.missed().map_err(unread)?);
        let told = |kernel::Dropped { netns, reason, count }: kernel::Dropped| Dropped {
            netns: netns.map(u64::from),
            reason,
            count,
        };
        Ok(Drops { dropped: counts.into_iter().map(told).collect(), missed })
    }
}

/// Counts all the time, and is asked once a window.
pub struct WatchedDrops {
    /// None before the first time, and where it could not begin.
    counts: Option<Box<dyn CountsDrops>>,
    has_failed: bool,
    full: Loss,
    missed: u64,
    /// Inode of the node's own network namespace.
    node: Option<u64>,
}

impl fmt::Debug for WatchedDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedDrops").field("has_failed", &self.has_failed).finish_non_exhaustive()
    }
}

impl WatchedDrops {
    pub fn new(losses: &Losses) -> WatchedDrops {
        let full = losses.place("doctor", "drops_full", "dropped packets that `drops` did not count for want of room");
        let node = Netns::open_pid(1).or_else(|_| Netns::current()).ok().map(|node| node.id().ino);
        WatchedDrops { counts: None, has_failed: false, full, missed: 0, node }
    }

    /// What was counted so far. Blocks for some 50 ms where it begins.
    pub fn read(&mut self, namespaces: &[Namespace]) -> DropsReading {
        if self.counts.is_none() && !self.has_failed {
            match begin(&reasons()) {
                Ok(counts) => self.counts = Some(counts),
                Err(error) => {
                    self.has_failed = true;
                    tracing::warn!(error, "the kernel does not count the packets that it drops");
                }
            }
        }
        let drops = self.counts.as_mut().and_then(|counts| counts.counts().ok());
        if let Some(Drops { missed, .. }) = drops.as_ref().filter(|drops| drops.missed > 0) {
            self.missed += missed;
            self.full.set_total(self.missed);
            // Namespaces that ended still have their room: it begins anew at the next window.
            self.counts = None;
        }
        DropsReading { drops, node: self.node, names: names(namespaces) }
    }
}

/// What the workloads are called that live in these network namespaces, by inode.
pub fn names(namespaces: &[Namespace]) -> BTreeMap<u64, Subject> {
    let named = |row: &Namespace| {
        let (_, inode) = row.netns.split_once(':')?;
        let name =
            Subject { namespace: row.namespace.clone(), kind: "Workload".to_owned(), name: row.workload.clone() };
        Some((inode.parse().ok()?, name))
    };
    namespaces.iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_by_its_inode_and_a_row_without_one_is_passed_over() {
        let row = |netns: &str| Namespace { netns: netns.into(), workload: "api".into(), ..Namespace::default() };
        let known: Vec<u64> = names(&[row("4:4026531999"), row(""), row("4:x")]).into_keys().collect();
        assert_eq!(known, [4_026_531_999]);
    }
}
