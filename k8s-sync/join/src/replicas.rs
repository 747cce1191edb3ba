//! Which replicas of the companion an agent dials besides the one that the Service's address leads to.
//!
//! A replica is told by its instance, not by its address: an address that leads to a replica which
//! has a stream already is not dialled, else two streams of one node would end each other for ever.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// See the module.
#[derive(Debug, Default)]
pub struct Replicas {
    /// Addresses that were told, each with the instance that answered there last.
    told: BTreeMap<SocketAddr, Option<u64>>,
}

impl Replicas {
    /// The others that are ready, as the first replica tells it.
    pub fn tell(&mut self, addresses: &[SocketAddr]) {
        self.told.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.told.entry(*address).or_default();
        }
    }

    /// Who answers there.
    pub fn answered(&mut self, address: SocketAddr, instance: u64) {
        if let Some(known) = self.told.get_mut(&address) {
            *known = Some(instance);
        }
    }

    /// What to dial while the Service's address leads to the instance `first`.
    #[must_use]
    pub fn wanted(&self, first: Option<u64>) -> Vec<SocketAddr> {
        let mut taken: Vec<u64> = first.into_iter().collect();
        let mut wanted = Vec::new();
        for (address, instance) in &self.told {
            match instance {
                Some(instance) if taken.contains(instance) => {}
                Some(instance) => {
                    taken.push(*instance);
                    wanted.push(*address);
                }
                None => wanted.push(*address),
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 10_251).into()
    }

    #[test]
    fn every_other_replica_is_dialled_and_none_twice() {
        let mut replicas = Replicas::default();
        assert!(replicas.wanted(Some(1)).is_empty());
        replicas.tell(&[at(2), at(3)]);
        assert_eq!(replicas.wanted(Some(1)), [at(2), at(3)]);
        replicas.answered(at(2), 2);
        replicas.answered(at(3), 2);
        assert_eq!(replicas.wanted(Some(1)), [at(2)], "two addresses of one replica");
        replicas.tell(&[at(3)]);
        assert_eq!(replicas.wanted(Some(1)), [at(3)]);
    }

    #[test]
    fn the_service_may_lead_to_another_replica_at_any_time() {
        let mut replicas = Replicas::default();
        replicas.tell(&[at(2)]);
        replicas.answered(at(2), 2);
        // The Service leads there by now: the stream that it had is the one that ends.
        assert!(replicas.wanted(Some(2)).is_empty());
        replicas.tell(&[at(1), at(2)]);
        assert_eq!(replicas.wanted(Some(2)), [at(1)]);
        // Another process at the same address is another replica.
        replicas.answered(at(2), 7);
        assert_eq!(replicas.wanted(Some(2)), [at(1), at(2)]);
    }

    #[test]
    fn a_replica_that_calls_itself_another_is_dialled_once() {
        let mut replicas = Replicas::default();
        replicas.tell(&[at(1)]);
        assert_eq!(replicas.wanted(Some(1)), [at(1)]);
        replicas.answered(at(1), 1);
        for _ in 0..3 {
            replicas.tell(&[at(1)]);
            assert!(replicas.wanted(Some(1)).is_empty());
        }
    }
}
