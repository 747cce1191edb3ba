//! The part of a look that hears of every packet which the kernel drops meanwhile.

use super::{Look, Places};
use crate::decide::{dropped_between, drops, untold};
use crate::drops::{CountsDrops, Drops, names};
use crate::read::{self, Unread};
use crate::{CheckId, Finding, Subject};
use flow_model::Ts;

/// Who counts, what was counted at first, and when that was.
pub type Counting = (Box<dyn CountsDrops>, Drops, Ts);

const CHECK: [CheckId; 1] = [CheckId::Drops];

impl Look<'_> {
    /// Begins to count, for the window alone.
    pub(super) fn count_drops(&mut self) -> Option<Counting> {
        if !self.wants(&CHECK) {
            return None;
        }
        let Some(begin) = self.asked.drops else {
            self.gaps.add(&CHECK, "nobody counts them");
            return None;
        };
        let begun = self.readers.read("packets that the kernel drops", move || {
            let mut counts = begin(&names()).map_err(Unread::Drops)?;
            let first = counts.counts().map_err(Unread::Drops)?;
            Ok((counts, first, read::now()))
        });
        self.seen(begun, &CHECK)
    }

    pub(super) fn decide_drops(&mut self, counting: Option<Counting>, places: &Places, found: &mut Vec<Finding>) {
        let Some((mut counts, before, from)) = counting else { return };
        let read = self.readers.read("packets that the kernel dropped", move || {
            let after = counts.counts().map_err(Unread::Drops)?;
            Ok((after, read::now()))
        });
        let Some((after, to)) = self.seen(read, &CHECK) else { return };
        let missed = after.missed.saturating_sub(before.missed);
        if missed > 0 {
            let reason = format!("{missed} dropped packets were not counted for want of room");
            self.gaps.add(&CHECK, &reason);
        }
        for (netns, dropped) in dropped_between((&before, from), (&after, to)) {
            let is_asked = self.asked.only.as_ref().is_none_or(|only| netns.is_some_and(|ino| only.contains(&ino)));
            if !is_asked {
                continue;
            }
            let (subject, is_node) = match netns {
                Some(ino) if self.node == Some(ino) => (Subject::network_of_node(), true),
                Some(ino) if places.contains_key(&ino) || self.asked.names.contains_key(&ino) => {
                    (self.subject_of_place(ino, places), false)
                }
                // Nobody there holds a socket: it passes packets on, or is about to end.
                Some(ino) => (Subject::network(ino), false),
                None => (Subject::node(), true),
            };
            let dropped = untold(dropped, &subject, found);
            found.extend(drops(&subject, &dropped, is_node, &self.asked.thresholds));
        }
    }
}
