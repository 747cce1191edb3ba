//! Whether what ran before the agent is observed by now. Until then what is counted is a part, and
//! whoever adds up over nodes has to know.

use std::time::{Duration, Instant};

/// Labels that cannot be read keep nobody waiting for longer than this.
const UNREAD: Duration = Duration::from_secs(60);

/// How far the agent is.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// In step with the containers of each containerd.
    pub connected: bool,
    /// No container waits for its attach.
    pub settled: bool,
    /// Connections from before the start were looked for in all of them.
    pub scanned: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Beginning {
    since: Option<Instant>,
    is_over: bool,
}

impl Beginning {
    /// To be called a few times a second. `named`: it is known of each namespace who lives there. Once
    /// it is over it stays so: what comes later is new, and attached before its first packet.
    pub fn is_over(&mut self, reached: Reached, named: impl FnOnce() -> bool, now: Instant) -> bool {
        let Reached { connected, settled, scanned } = reached;
        if self.is_over {
            return true;
        }
        if !(connected && settled && scanned) {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        self.is_over = named() || now.saturating_duration_since(since) >= UNREAD;
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reached = Reached { connected: true, settled: true, scanned: true };

    #[test]
    fn it_is_over_when_nothing_is_missing_and_stays_over() {
        let now = Instant::now();
        let mut beginning = Beginning::default();
        let lacks =
            [Reached { connected: false, ..ALL }, Reached { settled: false, ..ALL }, Reached { scanned: false, ..ALL }];
        for reached in lacks {
            assert!(!beginning.is_over(reached, || true, now));
        }
        assert!(!beginning.is_over(ALL, || false, now));
        assert!(beginning.is_over(ALL, || true, now));
        assert!(lacks.into_iter().all(|reached| beginning.is_over(reached, || false, now)));
    }

    #[test]
    fn labels_that_nobody_can_read_are_not_waited_for_for_ever() {
        let now = Instant::now();
        let mut beginning = Beginning::default();
        assert!(!beginning.is_over(ALL, || false, now));
        // Another container comes: the wait begins anew.
        assert!(!beginning.is_over(Reached { settled: false, ..ALL }, || false, now + UNREAD));
        assert!(!beginning.is_over(ALL, || false, now + UNREAD));
        assert!(beginning.is_over(ALL, || false, now + 2 * UNREAD));
    }
}
