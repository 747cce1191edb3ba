//! Connections of which this node sees both ends, one of them at the node's own sockets. Their
//! address is one for all, so the other end is known by the connection itself: each end is told of
//! when the second of the two becomes known.

use crate::event::FlowKey;
use flow_model::{FiveTuple, Slot};
use hashbrown::HashMap;
use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;

/// Addresses of pods that are remembered; a node has some hundred. A container that makes more of
/// them up costs others a name at most.
const HOMES: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

#[derive(Debug)]
pub(super) struct Peers {
    /// Flows of the node's own sockets that are in the table.
    of_node: HashMap<FiveTuple, Slot, foldhash::fast::RandomState>,
    /// Where connections of an address were seen last.
    homes: LruCache<IpAddr, Slot>,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers { of_node: HashMap::default(), homes: LruCache::sparse(HOMES) }
    }
}

impl Peers {
    /// A flow has come into the table. Gives the key that its other end has if that is there, too;
    /// no guess: where it is not in the table, it is not.
    pub fn added(&mut self, key: &FlowKey) -> Option<FlowKey> {
        let FlowKey { slot, tuple } = *key;
        let mirrored = FiveTuple { local: tuple.remote, remote: tuple.local, ..tuple };
        let other = self.of_node.get(&mirrored).copied();
        let other = if slot.is_of_node() {
            self.of_node.insert(tuple, slot);
            other.or_else(|| self.homes.peek(&tuple.remote.ip).copied())
        } else {
            if self.homes.get(&tuple.local.ip) != Some(&slot) {
                self.homes.put(tuple.local.ip, slot);
            }
            other
        };
        other.map(|slot| FlowKey { slot, tuple: mirrored })
    }

    pub fn removed(&mut self, key: &FlowKey) {
        if key.slot.is_of_node() && self.of_node.get(&key.tuple) == Some(&key.slot) {
            self.of_node.remove(&key.tuple);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, Transport};

    const NODE: Slot = Slot::FIRST_OF_NODE;

    fn ends(port: u16) -> (FiveTuple, FiveTuple) {
        let end = |last: u8, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let (node, pod) = (end(1, port), end(2, 80));
        let tuple = |local, remote| FiveTuple { transport: Transport::Tcp, local, remote };
        (tuple(node, pod), tuple(pod, node))
    }

    #[test]
    fn both_ends_are_told_of_each_other_whichever_comes_first() {
        let (of_node, of_pod) = ends(40_000);
        let (node, pod) = (FlowKey { slot: NODE, tuple: of_node }, FlowKey { slot: Slot(7), tuple: of_pod });
        let mut peers = Peers::default();
        assert_eq!((peers.added(&node), peers.added(&pod)), (None, Some(node)));
        let mut peers = Peers::default();
        assert_eq!((peers.added(&pod), peers.added(&node)), (None, Some(pod)));
        peers.removed(&node);
        assert_eq!(peers.added(&pod), None, "the connection of the node has ended");
    }

    #[test]
    fn two_of_the_nodes_own_sockets_find_each_other() {
        let (one, other) = ends(40_000);
        let (one, other) = (FlowKey { slot: NODE, tuple: one }, FlowKey { slot: Slot(NODE.0 + 1), tuple: other });
        let mut peers = Peers::default();
        assert_eq!((peers.added(&one), peers.added(&other)), (None, Some(one)));
    }
}
