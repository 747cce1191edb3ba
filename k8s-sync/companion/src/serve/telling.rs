//! Tells names down the streams of agents, within a bound on bytes a second over all of them.

use join::limits::PATIENCE;
use join::message::{FromCompanion, Wants};
use join::names::{Budget, Next, Shelf, ShelfCounts};
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Changes wait so long for others that go with them.
const COMMIT: Duration = Duration::from_millis(500);
/// That nothing changed is said as often.
const BEAT: Duration = Duration::from_secs(10);

/// What all streams share.
#[derive(Debug)]
pub struct Telling {
    shelf: Arc<Mutex<Shelf>>,
    budget: Mutex<Budget>,
    began: Instant,
    commits: watch::Sender<u64>,
    streams: Mutex<u64>,
}

/// What is told, and to how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TellingCounts {
    /// Names that are told.
    pub names: u64,
    /// Agents that asked for them, on streams that are open.
    pub streams: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Messages that waited for their share of bytes a second.
    pub waits: u64,
    /// Of the shelf.
    pub shelf: ShelfCounts,
}

impl Telling {
    /// What is on `shelf`, with so many bytes a second.
    #[must_use]
    pub fn new(shelf: Arc<Mutex<Shelf>>, bytes_per_second: u64) -> Telling {
        let (budget, commits) = (Mutex::new(Budget::new(bytes_per_second)), watch::Sender::new(0));
        Telling { shelf, budget, began: Instant::now(), commits, streams: Mutex::new(0) }
    }

    /// What is told, and to how many.
    #[must_use]
    pub fn counts(&self) -> TellingCounts {
        let (bytes, waits) = self.budget.lock().counts();
        let streams = *self.streams.lock();
        let shelf = self.shelf.lock();
        TellingCounts { names: shelf.len() as u64, streams, bytes, waits, shelf: shelf.counts() }
    }

    /// Makes what changed known, until `stop` is cancelled. `age` says how old it is.
    pub async fn run(self: Arc<Telling>, age: impl Fn() -> Duration + Send, stop: CancellationToken) {
        let mut was_complete = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(COMMIT) => {}
            }
            let seconds = u32::try_from(age().as_secs()).unwrap_or(u32::MAX);
            let (is_complete, changed) = {
                let mut shelf = self.shelf.lock();
                shelf.set_age(seconds);
                (shelf.is_complete(), shelf.commit())
            };
            // Whoever asked before everything was listed is answered now, though the last list of all may have
            // changed nothing that was not known.
            if changed || is_complete != was_complete {
                self.commits.send_modify(|commits| *commits += 1);
            }
            was_complete = is_complete;
        }
    }

    /// Answers one agent, until it says no more or does not read.
    pub(super) async fn stream(
        self: Arc<Telling>,
        mut wants: mpsc::Receiver<Wants>,
        down: mpsc::Sender<Result<FromCompanion, Status>>,
    ) {
        let Some(first) = wants.recv().await else { return };
        *self.streams.lock() += 1;
        self.tell(first, &mut wants, &down).await;
        *self.streams.lock() -= 1;
    }

    async fn tell(
        &self,
        first: Wants,
        wants: &mut mpsc::Receiver<Wants>,
        down: &mpsc::Sender<Result<FromCompanion, Status>>,
    ) {
        let mut commits = self.commits.subscribe();
        let mut cursor = self.shelf.lock().cursor(first);
        loop {
            commits.mark_unchanged();
            let next = self.shelf.lock().next(&mut cursor);
            let (message, asks) = match next {
                Next::Send(message) => (Some(message), false),
                Next::Ask(message) => (Some(message), true),
                Next::Nothing => tokio::select! {
                    again = wants.recv() => match again {
                        Some(again) => {
                            cursor = self.shelf.lock().cursor(again);
                            continue;
                        }
                        None => return,
                    },
                    changed = commits.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    () = sleep(BEAT) => (self.shelf.lock().beat(&cursor), false),
                },
            };
            if let Some(message) = message {
                let wait = self.budget.lock().take(self.began.elapsed(), message.encoded_len());
                sleep(wait).await;
                // Who does not read is not waited for.
                if !timeout(PATIENCE, down.send(Ok(message))).await.is_ok_and(|sent| sent.is_ok()) {
                    return;
                }
            }
            if asks {
                match wants.recv().await {
                    Some(again) => cursor = self.shelf.lock().cursor(again),
                    None => return,
                }
            }
        }
    }
}
