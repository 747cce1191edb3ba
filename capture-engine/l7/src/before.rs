//! What is kept of a connection until its protocol shows.

use crate::input::{Cause, Hole};
use flow_model::{Direction, Ts};

/// What passed before the protocol showed, and was not read. Of most connections that is nothing.
#[derive(Debug, Default)]
pub(crate) struct Before(Option<Box<Passed>>);

/// The same, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    /// Messages whose heads were lost, by direction, and the number of the last of them.
    pub missing: [u32; 2],
    pub last_missing: [u32; 2],
    /// Message 1 went this way and was nothing that begins an exchange.
    pub began_midway: Option<Direction>,
    /// The head of message 1 was lost, and it went this way.
    pub first_missing: Option<Direction>,
    /// The last hole of each direction.
    pub holes: [Option<Hole>; 2],
    /// The newest message of each direction that fitted nothing.
    pub misfits: [Option<Misfit>; 2],
    /// How many of them lack bytes: they may be what was looked for.
    pub cut: [u32; 2],
}

/// A message that fitted nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Misfit {
    pub turn: u32,
    pub at: Ts,
    /// As many as were looked at.
    pub bytes: u64,
    /// More of it is missing.
    pub cut: bool,
}

/// The beginning of a message that says nothing yet.
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
}

impl Before {
    pub(crate) fn passed(&self) -> Passed {
        self.0.as_deref().copied().unwrap_or_default()
    }

    /// The head of message `turn` was lost.
    pub(crate) fn lost(&mut self, dir: Direction, turn: u32) {
        let passed = self.0.get_or_insert_default();
        passed.missing[dir.index()] += 1;
        passed.last_missing[dir.index()] = turn;
        if turn == 1 {
            passed.began_midway = None;
            passed.first_missing = Some(dir);
        }
    }

    pub(crate) fn hole(&mut self, dir: Direction, hole: Hole) {
        let passed = self.0.get_or_insert_default();
        passed.holes[dir.index()] = Some(hole);
        // What is missing before a message is of the one before it, but where whole messages are.
        let of = |misfit: &&mut Misfit| hole.cause != Cause::Messages && hole.turn <= misfit.turn.saturating_add(2);
        if let Some(misfit) = passed.misfits[dir.index()].as_mut().filter(of).filter(|misfit| !misfit.cut) {
            misfit.cut = true;
            passed.cut[dir.index()] += 1;
        }
    }

    /// A message fits nothing.
    pub(crate) fn misfit(&mut self, dir: Direction, misfit: Misfit) {
        let passed = self.0.get_or_insert_default();
        if misfit.turn == 1 {
            passed.began_midway = Some(dir);
        }
        passed.cut[dir.index()] += u32::from(misfit.cut);
        passed.misfits[dir.index()] = Some(misfit);
    }

    /// Heads that were lost, by direction.
    pub(crate) fn missing(&self) -> [u32; 2] {
        self.0.as_ref().map_or([0; 2], |passed| passed.missing)
    }

    /// Takes whole pairs of lost heads off `missing`; how many.
    pub(crate) fn take_pairs(&mut self) -> u32 {
        let Some(passed) = &mut self.0 else { return 0 };
        let pairs = passed.missing[0].min(passed.missing[1]);
        passed.missing.iter_mut().for_each(|missing| *missing -= pairs);
        pairs
    }
}
