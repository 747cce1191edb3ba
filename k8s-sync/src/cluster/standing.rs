//! How the API stands: whether its word counts against another's, and whether it is worth waiting
//! for.

use std::sync::atomic::{AtomicU8, Ordering};

/// How the API stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    #[default]
    Absent,
    /// It was found, and its first lists are on the way.
    Coming,
    /// What it tells is complete and kept up to date.
    Fresh,
    /// It does not answer, or not with everything. What it told may be old.
    Away,
}

impl Standing {
    const ALL: [Standing; 4] = [Standing::Absent, Standing::Coming, Standing::Fresh, Standing::Away];
}

#[derive(Debug, Default)]
pub(super) struct AtomicStanding(AtomicU8);

impl AtomicStanding {
    pub(super) fn get(&self) -> Standing {
        Standing::ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// Whether it is another than before.
    pub(super) fn set(&self, standing: Standing) -> bool {
        self.0.swap(standing as u8, Ordering::Relaxed) != standing as u8
    }
}
