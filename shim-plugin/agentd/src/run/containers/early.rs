//! Namespaces that were given to the attacher before containerd told of a task there, on their way
//! to the containers task. It takes them in before anything else that it hears of their slots.

use flow_model::{NetnsId, Slot, Ts};
use k8s_sync::{Coming, Expectation};
use std::time::Instant;
use tokio::sync::mpsc;

/// More than can wait for their tasks (`shim_plugin::Early`), so that it is never full.
const MOST: usize = 1024;

/// A namespace that the attacher has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    pub slot: Slot,
    pub netns: NetnsId,
    pub heard: Instant,
    /// The same by the observations' clock.
    pub since: Ts,
    /// A process that is in it.
    pub pid: u32,
}

#[derive(Debug)]
pub(super) enum News {
    /// Its name and its addresses are on their way.
    Given(Early, Coming),
    NotTaken(Slot),
}

#[derive(Debug)]
pub struct EarlyTeller(mpsc::Sender<News>, Expectation);

#[derive(Debug)]
pub struct EarlyNews(mpsc::Receiver<News>);

#[must_use]
pub fn channel(names: Expectation) -> (EarlyTeller, EarlyNews) {
    let (tell, hear) = mpsc::channel(MOST);
    (EarlyTeller(tell, names), EarlyNews(hear))
}

impl EarlyTeller {
    /// To be told before the attacher has it. False: nobody listens.
    pub fn tell(&self, early: Early) -> bool {
        self.0.try_send(News::Given(early, self.1.begin())).is_ok()
    }

    /// The attacher did not take it. Returns false.
    pub fn take_back(&self, slot: Slot) -> bool {
        // Where there is no room, the slot is shown as leaving until the agent ends; there is room.
        let _ = self.0.try_send(News::NotTaken(slot));
        false
    }
}

impl EarlyNews {
    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.0.recv().await
    }

    /// What came by now.
    pub(super) fn take(&mut self) -> Option<News> {
        self.0.try_recv().ok()
    }
}
