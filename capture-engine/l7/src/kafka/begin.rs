//! What is known of a connection when it shows that it is Kafka's.

use super::Kafka;
use super::gaps::Gaps;
use super::ids::Ids;
use super::names::Names;
use super::side::Side;
use crate::Out;
use crate::before::{Misfit, Passed};
use crate::candidates::{Candidates, Earlier};
use crate::dissector::Opening;
use crate::head::Head;
use flow_model::{Direction, LossReason};
use std::collections::VecDeque;

impl Kafka {
    fn new(client: Direction) -> Kafka {
        Kafka {
            client,
            sides: [Direction::Ingress, Direction::Egress].map(|dir| Side::new(dir == client)),
            open: VecDeque::new(),
            asking: None,
            answering: None,
            ids: Ids::NONE,
            gaps: Gaps::default(),
            names: Names::default(),
            name: None,
            unheard: None,
            unheard_turn: 0,
            doubted: None,
            blind: None,
            trial: Vec::new(),
            alternates: true,
            midway: false,
            first: None,
            settled: None,
            raw: false,
            newest: 0,
            unsure: false,
            beyond: [None; 2],
            strange: 0,
        }
    }

    pub(super) fn recognised<O: Out>(opening: &Opening<'_>, out: &mut O) -> Kafka {
        let Opening { dir, client, before, heads, from_start, .. } = *opening;
        let client = client.unwrap_or(dir);
        let server = client.reverse();
        let mut kafka = Kafka::new(client);
        kafka.midway = !from_start;
        kafka.beyond = heads.map(|head| head.filter(|head| head.beyond > 0).map(|head| (head.beyond, head.last)));
        if !from_start {
            kafka.doubted = Some(LossReason::JoinedMidway);
        }
        let passed = before.passed();
        kafka.unread_requests(&passed, before.candidates(), heads[client.index()], from_start);
        let earlier = before.candidates().map_or_else(Earlier::default, |it| it.earlier[server.index()]);
        let missing = passed.missing[server.index()] > 0;
        if missing || earlier.hole.is_some() || earlier.turn > 0 {
            let reason = match (missing, from_start) {
                (true, _) => LossReason::RingFull,
                (false, true) => LossReason::Gap,
                (false, false) => LossReason::JoinedMidway,
            };
            kafka.unheard = Some(reason);
            let hole = earlier.hole.map_or(0, |hole| hole.turn);
            kafka.unheard_turn = passed.last_missing[server.index()].max(earlier.turn).max(hole);
            kafka.doubted = kafka.doubted.or(Some(reason));
        }
        if kafka.doubted.is_none() && opening.turn > 2 {
            // What came before showed nothing: it was not all there.
            kafka.doubted = Some(LossReason::Gap);
        }
        if !from_start && passed.began_midway == Some(server) {
            // The rest of an answer.
            out.lost(LossReason::JoinedMidway, 1);
        }
        kafka
    }

    /// Counts what was asked before anybody knew what it is; `head`: the message of the client that is read next.
    fn unread_requests(
        &mut self,
        passed: &Passed,
        candidates: Option<&Candidates>,
        head: Option<&Head>,
        from_start: bool,
    ) {
        let index = self.client.index();
        let mut messages = passed.missing[index];
        self.newest = passed.last_missing[index];
        if messages > 0 {
            self.gaps.unread(messages, self.newest, LossReason::RingFull, &self.ids);
            self.doubted = Some(LossReason::RingFull);
        }
        // What is answered after a connection was joined counts when that shows.
        let unread = candidates.into_iter().flat_map(|it| &it.asked[index]);
        messages = 0;
        for asked in unread.filter(|asked| !asked.counted && (from_start || asked.unanswered)) {
            messages += 1;
            self.newest = self.newest.max(asked.turn);
        }
        if messages > 0 {
            let lost = passed.missing.iter().any(|missing| *missing > 0);
            let reason = if lost { LossReason::RingFull } else { LossReason::Gap };
            self.gaps.unread(messages, self.newest, reason, &self.ids);
            self.doubted = Some(reason);
        }
        // Seen from its beginning, what began like nothing because bytes of it are missing was a request, too.
        let is_head = |misfit: &Misfit| misfit.cut && head.is_some_and(|head| head.turn == misfit.turn);
        let cut = passed.cut[index].saturating_sub(u32::from(passed.misfits[index].as_ref().is_some_and(is_head)));
        if from_start && cut > 0 {
            self.gaps.unread(cut, 0, LossReason::Gap, &self.ids);
            self.doubted = Some(LossReason::Gap);
        }
    }
}
