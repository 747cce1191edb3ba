//! The notice board: what the parts of the agent last said of themselves. Writers replace small
//! values, readers copy them; nobody holds a lock while doing anything else, so `/livez` answers
//! whatever the rest is at.

use crate::run::pace::Pacer;
use crate::run::quota::Quota;
use crate::run::timeline::History;
use crate::serve::companion::Joining;
use crate::serve::doors::Doors;
use crate::serve::kubernetes::{self, Watches};
use crate::serve::pages::Shelf;
use crate::serve::pressure::{Pressure, Totals};
use crate::serve::pulse::{Pulse, STALLED};
use crate::serve::traffic::Traffic;
use agent_api::{self as api, Containerd, Namespace, Process, Program, Readiness, Reason, Scan, Status, Version};
use capture_engine::kernel::KernelStats;
use capture_engine::pipeline::PipelineStats;
use flow_model::{LossReason, Slot};
use golden_metrics::{SelfMetric, Taps};
use join::message::Sees;
use k8s_sync::TableMetric;
use netns_scanner::deadline::Deadlines;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What the pipeline thread knows of kernel programs, ring and flow table. Refreshed about once a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Engine {
    pub ring_bytes: u64,
    pub flows: u64,
    pub stats: KernelStats,
    pub programs: Vec<Program>,
}

/// How far the loading of the kernel programs is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    #[default]
    Loading,
    Loaded,
}

/// A second is what whoever waits for READY is promised. The kernel programs are loaded by then,
/// unless there is next to no CPU.
pub const READY_WITHIN: Duration = Duration::from_millis(800);

/// Loading takes some tens of milliseconds of CPU; minutes where a machine is emulated.
const LOADING: Duration = Duration::from_secs(300);

/// The value behind a lock, which is let go of before anything else happens.
fn copy<T: Clone>(shared: &Mutex<T>) -> T {
    shared.lock().clone()
}

#[derive(Debug)]
pub struct Board {
    pub version: Version,
    /// Of this process and no other.
    pub instance: String,
    pub started: Instant,
    pub pulse: Pulse,
    pub containerd: Mutex<Containerd>,
    pub namespaces: Mutex<Arc<Vec<Namespace>>>,
    pub node: Mutex<Arc<api::Node>>,
    pub scan: Mutex<Scan>,
    pub engine: Mutex<Engine>,
    pub pipeline: Mutex<PipelineStats>,
    /// Flows that each namespace has passed on, of those that did.
    pub forwarded: Mutex<HashMap<Slot, u64>>,
    /// What is being lost for want of room.
    pub pressure: Mutex<Pressure>,
    /// Flows in the pipeline's table.
    pub flows: AtomicU64,
    /// Turns of the pipeline that left flows of the kernel's table for the next.
    pub put_off: AtomicU64,
    pub kernel: Mutex<Kernel>,
    pub traffic: Traffic,
    pub process: Mutex<Process>,
    /// Of all background work.
    pub pacer: Arc<Pacer>,
    /// What the table of this node's names says of itself.
    pub table_metrics: Mutex<Vec<TableMetric>>,
    /// Of attaching and of containerd.
    pub counted: Mutex<Arc<Vec<SelfMetric>>>,
    /// Set once they are started.
    pub kubernetes: OnceLock<Watches>,
    /// Set before anything else where a companion is to be joined.
    pub companion: OnceLock<Arc<Joining>>,
    /// Who reads files that may hang. Set once the kernel programs are loaded.
    pub reads: OnceLock<Deadlines>,
    /// Set before anything happens.
    pub history: OnceLock<History>,
    pub draining: AtomicBool,
    /// What ran before the agent is observed by now.
    pub begun: AtomicBool,
    /// Milliseconds that the ring's reader is asked to sleep, once; `[debug]` only.
    pub pause_ms: AtomicU64,
    /// Who listens to exchanges as they end.
    pub taps: Taps,
    /// Whether the pipeline keeps HTTP's paths, for them.
    pub keeps_paths: AtomicBool,
    /// Those who come to the admin address or socket.
    pub doors: Arc<Doors>,
    /// Pages while they are read.
    pub shelf: Arc<Shelf>,
}

impl Board {
    #[must_use]
    pub fn new(version: Version, traffic: Traffic, now: Instant) -> Board {
        Board {
            version,
            // Two of them are equal once in 2^64.
            instance: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
            started: now,
            pulse: Pulse::new(now),
            containerd: Mutex::default(),
            namespaces: Mutex::default(),
            node: Mutex::default(),
            scan: Mutex::default(),
            engine: Mutex::default(),
            pipeline: Mutex::default(),
            forwarded: Mutex::default(),
            pressure: Mutex::default(),
            flows: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            kernel: Mutex::default(),
            taps: Taps::new(traffic.registry()),
            keeps_paths: AtomicBool::new(false),
            traffic,
            process: Mutex::default(),
            pacer: Arc::default(),
            table_metrics: Mutex::default(),
            counted: Mutex::default(),
            kubernetes: OnceLock::new(),
            companion: OnceLock::new(),
            reads: OnceLock::new(),
            history: OnceLock::new(),
            draining: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            pause_ms: AtomicU64::new(0),
            doors: Arc::default(),
            shelf: Arc::default(),
        }
    }

    /// While the pipeline's heart beats. Before there is a pipeline, while its programs load.
    #[must_use]
    pub fn alive(&self, now: Instant) -> bool {
        match copy(&self.kernel) {
            Kernel::Loading => now.saturating_duration_since(self.started) < LOADING,
            Kernel::Loaded => self.pulse.alive(now),
        }
    }

    #[must_use]
    pub fn readiness(&self, now: Instant) -> Readiness {
        let mut reasons = Vec::new();
        let mut because = |part: &str, degraded_only: bool, detail: String| {
            reasons.push(Reason { part: part.to_owned(), degraded_only, detail });
        };
        if self.draining.load(Ordering::Relaxed) {
            because("agent", false, "stopping".to_owned());
        }
        if copy(&self.kernel) == Kernel::Loading {
            because("kernel", false, "the kernel programs are being loaded".to_owned());
        } else if !self.pulse.alive(now) {
            because("pipeline", false, format!("no heartbeat for {:?}", self.pulse.age(now).max(STALLED)));
        }
        let Containerd { connected, detail, links, .. } = copy(&self.containerd);
        let missed: Vec<_> = links.into_iter().filter(|link| !link.detail.is_empty()).collect();
        if missed.is_empty() && !connected {
            because("containerd", true, detail);
        }
        for link in missed {
            because("containerd", true, format!("{}: {}", link.socket, link.detail));
        }
        if let Some(reason) = self.kubernetes.get().and_then(|watches| watches.degraded(now)) {
            because("kubernetes", true, reason);
        }
        if let Some(reason) = self.companion.get().and_then(|joining| joining.degraded()) {
            because("companion", true, reason);
        }
        let failed = self.states().get("failed").copied().unwrap_or(0);
        if failed > 0 {
            because("netns", true, format!("{failed} namespaces could not be attached; `pilotfish status` says why"));
        }
        for (part, detail) in self.pressure.lock().told(now) {
            because(part, true, detail);
        }
        Readiness { ready: reasons.iter().all(|reason| reason.degraded_only), reasons }
    }

    /// What is counted from now on, of all that runs here.
    #[must_use]
    pub fn sees(&self, now: Instant) -> Sees {
        let is_whole = self.begun.load(Ordering::Relaxed) && !self.draining.load(Ordering::Relaxed);
        match self.kubernetes.get() {
            _ if !(is_whole && self.containerd.lock().connected) => Sees::Part,
            Some(watches) if watches.were_fresh(now) => Sees::All,
            _ => Sees::Nameless,
        }
    }

    /// Notes what is lost for want of room; to be called about once a second.
    pub fn look(&self, now: Instant) {
        let (kernel, pipeline) = (self.engine.lock().stats, *self.pipeline.lock());
        let lost = |reason| self.traffic.exchanges_lost(reason);
        let totals = Totals {
            flows_full: kernel.flows_full + pipeline.table_full,
            flows_share: kernel.flows_share,
            limit: lost(LossReason::Limit),
            ring_full: kernel.ring_full,
            ring: lost(LossReason::RingFull),
        };
        self.pressure.lock().look(totals, now);
        if let Some(joining) = self.companion.get() {
            joining.look();
        }
    }

    /// Number of namespaces by state; the states are always all there.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, u64> {
        let mut states: BTreeMap<String, u64> = ["discovered", "attaching", "attached", "failed", "left_out"]
            .into_iter()
            .map(|state| (state.to_owned(), 0))
            .collect();
        for namespace in copy(&self.namespaces).iter() {
            *states.entry(namespace.state.clone()).or_default() += 1;
        }
        states
    }

    #[must_use]
    pub fn containerd(&self) -> Containerd {
        copy(&self.containerd)
    }

    #[must_use]
    pub fn scan(&self) -> Scan {
        copy(&self.scan)
    }

    #[must_use]
    pub fn engine(&self) -> Engine {
        copy(&self.engine)
    }

    #[must_use]
    pub fn process(&self) -> Process {
        let cpu_quota = self.pacer.quota().map(Quota::cpus);
        Process { cpu_quota, ..copy(&self.process) }
    }

    #[must_use]
    pub fn table_metrics(&self) -> Vec<TableMetric> {
        copy(&self.table_metrics)
    }

    /// None where nothing is watched.
    #[must_use]
    pub fn kubernetes_report(&self, now: Instant) -> Option<k8s_sync::watch::Report> {
        self.kubernetes.get().map(|watches| watches.report(now))
    }

    /// systemd's one line.
    #[must_use]
    pub fn status_line(&self) -> String {
        let states = self.states();
        let count = |state: &str| states.get(state).copied().unwrap_or(0);
        let Containerd { connected, detail, links, .. } = copy(&self.containerd);
        let live: Vec<&str> =
            links.iter().filter(|link| link.state == "live").map(|link| link.socket.as_str()).collect();
        let live = (!live.is_empty()).then(|| format!("containerd {}", live.join(" and ")));
        let missed = (!connected).then(|| format!("waiting for containerd: {detail}"));
        let containerd = live.into_iter().chain(missed).collect::<Vec<_>>().join(", ");
        let Scan { done, total, .. } = copy(&self.scan);
        let scan = if total == 0 { String::new() } else { format!(", scan: {done}/{total}") };
        // One line, whatever containerd or the kernel said: systemd reads each line as an order.
        let line = format!("{} namespaces attached, {} failed{scan}, {containerd}", count("attached"), count("failed"));
        flow_model::shown(&line).into_owned()
    }

    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let Engine { ring_bytes, flows, stats, programs } = copy(&self.engine);
        let (passed_on, by_slot) = (copy(&self.pipeline), copy(&self.forwarded));
        let mut namespaces = copy(&self.namespaces).as_ref().clone();
        for namespace in &mut namespaces {
            namespace.forwarded = by_slot.get(&Slot(namespace.slot)).copied().unwrap_or(0);
        }
        Status {
            version: self.version.clone(),
            pid: std::process::id(),
            uptime_s: now.saturating_duration_since(self.started).as_secs(),
            readiness: self.readiness(now),
            containerd: copy(&self.containerd),
            kubernetes: self.kubernetes_report(now).as_ref().map(kubernetes::shown).unwrap_or_default(),
            companion: self.companion.get().map(|joining| joining.shown()).unwrap_or_default(),
            states: self.states(),
            namespaces,
            node: copy(&self.node).as_ref().clone(),
            scan: copy(&self.scan),
            exchanges: self.traffic.exchanges(),
            losses: self.traffic.losses(),
            programs,
            ring_bytes,
            packets: stats.packets,
            events: stats.events,
            flows,
            forwarded: api::Forwarded {
                flows: passed_on.forwarded_flows,
                packets: passed_on.forwarded_packets,
                bytes: passed_on.forwarded_bytes,
            },
            process: self.process(),
        }
    }

    pub fn ask_for_pause(&self, pause: Duration) {
        self.pause_ms.store(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The pause that was asked for, once.
    #[must_use]
    pub fn take_pause(&self) -> Option<Duration> {
        match self.pause_ms.swap(0, Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(now: Instant) -> Board {
        Board::new(Version::default(), Traffic::silent(), now)
    }

    fn reasons(board: &Board, now: Instant) -> Vec<String> {
        let readiness = board.readiness(now);
        let word = if readiness.ready { "ready" } else { "not ready" };
        let parts = readiness.reasons.iter().map(|r| format!("{}: {}", r.part, r.detail));
        std::iter::once(word.to_owned()).chain(parts).collect()
    }

    #[test]
    fn a_missing_containerd_is_told_but_keeps_nobody_from_being_ready() {
        let now = Instant::now();
        let board = board(now);
        board.containerd.lock().detail = "no socket".to_owned();
        assert_eq!(
            reasons(&board, now),
            ["not ready", "kernel: the kernel programs are being loaded", "containerd: no socket"]
        );
        assert_eq!(
            reasons(&board, now + READY_WITHIN),
            ["not ready", "kernel: the kernel programs are being loaded", "containerd: no socket"],
            "systemd hears READY by then; whoever asks is told what is"
        );
        *board.kernel.lock() = Kernel::Loaded;
        assert_eq!(reasons(&board, now), ["ready", "containerd: no socket"]);
        assert_eq!(board.status_line(), "0 namespaces attached, 0 failed, waiting for containerd: no socket");
    }

    #[test]
    fn it_sees_a_part_before_it_has_begun_and_while_containerd_is_away() {
        let now = Instant::now();
        let board = board(now);
        assert_eq!(board.sees(now), Sees::Part);
        board.containerd.lock().connected = true;
        assert_eq!(board.sees(now), Sees::Part);
        board.begun.store(true, Ordering::Relaxed);
        assert_eq!(board.sees(now), Sees::Nameless);
        let told = k8s_sync::watch::Report {
            link: k8s_sync::watch::Link::Companion { age: Some(Duration::ZERO) },
            ..k8s_sync::watch::Report::default()
        };
        board.kubernetes.set(Watches::new(move |_| told.clone(), false)).expect("nobody has set them");
        assert_eq!(board.sees(now), Sees::All);
        board.containerd.lock().connected = false;
        assert_eq!(board.sees(now), Sees::Part);
        board.containerd.lock().connected = true;
        board.draining.store(true, Ordering::Relaxed);
        assert_eq!(board.sees(now), Sees::Part);
    }

    #[test]
    fn a_stalled_pipeline_and_a_draining_agent_are_not_ready() {
        let now = Instant::now();
        let board = board(now);
        *board.kernel.lock() = Kernel::Loaded;
        board.containerd.lock().connected = true;
        assert_eq!(reasons(&board, now), ["ready"]);
        assert_eq!(reasons(&board, now + STALLED), ["not ready", "pipeline: no heartbeat for 10s"]);
        board.draining.store(true, Ordering::Relaxed);
        assert_eq!(reasons(&board, now), ["not ready", "agent: stopping"]);
    }

    #[test]
    fn what_containerd_said_is_one_line_for_systemd() {
        let board = board(Instant::now());
        board.containerd.lock().detail = "no\nMAINPID=1\x1b[2J".to_owned();
        let line = board.status_line();
        assert_eq!(line, r"0 namespaces attached, 0 failed, waiting for containerd: no\nMAINPID=1\u{1b}[2J");
    }

    #[test]
    fn a_full_flow_table_is_told_and_keeps_nobody_from_being_ready() {
        let now = Instant::now();
        let board = board(now);
        *board.kernel.lock() = Kernel::Loaded;
        board.containerd.lock().connected = true;
        board.look(now);
        assert_eq!(reasons(&board, now), ["ready"]);
        board.engine.lock().stats.flows_full = 66_500;
        board.look(now);
        let told = reasons(&board, now);
        assert_eq!(told.first().map(String::as_str), Some("ready"));
        assert!(
            told.get(1).is_some_and(|told| told.starts_with("flows: the flow table is full: 66500 packets")),
            "{told:?}"
        );
    }

    #[test]
    fn a_pause_is_taken_once() {
        let board = board(Instant::now());
        board.ask_for_pause(Duration::from_millis(500));
        assert_eq!(board.take_pause(), Some(Duration::from_millis(500)));
        assert_eq!(board.take_pause(), None);
    }
}
