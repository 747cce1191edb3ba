//! Which nodes have joined, each with the hash of its credential: what the companion keeps in one Secret,
//! and who may join by it. Told what the Secret and the cluster have; its caller reads and writes.
//!
//! The name of a node is a key of the Secret; the value is the hash, which Node it was (a digest of its
//! uid), and whether an admin ended it. A name is free again when its Node is another one: clouds give
//! the names of nodes that are gone to new ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hashbrown::HashMap;
use join::{TokenHash, is_node_name};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A Secret has 1 MiB at most, and an object in etcd 1.5 MiB. What a node takes is its name, twice, for
/// the API server keeps who wrote it; its value; and what is around them.
pub const ROOM: usize = 1 << 20;
const AROUND: usize = 48;
/// Hash and Node.
const LIVE: usize = 40;
/// The same, and that it was ended.
const ENDED: usize = 41;

/// Which Node a name was, so that another one of the name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which([u8; 8]);

impl Which {
    /// Whichever comes first: an admin made the credential before the Node was known.
    pub const ANY: Which = Which([0; 8]);

    /// By its uid.
    #[must_use]
    pub fn of_uid(uid: &str) -> Which {
        let mut which = [0; 8];
        which.copy_from_slice(&digest(&SHA256, uid.as_bytes()).as_ref()[..8]);
        Which(which)
    }
}

/// What is kept of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has joined.
    Live {
        /// Of its credential.
        hash: TokenHash,
        /// The Node that it was.
        node: Which,
    },
    /// An admin ended its credential: nobody joins by it again, and the name is free.
    Ended {
        /// Of its credential.
        hash: TokenHash,
    },
    /// Of a later version, or damaged. The name is taken by nobody who could show it.
    Unreadable,
}

impl Entry {
    /// As it is in the Secret.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Entry::Live { hash, node } => [&hash.bytes()[..], &node.0].concat(),
            Entry::Ended { hash } => [&hash.bytes()[..], &Which::ANY.0, &[1]].concat(),
            Entry::Unreadable => Vec::new(),
        }
    }

    fn read(bytes: &[u8]) -> Entry {
        let hash = bytes.get(..32).and_then(TokenHash::from_bytes);
        let node = bytes.get(32..LIVE).and_then(|bytes| bytes.try_into().ok()).map(Which);
        match (hash, node, bytes.len()) {
            (Some(hash), Some(node), LIVE) => Entry::Live { hash, node },
            (Some(hash), Some(_), ENDED) if bytes.last() == Some(&1) => Entry::Ended { hash },
            _ => Entry::Unreadable,
        }
    }
}

/// The contents of the Secret at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Its `resourceVersion`.
    pub version: String,
    /// By name of the node.
    pub entries: BTreeMap<String, Entry>,
}

impl Pages {
    /// Of a Secret as the API server has it. Keys that name no node are passed over.
    #[must_use]
    pub fn read(secret: &Value) -> Pages {
        let version = secret["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let data = secret["data"].as_object().into_iter().flatten();
        let entries = data.filter(|(name, _)| is_node_name(name)).map(|(name, value)| {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
            (name.clone(), Entry::read(&bytes))
        });
        Pages { version, entries: entries.collect() }
    }

    /// Bytes that these names take.
    #[must_use]
    pub fn takes(&self) -> usize {
        self.entries.keys().map(|name| cost(name)).sum()
    }
}

fn cost(name: &str) -> usize {
    2 * name.len() + AROUND
}

/// What is to be written: entries by their names, and `None` for those that go.
pub type Changes = BTreeMap<String, Option<Entry>>;

/// The patch that makes `changes` of the Secret in the state `version`, and of no other.
#[must_use]
pub fn patch(version: &str, changes: &Changes) -> Value {
    let data: Map<String, Value> = changes
        .iter()
        .map(|(name, entry)| (name.clone(), entry.map_or(Value::Null, |entry| STANDARD.encode(entry.bytes()).into())))
        .collect();
    json!({ "metadata": { "resourceVersion": version }, "data": data })
}

/// What becomes of an agent that names a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This is its credential, and that is written down.
    Kept,
    /// It may have the name: this is to be written first.
    Free(Entry),
    /// Somebody else has it.
    Taken,
    /// An admin ended this credential.
    Ended,
    /// There is no room in the Secret.
    Full,
    /// The cluster has no such node.
    Unknown,
}

/// What a hash is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The credential of some node.
    Live,
    /// One that an admin ended.
    Ended,
    /// Nothing that was given out, as far as is known here.
    Nobodys,
}

/// What is shown in a header, whoever it says to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The cluster's join token.
    Token,
    /// A node's credential.
    Credential(TokenHash),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    /// `None`: not read yet, or there is no such Secret.
    pages: Option<Pages>,
    is_missing: bool,
    /// The cluster's. `None`: nobody has told yet.
    nodes: Option<BTreeMap<String, Which>>,
    /// Names by the hashes of their credentials, also of those that were ended.
    names: HashMap<[u8; 32], String>,
    takes: usize,
}

impl Book {
    /// The Secret is this now; `None`: there is none.
    pub fn set_pages(&mut self, pages: Option<Pages>) {
        self.is_missing = pages.is_none();
        self.names.clear();
        for (name, entry) in pages.iter().flat_map(|pages| &pages.entries) {
            if let Entry::Live { hash, .. } | Entry::Ended { hash } = entry {
                self.names.insert(hash.bytes(), name.clone());
            }
        }
        self.takes = pages.as_ref().map_or(0, Pages::takes);
        self.pages = pages;
    }

    /// The nodes that the cluster has.
    pub fn set_nodes(&mut self, nodes: BTreeMap<String, Which>) {
        self.nodes = Some(nodes);
    }

    /// Whether it knows who has joined and which nodes there are.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.pages.is_some() && self.nodes.is_some()
    }

    /// The API server has told that there is no Secret.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// The state that the next write is of.
    #[must_use]
    pub fn version(&self) -> &str {
        self.pages.as_ref().map_or("", |pages| &pages.version)
    }

    /// Nodes that have a credential.
    #[must_use]
    pub fn joined(&self) -> usize {
        let entries = self.pages.iter().flat_map(|pages| pages.entries.values());
        entries.filter(|entry| matches!(entry, Entry::Live { .. })).count()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.pages.as_ref()?.entries.get(name)
    }

    fn node(&self, name: &str) -> Option<Which> {
        self.nodes.as_ref()?.get(name).copied()
    }

    /// Whose this hash is.
    #[must_use]
    pub fn knows(&self, hash: TokenHash) -> Known {
        match self.names.get(&hash.bytes()).and_then(|name| self.entry(name)) {
            Some(Entry::Live { hash: kept, .. }) if *kept == hash => Known::Live,
            Some(Entry::Ended { hash: kept }) if *kept == hash => Known::Ended,
            _ => Known::Nobodys,
        }
    }

    /// Who shows this hash may push for the node. `Free`: it may, and that this is the Node of its name
    /// now is to be written.
    #[must_use]
    pub fn holds(&self, name: &str, hash: TokenHash) -> Claim {
        match (self.entry(name), self.node(name)) {
            (Some(Entry::Ended { hash: kept }), _) if *kept == hash => Claim::Ended,
            (Some(Entry::Live { hash: kept, node }), now) if *kept == hash => match now {
                Some(now) if now != *node => Claim::Free(Entry::Live { hash, node: now }),
                _ => Claim::Kept,
            },
            _ => Claim::Taken,
        }
    }

    /// Why who has joined by this hash may push no longer: `Taken` or `Ended`. A name of which nothing is
    /// kept was not taken from it.
    #[must_use]
    pub fn lost(&self, name: &str, hash: TokenHash) -> Option<Claim> {
        match self.entry(name)? {
            Entry::Live { hash: kept, .. } => (*kept != hash).then_some(Claim::Taken),
            Entry::Ended { hash: kept } if *kept == hash => Some(Claim::Ended),
            Entry::Ended { .. } | Entry::Unreadable => Some(Claim::Taken),
        }
    }

    /// Somebody has the join token and asks for the name, with the hash of a credential that it has made.
    #[must_use]
    pub fn claim(&self, name: &str, hash: TokenHash) -> Claim {
        let Some(node) = self.node(name) else { return Claim::Unknown };
        let entry = Entry::Live { hash, node };
        match self.entry(name) {
            None if self.takes + cost(name) > ROOM => Claim::Full,
            None => Claim::Free(entry),
            Some(Entry::Ended { hash: kept }) if *kept == hash => Claim::Ended,
            Some(Entry::Ended { .. }) => Claim::Free(entry),
            Some(Entry::Live { hash: kept, node: was }) => match (*kept == hash, *was == node) {
                (true, true) => Claim::Kept,
                (true, false) => Claim::Free(entry),
                (false, _) if *was == Which::ANY || *was == node => Claim::Taken,
                // That Node was deleted, and this is another machine.
                (false, _) => Claim::Free(entry),
            },
            Some(Entry::Unreadable) => Claim::Taken,
        }
    }

    /// Somebody has the join token and keeps no credential, as agents of versions before. May push where
    /// nobody has taken the name.
    #[must_use]
    pub fn is_open(&self, name: &str) -> bool {
        match (self.entry(name), self.node(name)) {
            (None | Some(Entry::Ended { .. }), _) => true,
            (Some(Entry::Live { node: was, .. }), Some(now)) => *was != Which::ANY && *was != now,
            (Some(Entry::Live { .. } | Entry::Unreadable), _) => false,
        }
    }

    /// Entries of nodes that the cluster does not have: they make room where there is none. Few enough for
    /// one write.
    #[must_use]
    pub fn departed(&self, most: usize) -> Vec<String> {
        let Some(nodes) = &self.nodes else { return Vec::new() };
        let entries = self.pages.iter().flat_map(|pages| &pages.entries);
        // What an admin has made for a node that is yet to come stays.
        let is_departed = |name: &str, entry: &Entry| {
            !nodes.contains_key(name) && !matches!(entry, Entry::Live { node: Which::ANY, .. })
        };
        let departed = entries.filter(|(name, entry)| is_departed(name, entry)).map(|(name, _)| name.clone());
        departed.take(most).collect()
    }
}

#[cfg(test)]
mod tests;
