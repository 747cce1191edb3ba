//! `dns-search`: a name is looked up with every suffix of the search list before it is looked up
//! as it is.

use crate::history::Lookups;
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names that were asked for with a suffix and not yet without one, of one client.
const NAMES: usize = 256;

/// Follows the lookups of one client through a window.
#[derive(Debug, Default)]
pub struct Searches {
    /// By the name without suffix: lookups with one that found nothing.
    open: BTreeMap<String, u64>,
    all: u64,
    searched: u64,
    refused: u64,
}

impl Searches {
    /// An answered lookup. `suffixes` are the search list of the client, without leading dots; the
    /// longest that fits is the one that was added.
    pub fn lookup(&mut self, name: &str, does_not_exist: bool, suffixes: &[&str]) {
        self.all += 1;
        let name = name.trim_end_matches('.');
        let bare = |suffix: &&str| name.strip_suffix(*suffix)?.strip_suffix('.').filter(|bare| !bare.is_empty());
        let bare = suffixes.iter().filter_map(bare).min_by_key(|bare| bare.len());
        match bare {
            Some(bare) if does_not_exist => {
                if let Some(count) = self.open.get_mut(bare) {
                    *count += 1;
                } else if self.open.len() < NAMES {
                    self.open.insert(bare.to_owned(), 1);
                } else {
                    self.refused += 1;
                }
            }
            // A name of the cluster: the suffix was right.
            Some(_) => {}
            None => self.searched += self.open.remove(name).unwrap_or(0),
        }
    }

    /// What the window held; the next one begins.
    pub fn window(&mut self, window: Duration) -> Lookups {
        let Searches { all, searched, .. } = std::mem::take(self);
        Lookups { all, searched, window }
    }

    /// Names that there was no room to follow, in this window.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Of a client.
#[must_use]
pub fn dns_search(of: &Subject, lookups: Lookups, thresholds: &Thresholds) -> Option<Finding> {
    let Lookups { all, searched, window } = lookups;
    if all == 0 || window.is_zero() {
        return None;
    }
    let (share, rate) = (searched as f64 / all as f64, searched as f64 / window.as_secs_f64());
    if share < thresholds.search_share || rate < thresholds.searches_per_second {
        return None;
    }
    let summary = format!(
        "{searched} of {all} lookups in {} are of names with a suffix that does not exist ({:.0} %, {rate:.0} a second)",
        seconds(window),
        share * 100.0
    );
    let finding = Finding::new(CheckId::DnsSearch, Severity::Warning, of, window, summary)
        .with("lookups", all)
        .with("searched", searched)
        .with("share", share)
        .with("rate", rate);
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUFFIXES: [&str; 3] = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];

    /// As a resolver with `ndots:5` does it, for an outside name.
    fn outside(searches: &mut Searches, name: &str) {
        for suffix in SUFFIXES {
            searches.lookup(&format!("{name}.{suffix}."), true, &SUFFIXES);
        }
        searches.lookup(&format!("{name}."), false, &SUFFIXES);
    }

    fn find(all: u64, searched: u64) -> bool {
        let lookups = Lookups { all, searched, window: Duration::from_secs(10) };
        dns_search(&Subject::default(), lookups, &Thresholds::default()).is_some()
    }

    #[test]
    fn three_fifths_and_five_a_second() {
        assert!(find(80, 50) && find(83, 50));
        assert!(!find(84, 50), "less than 60 %");
        assert!(!find(50, 49), "less than five a second");
        assert!(!find(0, 0));
    }

    #[test]
    fn an_outside_name_costs_its_suffixes_and_a_name_of_the_cluster_none() {
        let mut searches = Searches::default();
        outside(&mut searches, "api.example.com");
        searches.lookup("db.shop.svc.cluster.local", false, &SUFFIXES);
        // Found by its second suffix: not an outside name.
        searches.lookup("kube-dns.kube-system.shop.svc.cluster.local", true, &SUFFIXES);
        searches.lookup("kube-dns.kube-system.svc.cluster.local", false, &SUFFIXES);
        let window = Duration::from_secs(1);
        assert_eq!(searches.window(window), Lookups { all: 7, searched: 3, window });
        assert_eq!(searches.window(window), Lookups { all: 0, searched: 0, window }, "a new window");
    }

    #[test]
    fn a_name_that_nobody_asks_for_without_suffix_is_no_search() {
        let mut searches = Searches::default();
        searches.lookup("typo.shop.svc.cluster.local", true, &SUFFIXES);
        searches.lookup("example.com", false, &SUFFIXES);
        searches.lookup(".cluster.local", true, &SUFFIXES);
        searches.lookup("cluster.local", true, &SUFFIXES);
        assert_eq!(searches.window(Duration::from_secs(1)).searched, 0);
    }

    #[test]
    fn names_beyond_the_room_are_counted_and_not_kept() {
        let mut searches = Searches::default();
        for n in 0..NAMES + 7 {
            searches.lookup(&format!("n{n}.cluster.local"), true, &SUFFIXES);
        }
        assert_eq!((searches.refused(), searches.open.len()), (7, NAMES));
    }
}
