//! What is kept of a connection until its protocol shows.

use crate::candidates::Candidates;
use crate::input::{Cause, Hole};
use flow_model::{Direction, Ts};

/// What passed before the protocol showed, and was not read. Of most connections that is nothing.
#[derive(Debug, Default)]
pub(crate) struct Before(Option<Box<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    passed: Passed,
    candidates: Option<Box<Candidates>>,
}

/// What passed, as far as it matters.
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

impl Before {
    pub(crate) fn passed(&self) -> Passed {
        self.0.as_ref().map_or_else(Passed::default, |kept| kept.passed)
    }

    /// The head of message `turn` was lost.
    pub(crate) fn lost(&mut self, dir: Direction, turn: u32) {
        let Kept { passed, candidates } = &mut **self.0.get_or_insert_default();
        if let Some(candidates) = candidates {
            candidates.is_counted(dir, turn);
        }
        passed.missing[dir.index()] += 1;
        passed.last_missing[dir.index()] = turn;
        if turn == 1 {
            passed.began_midway = None;
            passed.first_missing = Some(dir);
        }
    }

    pub(crate) fn hole(&mut self, dir: Direction, hole: Hole) {
        let Kept { passed, candidates } = &mut **self.0.get_or_insert_default();
        if let Some(candidates) = candidates {
            candidates.pass(dir, hole.bytes, hole.at);
        }
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
        let passed = &mut self.0.get_or_insert_default().passed;
        if misfit.turn == 1 {
            passed.began_midway = Some(dir);
        }
        passed.misfits[dir.index()] = Some(misfit);
    }

    /// Heads that were lost, by direction.
    pub(crate) fn missing(&self) -> [u32; 2] {
        self.0.as_ref().map_or([0; 2], |kept| kept.passed.missing)
    }

    /// Takes whole pairs of lost heads off `missing`; how many.
    pub(crate) fn take_pairs(&mut self) -> u32 {
        let Some(passed) = self.0.as_mut().map(|kept| &mut kept.passed) else { return 0 };
        let pairs = passed.missing[0].min(passed.missing[1]);
        passed.missing.iter_mut().for_each(|missing| *missing -= pairs);
        pairs
    }

    /// The newest message of `dir` of which anything is known.
    pub(crate) fn newest(&self, dir: Direction) -> u32 {
        let Some(Kept { passed, candidates }) = self.0.as_deref() else { return 0 };
        let misfit = passed.misfits[dir.index()].map_or(0, |misfit| misfit.turn);
        let head = candidates.as_ref().and_then(|it| it.heads[dir.index()].as_ref()).map_or(0, |head| head.turn);
        passed.last_missing[dir.index()].max(misfit).max(head)
    }

    /// Messages that may ask in a protocol that shows by two of them alone; `None` where none is kept.
    pub(crate) fn candidates(&self) -> Option<&Candidates> {
        self.0.as_ref()?.candidates.as_deref()
    }

    /// What passed, and those messages.
    pub(crate) fn candidates_mut(&mut self) -> Option<(&Passed, &mut Candidates)> {
        let Kept { passed, candidates } = &mut **self.0.as_mut()?;
        Some((&*passed, candidates.as_deref_mut()?))
    }

    /// The same; there are some from now on.
    pub(crate) fn with_candidates(&mut self) -> (&Passed, &mut Candidates) {
        let Kept { passed, candidates } = &mut **self.0.get_or_insert_default();
        (&*passed, &mut **candidates.get_or_insert_default())
    }

    pub(crate) fn forget_candidates(&mut self) {
        if let Some(kept) = &mut self.0 {
            kept.candidates = None;
        }
    }
}
