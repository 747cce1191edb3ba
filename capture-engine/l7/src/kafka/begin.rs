//! What is known of a connection when it shows that it is Kafka's.

use super::Kafka;
use super::gaps::Gaps;
use super::ids::Ids;
use super::names::Names;
use super::side::Side;
use crate::Out;
use crate::dissector::Opening;
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
        let missing = passed.missing[client.index()];
        kafka.newest = passed.last_missing[client.index()];
        if missing > 0 {
            kafka.gaps.unread(missing, passed.last_missing[client.index()], LossReason::RingFull, &kafka.ids);
            kafka.doubted = Some(LossReason::RingFull);
        }
        // Seen from its beginning, what began like nothing because bytes of it are missing was a request, too.
        if from_start && passed.cut[client.index()] > 0 {
            kafka.gaps.unread(passed.cut[client.index()], 0, LossReason::Gap, &kafka.ids);
            kafka.doubted = Some(LossReason::Gap);
        }
        let hole = passed.holes[server.index()];
        let misfit = passed.misfits[server.index()];
        if passed.missing[server.index()] > 0 || hole.is_some() || misfit.is_some() {
            let ring = passed.missing[server.index()] > 0;
            let turns = [passed.last_missing[server.index()], misfit.map_or(0, |it| it.turn)];
            let reason = match (ring, from_start) {
                (true, _) => LossReason::RingFull,
                (false, true) => LossReason::Gap,
                (false, false) => LossReason::JoinedMidway,
            };
            kafka.unheard = Some(reason);
            kafka.unheard_turn = turns.into_iter().max().unwrap_or(0).max(hole.map_or(0, |hole| hole.turn));
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
}
