//! Where the stream hands names over to whoever keeps them.

use super::copy::{CopyCounts, NamesCopy, Told};
use crate::message::{FromCompanion, Wants};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages that were read and not taken over. A stream waits for them, and loses none: some 100
/// names each.
const QUEUE: usize = 8;

/// Shared by the stream and by whoever keeps the names.
#[derive(Debug)]
pub struct Names {
    copy: Mutex<NamesCopy>,
    wanted: AtomicBool,
    told: mpsc::Sender<Vec<Told>>,
}

impl Names {
    /// Not wanted yet; and where they come out.
    #[must_use]
    pub fn new() -> (Names, mpsc::Receiver<Vec<Told>>) {
        let (told, out) = mpsc::channel(QUEUE);
        (Names { copy: Mutex::default(), wanted: AtomicBool::new(false), told }, out)
    }

    /// Whether to take names off the stream. Each time everything is told from the beginning.
    pub fn want(&self, wanted: bool) {
        if self.wanted.swap(wanted, Relaxed) != wanted {
            self.copy.lock().forget();
        }
    }

    /// Names that are known, and what became of messages.
    #[must_use]
    pub fn counts(&self) -> (usize, CopyCounts) {
        let copy = self.copy.lock();
        (copy.len(), copy.counts())
    }

    pub(crate) fn reconnected(&self) {
        self.copy.lock().reconnected();
    }

    /// What was asked last did not go out.
    pub(crate) fn unasked(&self) {
        self.copy.lock().unasked();
    }

    pub(crate) fn ask(&self, now: Duration) -> Option<Wants> {
        if self.wanted.load(Relaxed) { self.copy.lock().ask(now) } else { None }
    }

    pub(crate) async fn received(&self, message: &FromCompanion) {
        if !self.wanted.load(Relaxed) {
            return;
        }
        let told = self.copy.lock().received(message);
        if !told.is_empty() {
            // Nobody keeps them any more when the agent is about to end.
            let _ = self.told.send(told).await;
        }
    }
}
