//! The agent as a whole: what it is built of, in which order it comes up, and how it goes down again.
//!
//! Addresses and sockets are bound first, so that probes are answered while the kernel programs
//! load. READY follows when they are loaded, and after `READY_WITHIN` in any case: waiting for
//! containerd, or scanning what exists, gates nothing.

use crate::clock;
use crate::config::{Config, KubernetesMode};
use crate::exit::{Exit, Failure};
use crate::run::companion::{self, Companion};
use crate::run::containers::{find_hierarchy, services_of};
use crate::run::drops::WatchedDrops;
use crate::run::ends::{Ended, Ends};
use crate::run::engine::{self, Ahead, Loaded};
use crate::run::kernel_stats::KernelStatsReader;
use crate::run::kubernetes::{Kubernetes, Wanted};
use crate::run::orders::Order;
use crate::run::process;
use crate::run::reload::Reload;
use crate::run::running::{Running, Shared};
use crate::run::saved::{self, State};
use crate::run::settings::{self, Who};
use crate::run::signals::Signals;
use crate::run::timeline::{
    self, ApiWatch, Heard, History, ProbeWatch, RetryWatch, SearchWatch, StormWatch, Timeline, TimelineFile,
};
use crate::run::upkeep::{Upkeep, look_at_quota};
use crate::serve::admin::{ANSWER_TIME, Admin, PATIENCE, SocketFile, bind_address, bind_socket};
use crate::serve::board::{Board, Kernel, READY_WITHIN};
use crate::serve::identity::Lookup;
use crate::serve::notify;
use crate::serve::traffic::Traffic;
use crate::version;
use anyhow::Context;
use capture_engine::kernel::KernelConfig;
use golden_metrics::{Golden, Losses};
use k8s_sync::access::Sources;
use k8s_sync::{Addresses, IdentityIndex, NamesReader};
use netns_scanner::deadline::Deadlines;
use shim_plugin::Claims;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Longest look at what services there are; it begins with a read that has a deadline of its own.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct App {
    config: Config,
    board: Arc<Board>,
    losses: Losses,
    golden: Golden<NamesReader>,
    identities: IdentityIndex,
    runtime: Runtime,
    ends: Ends,
    ended: UnboundedReceiver<Ended>,
    admin_stop: CancellationToken,
    admin: JoinHandle<()>,
    /// Where probes and scrapers are answered.
    listening: SocketAddr,
    /// Filled when there is something to look at.
    lookup: Arc<OnceLock<Lookup>>,
    socket_file: SocketFile,
    reload: Reload,
    /// Where counters are kept from one run to the next, if anywhere.
    state: Option<State>,
    claims: Claims,
}

/// Why the agent stops.
enum Stop {
    Signal(&'static str),
    Ended(Ended),
}

impl Stop {
    fn outcome(self) -> Result<(), Failure> {
        match self {
            Stop::Signal(_) => Ok(()),
            Stop::Ended(Ended { part, reason }) => {
                let reason = reason.err().unwrap_or_else(|| "it ended without being told to".to_owned());
                Err(Failure::say(Exit::Software, format!("{part}: {reason}")))
            }
        }
    }
}

impl App {
    /// Binds what it answers on and starts answering; nothing of the node is touched yet.
    ///
    /// # Errors
    /// `Usage` for an address or a socket that is taken, and where another agent is at work.
    pub fn build(config: Config, reload: Reload) -> Result<App, Failure> {
        // First: it may wait for an agent that is going, whose claims are free when its address is.
        let address = bind_address(config.admin.listen, PATIENCE).map_err(|failure| by_another(&config, failure))?;
        let listening = address.local_addr().context("read the admin address")?;
        let (socket, socket_file) = bind_socket(&config.admin.socket)?;
        let claims = claims(&config)?;
        let losses = Losses::default();
        let identities = IdentityIndex::new(k8s_sync::Limits::default());
        let (mut golden, reader) =
            Golden::new(identities.reader(Addresses::ByClass), settings::metrics(&config), &losses);
        let state = State::from_environment();
        if let Some(counted) = state.as_ref().and_then(State::take) {
            golden.restore(&counted, &losses, clock::now());
            tracing::info!(series = counted.series(), "counters go on where the last run ended");
        }
        let (watch, unanswered) = timeline::watch(&losses);
        golden.observe(Box::new(watch));
        let window = config.debug.window;
        let (watch, searches) = SearchWatch::new(window, &losses);
        golden.observe(Box::new(watch));
        let (watch, retries) = RetryWatch::new(window, &losses);
        golden.observe(Box::new(watch));
        let (watch, storms) = StormWatch::new(window, &losses);
        golden.observe(Box::new(watch));
        let (watch, api) = ApiWatch::new(window, &losses);
        golden.observe(Box::new(watch));
        let (watch, probed) = ProbeWatch::new(&losses);
        golden.observe(Box::new(watch));
        let kept = saved::directory().and_then(|directory| TimelineFile::within(&directory).take());
        let heard = Heard { unanswered, searches, retries, storms, api, probed };
        let history = History::new(Timeline::new(kept, timeline::now(), &losses), heard, window, &losses);
        let traffic = Traffic::new(reader, losses.clone()).with(config.metrics.histograms);
        let board = Arc::new(Board::new(version::own(), traffic, Instant::now()));
        if let Some(wanted) = settings::companion(&config) {
            // Its only writer.
            let _ = board.companion.set(Arc::new(companion::joining(wanted, &board, &losses)));
        }
        let _ = board.history.set(history);
        // Two workers: one may be at containerd's messages while the other performs what they ask for.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .thread_name("pilotfish")
            .enable_all()
            .build()
            .context("start the runtime")?;
        let (ends, ended) = Ends::channel();
        let admin_stop = CancellationToken::new();
        let lookup = Arc::new(OnceLock::new());
        let (connections, debug) = (config.admin.connections, config.debug.enabled);
        let admin = Admin { address, socket, connections, answer_time: ANSWER_TIME, debug, lookup: lookup.clone() };
        let admin = admin.spawn(board.clone(), admin_stop.clone(), &ends)?;
        let socket = config.admin.socket.display().to_string();
        tracing::info!(version = board.version.version, listen = %listening, socket, "pilotfish answers");
        Ok(App {
            config,
            board,
            losses,
            golden,
            identities,
            runtime,
            ends,
            ended,
            admin_stop,
            admin,
            listening,
            lookup,
            socket_file,
            reload,
            state,
            claims,
        })
    }

    /// Runs until a signal or the first end of a part, then drains.
    ///
    /// # Errors
    /// `NoPermission` when the kernel refuses the programs, `Software` when a part ended by itself.
    pub fn run(self) -> Result<(), Failure> {
        let App { mut config, board, losses, golden, identities, runtime, ends, mut ended, .. } = self;
        let App { admin_stop, admin, listening, lookup, socket_file, reload, state, claims, .. } = self;
        // While somebody counts, nothing can be kept.
        let mut counting = false;
        let grace = config.admin.grace;
        let work = async {
            let mut signals = Signals::register()?;
            let mut hangup = signal(SignalKind::hangup()).context("register for SIGHUP")?;
            let everything_stops = CancellationToken::new();
            let _stops_at_the_end = everything_stops.clone().drop_guard();
            tokio::spawn(notify::run(board.clone(), everything_stops.clone()));
            let deadlines = Deadlines::with_helper(process::reader);
            tokio::task::block_in_place(|| look_at_quota(&board, &deadlines, &process::own(&config.debug.proc)));
            let ahead = match board.pacer.is_limited() {
                true => ahead(&config, &deadlines).await,
                false => Ahead::default(),
            };
            let loaded = match loaded(settings::kernel(&config), ahead, &mut signals).await? {
                Ok(loaded) => loaded,
                Err(signal) => {
                    tracing::info!(signal, "stopping before the kernel programs were loaded");
                    return Ok(());
                }
            };
            // Nobody else sets it.
            let _ = board.reads.set(deadlines.clone());
            let upkeep = Upkeep {
                board: board.clone(),
                kernel: KernelStatsReader::new(loaded.kernel.clone(), config.capture.ring_bytes, &losses),
                deadlines: deadlines.clone(),
                proc: config.debug.proc.clone(),
                drops: config.capture.drops.then(|| WatchedDrops::new(&losses)),
                window: config.debug.window,
                looks: 0,
            };
            tokio::spawn(upkeep.run(everything_stops));
            counting = true;
            let (names, holders) = (identities.reader(Addresses::ByClass), identities.holder_reader());
            let mut running = Running::start(
                &config,
                loaded,
                golden,
                identities,
                Shared { board: &board, losses: &losses, ends: &ends, deadlines, claims },
            )?;
            // The first beat comes with the first turn; until then this counts.
            board.pulse.beat(Instant::now());
            *board.kernel.lock() = Kernel::Loaded;
            notify::ready();
            tracing::info!(after = ?board.started.elapsed(), "ready");
            let who = Who { instance: board.instance.clone(), listening, state: saved::directory() };
            let kubernetes = Kubernetes {
                wanted: wanted(&config, &who),
                board: board.clone(),
                pipeline: running.orders.clone(),
                names,
                holders,
                lookup,
                ends: ends.clone(),
            };
            running.release(kubernetes.run(running.stop.clone()));
            let stop = loop {
                tokio::select! {
                    signal = signals.next() => break Stop::Signal(signal),
                    Some(ended) = ended.recv() => break Stop::Ended(ended),
                    _ = hangup.recv() => {
                        tokio::task::block_in_place(|| reload.run(&mut config));
                        running.leave_out.send_replace(settings::leave_out(&config));
                        // The pipeline thread may have ended; then its end is told.
                        let _ = running.orders.send(Order::Read(settings::wires(&config)));
                    }
                }
            };
            match &stop {
                Stop::Signal(signal) => tracing::info!(signal, "stopping"),
                Stop::Ended(Ended { part, .. }) => tracing::warn!(part, "stopping, because a part of the agent ended"),
            }
            board.draining.store(true, std::sync::atomic::Ordering::Relaxed);
            notify::stopping(grace);
            tokio::select! {
                () = running.drain(grace) => counting = false,
                signal = signals.next() => tracing::warn!(signal, "ending before everything was detached"),
            }
            stop.outcome()
        };
        let result = runtime.block_on(async {
            let companion = Companion::start(&board);
            let result = work.await;
            if let Some(companion) = companion {
                companion.end(&result).await;
            }
            result
        });
        if let Some(state) = state.filter(|_| !counting) {
            state.keep(&board.traffic.snapshot().save());
        }
        if let Some((directory, history)) = saved::directory().zip(board.history.get()) {
            TimelineFile::within(&directory).keep(history.keep());
        }
        admin_stop.cancel();
        // Answers that are on their way are cut off; nothing in there waits for anybody.
        let _ = admin.join();
        drop(socket_file);
        runtime.shutdown_timeout(Duration::from_millis(100));
        result
    }
}

/// What this agent alone may work with: the containerds that have a place by now (the others when
/// they get one), and the directory of its counters.
fn claims(config: &Config) -> Result<Claims, Failure> {
    let claims = Claims::exclusive();
    let sockets = settings::containerd(config).sockets;
    let mut taken = sockets.iter().map(|socket| claims.socket(socket));
    let taken = taken.find_map(Result::err).or_else(|| claims.directory(&saved::directory()?).err());
    match taken {
        None => Ok(claims),
        Some(taken) => {
            let text = format!("{taken}, and one of them would take the other's programs away; stop it first");
            Err(Failure::say(Exit::Usage, text))
        }
    }
}

/// An address that is taken says nothing of whom by. Where it is another agent, a pod's say, that is what there is
/// to know.
fn by_another(config: &Config, failure: Failure) -> Failure {
    match claims(config) {
        Err(taken) if failure.exit == Exit::Usage => taken,
        Err(_) | Ok(_) => failure,
    }
}

/// The loaded programs, or the signal that came first. READY is said on time in any case.
async fn loaded(
    config: KernelConfig,
    ahead: Ahead,
    signals: &mut Signals,
) -> Result<Result<Loaded, &'static str>, Failure> {
    let loading = load(config, ahead);
    tokio::pin!(loading);
    let late = tokio::time::sleep(READY_WITHIN);
    tokio::pin!(late);
    loop {
        tokio::select! {
            loaded = &mut loading => return loaded.map(Ok),
            signal = signals.next() => return Ok(Err(signal)),
            () = &mut late, if !late.is_elapsed() => notify::ready(),
        }
    }
}

/// What will be needed in a moment. Within a quota it is loaded with the rest: what that takes is
/// used in one piece, whose debt the kernel collects afterwards, and meanwhile nobody else of this
/// process would run.
async fn ahead(config: &Config, deadlines: &Deadlines) -> Ahead {
    let node = config.attach.node && has_services(config, deadlines).await;
    Ahead { node, alarm: config.attach.early }
}

/// Whether the node has services, whose sockets have a program of their own.
async fn has_services(config: &Config, deadlines: &Deadlines) -> bool {
    let (proc, deadlines) = (config.debug.proc.clone(), deadlines.clone());
    let look = move || {
        let hierarchy = find_hierarchy(&proc, &deadlines).ok()?;
        services_of(&hierarchy).ok()
    };
    let looked = tokio::time::timeout(LOOK_WITHIN, tokio::task::spawn_blocking(look)).await;
    matches!(looked, Ok(Ok(Some(services))) if services > 0)
}

/// None where the operator wants no names of a cluster.
fn wanted(config: &Config, who: &Who) -> Option<Wanted> {
    let is_told = config.companion.join.is_some() && config.companion.names;
    let config = &config.kubernetes;
    let is_off = config.mode == KubernetesMode::Off;
    (!is_off || is_told).then(|| {
        let mut watches = settings::watches(config, who);
        if is_off {
            watches.sources = Sources::default();
        }
        Wanted { watches, limits: settings::names(config), is_expected: settings::expects_cluster(config) }
    })
}

/// Verifying takes the kernel some hundred milliseconds of one CPU: not on a worker of the runtime.
async fn load(config: KernelConfig, ahead: Ahead) -> Result<Loaded, Failure> {
    let (tell, told) = oneshot::channel();
    let load = move || drop(tell.send(engine::load(&config, ahead)));
    std::thread::Builder::new().name("load".to_owned()).spawn(load).context("start a thread")?;
    told.await.context("load the kernel programs: the thread panicked")?
}
