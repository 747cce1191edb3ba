//! The flow table from outside: read it in turns, and take flows out of it that are over.

use super::convert;
use super::maps::Shared;
use super::opening::Opening;
use super::sys::{Batch, Cursor};
use crate::event::{FlowKey, Sample};
use capture_wire as wire;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// No flags: the kernel copies a flow while the programs may be changing it. Every field is whole
/// (the copy goes by aligned words), but two fields may be of before and after one packet. Counters
/// only grow, and the next sample is right again; `turns`, `message` and `closed` are believed only
/// of a flow that has been quiet for a while, and then nothing changes them.
const PLAIN: u64 = 0;
/// A bucket that holds more flows than this makes the turn bigger; the table has as many buckets as
/// flows, so that takes an attacker.
const LARGEST_TURN: usize = 1 << 16;

/// Reads the whole flow table, some flows at a time. A flow that comes or goes during a round may be missed or not.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    cursor: Cursor,
    opening: Opening,
    keys: Vec<wire::Key>,
    values: Vec<wire::Flow>,
    /// How many of them the last turn brought, and whether it was the last of its round.
    read: (usize, bool),
}

/// What one turn brought.
#[derive(Debug)]
pub struct Page<'a> {
    keys: &'a [wire::Key],
    values: &'a [wire::Flow],
    /// This was the last page of the round; the next turn begins a new one.
    pub last: bool,
}

impl Page<'_> {
    /// The flows. A sample's `at` is the time of the flow's last packet.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        self.keys.iter().zip(self.values).filter_map(|(key, flow)| convert::sample(key, flow).ok())
    }

    /// Flows of this page as read, those that make no sense included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether this page has no flow. The round may still go on: see `last`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Sampler {
    pub(super) fn new(shared: Arc<Shared>) -> Sampler {
        Sampler {
            shared,
            cursor: Cursor::default(),
            opening: Opening::default(),
            keys: Vec::new(),
            values: Vec::new(),
            read: (0, false),
        }
    }

    /// The next (about) `flows` flows of the table: one system call, some 0.3 us for each flow.
    ///
    /// # Errors
    /// When the kernel refuses the batch lookup. The round starts over.
    pub fn turn(&mut self, flows: usize) -> io::Result<Page<'_>> {
        let mut room = flows.clamp(1, LARGEST_TURN);
        self.opening.begin(&self.shared.control);
        let Batch { count, end } = loop {
            self.keys.resize(room, wire::Key::new_zeroed());
            self.values.resize(room, wire::Flow::new_zeroed());
            let before = self.cursor;
            let keys = self.keys.as_mut_bytes();
            let values = self.values.as_mut_bytes();
            match self.shared.flows.lookup_batch(&mut self.cursor, keys, values, PLAIN) {
                Ok(batch) => break batch,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < LARGEST_TURN => {
                    self.cursor = before;
                    room = (room * 2).min(LARGEST_TURN);
                }
                Err(error) => {
                    self.cursor = Cursor::default();
                    self.opening = Opening::default();
                    self.read = (0, false);
                    return Err(error);
                }
            }
        };
        let read = self.keys.iter().zip(&self.values).take(count);
        read.for_each(|(key, flow)| self.opening.saw(key, flow));
        if end {
            self.cursor = Cursor::default();
            std::mem::take(&mut self.opening).end(&self.shared.control);
        }
        self.read = (count, end);
        Ok(self.page())
    }

    /// What the last turn brought, once more.
    #[must_use]
    pub fn page(&self) -> Page<'_> {
        let (count, last) = self.read;
        let keys = self.keys.get(..count).unwrap_or_default();
        let values = self.values.get(..count).unwrap_or_default();
        Page { keys, values, last }
    }

    /// The flow as it stands now.
    ///
    /// # Errors
    /// When the kernel refuses the lookup.
    pub fn lookup(&self, key: &FlowKey) -> io::Result<Option<Sample>> {
        let mut flow = [0; size_of::<wire::Flow>()];
        let key = convert::wire_key(key);
        let found = self.shared.flows.lookup(key.as_bytes(), &mut flow, PLAIN)?;
        Ok(if found { decode(&key, &flow) } else { None })
    }

    /// Takes the flow out of the table: its last counters, with the packets that came after it was reported as closed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&self, key: &FlowKey) -> io::Result<Option<Sample>> {
        let mut flow = [0; size_of::<wire::Flow>()];
        let key = convert::wire_key(key);
        let found = self.shared.flows.take(key.as_bytes(), &mut flow, PLAIN)?;
        if found {
            self.shared.flow_removed(&key);
        }
        Ok(if found { decode(&key, &flow) } else { None })
    }

    /// Removes flows that are closed, idle or of a namespace that is gone, and their overrides.
    /// Returns how many were there.
    ///
    /// # Errors
    /// When the kernel refuses one; those before it are gone.
    pub fn remove(&self, keys: &[FlowKey]) -> io::Result<usize> {
        let mut removed = 0;
        // One call each (0.4 us): a batch stops at the first flow that is gone already.
        for key in keys {
            let wire_key = convert::wire_key(key);
            if self.shared.flows.delete(wire_key.as_bytes())? {
                removed += 1;
                self.shared.flow_removed(&wire_key);
            }
            self.shared.clear_override(key)?;
        }
        Ok(removed)
    }

    /// Answers that were seen of flows without room since the programs were loaded, to a pod and
    /// from it (by `Direction::index`): at least so many exchanges took place unfollowed.
    #[must_use]
    pub fn answers(&self) -> [u64; 2] {
        [0, 1].map(|dir| self.shared.control.answers(dir).load(Ordering::Relaxed))
    }
}

impl Shared {
    /// The programs count what they put into the table, and nobody else takes anything out.
    fn flow_removed(&self, key: &wire::Key) {
        for place in [Some(wire::opening(key.slot)), None] {
            self.control.flows(place).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn decode(key: &wire::Key, flow: &[u8]) -> Option<Sample> {
    convert::sample(key, &wire::Flow::read_from_bytes(flow).ok()?).ok()
}
