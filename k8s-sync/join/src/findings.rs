//! What an agent holds for wrong, on its way to the companion: all of it in one bounded message, and
//! only when it is another than before.

use crate::limits::{FINDING, FINDINGS, FINDINGS_BYTES};
use crate::message::{Finding, Findings};
use crate::pack::{PackError, deflated, inflated};
use bytes::{Buf, Bytes};
use prost::Message;
use std::sync::Arc;

/// What is told, packed once for the streams to all replicas.
#[derive(Debug)]
pub struct Outbox {
    /// Grows with each change; 0: nobody has looked yet.
    version: u64,
    now_ms: u64,
    told: Arc<[Finding]>,
    packed: Bytes,
    taken: usize,
    lost: u64,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox { version: 0, now_ms: 0, told: Arc::new([]), packed: Bytes::new(), taken: 0, lost: 0 }
    }
}

impl Outbox {
    /// This is all that holds; the worst comes first. `now_ms` is by the clock of their `since_ms`.
    pub fn tell(&mut self, now_ms: u64, findings: &Arc<[Finding]>) {
        self.now_ms = now_ms;
        if self.version > 0 && (Arc::ptr_eq(&self.told, findings) || self.told == *findings) {
            return;
        }
        self.version += 1;
        self.told = findings.clone();
        let mut plain = Vec::new();
        self.taken = 0;
        for finding in findings.iter() {
            let entry = finding.encode_to_vec();
            let whole = entry.len() + prost::length_delimiter_len(entry.len());
            if entry.len() <= FINDING && plain.len() + whole <= FINDINGS_BYTES && self.taken < FINDINGS {
                // A vector has room for any length.
                let _ = prost::encode_length_delimiter(entry.len(), &mut plain);
                plain.extend_from_slice(&entry);
                self.taken += 1;
            } else {
                self.lost += 1;
            }
        }
        self.packed = deflated(&plain);
    }

    /// Another one for each change. 0: nobody has looked yet, and there is nothing to tell.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// For a stream that has another version.
    #[must_use]
    pub fn message(&self) -> Findings {
        Findings { now_ms: self.now_ms, entries: self.packed.clone() }
    }

    /// Findings that are told.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Findings that were left out so far, at each change: too many, or too large.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// The findings of a message, and how many were left out: beyond `FINDINGS`, or larger than `FINDING`,
/// as a later version may have them.
///
/// # Errors
/// When it is damaged, or holds more than a message may: the stream is to end.
pub fn read(message: &Findings) -> Result<(Vec<Finding>, u64), PackError> {
    let mut plain = inflated(&message.entries)?;
    let (mut findings, mut more) = (Vec::new(), 0);
    while plain.has_remaining() {
        let length = prost::decode_length_delimiter(&mut plain).map_err(|_| PackError::Damaged)?;
        if length > plain.remaining() {
            return Err(PackError::Damaged);
        }
        let entry = plain.split_to(length);
        if length <= FINDING && findings.len() < FINDINGS {
            findings.push(Finding::decode(entry).map_err(|_| PackError::Damaged)?);
        } else {
            more += 1;
        }
    }
    Ok((findings, more))
}
