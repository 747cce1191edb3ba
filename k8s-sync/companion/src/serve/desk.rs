//! Where nodes get credentials of their own: asks the `Book` who may have which name, and writes to the
//! Secret what it says, one write for all who ask at a time.
//!
//! A credential that nobody knows causes no request to the API server: the Secret is watched, and who
//! shows something unknown waits a moment for the watch.

use crate::book::{Book, Changes, Claim, Entry, Known, Pages, Shown, Which, patch};
use join::message::Hello;
use join::{Reason, Refusal, TokenHash};
use k8s_sync::watch::{Failed, FollowReport};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use crate::serve::store::{InCluster, Place, Store};

/// After its own start a companion has read what it needs within this, or the API server is away. Both
/// are less than an agent waits for the answer to its greeting.
const READ: Duration = Duration::from_secs(5);
/// What another replica has written is known here within this.
const NEWS: Duration = Duration::from_secs(2);
/// And a write takes no longer.
const WRITE: Duration = Duration::from_secs(8);
/// Agents whose writes wait: all of a cluster's may come at once.
const QUEUE: usize = 4_096;
/// Nodes of one write: some 20 KiB.
const BATCH: usize = 256;
/// Other replicas were faster so often.
const TRIES: u32 = 8;
/// Nodes that are gone and make room with one write.
const ROOM_FOR: usize = 64;

/// What became of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskCounts {
    /// Nodes that have a credential.
    pub joined: u64,
    /// Writes that were made.
    pub written: u64,
    /// Writes that another replica was faster than; made again.
    pub conflicts: u64,
    /// Writes that failed; the agent asks again.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    conflicts: AtomicU64,
    failed: AtomicU64,
}

struct Asked {
    node: String,
    hash: TokenHash,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// See the module.
pub struct Desk {
    place: Place,
    store: Box<dyn Store>,
    book: Mutex<Book>,
    /// Grows with each change of the book.
    changed: watch::Sender<u64>,
    queue: mpsc::Sender<Asked>,
    asked: Mutex<Option<mpsc::Receiver<Asked>>>,
    report: Mutex<Arc<Mutex<FollowReport>>>,
    spread: RandomState,
    counts: Counts,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What nobody here has given out.
#[must_use]
pub fn unknown() -> Refusal {
    let text = "the join token is not this cluster's, or was changed: take a new join.toml from it";
    Refusal::new(Reason::Token, text)
}

impl Desk {
    /// Keeps what nodes have joined in the Secret at `place`.
    #[must_use]
    pub fn new(place: Place, store: impl Store + 'static) -> Desk {
        let (queue, asked) = mpsc::channel(QUEUE);
        Desk {
            place,
            store: Box::new(store),
            book: Mutex::default(),
            changed: watch::Sender::new(0),
            queue,
            asked: Mutex::new(Some(asked)),
            report: Mutex::default(),
            spread: RandomState::new(),
            counts: Counts::default(),
        }
    }

    /// Which Secret it is.
    #[must_use]
    pub fn secret(&self) -> &Place {
        &self.place
    }

    /// How the watch of the Secret stands, for who is told why it is not known.
    pub fn set_report(&self, report: Arc<Mutex<FollowReport>>) {
        *self.report.lock() = report;
    }

    /// The Secret is this now; `None`: there is none.
    pub fn set_pages(&self, pages: Option<Pages>) {
        if pages.is_none() {
            tracing::warn!(secret = self.shown(), "the Secret of the nodes that have joined is missing");
        }
        self.book.lock().set_pages(pages);
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// The nodes that the cluster has.
    pub fn set_nodes(&self, nodes: BTreeMap<String, Which>) {
        self.book.lock().set_nodes(nodes);
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// What became of writes.
    #[must_use]
    pub fn counts(&self) -> DeskCounts {
        let Counts { written, conflicts, failed } = &self.counts;
        DeskCounts {
            joined: self.book.lock().joined() as u64,
            written: written.load(Relaxed),
            conflicts: conflicts.load(Relaxed),
            failed: failed.load(Relaxed),
        }
    }

    fn shown(&self) -> String {
        format!("{}/{}", self.place.namespace, self.place.name)
    }

    /// Until `is_so`, for so long at most. Whether it is.
    async fn wait(&self, patience: Duration, is_so: impl Fn(&Book) -> bool) -> bool {
        let (mut changed, until) = (self.changed.subscribe(), Instant::now() + patience);
        loop {
            if is_so(&self.book.lock()) {
                return true;
            }
            // The sender is ours.
            if timeout_at(until, changed.changed()).await.is_err() {
                return false;
            }
        }
    }

    /// Whose credential this is the hash of, where it is not the join token's.
    ///
    /// # Errors
    /// Nobody's, or an admin ended it, or it is not known yet.
    pub async fn identify(&self, hash: TokenHash) -> Result<Shown, Refusal> {
        if !self.wait(READ, |book| book.is_read() || book.is_missing()).await {
            return Err(self.unread());
        }
        self.wait(NEWS, |book| book.knows(hash) != Known::Nobodys).await;
        let known = self.book.lock().knows(hash);
        let is_deaf = self.trouble().is_some();
        match known {
            Known::Live => Ok(Shown::Credential(hash)),
            Known::Ended => Err(self.refusal(Claim::Ended, None)),
            // What it does not hear may be what it is shown.
            Known::Nobodys if is_deaf => Err(self.unread()),
            Known::Nobodys => Err(unknown()),
        }
    }

    /// Whether who shows this may push for the node that it names. Returns the hash by which it joins;
    /// `None`: by the join token alone, as versions before do.
    ///
    /// # Errors
    /// The name is taken, or cannot be given at the moment.
    pub async fn admit(&self, hello: &Hello, shown: Shown) -> Result<Option<TokenHash>, Refusal> {
        let node = &hello.node;
        if let Shown::Credential(hash) = shown {
            let claim = self.book.lock().holds(node, hash);
            return match claim {
                Claim::Kept => Ok(Some(hash)),
                // That it is this Node now can be written later as well.
                Claim::Free(_) => {
                    let answer = oneshot::channel().0;
                    let _ = self.queue.try_send(Asked { node: node.clone(), hash, answer });
                    Ok(Some(hash))
                }
                Claim::Ended => Err(self.refusal(claim, Some(node))),
                Claim::Taken | Claim::Full | Claim::Unknown => {
                    let text = format!("the credential is another node's than \"{node}\": each node has its own");
                    Err(Refusal::new(Reason::Node, text))
                }
            };
        }
        if !self.wait(READ, |book| book.is_read() || book.is_missing()).await || self.book.lock().is_missing() {
            return Err(self.unread());
        }
        let asks = TokenHash::from_bytes(&hello.credential);
        let claim = match asks {
            Some(hash) => self.book.lock().claim(node, hash),
            // Of a version before, or it has no place to keep one.
            None if self.book.lock().is_open(node) => return Ok(None),
            None => Claim::Taken,
        };
        // Who writes knows whether there is room to be made.
        let (Claim::Free(_) | Claim::Full, Some(hash)) = (claim, asks) else {
            return if claim == Claim::Kept { Ok(asks) } else { Err(self.refusal(claim, Some(node))) };
        };
        let (answer, answered) = oneshot::channel();
        let late = |_| self.busy("it takes too long to write that this node has joined");
        self.queue.try_send(Asked { node: node.clone(), hash, answer }).map_err(late)?;
        match timeout(WRITE, answered).await {
            Ok(Ok(answer)) => answer.map(|()| Some(hash)),
            Ok(Err(_)) | Err(_) => Err(self.busy("it takes too long to write that this node has joined")),
        }
    }

    /// Why who has joined by this hash may push no longer.
    #[must_use]
    pub fn lost(&self, node: &str, hash: TokenHash) -> Option<Refusal> {
        let lost = self.book.lock().lost(node, hash);
        lost.map(|claim| self.refusal(claim, Some(node)))
    }

    /// Why the watch of the Secret hears nothing.
    fn trouble(&self) -> Option<String> {
        let report = self.report.lock().clone();
        let report = report.lock();
        report.trouble.clone()
    }

    fn busy(&self, why: &str) -> Refusal {
        Refusal::new(Reason::Busy, format!("{why} in Secret {}; it is tried again", self.shown()))
    }

    fn unread(&self) -> Refusal {
        let secret = self.shown();
        let is_missing = self.book.lock().is_missing();
        let text = match (is_missing, self.trouble()) {
            (true, _) => format!("Secret {secret} is missing: apply the companion's manifests again"),
            (false, Some(trouble)) => {
                format!("the companion cannot tell which nodes have joined: Secret {secret}: {trouble}")
            }
            (false, None) => "the companion has not read yet which nodes there are and which have joined".to_owned(),
        };
        Refusal::new(Reason::Busy, text)
    }

    fn refusal(&self, claim: Claim, node: Option<&str>) -> Refusal {
        let node = node.map_or_else(|| "this node".to_owned(), |node| format!("node \"{node}\""));
        match claim {
            Claim::Ended => Refusal::new(Reason::Ended, format!("an admin ended the credential of {node}")),
            Claim::Full => {
                let text = format!("Secret {} has no room for one more node", self.shown());
                Refusal::new(Reason::Busy, text)
            }
            Claim::Unknown => {
                let text = format!("the cluster has no {node}: set kubernetes.node to its name there");
                Refusal::new(Reason::Node, text)
            }
            Claim::Taken | Claim::Kept | Claim::Free(_) => {
                let text = format!(
                    "{node} has joined with a credential that this agent does not have: if it is this machine, \
                     an admin runs `pilotfish-companion join --reset` for it"
                );
                Refusal::new(Reason::Taken, text)
            }
        }
    }

    /// Writes, until `stop` is cancelled. To be called once.
    pub async fn run(self: Arc<Desk>, stop: CancellationToken) {
        let Some(mut asked) = self.asked.lock().take() else { return };
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                got = asked.recv_many(&mut batch, BATCH) => if got == 0 { return },
            }
            self.write(std::mem::take(&mut batch)).await;
        }
    }

    async fn write(&self, mut batch: Vec<Asked>) {
        for attempt in 1..=TRIES {
            let (version, changes) = self.decide(&mut batch);
            if changes.is_empty() {
                return;
            }
            match self.store.merge(patch(&version, &changes)).await {
                Ok(secret) => {
                    self.counts.written.fetch_add(1, Relaxed);
                    self.set_pages(Some(Pages::read(&secret)));
                    // What was written is kept now; who waited for room gets it.
                    continue;
                }
                Err(Failed::Conflict(_)) => {
                    self.counts.conflicts.fetch_add(1, Relaxed);
                    // Another one for each process: two that were in each other's way come apart.
                    let spread = self.spread.hash_one(attempt) % 64;
                    sleep(Duration::from_millis(spread * u64::from(attempt))).await;
                    match self.store.read().await {
                        Ok(secret) => self.set_pages(Some(Pages::read(&secret))),
                        Err(failed) => return self.fail(batch, &failed.to_string()),
                    }
                }
                Err(failed) => return self.fail(batch, &failed.to_string()),
            }
        }
        self.fail(batch, "others change it all the time");
    }

    /// Answers those of whom is known what becomes of them. What is to be written for the others, and
    /// of which state.
    fn decide(&self, batch: &mut Vec<Asked>) -> (String, Changes) {
        let book = self.book.lock();
        let (mut changes, mut free, mut full) = (Changes::new(), Vec::new(), Vec::new());
        for asked in std::mem::take(batch) {
            let claim = match changes.get(&asked.node) {
                // The first of two that ask at once.
                Some(Some(Entry::Live { hash, .. })) if *hash != asked.hash => Claim::Taken,
                _ => book.claim(&asked.node, asked.hash),
            };
            match claim {
                Claim::Free(entry) => {
                    changes.insert(asked.node.clone(), Some(entry));
                    free.push(asked);
                }
                Claim::Full => full.push(asked),
                Claim::Kept => drop(asked.answer.send(Ok(()))),
                claim => drop(asked.answer.send(Err(self.refusal(claim, Some(&asked.node))))),
            }
        }
        if !full.is_empty() {
            let departed = book.departed(ROOM_FOR);
            if departed.is_empty() {
                full.drain(..).for_each(|asked| drop(asked.answer.send(Err(self.refusal(Claim::Full, None)))));
            }
            changes.extend(departed.into_iter().map(|node| (node, None)));
        }
        free.append(&mut full);
        *batch = free;
        (book.version().to_owned(), changes)
    }

    fn fail(&self, batch: Vec<Asked>, why: &str) {
        self.counts.failed.fetch_add(1, Relaxed);
        tracing::warn!(secret = self.shown(), why, nodes = batch.len(), "that nodes have joined was not written");
        for asked in batch {
            let _ = asked.answer.send(Err(self.busy("it could not be written that this node has joined")));
        }
    }
}
