//! What the writer keeps of each object but pods, beside what readers see.

use crate::cluster::claim::HoldTarget;
use crate::cluster::record::{Key, Node, Owner, Service, Slice};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) node: Arc<Node>,
    pub(super) addresses: Box<[Key]>,
    /// When it was seen first, in seconds since 1970.
    pub(super) found: u32,
    pub(super) seen: u32,
}

/// One that a CronJob made; others need no entry, they are what their pods say.
#[derive(Debug)]
pub(super) struct JobEntry {
    pub(super) job: Arc<Owner>,
    pub(super) cron_job: Arc<Owner>,
    pub(super) seen: u32,
}

#[derive(Debug)]
pub(super) struct ServiceEntry {
    pub(super) service: Arc<Service>,
    pub(super) targets: Box<[HoldTarget]>,
    pub(super) external: Option<Arc<str>>,
    /// When it was created, in seconds since 1970.
    pub(super) created: u32,
    /// It was seen first then.
    pub(super) guessed: bool,
    pub(super) seen: u32,
}

/// An address, and the pod that is meant by it as `Uid::fold`, or 0.
pub(super) type End = (Key, u64);

/// The ends of a slice, in order. All are of one family; most of IPv4, which takes twelve bytes.
#[derive(Debug)]
pub(super) enum Ends {
    V4(Box<[(u32, [u32; 2])]>),
    Any(Box<[End]>),
}

impl Ends {
    pub(super) fn of(ends: &[End]) -> Ends {
        let short = ends.iter().map(|(key, pod)| match key {
            Key::V4(ip) => Some((*ip, [(pod >> 32) as u32, *pod as u32])),
            Key::V6(_) => None,
        });
        short.collect::<Option<Box<[_]>>>().map_or_else(|| Ends::Any(ends.into()), Ends::V4)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = End> {
        let (short, any) = match self {
            Ends::V4(short) => (&**short, &[][..]),
            Ends::Any(any) => (&[][..], &**any),
        };
        let short = short.iter().map(|(ip, [high, low])| (Key::V4(*ip), u64::from(*high) << 32 | u64::from(*low)));
        short.chain(any.iter().copied())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Ends::V4(short) => short.len(),
            Ends::Any(any) => any.len(),
        }
    }
}

#[derive(Debug)]
pub(super) struct SliceEntry {
    pub(super) slice: Arc<Slice>,
    pub(super) ends: Ends,
    pub(super) seen: u32,
}
