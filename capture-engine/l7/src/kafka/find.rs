//! Where frames begin again in a direction whose place is lost.

use super::{Kafka, sign};
use crate::input::Bytes;
use crate::{Limits, Out};
use flow_model::{Direction, LossReason};

impl Kafka {
    /// Looks in bytes of a direction that is lost for the beginning of a frame, and reads what it begins with. How many
    /// of the bytes were read.
    pub(super) fn look_for<O: Out>(
        &mut self,
        dir: Direction,
        data: Bytes<'_>,
        limits: &Limits,
        out: &mut O,
    ) -> Option<usize> {
        let Bytes { at, turn, start, bytes, .. } = data;
        if start && dir == self.client {
            self.gaps.begins(turn, LossReason::Gap, &self.ids);
        }
        let whole = self.side(dir).try_message(bytes, at, turn, start);
        let first = self.sides[dir.index()].first;
        let starts = whole.is_some();
        let all = whole.as_ref().filter(|(_, before)| *before > 0).map_or(bytes, |(whole, _)| whole);
        let Some(from) = self.find(dir, all, starts) else {
            if dir != self.client {
                // Answers pass unread.
                self.unheard(LossReason::Gap, turn, out);
            }
            if let Some((whole, _)) = whole {
                self.side(dir).go_on_trying(whole);
            }
            return None;
        };
        if dir == self.client && starts && from == 0 {
            self.gaps.is_found(turn);
        }
        self.side(dir).find();
        let Some((whole, before)) = whole else { return Some(from) };
        if from >= before {
            return Some(from - before);
        }
        let mut rest = whole.get(from..before).unwrap_or_default();
        while !rest.is_empty() {
            let (used, event) = self.side(dir).take(rest, first, turn);
            rest = rest.get(used..).unwrap_or_default();
            if let Some(event) = event {
                self.event(dir, event, first, turn, limits, out);
            }
        }
        Some(0)
    }

    /// Where in bytes of a direction that is lost a frame surely begins.
    fn find(&self, dir: Direction, bytes: &[u8], starts: bool) -> Option<usize> {
        if dir != self.client {
            let call = |id: i32| {
                let open = self.open.iter().find(|open| open.id == id).map(|open| Some(open.call));
                open.or_else(|| (self.gaps.has(id) || self.is_next(id)).then_some(None))
            };
            return sign::is_response(bytes, starts, call).then_some(0);
        }
        let name = self.name?;
        // A header begins with the highest byte of its length, and that of what is asked.
        let begins = |from: &usize| matches!(bytes.get(*from..), Some([0..=0x10, _, _, _, 0, _, 0, ..]));
        (0..bytes.len()).filter(begins).find(|from| {
            let id = sign::is_request(bytes.get(*from..).unwrap_or_default(), name);
            // Where the client has not shown that it counts, its number says nothing.
            let begins = starts && *from == 0 && !self.ids.count();
            id.is_some_and(|id| begins || self.ids.are_refuted() || self.is_next(id))
        })
    }

    /// Whether a client that counts may have come to `id` since its newest request.
    fn is_next(&self, id: i32) -> bool {
        const NEXT: i32 = 1 << 16;
        self.ids.newest().is_none_or(|newest| (1..NEXT).contains(&id.wrapping_sub(newest)))
    }
}
