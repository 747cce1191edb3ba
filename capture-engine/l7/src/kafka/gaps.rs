//! Requests that were missed: how many, as far as their messages, their numbers and their answers tell.

use super::ids::{Ids, between};
use flow_model::LossReason;
use std::collections::VecDeque;

/// Bytes of the client that were not seen, between two requests that were.
#[derive(Debug)]
struct Gap {
    reason: LossReason,
    /// The numbers of those two.
    after: Option<i32>,
    before: i32,
    /// Requests that began in it for certain.
    certain: u32,
    /// Messages of the flow in which something of that kind is missing.
    messages: u32,
    /// The first of them may be the rest of a request.
    rest: bool,
    /// Requests that were counted as lost, and answers to them that were seen.
    counted: u32,
    answered: u32,
}

/// Gaps behind which the server has not come yet.
const MOST: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: Option<Box<Gap>>,
    /// The newest message that was counted, and whether it was seen and may show to be whole.
    turn: u32,
    seen: bool,
    /// The newest message of which nothing was seen.
    told: u32,
    closed: VecDeque<Gap>,
}

impl Gaps {
    /// Bytes of the client are missing from here on.
    fn open(&mut self, reason: LossReason, ids: &Ids) -> &mut Gap {
        self.open.get_or_insert_with(|| Box::new(Gap { after: ids.newest(), ..Gap::new(reason) }))
    }

    /// A request began there, in message `turn` as far as is known.
    pub(super) fn certain(&mut self, turn: u32, reason: LossReason, ids: &Ids) {
        let gap = self.open(reason, ids);
        gap.certain = gap.certain.saturating_add(1);
        self.count(turn, false);
    }

    /// All of message `turn` is missing. `amid`: it may be the rest of a request.
    pub(super) fn message(&mut self, amid: bool, turn: u32, reason: LossReason, ids: &Ids) {
        self.told = turn;
        let gap = self.open(reason, ids);
        if amid && !gap.rest {
            gap.rest = true;
        } else {
            self.count(turn, false);
        }
    }

    /// So many messages up to `turn` were not read before anybody knew what they were.
    pub(super) fn unread(&mut self, messages: u32, turn: u32, reason: LossReason, ids: &Ids) {
        let gap = self.open(reason, ids);
        gap.messages = gap.messages.saturating_add(messages);
        self.turn = self.turn.max(turn);
    }

    /// Message `turn` begins, and it is not known yet with what.
    pub(super) fn begins(&mut self, turn: u32, reason: LossReason, ids: &Ids) {
        self.open(reason, ids);
        self.count(turn, true);
    }

    /// It begins with a request that is read.
    pub(super) fn is_found(&mut self, turn: u32) {
        if let Some(gap) = self.open.as_mut().filter(|_| self.seen && self.turn == turn) {
            self.seen = false;
            gap.messages = gap.messages.saturating_sub(1);
        }
    }

    fn count(&mut self, turn: u32, seen: bool) {
        let Some(gap) = self.open.as_mut().filter(|_| turn > self.turn) else {
            self.seen &= seen;
            return;
        };
        gap.messages = gap.messages.saturating_add(1);
        (self.turn, self.seen) = (turn, seen);
    }

    /// What was missing was the rest of a request.
    pub(super) fn was_rest(&mut self) {
        self.open.take_if(|gap| gap.certain == 0 && gap.counted == 0);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Request `id` of message `turn` is the first one that was seen behind the gap: how many are lost that were not
    /// counted yet.
    pub(super) fn close(&mut self, id: i32, turn: u32, ids: &Ids, alternates: bool) -> Option<(LossReason, u32)> {
        let mut gap = self.open.take()?;
        // What is missing of later messages was told before the rest of this one.
        let newer = gap.messages.min(self.turn.saturating_sub(turn).div_ceil(2));
        if self.told > turn && gap.messages == newer && gap.certain + gap.counted == 0 {
            gap.after = Some(id);
            self.open = Some(gap);
            return None;
        }
        if newer > 0 {
            gap.messages -= newer;
            let (after, reason) = (Some(id), gap.reason);
            self.open = Some(Box::new(Gap { after, messages: newer, ..Gap::new(reason) }));
        }
        let least = gap.least(alternates);
        let total = match gap.after {
            Some(after) if ids.is_newer(id) && (ids.count() || ids.count_by_one()) => {
                let most = between(after, id);
                if ids.count_by_one() { most } else { least.min(most) }
            }
            _ => least,
        };
        let more = total.saturating_sub(gap.counted);
        gap.counted += more;
        gap.before = id;
        let reason = gap.reason;
        if self.closed.len() >= MOST {
            self.closed.pop_front();
        }
        self.closed.push_back(*gap);
        Some((reason, more))
    }

    /// The client has shown by how much it counts: what is lost in gaps before that, and was not counted.
    pub(super) fn recount(&mut self) -> impl Iterator<Item = (LossReason, u32)> {
        self.closed.iter_mut().filter_map(|gap| {
            let total = between(gap.after?, gap.before);
            let more = total.saturating_sub(gap.counted);
            gap.counted += more;
            Some((gap.reason, more))
        })
    }

    /// The connection is over.
    pub(super) fn end(&mut self, alternates: bool) -> Option<(LossReason, u32)> {
        let gap = self.open.take()?;
        self.closed.clear();
        Some((gap.reason, gap.least(alternates).saturating_sub(gap.counted)))
    }

    /// An answer to a request that is newer than all that were seen: so many are lost.
    pub(super) fn answered_newer(&mut self, id: i32, ids: &Ids) -> Option<(LossReason, u32)> {
        let gap = self.open.as_mut()?;
        let count = match ids.newest() {
            Some(newest) if ids.count_by_one() => between(newest, id).saturating_add(1),
            _ => 1,
        };
        gap.counted = gap.counted.saturating_add(count);
        gap.answered = gap.counted;
        Some((gap.reason, count))
    }

    /// An answer to a request that is none of those that were seen: whether it is one that was missed, and how
    /// many are lost that were not counted yet.
    pub(super) fn answered(&mut self, id: i32, ids: &Ids) -> Option<(LossReason, u32)> {
        if self.open.is_some() && !ids.count() && !ids.count_by_one() {
            // It may answer what was asked in this gap, whatever its number.
            return None;
        }
        let gap = self.closed.iter_mut().find(|gap| gap.has(id))?;
        gap.answered = gap.answered.saturating_add(1);
        let more = gap.answered.saturating_sub(gap.counted);
        gap.counted += more;
        Some((gap.reason, more))
    }

    /// Whether request `id` may be among those that were missed.
    pub(super) fn has(&self, id: i32) -> bool {
        self.closed.iter().any(|gap| gap.has(id))
    }

    /// The server has answered request `id`, and so all before it.
    pub(super) fn passed(&mut self, id: i32) {
        while self.closed.front().is_some_and(|gap| gap.before.wrapping_sub(id) <= 0) {
            self.closed.pop_front();
        }
    }
}

impl Gap {
    fn new(reason: LossReason) -> Gap {
        Gap { reason, after: None, before: 0, certain: 0, messages: 0, rest: false, counted: 0, answered: 0 }
    }

    /// How many requests were in it at least. One that waits for each answer asks one thing in each message.
    fn least(&self, alternates: bool) -> u32 {
        if alternates { self.messages } else { self.certain.max(1) }
    }

    fn has(&self, id: i32) -> bool {
        let after = self.after.is_none_or(|after| id.wrapping_sub(after) > 0);
        after && self.before.wrapping_sub(id) > 0
    }
}
