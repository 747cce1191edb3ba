//! The ends of what is seen at its cgroup: containers on the node's network, and its services.

use super::Containers;
use super::node_cgroups::{Attached, Over, Rest, let_go};
use crate::clock;
use crate::run::orders::Order;
use flow_model::Slot;
use std::time::Instant;

impl Containers {
    /// False when the slot is no cgroup's.
    pub(super) fn node_gone(&mut self, slot: Slot, ended: bool) -> bool {
        match self.node.gone(slot, ended, Instant::now()) {
            None => return false,
            Some(Over::Waits) => {}
            Some(Over::Now(attached)) => self.node_over(slot, attached),
        }
        true
    }

    /// Nothing more is seen of it.
    fn node_over(&mut self, slot: Slot, attached: Option<Attached>) {
        let_go(attached);
        self.quiet(slot, false);
        let at = clock::now();
        self.identities.release_slot(slot, at);
        // As for namespaces.
        let _ = self.pipeline.send(Order::NamespaceGone { slot, at });
    }

    /// What is left of those that are over. What could not be told is asked again, as long as there is time.
    pub(super) fn node_looked(&mut self, rests: Result<Vec<(Slot, Rest)>, String>) {
        for (slot, attached) in self.node.looked(&rests.unwrap_or_default(), Instant::now()) {
            self.node_over(slot, Some(attached));
        }
    }

    /// This cgroup is attached to anew.
    pub(super) fn node_passed_on(&mut self, cgroup: u64) {
        for (slot, attached) in self.node.pass_on(cgroup) {
            self.node_over(slot, Some(attached));
        }
    }
}
