//! Asks the API server whose token an agent shows, where that is no join token: once for a stream, and
//! once an hour while it is open.

use crate::ran::Ran;
use crate::review::{Bound, Wanted};
use futures_util::future::BoxFuture;
use golden_metrics::SelfMetric;
use hashbrown::HashMap;
use join::{Reason, Refusal, Token, TokenHash};
use k8s_sync::watch::{ApiServer, Failed};
use parking_lot::Mutex;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// While a stream is open.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// Where there was no answer.
const SOON: Duration = Duration::from_secs(60);
/// An agent waits ten seconds for the answer to its call.
const ANSWER: Duration = Duration::from_secs(6);
/// A pod that the API server knows is known here within this.
const NEWS: Duration = Duration::from_secs(2);
/// At once: all agents of a cluster come back within ten seconds.
const TURNS: usize = 32;
/// What was refused is not asked again for as long.
const REFUSED: Duration = Duration::from_secs(30);
const REFUSALS: usize = 4_096;

/// Who answers.
pub trait Reviewer: Send + Sync {
    /// A TokenReview, with its status.
    fn review(&self, question: Value) -> BoxFuture<'_, Result<Value, Failed>>;
}

impl Reviewer for Arc<ApiServer> {
    fn review(&self, question: Value) -> BoxFuture<'_, Result<Value, Failed>> {
        Box::pin(async move { self.create(PATH, &question).await })
    }
}

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// See the module.
pub struct Reviews {
    wanted: Wanted,
    reviewer: Box<dyn Reviewer>,
    ran: Arc<Mutex<Ran>>,
    turns: Semaphore,
    again: Duration,
    refused: Mutex<HashMap<[u8; 32], (Instant, Refusal), foldhash::fast::RandomState>>,
    counts: Counts,
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviews").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// The token of an open stream.
#[derive(Debug)]
pub struct Reviewed {
    token: Token,
    /// Of its pod.
    pub node: String,
    again: Instant,
}

impl Reviews {
    /// Of tokens that are `wanted`; `ran` knows where pods run.
    #[must_use]
    pub fn new(wanted: Wanted, reviewer: impl Reviewer + 'static, ran: Arc<Mutex<Ran>>) -> Reviews {
        let (turns, refused, counts) = (Semaphore::new(TURNS), Mutex::default(), Counts::default());
        Reviews { wanted, reviewer: Box::new(reviewer), ran, turns, again: AGAIN, refused, counts }
    }

    /// While a stream is open.
    #[must_use]
    pub fn asking_every(self, again: Duration) -> Reviews {
        Reviews { again, ..self }
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// Nobody's who may push, or there is no answer.
    pub async fn of(&self, token: Token) -> Result<Reviewed, Refusal> {
        let node = self.node(&token).await?;
        Ok(Reviewed { token, node, again: Instant::now() + self.again })
    }

    /// Whether the stream may go on. One that may not ends without a word: its agent comes back at once,
    /// with the token that it has by then, and is told what there is to tell.
    pub async fn still(&self, reviewed: &mut Reviewed) -> bool {
        if Instant::now() < reviewed.again {
            return true;
        }
        match self.node(&reviewed.token).await {
            Ok(node) => {
                reviewed.again = Instant::now() + self.again;
                node == reviewed.node
            }
            Err(refusal) => {
                reviewed.again = Instant::now() + SOON;
                refusal.reason == Reason::Busy
            }
        }
    }

    async fn node(&self, token: &Token) -> Result<String, Refusal> {
        let hash = token.hash();
        if let Some(refusal) = self.known(hash) {
            return Err(refusal);
        }
        let node = self.ask(token).await;
        match &node {
            Ok(_) => &self.counts.taken,
            Err(refusal) if refusal.reason == Reason::Busy => &self.counts.failed,
            Err(refusal) => {
                self.refuse(hash, refusal);
                &self.counts.refused
            }
        }
        .fetch_add(1, Relaxed);
        node
    }

    fn known(&self, hash: TokenHash) -> Option<Refusal> {
        let refused = self.refused.lock();
        let (until, refusal) = refused.get(&hash.bytes())?;
        (Instant::now() < *until).then(|| refusal.clone())
    }

    fn refuse(&self, hash: TokenHash, refusal: &Refusal) {
        let (now, mut refused) = (Instant::now(), self.refused.lock());
        if refused.len() >= REFUSALS {
            refused.retain(|_, (until, _)| now < *until);
        }
        if refused.len() < REFUSALS {
            refused.insert(hash.bytes(), (now + REFUSED, refusal.clone()));
        }
    }

    async fn ask(&self, token: &Token) -> Result<String, Refusal> {
        let pod = self.wanted.says(token, SystemTime::now())?;
        // Who makes up tokens does not know a pod, and troubles no API server.
        let until = Instant::now() + NEWS;
        while self.ran.lock().is_missing(pod) {
            if Instant::now() >= until {
                return Err(busy("the companion does not know the pod that the token says it is of"));
            }
            sleep(Duration::from_millis(100)).await;
        }
        let asked = timeout(ANSWER, async {
            let _turn = self.turns.acquire().await;
            self.reviewer.review(self.wanted.question(token)).await
        });
        let review = match asked.await {
            Ok(Ok(review)) => review,
            Ok(Err(Failed::Forbidden(why))) => {
                let text = format!("the companion may not create tokenreviews; apply its manifests again: {why}");
                return Err(busy(&text));
            }
            Ok(Err(failed)) => return Err(busy(&format!("the API server says nothing of the token: {failed}"))),
            Err(_) => return Err(busy("the API server takes too long to say whose token it is")),
        };
        let bound: Bound = self.wanted.answer(&review)?;
        bound.node(&self.ran.lock())
    }

    /// What it says of itself.
    #[must_use]
    pub fn metrics(&self) -> Vec<SelfMetric> {
        let Counts { taken, refused, failed } = &self.counts;
        let help = "Tokens of service accounts that agents showed, by what came of them.";
        let count = |(outcome, count): (&'static str, &AtomicU64)| {
            let metric = SelfMetric::counter("pilotfish_companion_token_reviews_total", help, count.load(Relaxed));
            metric.with("outcome", outcome)
        };
        [("taken", taken), ("refused", refused), ("failed", failed)].into_iter().map(count).collect()
    }
}

fn busy(text: &str) -> Refusal {
    Refusal::new(Reason::Busy, text)
}
