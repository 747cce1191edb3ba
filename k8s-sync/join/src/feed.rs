//! What the streams of one agent share: the series that they push, and what they show.

use crate::message::{Finding, Sees};
use crate::source::Source;
use crate::ticket::Ticket;
use crate::wallet::{Kept, Wallet};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Names every series once, with its key and its value.
type Walk = dyn FnMut(&mut dyn FnMut(&[u8], &[u8])) + Send;

type Look = dyn FnMut() -> Sees + Send;

/// The time by the agent's clock, in milliseconds, and what it holds for wrong. `None`: nobody has looked.
type Tell = dyn FnMut() -> Option<(u64, Arc<[Finding]>)> + Send;

/// Writes down the credential of the node. May take as long as a disk does.
type Keep = dyn Fn(&Kept) -> Result<(), String> + Send + Sync;

/// What the streams of one agent show, and where it is kept.
#[derive(Clone)]
pub struct Purse {
    pub(crate) wallet: Arc<Mutex<Wallet>>,
    keep: Arc<Keep>,
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purse").field("wallet", &self.wallet).finish_non_exhaustive()
    }
}

impl Purse {
    /// `keep` writes down what is to be found after a restart.
    #[must_use]
    pub fn new(wallet: Wallet, keep: impl Fn(&Kept) -> Result<(), String> + Send + Sync + 'static) -> Purse {
        Purse { wallet: Arc::new(Mutex::new(wallet)), keep: Arc::new(keep) }
    }

    /// What `ticket` says alone: nothing is kept.
    #[must_use]
    pub fn of(ticket: &Ticket) -> Purse {
        Purse::new(Wallet::new(ticket, None), |_| Ok(()))
    }

    pub(crate) async fn keep(&self, kept: Kept) {
        let keep = self.keep.clone();
        let written = tokio::task::spawn_blocking(move || keep(&kept)).await;
        if let Err(reason) = written.unwrap_or_else(|error| Err(error.to_string())) {
            tracing::warn!(reason, "the node's credential is not kept");
            self.wallet.lock().forget();
        }
    }
}

/// The series of the agent, for the clients of all replicas.
pub struct Feed {
    source: Source,
    walk: Box<Walk>,
    sees: Box<Look>,
    tells: Box<Tell>,
    refreshed: Option<Instant>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("series", &self.source.series()).finish_non_exhaustive()
    }
}

/// Two replicas that push within this time share one walk.
const SHARED: Duration = Duration::from_secs(1);

impl Feed {
    /// `walk` is called before a push, at most once a second.
    #[must_use]
    pub fn new(walk: impl FnMut(&mut dyn FnMut(&[u8], &[u8])) + Send + 'static) -> Feed {
        let (walk, sees, tells) = (Box::new(walk), Box::new(Sees::default), Box::new(|| None));
        Feed { source: Source::default(), walk, sees, tells, refreshed: None }
    }

    /// `sees` is called before each walk: what is counted from then on is of all that it says.
    #[must_use]
    pub fn seeing(self, sees: impl FnMut() -> Sees + Send + 'static) -> Feed {
        Feed { sees: Box::new(sees), ..self }
    }

    /// `tells` is called before each walk, too.
    #[must_use]
    pub fn telling(self, tells: impl FnMut() -> Option<(u64, Arc<[Finding]>)> + Send + 'static) -> Feed {
        Feed { tells: Box::new(tells), ..self }
    }

    /// What is pushed.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn refresh(&mut self, now: Instant) {
        if self.refreshed.is_none_or(|at| now.duration_since(at) >= SHARED) {
            self.refreshed = Some(now);
            let Feed { source, walk, sees, tells, .. } = self;
            source.sees(sees());
            if let Some((now_ms, findings)) = tells() {
                source.findings_mut().tell(now_ms, &findings);
            }
            source.refresh(|put| walk(put));
        }
    }
}
