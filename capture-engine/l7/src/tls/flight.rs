//! The client's encrypted flight of TLS 1.3: which record ends it, by lengths alone.

use super::records::Record;
use flow_model::{Notes, Ts};

/// A client with a certificate sends it before its Finished: in one record with it, or in two of their own.
const MOST_BEFORE_FINISHED: u8 = 4;

/// What has come of it.
#[derive(Debug, Default)]
pub(super) struct Flight {
    records: u8,
    /// When the first of them was over, or a hole in which others may have been.
    first: Option<Ts>,
}

impl Flight {
    /// A record of the client. When the handshake was over, and what limits that.
    pub(super) fn record(&mut self, record: Record, finished: u16, early_data: bool) -> Option<(Ts, Notes)> {
        if record.length == finished {
            return Some((record.last, Notes::default()));
        }
        self.first.get_or_insert(record.last);
        self.records = self.records.saturating_add(1);
        // Early data goes on for as long as it likes.
        let enough = self.records >= MOST_BEFORE_FINISHED && !early_data;
        self.first.filter(|_| enough).map(|at| (at, Notes::END_ASSUMED))
    }

    /// Bytes of the client were not seen. `at`: when the last of them passed.
    pub(super) fn cut(&mut self, at: Ts) {
        if self.records > 0 {
            self.first = self.first.max(Some(at));
        }
    }

    /// Where the connection shows that it was over, though no record had the length of a Finished.
    pub(super) fn assumed(&self) -> Option<Ts> {
        self.first
    }
}

/// Length of the client's Finished, encrypted: header, hash, inner kind, tag (RFC 8446 sections 4.4.4 and 5.2).
pub(super) fn finished_length(cipher: u16) -> u16 {
    match cipher {
        AES_256_GCM_SHA384 => 4 + 48 + 1 + 16,
        AES_128_CCM_8_SHA256 => 4 + 32 + 1 + 8,
        _ => 4 + 32 + 1 + 16,
    }
}

/// Of an alert.
pub(super) fn alert_length(cipher: u16) -> u16 {
    if cipher == AES_128_CCM_8_SHA256 { 2 + 1 + 8 } else { 2 + 1 + 16 }
}

const AES_256_GCM_SHA384: u16 = 0x1302;
const AES_128_CCM_8_SHA256: u16 = 0x1305;
