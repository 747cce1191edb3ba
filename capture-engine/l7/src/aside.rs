//! Recognition of a protocol without magic (Kafka): by a request that is sound in all that it says, and an answer with
//! its number that reads as one. It looks on from aside: what it keeps changes nothing for other protocols.

use crate::before::Before;
use crate::candidates::{Asked, Candidates, Earlier};
use crate::head::Head;
use crate::input::Bytes;
use crate::kafka::sign::{self, Says};
use flow_model::Direction;

/// What bytes say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// They answer what this direction has asked.
    pub client: Option<Direction>,
    /// They hold a request that says so much that it is worth waiting for its answer.
    pub asks: bool,
}

/// Looks at captured bytes of `dir`; as many as `max` of a message are kept. `known`: the newest message of which
/// others keep the beginning.
pub(crate) fn look(before: &mut Before, dir: Direction, data: Bytes<'_>, max: usize, known: u32) -> Seen {
    let Bytes { at, turn, start, bytes, .. } = data;
    let (own, other) = (dir.index(), dir.reverse().index());
    // A packet that overtook the first one of its message takes the mark from it.
    if start || turn > before.newest(dir).max(known) {
        replaced(before, dir);
        let waits = before.candidates().is_some_and(|it| it.heads[other].is_some());
        let head = bytes.get(..max).unwrap_or(bytes);
        if sign::may_ask(head) == Says::Nothing && !(waits && sign::may_answer(head)) {
            return Seen::default();
        }
        let (passed, candidates) = before.with_candidates();
        let turn_before = passed.misfits[own].map_or(0, |misfit| misfit.turn);
        candidates.earlier[own] = Earlier { turn: turn_before, hole: passed.holes[own] };
        candidates.heads[own] = Some(Head::new(at, turn, &[]));
    }
    let Some((_, Candidates { heads, asked, .. })) = before.candidates_mut() else { return Seen::default() };
    let [first, second] = heads;
    let (mine, theirs) = if own == 0 { (first, second) } else { (second, first) };
    let Some(head) = mine.as_mut() else { return Seen::default() };
    if head.turn != turn || head.beyond > 0 || head.bytes.len() >= max {
        // Later messages, of which the beginnings were lost, and what is not looked at.
        head.pass(bytes.len() as u64, at);
        return Seen::default();
    }
    head.extend(bytes, at, max);
    let asks = sign::may_ask(&head.bytes);
    let asker = theirs.as_ref().filter(|_| sign::may_answer(&head.bytes));
    if asks == Says::Nothing && asker.is_none() {
        *mine = None;
        return Seen::default();
    }
    let answers = asker.is_some_and(|asker| sign::fit(&asker.bytes, &asked[other], &head.bytes));
    Seen { client: answers.then(|| dir.reverse()), asks: asks == Says::Much }
}

/// Another message of `dir` begins.
fn replaced(before: &mut Before, dir: Direction) {
    let Some((passed, candidates)) = before.candidates_mut() else { return };
    let Some(old) = candidates.heads[dir.index()].take() else { return };
    // Where bytes of it are missing, that is how it is counted.
    let counted = passed.misfits[dir.index()].is_some_and(|misfit| misfit.cut && misfit.turn == old.turn);
    let unanswered = passed.last_missing[dir.reverse().index()] > old.turn;
    for asked in sign::asked(&old.bytes, old.turn) {
        candidates.remember(dir, Asked { counted, unanswered, ..asked });
    }
}
