//! The queries of one flow that wait for an answer: in the order of their age, and found by what they
//! ask. Nothing here walks over all of them, however many a hostile flow leaves open.

use super::message::Message;
use super::question::Question;
use flow_model::{Direction, Notes, Ts};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// So many are looked through one by one: an ordinary flow has one or two, and needs no index.
const FEW: usize = 16;

/// No place.
const NONE: u32 = u32::MAX;

/// A lookup: a query and its repetitions, without an answer yet.
#[derive(Debug)]
pub(super) struct Open {
    pub question: Question,
    /// When it was asked first.
    pub at: Ts,
    /// When it was asked last.
    pub asked: Ts,
    /// Queries after the first.
    pub retries: u16,
    pub bytes: u64,
    pub notes: Notes,
    pub over_tcp: bool,
    /// Its number among the lookups of the flow.
    pub number: u64,
}

/// Where a lookup is kept. Good until that lookup is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// Open lookups, the one that was asked longest ago first.
#[derive(Debug)]
pub(super) struct Waiting {
    slots: Vec<Slot>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: u32,
    /// Only while there are more than a few.
    index: Option<Box<Index>>,
}

#[derive(Debug)]
struct Slot {
    open: Option<Open>,
    /// Neighbours by age. `newer` of a free slot is the next free one.
    older: u32,
    newer: u32,
    /// Neighbours among those of the same id, in a ring: the one before the first is the last.
    before: u32,
    after: u32,
}

/// Hashes of what lookups are found by, and where they are. What is found is compared, so that two
/// of one hash are at worst not found.
#[derive(Debug, Default)]
struct Index {
    seed: RandomState,
    places: HashMap<u64, u32>,
}

/// What a lookup is found by.
#[derive(Hash)]
enum Key {
    /// Its whole question.
    Question(Direction, u16, u8, u16, u16),
    /// Its question under whatever id: the lookup that asked it last.
    Alike(Direction, u8, u16, u16),
    /// Its id: the first of the ring of those that have it.
    Id(Direction, u16, u8),
}

impl Waiting {
    pub const fn new() -> Waiting {
        Waiting { slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE, len: 0, index: None }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn oldest(&self) -> Option<&Open> {
        self.open(self.oldest)
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut Open> {
        self.slots.get_mut(place.0 as usize)?.open.as_mut()
    }

    /// The lookup that this query repeats to the letter.
    pub fn asking(&self, question: &Question) -> Option<Place> {
        let same = |open: &Open| open.question.same(question);
        match &self.index {
            None => self.search(same),
            Some(index) => self.at(index.find(Key::question(question, question.id), &question.name), same),
        }
    }

    /// The lookup that asked the same last, under whatever id.
    pub fn alike(&self, question: &Question) -> Option<Place> {
        let alike = |open: &Open| open.question.alike(question);
        match &self.index {
            None => self.by_age().filter(|&at| self.open(at).is_some_and(alike)).last().map(Place),
            Some(index) => self.at(index.find(Key::alike(question), &question.name), alike),
        }
    }

    /// The lookup that this response, which went `dir`, answers.
    pub fn answered_by(&self, response: &Message, dir: Direction) -> Option<Place> {
        let fits = |open: &Open| open.question.answered_by(response, dir);
        let Some(index) = &self.index else { return self.search(fits) };
        let Message { id, opcode, qtype, qclass, ref name, questions, .. } = *response;
        let asked = dir.reverse();
        let found = match questions {
            0 => index.find(Key::Id(asked, id, opcode), ""),
            _ => index.find(Key::Question(asked, id, opcode, qtype, qclass), name),
        };
        self.at(found, fits)
    }

    pub fn push(&mut self, open: Open) {
        let slot = Slot { open: Some(open), older: NONE, newer: NONE, before: NONE, after: NONE };
        let at = self.free;
        let at = if let Some(place) = self.slots.get_mut(at as usize) {
            self.free = place.newer;
            *place = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        };
        self.len += 1;
        self.append(at);
        if self.index.is_some() {
            self.enter(at);
        } else if self.len() > FEW {
            self.index = Some(Box::default());
            let mut here = self.oldest;
            while here != NONE {
                self.enter(here);
                here = self.newer(here);
            }
        }
    }

    /// The lookup was asked again, as `id`: it is the newest from here on.
    pub fn renew(&mut self, place: Place, id: u16) {
        let Place(at) = place;
        self.leave(at);
        self.unlink(at);
        self.append(at);
        if let Some(open) = self.get_mut(place) {
            open.question.renew(id);
        }
        self.enter(at);
    }

    pub fn remove(&mut self, place: Place) -> Option<Open> {
        let Place(at) = place;
        self.open(at)?;
        self.leave(at);
        self.unlink(at);
        self.len -= 1;
        let slot = self.slots.get_mut(at as usize)?;
        slot.newer = self.free;
        self.free = at;
        let open = slot.open.take();
        if self.is_empty() {
            self.index = None;
            self.free = NONE;
            self.slots.clear();
            // An ordinary flow keeps its room: the next query allocates nothing.
            if self.slots.capacity() > FEW {
                self.slots = Vec::new();
            }
        }
        open
    }

    pub fn pop_oldest(&mut self) -> Option<Open> {
        self.remove(Place(self.oldest))
    }

    /// Bytes that it holds on to.
    pub fn held(&self) -> usize {
        let names: usize =
            self.slots.iter().flat_map(|slot| &slot.open).map(|open| open.question.name.capacity()).sum();
        // Three entries each, and the table is at least half full.
        let index = if self.index.is_some() { self.len() * 3 * 2 * size_of::<(u64, u32)>() } else { 0 };
        self.slots.capacity() * size_of::<Slot>() + names + index
    }

    fn open(&self, at: u32) -> Option<&Open> {
        self.slots.get(at as usize)?.open.as_ref()
    }

    fn newer(&self, at: u32) -> u32 {
        self.slots.get(at as usize).map_or(NONE, |slot| slot.newer)
    }

    fn by_age(&self) -> impl Iterator<Item = u32> {
        let next = |at: &u32| Some(self.newer(*at)).filter(|&at| at != NONE);
        std::iter::successors(Some(self.oldest).filter(|&at| at != NONE), next)
    }

    fn search(&self, fits: impl Fn(&Open) -> bool) -> Option<Place> {
        self.by_age().find(|&at| self.open(at).is_some_and(&fits)).map(Place)
    }

    fn at(&self, found: Option<u32>, fits: impl Fn(&Open) -> bool) -> Option<Place> {
        found.filter(|&at| self.open(at).is_some_and(fits)).map(Place)
    }

    fn append(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.newest, at);
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.older, slot.newer) = (last, NONE);
        }
        match self.slots.get_mut(last as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(&Slot { older, newer, .. }) = self.slots.get(at as usize) else { return };
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    /// Enters a lookup into the index, where there is one.
    fn enter(&mut self, at: u32) {
        let Waiting { slots, index: Some(index), .. } = self else { return };
        let Some(Open { question, .. }) = slots.get(at as usize).and_then(|slot| slot.open.as_ref()) else { return };
        for id in question.ids() {
            index.insert(Key::question(question, id), &question.name, at);
        }
        index.insert(Key::alike(question), &question.name, at);
        let key = index.hash(&Key::id(question), "");
        let first = *index.places.entry(key).or_insert(at);
        let last = slots.get(first as usize).map_or(at, |slot| if first == at { at } else { slot.before });
        for (place, before, after) in [(at, Some(last), Some(first)), (last, None, Some(at)), (first, Some(at), None)] {
            if let Some(slot) = slots.get_mut(place as usize) {
                slot.before = before.unwrap_or(slot.before);
                slot.after = after.unwrap_or(slot.after);
            }
        }
    }

    fn leave(&mut self, at: u32) {
        let Waiting { slots, index: Some(index), .. } = self else { return };
        let Some(Slot { open: Some(open), before, after, .. }) = slots.get(at as usize) else { return };
        let (question, before, after) = (&open.question, *before, *after);
        for id in question.ids() {
            index.remove(Key::question(question, id), &question.name, at);
        }
        index.remove(Key::alike(question), &question.name, at);
        let key = index.hash(&Key::id(question), "");
        if index.places.get(&key) == Some(&at) {
            if after == at {
                index.places.remove(&key);
            } else {
                index.places.insert(key, after);
            }
        }
        if let Some(slot) = slots.get_mut(before as usize) {
            slot.after = after;
        }
        if let Some(slot) = slots.get_mut(after as usize) {
            slot.before = before;
        }
    }
}

impl Index {
    /// Names are the same in either case (RFC 4343).
    fn hash(&self, key: &Key, name: &str) -> u64 {
        let mut hasher = self.seed.build_hasher();
        key.hash(&mut hasher);
        for part in name.as_bytes().chunks(64) {
            let mut lower = [0; 64];
            for (to, from) in lower.iter_mut().zip(part) {
                *to = from.to_ascii_lowercase();
            }
            hasher.write(lower.get(..part.len()).unwrap_or_default());
        }
        hasher.finish()
    }

    fn find(&self, key: Key, name: &str) -> Option<u32> {
        self.places.get(&self.hash(&key, name)).copied()
    }

    fn insert(&mut self, key: Key, name: &str, at: u32) {
        self.places.insert(self.hash(&key, name), at);
    }

    fn remove(&mut self, key: Key, name: &str, at: u32) {
        let hash = self.hash(&key, name);
        if self.places.get(&hash) == Some(&at) {
            self.places.remove(&hash);
        }
    }
}

impl Key {
    fn question(question: &Question, id: u16) -> Key {
        Key::Question(question.dir, id, question.opcode, question.qtype, question.qclass)
    }

    fn alike(question: &Question) -> Key {
        Key::Alike(question.dir, question.opcode, question.qtype, question.qclass)
    }

    fn id(question: &Question) -> Key {
        Key::Id(question.dir, question.id, question.opcode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(id: u16, name: u8) -> Question {
        let name =
            if name.is_multiple_of(2) { format!("N{}.example", name / 2) } else { format!("n{}.Example", name / 2) };
        Question { dir: Direction::Egress, id, former: None, opcode: 0, qtype: 1, qclass: 1, name }
    }

    fn response(id: u16, name: u8, questions: u16) -> Message {
        let name = if questions == 0 { String::new() } else { question(id, name).name };
        Message {
            id,
            response: true,
            opcode: 0,
            rcode: 0,
            questions,
            answers: 0,
            name,
            qtype: u16::from(questions > 0),
            qclass: u16::from(questions > 0),
            addresses: Vec::new(),
            ttl_s: 0,
            whole: true,
        }
    }

    /// The same by looking through all of them.
    #[derive(Default)]
    struct Plain(Vec<Open>);

    impl Plain {
        fn number(&self, fits: impl Fn(&Open) -> bool) -> Option<u64> {
            self.0.iter().find(|open| fits(open)).map(|open| open.number)
        }
    }

    proptest! {
        /// With few lookups or many, what is found is what a walk over all of them finds.
        #[test]
        fn the_index_finds_what_a_walk_finds(steps in prop::collection::vec((0u8..5, 0u16..12, 0u8..12), 1..300)) {
            let (mut waiting, mut plain) = (Waiting::new(), Plain::default());
            for (number, (step, id, name)) in steps.into_iter().enumerate() {
                let asked = question(id, name);
                let found = waiting.asking(&asked);
                let number_at = |waiting: &Waiting, place: Option<Place>| place.map(|Place(at)| waiting.open(at).unwrap().number);
                prop_assert_eq!(number_at(&waiting, found), plain.number(|open| open.question.same(&asked)));
                match step {
                    0..=2 if found.is_none() => {
                        let open = || Open {
                            question: question(id, name),
                            at: Ts(0),
                            asked: Ts(0),
                            retries: 0,
                            bytes: 0,
                            notes: Notes::default(),
                            over_tcp: false,
                            number: number as u64,
                        };
                        waiting.push(open());
                        plain.0.push(open());
                    }
                    0..=2 => {
                        waiting.renew(found.unwrap(), id);
                        let at = plain.0.iter().position(|open| open.question.same(&asked)).unwrap();
                        let mut open = plain.0.remove(at);
                        open.question.renew(id);
                        plain.0.push(open);
                    }
                    _ => {
                        let response = response(id, name, u16::from(step == 3));
                        let found = waiting.answered_by(&response, Direction::Ingress);
                        let fits = |open: &Open| open.question.answered_by(&response, Direction::Ingress);
                        prop_assert_eq!(number_at(&waiting, found), plain.number(fits));
                        if let Some(place) = found {
                            let removed = waiting.remove(place).unwrap().number;
                            plain.0.retain(|open| open.number != removed);
                        }
                    }
                }
                prop_assert_eq!(waiting.len(), plain.0.len());
                prop_assert_eq!(waiting.oldest().map(|open| open.number), plain.0.first().map(|open| open.number));
            }
            while let Some(open) = waiting.pop_oldest() {
                prop_assert_eq!(open.number, plain.0.remove(0).number);
            }
            prop_assert!(plain.0.is_empty());
        }
    }
}
