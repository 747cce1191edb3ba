//! The beginning of a message whose protocol has not shown.

use flow_model::Ts;

/// What is kept of a message that says nothing yet.
#[derive(Debug)]
pub(crate) struct Head {
    pub at: Ts,
    pub turn: u32,
    pub bytes: Vec<u8>,
    /// So many bytes passed behind those and were not kept, and when the last of them did.
    pub beyond: u64,
    pub last: Ts,
}

impl Head {
    pub(crate) fn new(at: Ts, turn: u32, bytes: &[u8]) -> Head {
        Head { at, turn, bytes: bytes.to_vec(), beyond: 0, last: at }
    }

    /// More bytes of it pass.
    pub(crate) fn pass(&mut self, bytes: u64, at: Ts) {
        self.beyond = self.beyond.saturating_add(bytes);
        self.last = self.last.max(at);
    }

    /// The next bytes of it: kept up to `max`, unless some before them are missing.
    pub(crate) fn extend(&mut self, bytes: &[u8], at: Ts, max: usize) {
        let room = if self.beyond == 0 { max.saturating_sub(self.bytes.len()) } else { 0 };
        let (kept, rest) = bytes.split_at(room.min(bytes.len()));
        self.bytes.extend_from_slice(kept);
        if !rest.is_empty() {
            self.pass(rest.len() as u64, at);
        }
    }
}
