//! Requests that got no whole answer, and the exits that they belong to.

use super::totals::CutTotals;
use super::unanswered::{UNSEEN, Unanswered};
use agent_api::{CutRow, TimelineEvent};
use doctor::Thresholds;
use flow_model::{Slot, Ts};
use golden_metrics::{Loss, Losses};
use std::collections::VecDeque;
use std::time::Duration;

/// Nothing more is expected of an exit. What was cut is seen within milliseconds; flows of a
/// namespace that is gone are settled by a round of the flow table, which begins once a second.
pub const SETTLED: Duration = Duration::from_secs(3);
/// A query over UDP is given up after 10 s (`l7::dns`), and is then still the exit's.
pub const LATEST: Duration = Duration::from_secs(15);
/// Requests without an answer that wait for the exit that explains them: an exit is told
/// milliseconds after them, and on a busy node seconds. Some 150 bytes each.
const MOST_RECENT: usize = 2048;
/// Of one exit, before its cause is settled.
const MOST_OPEN: usize = 2048;
/// Clients and kinds of requests of one exit that are told apart.
const MOST_ROWS: usize = 16;
/// Times of one row.
const MOST_WAITED: usize = 8;

/// An exit that requests may still belong to.
#[derive(Debug)]
pub struct OpenExit {
    pub seq: u64,
    slot: Slot,
    pub at: Ts,
    /// Connections that closed since may have been closed by its end.
    from: Ts,
    /// The same of queries over UDP that began since.
    over_udp_from: Ts,
    until: Ts,
    pub is_settled: bool,
    /// Counted once the cause is known.
    pub cuts: Vec<Unanswered>,
}

impl OpenExit {
    /// `oom` is when the kernel first killed a process of the container for memory, `killed` whether it ended by
    /// SIGKILL, `sharing` the number of containers that shared its slot.
    pub fn new(
        seq: u64,
        slot: Slot,
        at: Ts,
        oom: Option<Ts>,
        killed: bool,
        sharing: usize,
        thresholds: &Thresholds,
    ) -> OpenExit {
        // The container may have closed some while it ended. Who is killed has closed them when it has not yet ended:
        // that waits for all its other processes.
        let from = thresholds.cut_from(at, oom, killed);
        let over_udp_from = thresholds.cut_from(at, oom, false);
        // Where nobody else is left, what ends later was still cut now.
        let until = at.plus(if sharing <= 1 { LATEST } else { thresholds.cut_after });
        OpenExit { seq, slot, at, from, over_udp_from, until, is_settled: false, cuts: Vec::new() }
    }

    /// Whether it is what that request was waiting for when the container ended.
    pub fn has_cut(&self, request: &Unanswered) -> bool {
        let Unanswered { slot, began, opened, at, over_udp, .. } = request;
        let is_its = match over_udp {
            true => *began >= self.over_udp_from && *began <= self.at && at.since(self.at) <= LATEST,
            // Who has not yet heard that the connection is closed may still ask on it, and nobody else answers there.
            false => *opened <= self.at && *at >= self.from && *at <= self.until,
        };
        *slot == self.slot && is_its
    }

    pub fn add(&mut self, request: Unanswered, exit: &TimelineEvent, totals: &mut CutTotals) {
        match self.cuts.len() < MOST_OPEN {
            true => self.cuts.push(request),
            false => totals.add(&exit.cause, &request, Some(exit)),
        }
    }
}

/// Requests without an answer of the last seconds that no exit explains yet.
#[derive(Debug)]
pub struct Recent {
    waiting: VecDeque<Unanswered>,
    full: Loss,
}

impl Recent {
    pub fn new(losses: &Losses) -> Recent {
        let full = losses.place("timeline", "unanswered_full", "requests that were not waited with for their exit");
        Recent { waiting: VecDeque::new(), full }
    }

    pub fn add(&mut self, request: Unanswered) {
        if self.waiting.len() >= MOST_RECENT {
            self.waiting.pop_front();
            self.full.add(1);
        }
        self.waiting.push_back(request);
    }

    pub fn take(&mut self, wanted: impl Fn(&Unanswered) -> bool) -> Vec<Unanswered> {
        let (taken, left) = self.waiting.drain(..).partition::<Vec<_>, _>(|request| wanted(request));
        self.waiting = left.into();
        taken
    }

    pub fn forget(&mut self, now: Ts) {
        // An exit's news may be as late as it is waited for, and it may have cut what closed as long before.
        while self.waiting.front().is_some_and(|request| now.since(request.at) > 2 * SETTLED) {
            self.waiting.pop_front();
        }
    }
}

/// Notes a request with the exit that cut it.
pub fn add_row(event: &mut TimelineEvent, request: &Unanswered) {
    let Unanswered { client, what, broken_off, is_stream, count, began, at, .. } = request;
    if *is_stream {
        event.streams += count;
        return;
    }
    event.cut_requests += count;
    let is_its = |row: &CutRow| {
        (&*row.client, &*row.client_namespace, &*row.what) == (&*client.workload, &*client.namespace, *what)
    };
    let row = match event.cut.iter().position(is_its) {
        Some(place) => event.cut.get_mut(place),
        None if event.cut.len() >= MOST_ROWS => None,
        None => {
            event.cut.push(CutRow {
                client_namespace: client.namespace.to_string(),
                client: client.workload.to_string(),
                client_kind: client.kind.to_owned(),
                what: (*what).to_owned(),
                ..CutRow::default()
            });
            event.cut.last_mut()
        }
    };
    let Some(row) = row else { return };
    row.requests += count;
    row.broken_off += if *broken_off { *count } else { 0 };
    if *what != UNSEEN {
        let waited = millis(at.since(*began));
        let place = row.waited_ms.partition_point(|other| *other >= waited);
        row.waited_ms.insert(place, waited);
        row.waited_ms.truncate(MOST_WAITED);
    }
}

pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
