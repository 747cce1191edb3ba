//! The background scan as the agent runs it: which namespaces are looked into and when, and where
//! what is found goes. Nothing waits for it.

use crate::clock;
use crate::run::orders::{Order, Seeds};
use crate::run::sweep::Sweep;
use agent_api as api;
use flow_model::{FlowSeed, Slot, Ts};
use golden_metrics::{Loss, Losses};
use netns::Netns;
use netns_scanner::deadline::Deadlines;
use netns_scanner::{Looked, Progress, Scanner, ScannerConfig, Seeded, Silent, Socket, Target, Want};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Connections on their way to the pipeline thread: 1.3 MB, which it takes in within some 30 ms.
/// More wait at the scan's end.
const UNDER_WAY: usize = 16_384;
/// Connections in one order: about 1 ms of the pipeline's time.
const CHUNK: usize = 512;
/// Longest wait of one namespace for others to be attached. Some hundreds take a fraction of a
/// second; with a tenth of a CPU, some seconds.
const GATHER: Duration = Duration::from_secs(10);
/// The same where background work is paced: a pass over the node costs the same for one namespace
/// as for all of them.
const GATHER_IN_QUOTA: Duration = Duration::from_secs(30);
/// And the node's own sockets are looked at in the same pass. Shortly after the start nobody knows
/// yet how many containers there are.
const NODE_IN_QUOTA: Duration = Duration::from_secs(2);
/// What the node's own namespace is called among the targets; slots count up from 1.
const NODE: Slot = Slot(u32::MAX);

/// The sockets of the node's own namespace, with their owners.
#[derive(Debug)]
pub struct NodeSockets {
    pub sockets: Vec<Socket>,
    pub at: Ts,
}

/// The scan, and what is to be looked at when its attach is done.
#[derive(Debug)]
pub struct Scan {
    scanner: Scanner,
    deadlines: Deadlines,
    after_attach: HashMap<Slot, Target>,
    /// Attached, and waiting for the others: a connection is named when it is handed on, and its
    /// other end may not be known before.
    gathered: Vec<Target>,
    since: Option<Instant>,
    /// A look at the node's own namespace that waits for them, too.
    node_since: Option<Instant>,
    urgent: HashSet<Slot>,
    /// Where connections from before may still be silent, with a process there.
    seeded: HashMap<Slot, (Arc<Netns>, u32)>,
    sweep: Sweep,
    /// What the flow table answers to the sweep.
    silent: Option<oneshot::Receiver<Vec<Silent>>>,
    ended: Arc<AtomicU64>,
    pub node: mpsc::Receiver<NodeSockets>,
    orders: Sender<Order>,
    under_way: Arc<AtomicUsize>,
    node_lost: u64,
    queue_full: Loss,
    refused: Loss,
    failed: Loss,
}

impl Scan {
    /// Starts its thread, which does nothing before [`Scan::release`].
    ///
    /// # Errors
    /// No thread left.
    pub fn start(
        config: ScannerConfig,
        deadlines: Deadlines,
        orders: Sender<Order>,
        losses: &Losses,
    ) -> io::Result<Scan> {
        // One look at the node's own namespace at a time: the sockets of a large node are some
        // megabytes. The next waits at the scan's end.
        let (tell, node) = mpsc::channel(1);
        let under_way = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicU64::new(0));
        let found = {
            let (orders, under_way, ended) = (orders.clone(), under_way.clone(), ended.clone());
            move |seeded| hand_on(seeded, &orders, &tell, &under_way, &ended)
        };
        Ok(Scan {
            scanner: Scanner::start(ScannerConfig { released: false, ..config }, deadlines.clone(), found)?,
            deadlines,
            after_attach: HashMap::new(),
            gathered: Vec::new(),
            since: None,
            node_since: None,
            urgent: HashSet::new(),
            seeded: HashMap::new(),
            sweep: Sweep::default(),
            silent: None,
            ended,
            node,
            orders,
            under_way,
            node_lost: 0,
            queue_full: losses.place("scan", "queue_full", "connections from before the start"),
            refused: losses.place("scan", "refused", "namespaces whose connections from before the start stay unknown"),
            failed: losses.place("scan", "failed", "namespaces that could not be looked into"),
        })
    }

    /// READY was said: work may begin.
    pub fn release(&self) {
        self.scanner.release();
    }

    /// A container that was there before us is about to be attached; its connections are looked for when it is.
    pub fn found(&mut self, slot: Slot, netns: Arc<Netns>, pid: u32) {
        self.after_attach.insert(slot, Target { slot, netns, pid, want: Want::Seeds });
    }

    /// A new container is about to be attached, and nothing of it is older than we are.
    pub fn live(&mut self, slot: Slot) {
        if self.urgent.insert(slot) {
            self.scanner.attaching();
        }
    }

    /// Attached: nothing opens unseen from now on, so what is open now is everything that is left to know.
    pub fn attached(&mut self, slot: Slot) {
        self.answered(slot);
        if let Some(target) = self.after_attach.remove(&slot) {
            self.since.get_or_insert_with(Instant::now);
            self.gathered.push(target);
        }
    }

    /// To be called a few times a second; `settled` while no container that was found waits for its attach.
    pub fn tick(&mut self, settled: bool, in_quota: bool, now: Instant) {
        let gather = if in_quota { GATHER_IN_QUOTA } else { GATHER };
        if self.since.is_some_and(|since| settled || now.saturating_duration_since(since) >= gather) {
            self.since = None;
            for target in self.gathered.drain(..) {
                self.seeded.insert(target.slot, (target.netns.clone(), target.pid));
                self.scanner.enqueue(target);
            }
            self.sweep.found(now);
        }
        let waits = self.node_since.map(|since| now.saturating_duration_since(since));
        if waits.is_some_and(|waits| (settled && waits >= NODE_IN_QUOTA) || waits >= gather) {
            self.node_since = None;
            self.look_at_node_now();
        }
        self.sweep(now);
    }

    /// Connections from before of which nothing was seen: those that are no longer there have ended.
    fn sweep(&mut self, now: Instant) {
        let Progress { sweeping, busy, .. } = self.scanner.progress();
        self.sweep.tick(sweeping, busy, now);
        if self.sweep.asks(now) {
            let (answer, silent) = oneshot::channel();
            // The pipeline thread has ended when the agent drains, and then there is no answer either.
            let _ = self.orders.send(Order::Silent { answer });
            self.silent = Some(silent);
        }
        let Some(answer) = self.silent.as_mut().map(oneshot::Receiver::try_recv) else { return };
        let silent = match answer {
            Ok(silent) => silent,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => Vec::new(),
        };
        self.silent = None;
        for (place, silent) in self.sweep.answered(silent, busy) {
            let target = match place {
                Some(slot) => self.seeded.get(&slot).map(|(netns, pid)| (slot, netns.clone(), *pid)),
                None => Netns::current().ok().map(|netns| (NODE, Arc::new(netns), std::process::id())),
            };
            if let Some((slot, netns, pid)) = target {
                self.scanner.enqueue(Target { slot, netns, pid, want: Want::Ended(silent.into()) });
            }
        }
    }

    pub fn answered(&mut self, slot: Slot) {
        if self.urgent.remove(&slot) {
            self.scanner.attached();
        }
    }

    /// The namespace goes: nothing of it is handed on after this.
    pub fn gone(&mut self, slot: Slot) {
        self.answered(slot);
        self.after_attach.remove(&slot);
        self.gathered.retain(|target| target.slot != slot);
        self.seeded.remove(&slot);
        self.scanner.forget(slot);
    }

    /// Looks at who has sockets in the namespace that the agent runs in.
    pub fn look_at_node(&mut self, in_quota: bool, now: Instant) {
        if in_quota {
            self.node_since.get_or_insert(now);
        } else {
            self.look_at_node_now();
        }
    }

    fn look_at_node_now(&self) {
        // Without /proc nothing works anyway.
        if let Ok(netns) = Netns::current() {
            let pid = std::process::id();
            self.scanner.enqueue(Target { slot: NODE, netns: Arc::new(netns), pid, want: Want::Sockets });
        }
    }

    /// Connections of the node's own sockets, as they were at `at`. Without room for all of them
    /// they stay unknown, which is counted.
    pub fn hand_on(&mut self, seeds: Vec<FlowSeed>, at: Ts) {
        let count = seeds.len();
        if count > 0 {
            self.sweep.found(Instant::now());
        }
        if !send(seeds, at, &self.orders, &self.under_way) {
            self.node_lost += count as u64;
        }
    }

    /// Copies what the scan says of itself.
    pub fn publish(&self) -> api::Scan {
        let Progress { done, total, failed, refused, seeds, seeds_lost, guessed, source, iterator_refused, .. } =
            self.scanner.progress();
        self.queue_full.set_total(seeds_lost + self.node_lost);
        self.refused.set_total(refused);
        self.failed.set_total(failed);
        api::Scan {
            done,
            // What waits for its attach will be looked at, too.
            total: total + (self.after_attach.len() + self.gathered.len()) as u64,
            failed,
            seeds,
            guessed,
            ended: self.ended.load(Ordering::Relaxed),
            source: source.map_or("", netns_scanner::Source::as_str).to_owned(),
            iterator_refused,
            stale: self.deadlines.stale(),
            late_reads: self.deadlines.late_reads().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        }
    }
}

/// Splits what was found of one namespace into orders, if all of it has room.
fn hand_on(
    seeded: Seeded,
    orders: &Sender<Order>,
    node: &mpsc::Sender<NodeSockets>,
    under_way: &Arc<AtomicUsize>,
    ended: &AtomicU64,
) -> Result<(), Seeded> {
    let age = seeded.read_at.elapsed();
    let at = Ts(clock::now().0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
    let seeds = match seeded.found {
        Looked::Sockets(sockets) => {
            return match node.try_send(NodeSockets { sockets, at }) {
                // Nobody receives once the agent drains; so below.
                Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
                Err(TrySendError::Full(back)) => {
                    Err(Seeded { found: Looked::Sockets(back.sockets), slot: seeded.slot, ..seeded })
                }
            };
        }
        Looked::Ended(gone) => {
            ended.fetch_add(gone.len() as u64, Ordering::Relaxed);
            for chunk in gone.chunks(CHUNK) {
                let _ = orders.send(Order::Ended { ended: chunk.to_vec(), at });
            }
            return Ok(());
        }
        Looked::Seeds(seeds) => seeds,
    };
    if !has_room(seeds.len(), under_way) {
        return Err(Seeded { found: Looked::Seeds(seeds), ..seeded });
    }
    send(seeds, at, orders, under_way);
    Ok(())
}

/// More than there is room for at all goes when nothing else is under way.
fn has_room(seeds: usize, under_way: &AtomicUsize) -> bool {
    let before = under_way.load(Ordering::Acquire);
    before == 0 || before + seeds <= UNDER_WAY
}

fn send(seeds: Vec<FlowSeed>, at: Ts, orders: &Sender<Order>, under_way: &Arc<AtomicUsize>) -> bool {
    let room = has_room(seeds.len(), under_way);
    if room {
        for chunk in seeds.chunks(CHUNK) {
            let _ = orders.send(Order::Seeds(Seeds::new(chunk.to_vec(), at, Arc::clone(under_way))));
        }
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{Endpoint, FiveTuple, Role, Transport};
    use netns_scanner::Source;
    use std::sync::mpsc;

    fn seeded(count: u16) -> Seeded {
        let at = |port| Endpoint { ip: "10.0.0.1".parse().expect("address"), port };
        let seed = |port| FlowSeed {
            slot: Slot(1),
            tuple: FiveTuple { transport: Transport::Tcp, local: at(port), remote: at(80) },
            role: Role::Client,
            pid: 1,
        };
        let found = Looked::Seeds((0..count).map(seed).collect());
        Seeded { slot: Slot(1), found, source: Source::SockDiag, read_at: Instant::now() }
    }

    #[test]
    fn what_is_under_way_is_bounded_and_taken_in_pieces() {
        let (orders, received) = mpsc::channel();
        let (node, _looks) = tokio::sync::mpsc::channel(1);
        let under_way = Arc::new(AtomicUsize::new(0));
        let hand = |count| hand_on(seeded(count), &orders, &node, &under_way, &AtomicU64::new(0)).is_ok();
        assert!(hand(20_000), "one namespace with more than fits goes when nothing else is under way");
        assert!(!hand(1));
        let pieces: Vec<Order> = received.try_iter().collect();
        assert_eq!(pieces.len(), 20_000usize.div_ceil(CHUNK));
        drop(pieces);
        assert!(hand(16_000) && !hand(1000) && hand(384));
        drop(received.try_iter().collect::<Vec<_>>());
        assert_eq!(under_way.load(Ordering::Acquire), 0);
    }

    #[test]
    fn within_a_quota_the_look_at_the_node_waits_for_the_backlog_and_without_one_for_nobody() {
        const SECOND: Duration = Duration::from_secs(1);
        let (orders, _received) = mpsc::channel();
        let start = |orders| {
            let config = ScannerConfig::default();
            Scan::start(config, Deadlines::default(), orders, &Losses::default()).expect("a thread")
        };
        let begun = Instant::now();
        let mut scan = start(orders);
        scan.look_at_node(false, begun);
        assert_eq!(scan.node_since, None);
        scan.look_at_node(true, begun);
        // Nothing is known of the containers yet.
        scan.tick(true, true, begun + SECOND);
        scan.tick(false, true, begun + SECOND * 20);
        scan.look_at_node(true, begun + SECOND * 20);
        assert_eq!(scan.node_since, Some(begun));
        scan.tick(true, true, begun + SECOND * 21);
        assert_eq!(scan.node_since, None);
        scan.look_at_node(true, begun);
        scan.tick(false, true, begun + GATHER_IN_QUOTA);
        assert_eq!(scan.node_since, None, "not for ever");
    }
}
