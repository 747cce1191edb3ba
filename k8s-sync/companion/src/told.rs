//! What agents hold for wrong, of the whole fleet: taken, judged, shown, and ended with their nodes.

use crate::findings::Untold;
use crate::fleet::{Fleet, KEPT, of_stream};
use crate::shown::FindingRow;
use join::message::Findings;
use join::{Reason, Refusal};
use std::cmp::Reverse;
use std::time::Duration;

impl Fleet {
    /// The agent says what it holds for wrong.
    ///
    /// # Errors
    /// When the stream is to end, as for a part.
    pub fn told(&mut self, now: Duration, name: &str, stream: u64, told: &Findings) -> Result<(), Refusal> {
        let taken = self.take_findings(now, name, stream, told);
        if let Err(refusal) = &taken {
            self.refused(refusal.reason);
        }
        taken
    }

    fn take_findings(&mut self, now: Duration, name: &str, stream: u64, told: &Findings) -> Result<(), Refusal> {
        let Fleet { nodes, findings, counts, config, ran, .. } = self;
        let node = of_stream(nodes, name, stream)?;
        *findings -= node.findings.bytes();
        let taken = node.findings.take(now, told, config.findings.saturating_sub(*findings));
        *findings += node.findings.bytes();
        let Untold { no_room, unreadable } =
            taken.map_err(|error| Refusal::new(Reason::Protocol, error.to_string()))?;
        counts.findings_no_room += no_room;
        counts.findings_unreadable += unreadable;
        if let Some(ran) = ran {
            counts.findings_stranger += node.findings.judge(name, &ran.lock());
        }
        Ok(())
    }

    /// A pod may have been heard of, and those of nodes that are silent for long end.
    pub(crate) fn tick_findings(&mut self, now: Duration) {
        let Fleet { nodes, findings, counts, ran, .. } = self;
        let ran = ran.as_ref().map(|ran| ran.lock());
        for (name, node) in nodes.iter_mut().filter(|(_, node)| !node.findings.is_empty()) {
            if let Some(ran) = &ran {
                counts.findings_stranger += node.findings.judge(name, ran);
            }
            if now.saturating_sub(node.heard) > KEPT {
                *findings -= node.findings.bytes();
                node.findings.clear();
            }
        }
    }

    /// What agents hold for wrong, and what is found over several nodes; the worst first.
    #[must_use]
    pub fn findings(&self, now: Duration) -> Vec<FindingRow> {
        let silence = self.config.silence();
        let own = self.loops.found().iter().map(|told| FindingRow::of_cluster(told.clone()));
        let of_nodes = self.nodes.iter().flat_map(|(name, node)| node.findings(name, now, silence));
        let mut rows: Vec<FindingRow> = of_nodes.chain(own).collect();
        rows.sort_by(|a, b| {
            let worst = |row: &FindingRow| Reverse((row.told.severity, row.told.requests()));
            worst(a).cmp(&worst(b)).then_with(|| a.told.whose().cmp(&b.told.whose())).then_with(|| a.node.cmp(&b.node))
        });
        rows
    }

    /// Bytes of findings.
    #[must_use]
    pub fn findings_memory(&self) -> usize {
        self.findings
    }
}
