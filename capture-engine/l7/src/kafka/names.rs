//! Names of topics and groups that a connection has said: shared, so that a usual exchange allocates
//! nothing for them.

use std::sync::Arc;

/// Names that are kept for the next one that is the same. A client of more allocates.
const SHARED: usize = 8;

/// Ids of topics whose names are known.
const LEARNED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Names {
    shared: Vec<Arc<str>>,
    learned: Vec<(u128, Arc<str>)>,
    /// Places that are given up next.
    next: [usize; 2],
}

impl Names {
    pub(super) fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.shared.iter().find(|shared| &***shared == name) {
            return Arc::clone(shared);
        }
        let name: Arc<str> = Arc::from(name);
        put(&mut self.shared, &mut self.next[0], SHARED, Arc::clone(&name));
        name
    }

    /// A server says what the topic with an id is called (KIP-516).
    pub(super) fn learn(&mut self, id: u128, name: &str) {
        match self.learned.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) if &**known == name => {}
            Some((_, known)) => *known = Arc::from(name),
            None => put(&mut self.learned, &mut self.next[1], LEARNED, (id, Arc::from(name))),
        }
    }

    /// Empty where nobody has said it on this connection.
    pub(super) fn topic(&self, id: u128) -> Arc<str> {
        self.learned.iter().find(|(known, _)| *known == id).map(|(_, name)| Arc::clone(name)).unwrap_or_default()
    }

    pub(super) fn held(&self) -> usize {
        let names = self.shared.iter().chain(self.learned.iter().map(|(_, name)| name));
        names.map(|name| name.len() + 32).sum()
    }
}

fn put<T>(list: &mut Vec<T>, next: &mut usize, most: usize, item: T) {
    if list.len() < most {
        list.push(item);
    } else if let Some(old) = list.get_mut(*next % most) {
        *old = item;
        *next += 1;
    }
}
