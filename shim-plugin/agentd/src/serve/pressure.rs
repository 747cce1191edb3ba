//! Whether something is being lost now for want of room, as `/readyz` says it: counts that grew in
//! the last minute. The totals are in /metrics.

use std::time::{Duration, Instant};

/// A loss is told for so long after the last of its kind.
const TOLD: Duration = Duration::from_secs(60);

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets and segments of flows that found a table full.
    pub flows_full: u64,
    /// Packets of flows beyond their namespace's share of the kernel's table.
    pub flows_share: u64,
    /// Exchanges that are lost because of that or another bound.
    pub limit: u64,
    /// Records that found the ring full.
    pub ring_full: u64,
    /// Exchanges that are lost because of that.
    pub ring: u64,
}

#[derive(Debug, Default)]
pub struct Pressure {
    totals: Totals,
    flows_at: Option<Instant>,
    ring_at: Option<Instant>,
}

impl Pressure {
    /// To be called about once a second.
    pub fn look(&mut self, totals: Totals, now: Instant) {
        let before = std::mem::replace(&mut self.totals, totals);
        if totals.flows_full > before.flows_full || totals.flows_share > before.flows_share {
            self.flows_at = Some(now);
        }
        if totals.ring_full > before.ring_full {
            self.ring_at = Some(now);
        }
    }

    /// Part and words of each loss that goes on.
    pub fn told(&self, now: Instant) -> impl Iterator<Item = (&'static str, String)> {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < TOLD);
        let Totals { flows_full, flows_share, limit, ring_full, ring } = self.totals;
        let flows = is_recent(self.flows_at).then(|| {
            let what = match (flows_full, flows_share) {
                (0, share) => {
                    format!("a namespace has its share of the flow table: {share} packets found no room in it")
                }
                (full, 0) => format!("the flow table is full: {full} packets found no room in it"),
                (full, share) => {
                    format!(
                        "the flow table is full: {full} packets found no room in it, {share} more none in their \
                         namespace's share"
                    )
                }
            };
            let text = format!(
                "{what}, and at least {limit} exchanges were lost at a bound since the start, and it goes on; \
                 `pilotfish status` and capture.flows"
            );
            ("flows", text)
        });
        let ring = is_recent(self.ring_at).then(|| {
            let text = format!(
                "the ring is full: {ring_full} records found no room in it and {ring} exchanges were lost so since the \
                 start, and it goes on; more CPU or capture.ring_bytes"
            );
            ("ring", text)
        });
        flows.into_iter().chain(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pressure: &Pressure, now: Instant) -> Vec<&'static str> {
        pressure.told(now).map(|(part, _)| part).collect()
    }

    #[test]
    fn a_loss_is_told_while_it_goes_on_and_a_minute_longer() {
        let (mut pressure, start) = (Pressure::default(), Instant::now());
        pressure.look(Totals::default(), start);
        assert_eq!(parts(&pressure, start), [""; 0]);
        let lost = Totals { flows_full: 7, limit: 2, ..Totals::default() };
        pressure.look(lost, start);
        let (_, text) = pressure.told(start).next().expect("told");
        assert!(text.contains("7 packets found no room") && text.contains("2 exchanges"), "{text}");
        pressure.look(Totals { ring_full: 1, ..lost }, start + TOLD / 2);
        assert_eq!(parts(&pressure, start + TOLD / 2), ["flows", "ring"]);
        assert_eq!(parts(&pressure, start + TOLD), ["ring"]);
        assert_eq!(parts(&pressure, start + TOLD * 2), [""; 0]);
    }

    #[test]
    fn a_used_up_share_is_told_as_that() {
        let (mut pressure, now) = (Pressure::default(), Instant::now());
        let mut told = |totals| {
            pressure.look(totals, now);
            pressure.told(now).next().map(|(_, text)| text).unwrap_or_default()
        };
        let share = Totals { flows_share: 9, limit: 2, ..Totals::default() };
        let text = told(share);
        assert!(text.contains("its share of the flow table: 9 packets") && text.contains("at least 2 exch"), "{text}");
        let text = told(Totals { flows_full: 3, ..share });
        assert!(text.contains("is full: 3 packets") && text.contains("9 more none in their namespace"), "{text}");
    }
}
