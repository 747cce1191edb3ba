use crate::container::ContainerRef;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Runs that ended lately: an event or a list that is late must not bring them back.
#[derive(Debug, Default)]
pub struct RecentlyEnded(VecDeque<(Instant, u32, ContainerRef)>);

impl RecentlyEnded {
    /// Longer than any list or event is late.
    const KEPT: Duration = Duration::from_secs(60);
    /// A burst of more ends than this within a list may bring one back; it fails to open and the next list removes it.
    const MOST: usize = 1024;

    pub fn add(&mut self, container: ContainerRef, pid: u32, now: Instant) {
        while self.0.len() >= Self::MOST || self.0.front().is_some_and(|(at, ..)| now.duration_since(*at) > Self::KEPT)
        {
            self.0.pop_front();
        }
        self.0.push_back((now, pid, container));
    }

    /// Whether this very run ended within the last minute.
    pub fn contains(&self, container: &ContainerRef, pid: u32, now: Instant) -> bool {
        let kept = |at: &Instant| now.saturating_duration_since(*at) <= Self::KEPT;
        self.0.iter().any(|(at, other, whose)| *other == pid && whose == container && kept(at))
    }

    /// Whether this very run ended at `oldest` or later.
    pub fn since(&self, container: &ContainerRef, pid: u32, oldest: Instant) -> bool {
        self.0.iter().any(|(at, other, whose)| *other == pid && whose == container && *at >= oldest)
    }
}
