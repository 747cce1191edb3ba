//! The routes of one server, as a tree of segments.

use flow_model::Ts;
use hashbrown::HashMap;
use std::sync::Arc;

/// As the dissectors write it for a segment that is a value by its looks.
const PLACEHOLDER: &str = "{id}";
/// Routes of one server.
pub(super) const MOST_ROUTES: usize = 200;
/// Beyond this many words in one place, they are values if more than half of them came a few times
/// only. Fewer than an edge has series: else its share would be used up by those.
pub(super) const MANY: usize = 24;
/// An exchange that is seen from both ends comes twice.
const FEW: u8 = 2;
/// Beyond this many they are, however often they came.
pub(super) const TOO_MANY: usize = 100;

#[derive(Debug)]
pub(super) struct Learned {
    root: Node,
    routes: usize,
    nodes: usize,
    last: Ts,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<str>, Node, foldhash::fast::RandomState>,
    /// The words of this place are values: there is the placeholder and no other.
    folded: bool,
    /// Paths that came through here, as far as it matters whether it was one.
    came: u8,
    last: Ts,
    /// What is shown of paths that end here.
    route: Option<Arc<str>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Known(Arc<str>),
    /// This path has shown that a place holds values: what was told of others may be of it now.
    Folded(Arc<str>),
    /// There is no such route, or no room for it.
    Unknown,
}

impl Learned {
    pub(super) fn new(now: Ts) -> Learned {
        Learned { root: Node::default(), routes: 0, nodes: 0, last: now }
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    /// What is shown of a path. `admit`: one that is new is learned, while there is room.
    pub(super) fn route(&mut self, path: &Arc<str>, admit: bool, now: Ts) -> Told {
        self.last = self.last.max(now);
        if !self.root.has(segments(path)) && (!admit || self.routes >= MOST_ROUTES) {
            return Told::Unknown;
        }
        let mut folded = false;
        while let Some(place) = self.grow(path, now) {
            // Each round folds a place of the path that was not: no more rounds than segments.
            self.fold(path, place);
            folded = true;
        }
        let route = self.end(path);
        if folded { Told::Folded(route) } else { Told::Known(route) }
    }

    /// Makes what is missing of a path; the depth of a place that holds values, if one shows.
    fn grow(&mut self, path: &str, now: Ts) -> Option<usize> {
        let mut node = &mut self.root;
        for (depth, segment) in segments(path).enumerate() {
            let word = node.word(segment);
            if !node.words.contains_key(word) {
                node.words.insert(word.into(), Node::default());
                self.nodes += 1;
                if node.holds_values() {
                    return Some(depth);
                }
            }
            node = node.words.get_mut(word)?;
            node.came = node.came.saturating_add(1);
            node.last = now;
        }
        None
    }

    /// The words `depth` segments down the path are one from now on.
    fn fold(&mut self, path: &str, depth: usize) {
        let mut node = &mut self.root;
        for segment in segments(path).take(depth) {
            let word = node.word(segment);
            let Some(next) = node.words.get_mut(word) else { return };
            node = next;
        }
        node.folded = true;
        node.words.retain(|word, _| **word == *PLACEHOLDER);
        self.count();
    }

    /// What is shown of a path that was made.
    fn end(&mut self, path: &Arc<str>) -> Arc<str> {
        let mut node = &mut self.root;
        let mut shown = String::with_capacity(path.len());
        for segment in segments(path) {
            let word = node.word(segment);
            shown.push('/');
            shown.push_str(word);
            let Some(next) = node.words.get_mut(word) else { return path.clone() };
            node = next;
        }
        let routes = &mut self.routes;
        let route = node.route.get_or_insert_with(|| {
            *routes += 1;
            // The path itself, where nothing was folded, and `*`, which has no segments.
            if shown.is_empty() || *shown == **path { path.clone() } else { shown.into() }
        });
        route.clone()
    }

    /// Forgets what no path came through since `before`; false where there is nothing left to know.
    pub(super) fn keep(&mut self, before: Ts) -> bool {
        self.root.prune(before);
        self.count();
        self.last >= before
    }

    fn count(&mut self) {
        (self.nodes, self.routes) = self.root.count();
    }
}

impl Node {
    /// As which word a segment is kept here.
    fn word<'a>(&self, segment: &'a str) -> &'a str {
        if self.folded { PLACEHOLDER } else { segment }
    }

    fn has<'a>(&self, mut path: impl Iterator<Item = &'a str>) -> bool {
        match path.next() {
            None => self.route.is_some(),
            Some(segment) => self.words.get(self.word(segment)).is_some_and(|node| node.has(path)),
        }
    }

    fn holds_values(&self) -> bool {
        let few = || self.words.values().filter(|node| node.came <= FEW).count();
        !self.folded && self.words.len() > MANY && (self.words.len() > TOO_MANY || few() * 2 > self.words.len())
    }

    fn prune(&mut self, before: Ts) {
        self.words.retain(|_, node| node.last >= before);
        self.words.values_mut().for_each(|node| node.prune(before));
    }

    /// Nodes below this one, and routes with its own.
    fn count(&self) -> (usize, usize) {
        let own = (self.words.len(), usize::from(self.route.is_some()));
        self.words.values().map(Node::count).fold(own, |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }
}

/// As deep as the dissectors' routes are: eight, and one for the rest.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1).take(9)
}
