//! Entries as bounded, deflated parts, and back.

use crate::limits::{KEY, PART, PART_FULL, VALUE};
use crate::message::{Entry, Part, Sees};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use prost::Message;
use std::collections::VecDeque;
use std::io::{Read, Write};

/// Cuts the entries of one push into parts.
#[derive(Debug)]
pub struct Parts {
    generation: u64,
    since: u64,
    full: usize,
    sees: Sees,
    open: Vec<u8>,
    closed: VecDeque<Part>,
}

impl Parts {
    /// For a push from `since` to `generation`. A part is closed after `full` bytes.
    #[must_use]
    pub fn new(generation: u64, since: u64, full: usize) -> Parts {
        let full = full.min(PART_FULL);
        Parts { generation, since, full, sees: Sees::default(), open: Vec::new(), closed: VecDeque::new() }
    }

    /// Says what the agent sees.
    #[must_use]
    pub fn seeing(self, sees: Sees) -> Parts {
        Parts { sees, ..self }
    }

    /// Adds an entry, whose key and value are within their limits.
    pub fn push(&mut self, entry: &Entry) {
        self.open.extend_from_slice(&entry.encode_length_delimited_to_vec());
        if self.open.len() >= self.full {
            self.close(false);
        }
    }

    /// All parts, at least one: an empty push says that the agent is there.
    #[must_use]
    pub fn finish(mut self) -> VecDeque<Part> {
        self.close(true);
        self.closed
    }

    fn close(&mut self, last: bool) {
        let number = u32::try_from(self.closed.len()).unwrap_or(u32::MAX);
        let entries = deflated(&self.open);
        self.open.clear();
        let Parts { generation, since, sees, .. } = *self;
        self.closed.push_back(Part { generation, since, number, last, entries, sees: sees.into() });
    }
}

/// RFC 1951.
pub(crate) fn deflated(plain: &[u8]) -> Bytes {
    if plain.is_empty() {
        return Bytes::new();
    }
    // Names repeat, so the fastest level gets most of what there is to get.
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(plain);
    debug_assert!(written.is_ok(), "a Vec takes everything");
    encoder.finish().unwrap_or_default().into()
}

/// A part that holds no entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Not deflated, or cut short.
    #[error("the part is damaged")]
    Damaged,
    /// More than `limits::PART`.
    #[error("the part holds more than {PART} bytes")]
    Part,
    /// More than `limits::KEY` or `limits::VALUE`.
    #[error("a series is larger than {KEY} bytes of name and {VALUE} of counts")]
    Series,
}

/// No more than `limits::PART` bytes.
pub(crate) fn inflated(packed: &Bytes) -> Result<Bytes, PackError> {
    if packed.is_empty() {
        return Ok(Bytes::new());
    }
    let mut plain = Vec::new();
    let read = DeflateDecoder::new(&**packed).take(PART as u64 + 1).read_to_end(&mut plain);
    match read {
        Ok(length) if length > PART => Err(PackError::Part),
        Ok(_) => Ok(plain.into()),
        Err(_) => Err(PackError::Damaged),
    }
}

/// The entries of a part, one at a time: a part of a thousand bytes is no list of a million entries.
#[derive(Debug)]
pub(crate) struct Entries(Bytes);

impl Entries {
    pub(crate) fn of(part: &Part) -> Result<Entries, PackError> {
        inflated(&part.entries).map(Entries)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = Entry::decode_length_delimited(&mut self.0);
        if entry.is_err() {
            self.0.clear();
        }
        Some(match entry {
            Ok(entry) if entry.key.len() > KEY || entry.value.len() > VALUE => Err(PackError::Series),
            Ok(entry) => Ok(entry),
            Err(_) => Err(PackError::Damaged),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MESSAGE;
    use crate::message::{FromAgent, Says};
    use proptest::prelude::*;

    fn entry(id: u64, key: usize, value: usize) -> Entry {
        // Bytes that do not compress.
        let noise = |seed: u64, len: usize| {
            let mut state = seed | 1;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            (0..len).map(|_| byte()).collect::<Vec<u8>>().into()
        };
        Entry { id, key: noise(id, key), value: noise(id + 1, value), gone: false }
    }

    #[test]
    fn a_push_of_any_size_is_parts_that_fit_into_a_message() {
        let sent: Vec<Entry> = (0..100).map(|id| entry(id, KEY, VALUE)).collect();
        let mut parts = Parts::new(7, 3, PART_FULL);
        sent.iter().for_each(|entry| parts.push(entry));
        let parts = parts.finish();
        assert!(parts.len() > 5);
        let mut got = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            assert_eq!((part.generation, part.since, part.number as usize), (7, 3, i));
            assert_eq!(part.last, i + 1 == parts.len());
            assert!(FromAgent::from(Says::Part(part.clone())).encoded_len() <= MESSAGE);
            got.extend(Entries::of(part).unwrap().map(Result::unwrap));
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn a_push_without_a_change_is_one_empty_part() {
        let parts = Parts::new(7, 6, PART_FULL).finish();
        assert_eq!(parts, [Part { generation: 7, since: 6, last: true, ..Part::default() }]);
        assert_eq!(Entries::of(&parts[0]).unwrap().count(), 0);
    }

    #[test]
    fn a_part_that_inflates_without_end_takes_no_more_memory_than_a_part() {
        let bomb = Part { entries: deflated(&vec![0; 256 << 20]), ..Part::default() };
        assert!(bomb.entries.len() < 2 * MESSAGE);
        assert_eq!(Entries::of(&bomb).unwrap_err(), PackError::Part);
    }

    #[test]
    fn a_series_that_is_too_large_is_refused() {
        let mut parts = Parts::new(1, 0, PART_FULL);
        parts.push(&entry(1, KEY + 1, 0));
        let parts = parts.finish();
        assert_eq!(Entries::of(&parts[0]).unwrap().next(), Some(Err(PackError::Series)));
    }

    proptest! {
        #[test]
        fn bytes_that_nobody_packed_end_in_an_error_or_an_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000), pack in any::<bool>(),
        ) {
            let entries = if pack { deflated(&bytes) } else { bytes.into() };
            if let Ok(entries) = Entries::of(&Part { entries, ..Part::default() }) {
                prop_assert!(entries.take(3_000).count() < 3_000);
            }
        }
    }
}
