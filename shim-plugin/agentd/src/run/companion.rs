//! The task that joins the companion: reads `join.toml`, pushes what is counted, and begins anew when
//! the file is another one.
//!
//! Nothing waits for it. While the companion is away, and where there is none, the agent counts and
//! shows the same.

use crate::exit::Failure;
use crate::run::credential::Credential;
use crate::run::saved;
use crate::serve::board::Board;
use crate::serve::companion::Joining;
use golden_metrics::Losses;
use join::message::Sees;
use join::{Feed, Group, Me, Purse, Ticket, Wallet};
use k8s_sync::access::Fingerprint;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A file that appears or changes is taken over within this.
const LOOK: Duration = Duration::from_secs(10);
/// A ticket with two CAs has some KiB.
const LARGEST: u64 = 1 << 20;
/// Why the agent ends is said within this, or not.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An exit code and its reason.
type Why = Arc<Mutex<Option<(u8, String)>>>;

/// The task, while it runs.
#[derive(Debug)]
pub struct Companion {
    joining: Arc<Joining>,
    why: Why,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Companion {
    /// Begins, where `board` says what to join.
    #[must_use]
    pub fn start(board: &Board) -> Option<Companion> {
        let joining = board.companion.get()?.clone();
        let (why, stop) = (Why::default(), CancellationToken::new());
        let task = tokio::spawn(run(joining.clone(), why.clone(), stop.clone()));
        Some(Companion { joining, why, stop, task })
    }

    /// Tells the companion how the agent ends, if it listens.
    pub async fn end(self, result: &Result<(), Failure>) {
        let Companion { joining, why, stop, task } = self;
        let began = Instant::now();
        let said = match result {
            Ok(()) => (0, "it was told to stop".to_owned()),
            Err(failure) => {
                // It may have begun a moment ago.
                while !joining.group.first().lock().is_open() && began.elapsed() < LAST_WORDS {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (failure.exit.code(), failure.to_string())
            }
        };
        *why.lock() = Some(said);
        stop.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, task).await;
    }
}

#[tracing::instrument(name = "companion", skip_all)]
async fn run(joining: Arc<Joining>, why: Why, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // Before it is read: what changes meanwhile shows as a change.
        let seen = Fingerprint::of([joining.file.clone()]);
        let (file, node) = (joining.file.clone(), joining.node.clone());
        let read = tokio::task::spawn_blocking(move || {
            let ticket = ticket(&file)?;
            ticket.is_for(&node).map_err(|error| format!("{}: {error}", file.display()))?;
            let purse = purse(&ticket, &node, saved::directory().as_deref());
            Ok((ticket, purse))
        })
        .await;
        let ticket = match read.unwrap_or_else(|error| Err(error.to_string())) {
            Err(reason) => {
                if joining.read(Err(&reason)) {
                    tracing::warn!(reason, "no companion is joined; everything is counted here as before");
                }
                None
            }
            Ok((ticket, purse)) => {
                joining.read(Ok(&ticket.address));
                tracing::info!(companion = ticket.address, "joining the companion");
                Some((ticket, purse))
            }
        };
        let over = stop.child_token();
        let pushes = async {
            match ticket {
                Some((ticket, purse)) => joining.group.run(ticket, purse, over.clone(), why.clone()).await,
                None => over.cancelled().await,
            }
        };
        let looks = async {
            changed(&seen, &over).await;
            over.cancel();
        };
        tokio::join!(pushes, looks);
    }
}

/// What the node has to show: what the file says, and its own credential where that can be kept.
fn purse(ticket: &Ticket, node: &str, directory: Option<&Path>) -> Purse {
    // A name that is none is refused whatever it shows.
    let is_wanted = ticket.own.is_none() && ticket.token_file.is_none() && join::is_node_name(node);
    let Some(credential) = directory.map(Credential::within).filter(|_| is_wanted) else {
        return Purse::of(ticket);
    };
    match credential.of(node) {
        Ok(kept) => Purse::new(Wallet::new(ticket, Some(kept)), move |kept| credential.keep(kept)),
        Err(reason) => {
            tracing::warn!(reason, "the node joins by the join token alone");
            Purse::of(ticket)
        }
    }
}

/// Returns when the file is another one, or `over` is cancelled.
async fn changed(seen: &Fingerprint, over: &CancellationToken) {
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let seen = seen.clone();
        // A disk that hangs holds one thread, and no push.
        if !tokio::task::spawn_blocking(move || seen.is_current()).await.unwrap_or(true) {
            return;
        }
    }
}

/// # Errors
/// With what is wrong with the file. The token is in no message.
pub fn ticket(file: &Path) -> Result<Ticket, String> {
    let shown = file.display();
    let size = std::fs::metadata(file).map_err(|error| format!("cannot read {shown}: {error}"))?.len();
    if size > LARGEST {
        return Err(format!("{shown} is larger than 1 MiB"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    Ticket::read(&text).map_err(|error| format!("{shown}: {error}"))
}

/// What to join, and as whom.
#[derive(Debug)]
pub struct Wanted {
    pub file: PathBuf,
    pub node: String,
    /// Names of the cluster, too.
    pub names: bool,
}

/// For the board, before anything is pushed.
#[must_use]
pub fn joining(wanted: Wanted, board: &Arc<Board>, losses: &Losses) -> Joining {
    let Wanted { file, node, names } = wanted;
    let instance = u64::from_str_radix(&board.instance, 16).unwrap_or_default();
    let me = Me::new(board.version.version.clone(), instance);
    // The board holds the feed; the feed must not hold the board.
    let traffic = Arc::downgrade(board);
    let feed = Feed::new(move |put| {
        if let Some(board) = traffic.upgrade() {
            board.traffic.snapshot().rows(put);
        }
    });
    let seeing = Arc::downgrade(board);
    let feed = feed.seeing(move || seeing.upgrade().map_or(Sees::Part, |board| board.sees(Instant::now())));
    let telling = Arc::downgrade(board);
    let feed = feed.telling(move || telling.upgrade()?.history.get()?.findings());
    let group = Group::new(me, node.clone(), instance, feed);
    Joining::new((file, node), group, names, losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_ticket_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("join.toml");
        let told = || ticket(&file).expect_err("no ticket");
        assert!(told().starts_with(&format!("cannot read {}: ", file.display())));
        std::fs::write(&file, "address = 5").expect("write");
        assert!(told().starts_with(&format!("{}: ", file.display())));
        std::fs::write(&file, vec![b'#'; 2 << 20]).expect("write");
        assert!(told().ends_with("is larger than 1 MiB"));
    }
}
