//! Half-open connections, counted by namespace, so that a flood of one does not take the room of the
//! others. The programs count what begins and what completes. Flows are removed from here, so each
//! round through the table puts right what they cannot know.

use super::sys::ControlPage;
use capture_wire as wire;
use std::sync::atomic::Ordering;

/// What one round found.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// The counts when it began, and what it saw since. Empty before it began.
    counts: Vec<(u32, u32)>,
}

impl Opening {
    pub fn begin(&mut self, control: &ControlPage) {
        if self.counts.is_empty() {
            let now = |place| (control.opening(Some(place)).load(Ordering::Relaxed), 0);
            self.counts = (0..wire::OPENING).map(now).collect();
        }
    }

    pub fn saw(&mut self, key: &wire::Key, flow: &wire::Flow) {
        let open = flow.flags & (wire::FLOW_ESTABLISHED | wire::FLOW_MIDWAY) == 0;
        if open
            && i32::from(key.proto) == libc::IPPROTO_TCP
            && let Some((_, seen)) = self.counts.get_mut(wire::opening(key.slot))
        {
            *seen += 1;
        }
    }

    /// What began or completed meanwhile stays counted: it may be counted twice until the next round.
    pub fn end(self, control: &ControlPage) {
        for (place, (before, seen)) in self.counts.into_iter().enumerate() {
            let change = seen.wrapping_sub(before);
            if change != 0 {
                control.opening(Some(place)).fetch_add(change, Ordering::Relaxed);
                control.opening(None).fetch_add(change, Ordering::Relaxed);
            }
        }
    }
}
