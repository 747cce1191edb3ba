//! Names that somebody else watches for: how they come to the thread that keeps them.

use crate::cluster::object::Change;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Lists of changes that are on their way; who brings them waits.
const QUEUE: usize = 4;

/// What a companion tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Streamed {
    /// In its order, as watches tell it.
    Changes(Vec<Change>),
    /// Everything was told, and was right so long ago.
    Age(Duration),
}

/// Where a companion's names go in.
#[derive(Debug)]
pub struct Inlet {
    told: mpsc::Sender<Streamed>,
    there: watch::Sender<bool>,
    wanted: watch::Receiver<bool>,
}

#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) told: mpsc::Receiver<Streamed>,
    pub(super) there: watch::Receiver<bool>,
    pub(super) wanted: watch::Sender<bool>,
}

pub(super) fn inlet() -> (Inlet, Outlet) {
    let (told, out) = mpsc::channel(QUEUE);
    let ((there, is_there), (want, wanted)) = (watch::channel(false), watch::channel(false));
    (Inlet { told, there, wanted }, Outlet { told: out, there: is_there, wanted: want })
}

impl Inlet {
    /// Whether there is a companion that tells names.
    pub fn set_there(&self, is_there: bool) {
        self.there.send_if_modified(|there| std::mem::replace(there, is_there) != is_there);
    }

    /// Whether names are taken from it. They are to be told from the beginning each time that this
    /// becomes true.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.wanted.borrow()
    }

    /// Waits for room. False when nobody keeps names any more.
    pub async fn tell(&self, streamed: Streamed) -> bool {
        self.told.send(streamed).await.is_ok()
    }
}
