//! Words that many objects share, each kept once. The writer's; what nobody uses any more is dropped now and then.

use crate::cluster::object::Uid;
use crate::cluster::record::{Node, Owner, Service};
use flow_model::WorkloadKind;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Kubernetes' names have at most 253 bytes; a longer value is none and is cut.
const NAME_BYTES: usize = 253;

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(NAME_BYTES)).unwrap_or(text)
}

/// What is told of the Service with a name.
#[derive(Debug)]
pub(super) struct ServiceSlot {
    pub(super) service: Arc<Service>,
    pub(super) object: Option<Uid>,
    pub(super) slices: Vec<Uid>,
}

#[derive(Debug)]
pub(super) struct NodeSlot {
    pub(super) node: Arc<Node>,
    pub(super) object: Option<Uid>,
}

#[derive(Debug, Default)]
pub(super) struct Interns {
    namespaces: HashSet<Arc<str>, FixedState>,
    owners: HashTable<Arc<Owner>>,
    services: HashTable<ServiceSlot>,
    nodes: HashMap<Arc<str>, NodeSlot, FixedState>,
}

fn hash(words: (&str, &str)) -> u64 {
    FixedState::default().hash_one(words)
}

fn hash_of_owner(owner: &Arc<Owner>) -> u64 {
    hash((&owner.namespace, &owner.name))
}

fn hash_of_slot(slot: &ServiceSlot) -> u64 {
    hash((&slot.service.namespace, &slot.service.name))
}

impl Interns {
    fn namespace(&mut self, name: &str) -> Arc<str> {
        self.namespaces.get_or_insert_with(cut(name), |name| name.into()).clone()
    }

    pub(super) fn find_owner(&self, namespace: &str, name: &str, kind: WorkloadKind) -> Option<&Arc<Owner>> {
        let (namespace, name) = (cut(namespace), cut(name));
        let is_it = |owner: &Arc<Owner>| owner.kind == kind && *owner.namespace == *namespace && *owner.name == *name;
        self.owners.find(hash((namespace, name)), is_it)
    }

    pub(super) fn owner(&mut self, namespace: &str, name: &str, kind: WorkloadKind) -> Arc<Owner> {
        if let Some(known) = self.find_owner(namespace, name, kind) {
            return known.clone();
        }
        let namespace = self.namespace(namespace);
        let owner = Arc::new(Owner { namespace, name: cut(name).into(), kind, above: Default::default() });
        self.owners.insert_unique(hash_of_owner(&owner), owner.clone(), hash_of_owner);
        owner
    }

    pub(super) fn service(&mut self, namespace: &str, name: &str) -> &mut ServiceSlot {
        let (namespace, name) = (cut(namespace), cut(name));
        let hash = hash((namespace, name));
        let namespace_of_new = self.namespace(namespace);
        let is_it = |slot: &ServiceSlot| *slot.service.namespace == *namespace && *slot.service.name == *name;
        self.services
            .entry(hash, is_it, hash_of_slot)
            .or_insert_with(|| {
                let service = Service {
                    namespace: namespace_of_new,
                    name: name.into(),
                    exists: Default::default(),
                    has_address: Default::default(),
                    backing: Default::default(),
                };
                ServiceSlot { service: Arc::new(service), object: None, slices: Vec::new() }
            })
            .into_mut()
    }

    pub(super) fn service_slots(&self) -> impl Iterator<Item = &ServiceSlot> {
        self.services.iter()
    }

    pub(super) fn node(&mut self, name: &str) -> &mut NodeSlot {
        let new = |name: &str| NodeSlot { node: Arc::new(Node { name: name.into() }), object: None };
        self.nodes.entry_ref(cut(name)).or_insert_with(|| new(cut(name)))
    }

    pub(super) fn owners(&self) -> usize {
        self.owners.len()
    }

    /// Drops what nobody uses.
    pub(super) fn tidy(&mut self) {
        self.owners.retain(|owner| Arc::strong_count(owner) > 1);
        self.services
            .retain(|slot| slot.object.is_some() || !slot.slices.is_empty() || Arc::strong_count(&slot.service) > 1);
        self.nodes.retain(|_, slot| slot.object.is_some() || Arc::strong_count(&slot.node) > 1);
        self.namespaces.retain(|name| Arc::strong_count(name) > 1);
        let is_roomy = |len: usize, capacity: usize| capacity > 64 + 4 * len;
        if is_roomy(self.owners.len(), self.owners.capacity()) {
            self.owners.shrink_to_fit(hash_of_owner);
        }
        if is_roomy(self.services.len(), self.services.capacity()) {
            self.services.shrink_to_fit(hash_of_slot);
        }
        if is_roomy(self.nodes.len(), self.nodes.capacity()) {
            self.nodes.shrink_to_fit();
        }
    }
}
