//! Messages that may ask in a protocol whose requests prove nothing alone. They are kept aside until an answer shows
//! what they are: to all other protocols they fit nothing, so that none of those waits for them.

use crate::head::Head;
use crate::input::Hole;
use flow_model::{Direction, Ts};
use std::collections::VecDeque;

/// Requests of earlier messages that are remembered: clients keep five under way, or as many as they are told to.
const MOST_ASKED: usize = 64;

/// By direction: nobody knows yet who asks.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The newest message, while it may ask, or answer what the other direction asks.
    pub heads: [Option<Head>; 2],
    /// What was there before that message.
    pub earlier: [Earlier; 2],
    /// Requests of messages before that one, the oldest first.
    pub asked: [VecDeque<Asked>; 2],
}

/// What passed of a direction before a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Earlier {
    /// The newest message that fitted nothing; 0 where there is none.
    pub turn: u32,
    /// The newest hole.
    pub hole: Option<Hole>,
}

/// A request, as far as an answer can fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub key: i16,
    pub version: i16,
    pub id: i32,
    /// It says more than small numbers.
    pub tells: bool,
    /// The message that it is in; and that this one is accounted for elsewhere.
    pub turn: u32,
    pub counted: bool,
    /// The answer to that message was lost.
    pub unanswered: bool,
}

impl Candidates {
    pub(crate) fn remember(&mut self, dir: Direction, asked: Asked) {
        let all = &mut self.asked[dir.index()];
        if all.len() >= MOST_ASKED {
            all.pop_front();
        }
        all.push_back(asked);
    }

    /// Message `turn` of `dir` is counted as lost.
    pub(crate) fn is_counted(&mut self, dir: Direction, turn: u32) {
        self.heads[dir.index()].take_if(|head| head.turn == turn);
        self.asked[dir.index()].iter_mut().filter(|asked| asked.turn == turn).for_each(|asked| asked.counted = true);
    }

    /// Bytes of `dir` pass that are not seen.
    pub(crate) fn pass(&mut self, dir: Direction, bytes: u64, at: Ts) {
        if let Some(head) = &mut self.heads[dir.index()] {
            head.pass(bytes, at);
        }
    }

    pub(crate) fn buffered(&self) -> usize {
        let asked: usize = self.asked.iter().map(|asked| asked.capacity() * size_of::<Asked>()).sum();
        asked + self.heads.iter().flatten().map(|head| head.bytes.len()).sum::<usize>()
    }
}
