//! What is kept of a connection until its protocol shows.

use flow_model::{Direction, Ts};

/// What passed before the protocol showed, and was not read.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Messages whose heads were lost, by direction, and the number of the last of them.
    pub missing: [u32; 2],
    pub last_missing: [u32; 2],
    /// Message 1 went this way and was nothing that begins an exchange.
    pub began_midway: Option<Direction>,
    /// The head of message 1 was lost, and it went this way.
    pub first_missing: Option<Direction>,
}

/// The beginning of a message that says nothing yet.
#[derive(Debug)]
pub(crate) struct Head {
    pub at: Ts,
    pub turn: u32,
    pub bytes: Vec<u8>,
}

impl Before {
    /// The head of message `turn` was lost.
    pub(crate) fn lost(&mut self, dir: Direction, turn: u32) {
        self.missing[dir.index()] += 1;
        self.last_missing[dir.index()] = turn;
        if turn == 1 {
            self.began_midway = None;
            self.first_missing = Some(dir);
        }
    }
}
