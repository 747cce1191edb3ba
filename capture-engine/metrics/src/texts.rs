//! Label values that come from traffic (services, tables, topics, server names): how many there may
//! be, and `_OTHER` for the rest.
//!
//! Known are those of the series there are. So a name that is gone makes room for another one, when
//! idle series leave.

use crate::families::{Described, Family, Value};
use crate::losses::{Loss, Losses};
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// Of one label on one edge. A client that makes up names spoils its own labels, nobody else's.
pub(crate) const PER_EDGE: usize = 100;
/// Of one label on all edges: of a node's 10,000 series of a family, a fifth.
pub(crate) const PER_NODE: usize = 2_000;

type Hasher = foldhash::fast::RandomState;
type Names = HashSet<Arc<str>, Hasher>;

#[derive(Debug)]
pub(crate) struct Texts {
    /// By edge and label.
    edges: HashMap<(u64, &'static str), Names, Hasher>,
    node: HashMap<&'static str, Names, Hasher>,
    losses: Losses,
    /// Not shown where no family has such a label.
    over_cap: Option<Loss>,
}

impl Texts {
    pub(crate) fn new(losses: &Losses) -> Texts {
        Texts { edges: HashMap::default(), node: HashMap::default(), losses: losses.clone(), over_cap: None }
    }

    /// The labels with `_OTHER` for what is one name too many.
    pub(crate) fn bound<'a>(&mut self, edge: u64, family: &'static Family, described: &Described<'a>) -> Described<'a> {
        let mut bounded = *described;
        for (place, name, _) in family.places() {
            if let Value::Free(text) = described.value(place)
                && !self.admit(edge, name, text)
            {
                bounded.set(place, Value::Other);
            }
        }
        bounded
    }

    fn admit(&mut self, edge: u64, label: &'static str, text: &str) -> bool {
        let Texts { edges, node, losses, over_cap } = self;
        let over_cap = over_cap.get_or_insert_with(|| {
            losses.place("metrics", "names_cap", "names of observations that are shown as _OTHER")
        });
        let of_edge = edges.entry((edge, label)).or_default();
        if of_edge.contains(text) {
            return true;
        }
        let of_node = node.entry(label).or_default();
        let known = of_node.get(text).cloned();
        if of_edge.len() >= PER_EDGE || (known.is_none() && of_node.len() >= PER_NODE) {
            over_cap.add(1);
            return false;
        }
        let text = known.unwrap_or_else(|| text.into());
        of_edge.insert(text.clone());
        of_node.insert(text);
        true
    }

    /// Keeps the names of the series there are: (edge, label, name).
    pub(crate) fn keep<'a>(&mut self, used: impl Iterator<Item = (u64, &'static str, &'a str)>) {
        if self.over_cap.is_none() {
            return;
        }
        self.edges.clear();
        self.node.clear();
        for (edge, label, text) in used {
            self.admit(edge, label, text);
        }
    }
}
