//! Puts IP fragments together.

use super::skip::Skip;
use flow_model::Ts;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Datagrams waiting for fragments; Linux keeps 4 MiB of them, which is about as many of common size.
const MAX_DATAGRAMS: usize = 1024;
/// Longest datagram: IP's own bound.
const MAX_LENGTH: usize = 65_535;
/// Bytes of all of them, as Linux bounds them by (`ipfrag_high_thresh`). A fragment may be small and
/// its place far behind.
const MAX_BYTES: usize = 4 << 20;
/// Pieces of one datagram: 64 KiB at the smallest MTU that IPv6 allows is 53. Each is compared with all.
const MAX_PIECES: usize = 128;
/// RFC 8200 4.5, RFC 1122 3.3.2.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    pub source: u128,
    pub destination: u128,
    pub id: u32,
    pub proto: u8,
}

/// One fragment: its place in the datagram, its length on the wire, and what was captured of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub key: FragmentKey,
    pub at: Ts,
    pub offset: usize,
    pub more: bool,
    pub length: usize,
    pub data: &'a [u8],
}

/// Puts IP fragments together. A fragment that overlaps another without repeating it exactly ends
/// its datagram (RFC 5722; for IPv4 too: whoever sends such wants two readers to see two things).
#[derive(Debug, Default)]
pub(super) struct Fragments {
    waiting: HashMap<FragmentKey, Waiting>,
    /// In order of arrival, for the bound and the time limit.
    order: VecDeque<(Ts, FragmentKey)>,
    /// Held for all of them.
    bytes: usize,
    /// Datagrams given up: overlap, bound, or time.
    pub given_up: u64,
}

#[derive(Debug)]
struct Waiting {
    since: Ts,
    /// (offset, length), in order of arrival.
    pieces: Vec<(usize, usize)>,
    bytes: Vec<u8>,
    total: Option<usize>,
    /// Overlapped: swallow the rest.
    poisoned: bool,
}

impl Fragments {
    /// Takes a fragment. When it was the last one missing, `whole` becomes the datagram's payload
    /// and its length is returned.
    pub fn add(&mut self, fragment: Fragment<'_>, whole: &mut Vec<u8>) -> Result<usize, Skip> {
        let Fragment { key, at, offset, more, length, data } = fragment;
        self.expire(at);
        let end = offset + length;
        if data.len() < length || length == 0 || end > MAX_LENGTH || more && !length.is_multiple_of(8) {
            return Err(Skip::FragmentDropped);
        }
        if !self.waiting.contains_key(&key) {
            if self.waiting.len() >= MAX_DATAGRAMS {
                self.drop_oldest();
            }
            if self.order.len() >= 4 * MAX_DATAGRAMS {
                let waiting = &self.waiting;
                self.order.retain(|(since, key)| waiting.get(key).is_some_and(|waiting| waiting.since == *since));
            }
            self.order.push_back((at, key));
        }
        let waiting = self.waiting.entry(key).or_insert_with(|| Waiting {
            since: at,
            pieces: Vec::new(),
            bytes: Vec::new(),
            total: None,
            poisoned: false,
        });
        if waiting.poisoned || waiting.pieces.contains(&(offset, length)) {
            return Err(Skip::FragmentDropped);
        }
        let grows = end.saturating_sub(waiting.bytes.len());
        let overlaps = waiting.pieces.iter().any(|&(other, len)| offset < other + len && other < end);
        let beyond = waiting.total.is_some_and(|total| end > total || !more)
            || !more && waiting.pieces.iter().any(|&(other, len)| other + len > end);
        if overlaps || beyond || waiting.pieces.len() >= MAX_PIECES {
            waiting.poisoned = true;
            self.bytes -= waiting.bytes.len();
            waiting.bytes = Vec::new();
            self.given_up += 1;
            return Err(Skip::FragmentDropped);
        }
        if waiting.bytes.len() < end {
            // As long as it is, and no longer: what is held is what is counted.
            waiting.bytes.reserve_exact(grows);
            waiting.bytes.resize(end, 0);
            self.bytes += grows;
        }
        if let (Some(place), Some(data)) = (waiting.bytes.get_mut(offset..end), data.get(..length)) {
            place.copy_from_slice(data);
        }
        waiting.pieces.push((offset, length));
        if !more {
            waiting.total = Some(end);
        }
        let have: usize = waiting.pieces.iter().map(|(_, length)| length).sum();
        if waiting.total != Some(have) {
            while self.bytes > MAX_BYTES && self.drop_oldest() {}
            return Err(Skip::FragmentHeld);
        }
        // Its entry in `order` is passed over when its turn comes.
        if let Some(done) = self.waiting.remove(&key) {
            self.bytes -= done.bytes.len();
            *whole = done.bytes;
        }
        Ok(have)
    }

    fn expire(&mut self, now: Ts) {
        while let Some(&(since, key)) = self.order.front() {
            if now.since(since) < PATIENCE {
                break;
            }
            self.order.pop_front();
            self.forget(key, since);
        }
    }

    /// False when there is none.
    fn drop_oldest(&mut self) -> bool {
        while let Some((since, key)) = self.order.pop_front() {
            if self.forget(key, since) {
                return true;
            }
        }
        false
    }

    fn forget(&mut self, key: FragmentKey, since: Ts) -> bool {
        let same = self.waiting.get(&key).is_some_and(|waiting| waiting.since == since);
        if same && let Some(gone) = self.waiting.remove(&key) {
            self.bytes -= gone.bytes.len();
            self.given_up += u64::from(!gone.poisoned);
        }
        same
    }
}
