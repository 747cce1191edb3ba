//! Redis commands and their replies (RESP2, RESP3 and commands in lines) from the two directions of
//! one connection, of which bytes may be missing.
//!
//! Each direction is followed by position: what a bulk string announces is passed by counting, so
//! that no byte of a value is taken for a command. Where the position is lost, the next message of
//! that direction is the next place to look. Commands and replies pair by order (`crate::order`).
//! What is published, and what MONITOR tells, is no reply and no exchange.

mod command;
mod loss;
mod names;
mod open;
mod reply;
mod request;
mod scan;
mod side;
mod sign;

use crate::dissector::{Begun, Dissector, Next, Opening, Sign, Used};
use crate::input::{Bytes, Hole};
use crate::order::{Order, Unheard};
use crate::pairing::InOrder;
use crate::{Interest, Length, Limits, MessageEnd, Out, Walk};
use command::Mode;
use flow_model::{Close, Direction, L7Record, LossReason, Ts};
use open::Open;
use scan::Step;
use side::{Replies, Requests};
use std::sync::Arc;

/// A pipeline: all of each packet, as heads may be anywhere in it.
static WHOLE: Walk = Walk {
    length: Length::Packets,
    header: 1,
    uncounted: 0,
    kind: None,
    classes: &[],
    keep: [u32::MAX; 4],
    most: 1,
    aligned: false,
    rows: false,
    runs: false,
};

/// A pipeline of long values, of which copying all would cost the most and tell the least.
static BULK: Walk = Walk { keep: [1024; 4], ..WHOLE };

/// A value is long from here on.
const LONG_VALUE: u64 = 64 << 10;

/// Commands one at a time after which a connection that pipelined is taken for one that does so no more.
const AFTER_PIPELINE: u8 = 32;

/// Values that are not long after which those that follow are taken not to be.
const AFTER_LONG: u8 = 32;

/// Records that wait for a connection that was joined in the middle to be understood.
const MOST_ON_TRIAL: usize = 1024;

#[derive(Debug)]
pub(crate) struct Redis {
    request_dir: Direction,
    requests: Requests,
    replies: Replies,
    /// Replies come in the order of commands.
    open: InOrder<Open>,
    order: Order,
    /// Replies to commands of messages before this one may have been lost: such a command that shows up
    /// late is not waited for.
    given_up: u32,
    /// Commands beyond the bound, counted as lost, whose replies come after those of all open ones.
    beyond: u32,
    /// The newest message of the client.
    spoke: u32,
    /// The newest message of the client has bytes of which nobody knows what they were: commands, perhaps.
    blurred: bool,
    /// Replies to earlier messages than the newest of the client may be held back.
    unsure: bool,
    /// It pipelined, and not so many commands ago.
    pipelined: u8,
    /// A value was long, and not so many values ago.
    long: u8,
    /// Whether commands are answered.
    mode: Mode,
    /// It listens to channels, or to all that others ask.
    listens: bool,
    monitors: bool,
    /// Confirmations to come of a command that has been answered by its first one.
    confirms: u32,
    /// The database, where it is known.
    database: Option<Arc<str>>,
    /// The database that a transaction changes to.
    queued: Option<u32>,
    /// Joined in the middle: what was found until it shows that nothing else was under way.
    trial: Option<Box<Trial>>,
    /// Sticks once it is not `Same`.
    next: Next,
}

/// What a connection that was joined in the middle has said so far.
#[derive(Debug, Default)]
struct Trial {
    records: Vec<L7Record>,
    /// Replies to what was asked before, or beyond what is kept.
    strange: u64,
}

impl Dissector for Redis {
    fn recognise(head: &[u8]) -> Sign {
        sign::recognise(head)
    }

    fn recognise_pair(request: &[u8], response: &[u8]) -> Sign {
        sign::recognise_pair(request, response)
    }

    fn open<O: Out>(opening: &Opening<'_>, out: &mut O) -> Redis {
        let Opening { dir, turn, client, from_start, heads, .. } = *opening;
        let before = opening.before.passed();
        let client = client.unwrap_or(dir);
        let server = client.reverse();
        let mut redis = Redis::new(client, from_start);
        let missing = u64::from(before.missing[client.index()]);
        // What began like nothing because bytes of it are missing was a command, too.
        let cut = if from_start { u64::from(before.cut[client.index()]) } else { 0 };
        let last_cut = before.misfits[client.index()].filter(|misfit| from_start && misfit.cut);
        let last = before.last_missing[client.index()].max(last_cut.map_or(0, |misfit| misfit.turn));
        let orphan = dir == server && turn > 1 && last == turn - 1;
        // Message 1 was the rest of a reply, or looked like something else.
        let rest = before.began_midway == Some(server) || heads[server.index()].is_some_and(|head| head.turn == 1);
        let joined = u64::from(before.first_missing == Some(server) || rest);
        if missing + cut + joined > 0 {
            let reason = match (missing, cut) {
                (0, 0) => LossReason::JoinedMidway,
                (0, _) => LossReason::Gap,
                _ => LossReason::RingFull,
            };
            out.lost(reason, missing + cut + joined);
            if orphan {
                redis.order.has_lost_request(reason);
            }
        }
        redis.given_up = before.last_missing[server.index()];
        let unread = before.misfits[server.index()].map_or(0, |misfit| misfit.turn);
        if unread > turn {
            // What fitted nothing was replies: to a command that shows late, behind a hole.
            redis.given_up = redis.given_up.max(unread);
            redis.order.response_unread(LossReason::Gap, out);
        }
        if let Some(hole) = before.holes[server.index()].filter(Hole::may_hold_reply) {
            redis.replies.lose();
            redis.given_up = redis.given_up.max(hole.turn);
        }
        let told = missing > 0 || before.misfits[client.index()].is_some();
        if before.holes[client.index()].is_some_and(|hole| hole.may_hold_reply()) && from_start && !told {
            redis.order.lost_request(LossReason::Gap, false, out);
        }
        redis
    }

    fn bytes<O: Out>(&mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O) -> Used {
        let bytes = if dir == self.request_dir {
            self.request_bytes(data, limits, out);
            data.bytes.len()
        } else {
            // Stops short where a reply may be to a command that is not here yet.
            self.reply_bytes(data, limits, out)
        };
        Used { bytes, next: self.next }
    }

    fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            self.request_hole(hole, limits, out);
        } else {
            self.reply_hole(hole, limits, out);
        }
    }

    fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, limits: &Limits, out: &mut O) {
        if dir != self.request_dir {
            return;
        }
        let Begun { turn, at, unsure, missed } = begun;
        // A capture may have dropped the rest of a reply: no sign that the client does not wait for it.
        let unsure = unsure || limits.report_partial && self.replies.is_amid();
        self.unsure = unsure;
        self.end_unframed(turn, limits, out);
        if self.replies.is_lost() {
            self.lose_before(turn, LossReason::Gap, false, out);
        }
        self.settle_trial(false, out);
        self.client_speaks(turn, at, Unheard { unsure, missed, dropped: limits.report_partial });
    }

    fn message_ended<O: Out>(&mut self, dir: Direction, end: &MessageEnd, limits: &Limits, out: &mut O) {
        if dir != self.request_dir {
            self.replies.reaches(end.last);
            self.end_unframed(end.turn, limits, out);
        }
    }

    fn missing<O: Out>(&mut self, dir: Direction, turn: u32, at: Ts, _limits: &Limits, out: &mut O) {
        if dir == self.request_dir {
            self.request_missing(turn, at, out);
        } else {
            self.reply_missing(turn, out);
        }
    }

    fn closed<O: Out>(&mut self, _at: Ts, close: Close, limits: &Limits, out: &mut O) {
        self.close(close, limits, out);
    }

    fn client(&self) -> Option<Direction> {
        Some(self.request_dir)
    }

    fn progress<O: Out>(
        &mut self,
        dir: Direction,
        so_far: &MessageEnd,
        unseen: u64,
        _now: Ts,
        limits: &Limits,
        out: &mut O,
    ) -> bool {
        // Only when nothing but the value has passed is the time of the last byte that of the value's.
        let whole = dir != self.request_dir && self.replies.last_bytes() == Some(unseen);
        if whole {
            self.reply_unseen(unseen, so_far.last, limits, out);
        }
        whole
    }

    fn interest(&self) -> Interest {
        // Who does not wait asks much at once any time.
        let pipelines = self.pipelined > 0 || self.order.is_overlapping();
        match (pipelines, self.long) {
            (false, _) => Interest::Heads,
            (true, 0) => Interest::Frames(&WHOLE),
            _ => Interest::Frames(&BULK),
        }
    }

    /// True if the command for this reply may still be held in reassembly.
    fn needs_other(&self, dir: Direction) -> bool {
        dir != self.request_dir && !self.replies.is_amid() && (self.open.is_empty() || self.replies.is_lost())
    }

    fn waits_for_end(&self) -> bool {
        self.replies.last_bytes().is_some()
    }

    fn shed<O: Out>(&mut self, turn: u32, out: &mut O) {
        if self.requests.drop_partial() {
            self.order.lost_request(LossReason::Limit, false, out);
        }
        if self.replies.is_amid() {
            self.replies.lose();
        }
        self.settle_trial(true, out);
        self.lose_before(turn.saturating_add(1), LossReason::Limit, false, out);
    }

    fn held(&self) -> usize {
        let trial = self.trial.as_ref().map_or(0, |trial| trial.records.capacity() * size_of::<L7Record>());
        trial + self.open.len() * size_of::<Open>()
    }
}

impl Redis {
    fn new(request_dir: Direction, from_start: bool) -> Redis {
        Redis {
            request_dir,
            requests: Requests::default(),
            replies: Replies::default(),
            open: InOrder::default(),
            order: Order::ORDERLY,
            given_up: 0,
            beyond: 0,
            spoke: 0,
            blurred: false,
            unsure: false,
            pipelined: 0,
            long: 0,
            mode: Mode::On,
            listens: false,
            monitors: false,
            confirms: 0,
            database: from_start.then(|| Arc::from("0")),
            queued: None,
            trial: (!from_start).then(Box::default),
            next: Next::Same,
        }
    }

    /// So many bytes of a value that has begun are to come, or `step` ended one.
    fn value(&mut self, bytes: Option<u64>, step: Step) {
        match (bytes, step) {
            (Some(bytes), _) if bytes >= LONG_VALUE => self.long = AFTER_LONG,
            (_, Step::Bulk { .. }) => self.long = self.long.saturating_sub(1),
            _ => {}
        }
    }

    /// One exchange is over.
    fn report<O: Out>(&mut self, record: L7Record, out: &mut O) {
        match &mut self.trial {
            Some(trial) if trial.records.len() < MOST_ON_TRIAL => trial.records.push(record),
            Some(_) => out.lost(LossReason::Limit, 1),
            None => out.record(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_connection_stays_small() {
        assert!(size_of::<Redis>() <= 448, "{}", size_of::<Redis>());
        assert!(size_of::<Open>() <= 56, "{}", size_of::<Open>());
    }
}
