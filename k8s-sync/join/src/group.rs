//! The agent's streams to all replicas of its companion: one to whichever the Service's address leads
//! to, and one to each of the others that it tells of.

use crate::client::Client;
use crate::counts::PushCounts;
use crate::feed::{Feed, Purse};
use crate::hello::Me;
use crate::link::Link;
use crate::names::Names;
use crate::replicas::Replicas;
use crate::ticket::Ticket;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A replica that is told of is dialled within this.
const LOOK: Duration = Duration::from_secs(1);

/// An exit code and its reason.
type Why = Arc<Mutex<Option<(u8, String)>>>;

/// See the module.
#[derive(Debug)]
pub struct Group {
    me: Me,
    node: String,
    seed: u64,
    first: Arc<Mutex<Link>>,
    feed: Arc<Mutex<Feed>>,
    names: Option<Arc<Names>>,
    others: Mutex<Others>,
}

#[derive(Debug, Default)]
struct Others {
    replicas: Replicas,
    running: BTreeMap<SocketAddr, Other>,
    /// Of links that are no more.
    past: PushCounts,
}

#[derive(Debug)]
struct Other {
    link: Arc<Mutex<Link>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Group {
    /// Of the agent `me` of a node; `seed` spreads attempts.
    #[must_use]
    pub fn new(me: Me, node: impl Into<String>, seed: u64, feed: Feed) -> Group {
        let node = node.into();
        let first = Arc::new(Mutex::new(Link::new(me.clone(), node.clone(), seed)));
        Group { me, node, seed, first, feed: Arc::new(Mutex::new(feed)), names: None, others: Mutex::default() }
    }

    /// Takes names off the first stream; each replica has all of them.
    #[must_use]
    pub fn with_names(self, names: Arc<Names>) -> Group {
        Group { names: Some(names), ..self }
    }

    /// To the replica that the Service's address leads to.
    #[must_use]
    pub fn first(&self) -> &Arc<Mutex<Link>> {
        &self.first
    }

    /// What is pushed.
    #[must_use]
    pub fn feed(&self) -> &Arc<Mutex<Feed>> {
        &self.feed
    }

    /// What became of the pushes to all replicas.
    #[must_use]
    pub fn counts(&self) -> PushCounts {
        let others = self.others.lock();
        let mut counts = others.past;
        counts += self.first.lock().counts();
        others.running.values().for_each(|other| counts += other.link.lock().counts());
        counts
    }

    /// Replicas that take pushes.
    #[must_use]
    pub fn open(&self) -> usize {
        let others = self.others.lock();
        let open = others.running.values().filter(|other| other.link.lock().is_open()).count();
        open + usize::from(self.first.lock().is_open())
    }

    /// Ends when `stop` is cancelled, within a second after `why` was told.
    pub async fn run(&self, ticket: Ticket, purse: Purse, stop: CancellationToken, why: Why) {
        let mut first = Client::new(ticket.clone(), self.first.clone(), self.feed.clone()).showing(purse.clone());
        if let Some(names) = &self.names {
            first = first.with_names(names.clone());
        }
        let others = async {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(LOOK) => {}
                }
                self.look((&ticket, &purse), &stop, &why);
            }
            // Each says why; they do so at once.
            let ended = std::mem::take(&mut self.others.lock().running);
            for other in ended.into_values() {
                let _ = other.task.await;
                self.others.lock().past += other.link.lock().counts();
            }
        };
        tokio::join!(first.run(stop.clone(), why.clone()), others);
    }

    fn look(&self, (ticket, purse): (&Ticket, &Purse), stop: &CancellationToken, why: &Why) {
        let (first, told) = {
            let link = self.first.lock();
            (link.companion().map(|(instance, _)| instance), link.replicas().to_vec())
        };
        let Others { replicas, running, past } = &mut *self.others.lock();
        replicas.tell(&told);
        for (address, other) in &*running {
            let link = other.link.lock();
            if let Some((instance, _)) = link.companion() {
                replicas.answered(*address, instance);
            }
        }
        let wanted = replicas.wanted(first);
        running.retain(|address, Other { link, stop, .. }| {
            let stays = wanted.contains(address);
            if !stays {
                stop.cancel();
                *past += link.lock().counts();
            }
            stays
        });
        for address in wanted {
            running.entry(address).or_insert_with(|| {
                // By the address, so that the streams of a node do not stay together.
                let seed = self.seed ^ u64::from(address.port()) ^ (u64::from(last(address)) << 17);
                let link = Arc::new(Mutex::new(Link::new(self.me.clone(), self.node.clone(), seed)));
                let ticket = Ticket { address: address.to_string(), ..ticket.clone() };
                let client = Client::new(ticket, link.clone(), self.feed.clone()).showing(purse.clone());
                let stop = stop.child_token();
                let task = tokio::spawn(client.run(stop.clone(), why.clone()));
                Other { link, stop, task }
            });
        }
    }
}

/// Of its octets.
fn last(address: SocketAddr) -> u8 {
    match address {
        SocketAddr::V4(v4) => v4.ip().octets()[3],
        SocketAddr::V6(v6) => v6.ip().octets()[15],
    }
}
