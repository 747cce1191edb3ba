//! What the companion watches of the API, once for all agents, as entries of the shelf that they copy.

use crate::placed::Placed;
use crate::ran::Ran;
use bytes::Bytes;
use flow_model::Ts;
use hashbrown::HashMap;
use join::names::Shelf;
use k8s_sync::cluster::object::{Change, Object, Resource, Uid};
use k8s_sync::cluster::{Moment, wire};
use k8s_sync::watch::Table;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// A table of watches that keeps objects as agents are told of them.
#[derive(Debug)]
pub struct Watched {
    shelf: Arc<Mutex<Shelf>>,
    /// Where pods run, too, for whoever scales by figures.
    placed: Option<Arc<Mutex<Placed>>>,
    /// And where they ran.
    ran: Option<Arc<Mutex<Ran>>>,
    resources: [Listed; Resource::ALL.len()],
}

/// The lists of one resource.
#[derive(Debug, Default)]
struct Listed {
    /// Each object with the number of the last list that had it.
    seen: HashMap<Uid, u32, foldhash::fast::RandomState>,
    list: u32,
    is_complete: bool,
}

fn key(resource: Resource, uid: Uid) -> Bytes {
    Bytes::copy_from_slice(&wire::key(resource, uid))
}

impl Watched {
    /// Empty. Agents are answered when each resource was listed.
    #[must_use]
    pub fn new(shelf: Arc<Mutex<Shelf>>) -> Watched {
        Watched { shelf, placed: None, ran: None, resources: Default::default() }
    }

    /// Tells `placed` where pods run, too.
    #[must_use]
    pub fn with_placed(self, placed: Option<Arc<Mutex<Placed>>>) -> Watched {
        Watched { placed, ..self }
    }

    /// Tells `ran` where pods run, too.
    #[must_use]
    pub fn with_ran(self, ran: Option<Arc<Mutex<Ran>>>) -> Watched {
        Watched { ran, ..self }
    }

    fn put(&mut self, object: &Object) {
        let (resource, uid) = (object.resource(), object.uid());
        if let Some(listed) = self.resources.get_mut(resource as usize) {
            listed.seen.insert(uid, listed.list);
        }
        if let Some(placed) = &self.placed {
            placed.lock().put(object);
        }
        if let Some(ran) = &self.ran {
            ran.lock().put(object);
        }
        self.shelf.lock().put(key(resource, uid), wire::value(object).into());
    }
}

impl Table for Watched {
    fn apply(&mut self, change: Change, _: Moment) {
        match change {
            Change::ListBegun(resource) => {
                if let Some(listed) = self.resources.get_mut(resource as usize) {
                    listed.list = listed.list.wrapping_add(1);
                }
            }
            Change::Listed(object) | Change::Applied(object) => self.put(&object),
            Change::Deleted(resource, uid) => {
                if let Some(listed) = self.resources.get_mut(resource as usize) {
                    listed.seen.remove(&uid);
                }
                if let Some(placed) = &self.placed {
                    placed.lock().remove(resource, uid);
                }
                if let Some(ran) = &self.ran {
                    ran.lock().remove(resource, uid);
                }
                self.shelf.lock().remove(key(resource, uid));
            }
            Change::ListEnded(resource) => {
                let mut placed = self.placed.as_ref().map(|placed| placed.lock());
                let mut ran = self.ran.as_ref().map(|ran| ran.lock());
                let mut shelf = self.shelf.lock();
                if let Some(Listed { seen, list, is_complete }) = self.resources.get_mut(resource as usize) {
                    *is_complete = true;
                    seen.retain(|uid, last| {
                        let stays = last == list;
                        if !stays {
                            shelf.remove(key(resource, *uid));
                            if let Some(placed) = &mut placed {
                                placed.remove(resource, *uid);
                            }
                            if let Some(ran) = &mut ran {
                                ran.remove(resource, *uid);
                            }
                        }
                        stays
                    });
                }
                if !self.resources.iter().all(|listed| listed.is_complete) {
                    return;
                }
                if let Some(placed) = &mut placed {
                    placed.set_complete();
                }
                if let Some(ran) = &mut ran {
                    ran.set_complete();
                }
                if !shelf.is_complete() {
                    shelf.commit();
                    shelf.set_complete();
                }
            }
        }
    }

    fn objects(&self, resource: Resource) -> Option<usize> {
        Some(self.resources.get(resource as usize)?.seen.len())
    }

    fn forget(&mut self, _: Ts) {}

    /// Nothing is kept between runs: agents keep their names.
    fn save(&self, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_sync::cluster::object::Node;
    use std::time::SystemTime;

    fn node(name: &str) -> Object {
        let uid = Uid::parse(&format!("{:032x}", u128::from(name.as_bytes()[0]))).expect("a uid");
        Object::Node(Node { uid, name: name.to_owned(), addresses: Vec::new() })
    }

    #[test]
    fn agents_are_answered_once_all_is_listed_and_a_list_ends_what_it_does_not_have() {
        let shelf = Arc::new(Mutex::new(Shelf::new(100)));
        let mut watched = Watched::new(shelf.clone());
        let mut apply = |change| watched.apply(change, Moment { mono: Ts(0), wall: SystemTime::UNIX_EPOCH });
        for resource in Resource::ALL {
            assert!(!shelf.lock().is_complete());
            apply(Change::ListBegun(resource));
            if resource == Resource::Nodes {
                apply(Change::Listed(node("a")));
                apply(Change::Listed(node("b")));
            }
            apply(Change::ListEnded(resource));
        }
        assert!(shelf.lock().is_complete());
        assert_eq!(shelf.lock().len(), 2);
        apply(Change::ListBegun(Resource::Nodes));
        apply(Change::Listed(node("b")));
        apply(Change::ListEnded(Resource::Nodes));
        apply(Change::Applied(node("c")));
        assert!(shelf.lock().commit());
        assert_eq!(shelf.lock().len(), 2);
        apply(Change::Deleted(Resource::Nodes, node("b").uid()));
        shelf.lock().commit();
        assert_eq!(shelf.lock().len(), 1);
    }
}
