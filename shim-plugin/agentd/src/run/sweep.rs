//! When to look whether connections that are older than the agent, and of which nothing was seen,
//! are still there. Pure: time and what was found are passed in.
//!
//! One that closes without another byte passes the kernel's programs as a FIN that belongs to no
//! flow. So they are looked for, now and then, as long as there are any.

use flow_model::{FiveTuple, Slot};
use netns_scanner::Silent;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two looks at least: how long one that has ended is shown as open on a small node.
const EVERY: Duration = Duration::from_secs(5);
/// And so many times what the last look took: a fifth of a percent of a CPU. 20,000 sockets take the
/// iterator some 50 ms, and are looked at every 25 s.
const SHARE: u32 = 500;

/// Where it stands.
#[derive(Debug, Default)]
pub struct Sweep {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// No connection is known by a seed alone.
    #[default]
    Nothing,
    Waiting(Instant),
    /// The flow table is asked which they are.
    Asked,
    /// Their namespaces are being looked into; what the scan had taken in all when that began.
    Looking(Duration),
}

impl Sweep {
    /// Connections were found, or may have been.
    pub fn found(&mut self, now: Instant) {
        if matches!(self.state, State::Nothing) {
            self.state = State::Waiting(now + EVERY);
        }
    }

    /// Whether the flow table is to be asked now.
    pub fn asks(&mut self, now: Instant) -> bool {
        let due = matches!(self.state, State::Waiting(at) if at <= now);
        if due {
            self.state = State::Asked;
        }
        due
    }

    /// Its answer, by where to look: the node's own sockets are all in one namespace, which `None`
    /// stands for. `busy` is what the scan has taken so far.
    pub fn answered(&mut self, silent: Vec<Silent>, busy: Duration) -> HashMap<Option<Slot>, Vec<Silent>> {
        self.state = if silent.is_empty() { State::Nothing } else { State::Looking(busy) };
        let mut by_place: HashMap<Option<Slot>, Vec<(Slot, FiveTuple)>> = HashMap::new();
        for (slot, tuple) in silent {
            by_place.entry((!slot.is_of_node()).then_some(slot)).or_default().push((slot, tuple));
        }
        by_place
    }

    /// `sweeping` is how many namespaces are still to be looked into.
    pub fn tick(&mut self, sweeping: usize, busy: Duration, now: Instant) {
        if let State::Looking(before) = self.state
            && sweeping == 0
        {
            let took = busy.saturating_sub(before);
            self.state = State::Waiting(now + EVERY.max(took.saturating_mul(SHARE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, Transport};

    fn silent(slot: Slot, port: u16) -> Silent {
        let end = |port| Endpoint { ip: [10, 0, 0, 1].into(), port };
        (slot, FiveTuple { transport: Transport::Tcp, local: end(port), remote: end(80) })
    }

    #[test]
    fn it_looks_while_there_are_silent_connections_and_no_longer() {
        let start = Instant::now();
        let mut sweep = Sweep::default();
        assert!(!sweep.asks(start + Duration::from_secs(3600)), "nothing was ever found");
        sweep.found(start);
        sweep.found(start + Duration::from_secs(3));
        assert!(!sweep.asks(start + Duration::from_secs(4)));
        let mut now = start + EVERY;
        assert!(sweep.asks(now) && !sweep.asks(now));
        let node = Slot(Slot::FIRST_OF_NODE.0 + 4);
        let places = sweep.answered(vec![silent(Slot(1), 1), silent(node, 2), silent(Slot(1), 3)], Duration::ZERO);
        let mut counts: Vec<(Option<Slot>, usize)> = places.iter().map(|(at, all)| (*at, all.len())).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(None, 1), (Some(Slot(1)), 2)]);
        sweep.tick(1, Duration::from_millis(30), now);
        assert!(!sweep.asks(now + Duration::from_secs(3600)), "still looking");
        now += Duration::from_secs(2);
        sweep.tick(0, Duration::from_millis(60), now);
        assert!(!sweep.asks(now + Duration::from_secs(29)), "a look of 60 ms is one for half a minute");
        assert!(sweep.asks(now + Duration::from_secs(30)));
        assert!(sweep.answered(Vec::new(), Duration::ZERO).is_empty());
        sweep.tick(0, Duration::ZERO, now);
        assert!(!sweep.asks(now + Duration::from_secs(3600)), "all have spoken or ended");
        sweep.found(now);
        assert!(sweep.asks(now + EVERY));
    }
}
