//! The agent as a whole: what it is built of, in which order it comes up, and how it goes down again.
//!
//! Addresses and sockets are bound first, so that probes are answered while the kernel programs load. READY follows when they are loaded, and
//! after `READY_WITHIN` in any case: waiting for containerd, or scanning what exists, gates nothing.

use crate::cli::version;
use crate::clock;
use crate::config::{AttachMode, Config};
use crate::exit::{Exit, Failure};
use crate::run::containers::{Containers, Jobs, Parts, attach_news, containerd_config};
use crate::run::engine::{self, Loaded};
use crate::run::figures::Figures;
use crate::run::kubernetes::{Join, Who};
use crate::run::parts::{Ended, Ends};
use crate::run::pipeline_thread::{Order, PipelineThread};
use crate::run::process;
use crate::run::reload::Reload;
use crate::run::saved::{self, State};
use crate::run::scan::Scan;
use crate::serve::admin::{Admin, SocketFile, bind_address, bind_socket};
use crate::serve::board::{Board, Kernel, READY_WITHIN};
use crate::serve::notify;
use crate::serve::traffic::Traffic;
use anyhow::Context;
use capture_engine::attach::{AttachConfig, Attacher, Mode};
use golden_metrics::{Golden, Losses};
use k8s_sync::{Addresses, IdentityIndex, NamesReader};
use netns_scanner::deadline::Deadlines;
use shim_plugin::Containerd;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

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
    socket_file: SocketFile,
    reload: Reload,
    /// Where counters are kept from one run to the next, if anywhere.
    state: Option<State>,
}

/// What runs once the kernel programs are loaded.
struct Running {
    stop: CancellationToken,
    /// Cancelled when READY was said: what has time until then begins.
    ready: CancellationToken,
    containers: tokio::task::JoinHandle<Attacher>,
    orders: mpsc::Sender<Order>,
    pipeline: JoinHandle<()>,
    /// Begins after READY.
    kubernetes: Option<tokio::task::JoinHandle<()>>,
}

/// What every part reports to.
struct Shared<'a> {
    board: &'a Arc<Board>,
    losses: &'a Losses,
    ends: &'a Ends,
    deadlines: Deadlines,
}

/// Why the agent stops.
enum Stop {
    Signal(&'static str),
    Ended(Ended),
}

impl App {
    /// Binds what it answers on and starts answering; nothing of the node is touched yet.
    ///
    /// # Errors
    /// `Usage` for an address or a socket that is taken.
    pub fn build(config: Config, reload: Reload) -> Result<App, Failure> {
        let address = bind_address(config.admin.listen)?;
        let listening = address.local_addr().context("read the admin address")?;
        let (socket, socket_file) = bind_socket(&config.admin.socket)?;
        let losses = Losses::default();
        let identities = IdentityIndex::new(k8s_sync::Limits::default());
        let metrics = golden_metrics::Config {
            max_series: config.metrics.max_series,
            expiry: config.metrics.expiry,
            ..golden_metrics::Config::default()
        };
        let (mut golden, reader) = Golden::new(identities.reader(Addresses::ByClass), metrics, &losses);
        let state = State::from_environment();
        if let Some(counted) = state.as_ref().and_then(State::take) {
            golden.restore(&counted, &losses, clock::now());
            tracing::info!(series = counted.series(), "counters go on where the last run ended");
        }
        let traffic = Traffic::new(reader, losses.clone()).with(config.metrics.histograms);
        let board = Arc::new(Board::new(version::own(), traffic, Instant::now()));
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
        let admin = Admin { address, socket, connections: config.admin.connections, debug: config.debug.enabled };
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
            socket_file,
            reload,
            state,
        })
    }

    /// Runs until a signal or the first end of a part, then drains.
    ///
    /// # Errors
    /// `NoPermission` when the kernel refuses the programs, `Software` when a part ended by itself.
    pub fn run(self) -> Result<(), Failure> {
        let App { mut config, board, losses, golden, identities, runtime, ends, mut ended, .. } = self;
        let App { admin_stop, admin, listening, socket_file, reload, state, .. } = self;
        // While somebody counts, nothing can be kept.
        let mut counting = false;
        let grace = config.admin.grace;
        let result = runtime.block_on(async {
            let mut signals = Signals::register()?;
            let mut hangup = signal(SignalKind::hangup()).context("register for SIGHUP")?;
            let everything_stops = CancellationToken::new();
            let _stops_at_the_end = everything_stops.clone().drop_guard();
            tokio::spawn(notify::run(board.clone(), everything_stops.clone()));
            let loading = load(config.clone());
            tokio::pin!(loading);
            let loaded = tokio::select! {
                loaded = &mut loading => loaded?,
                signal = signals.next() => return quiet(signal),
                () = tokio::time::sleep(READY_WITHIN) => {
                    notify::ready();
                    tokio::select! {
                        loaded = &mut loading => loaded?,
                        signal = signals.next() => return quiet(signal),
                    }
                }
            };
            let figures = Figures::new(loaded.kernel.clone(), config.capture.ring_bytes, &losses);
            let deadlines = Deadlines::default();
            let look =
                Look { board: board.clone(), figures, deadlines: deadlines.clone(), proc: config.debug.proc.clone() };
            tokio::spawn(upkeep(look, everything_stops));
            counting = true;
            let (names, holders) = (identities.reader(Addresses::ByClass), identities.holders());
            let mut running = Running::start(
                &config,
                loaded,
                golden,
                identities,
                Shared { board: &board, losses: &losses, ends: &ends, deadlines },
            )?;
            // The first beat comes with the first turn; until then this counts.
            board.pulse.beat(Instant::now());
            *board.kernel.lock() = Kernel::Loaded;
            notify::ready();
            tracing::info!(after = ?board.started.elapsed(), "ready");
            running.ready.cancel();
            let join = Join {
                config: config.clone(),
                who: Who { instance: board.instance.clone(), listening, state: saved::directory() },
                board: board.clone(),
                pipeline: running.orders.clone(),
                names,
                holders,
                ends: ends.clone(),
            };
            running.kubernetes = Some(tokio::spawn(join.run(running.stop.clone())));
            let stop = loop {
                tokio::select! {
                    signal = signals.next() => break Stop::Signal(signal),
                    Some(ended) = ended.recv() => break Stop::Ended(ended),
                    _ = hangup.recv() => tokio::task::block_in_place(|| reload.run(&mut config)),
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
            match stop {
                Stop::Signal(_) => Ok(()),
                Stop::Ended(Ended { part, reason }) => {
                    let reason = reason.err().unwrap_or_else(|| "it ended without being told to".to_owned());
                    Err(Failure::say(Exit::Software, format!("{part}: {reason}")))
                }
            }
        });
        if let Some(state) = state.filter(|_| !counting) {
            state.keep(&board.traffic.snapshot().save());
        }
        admin_stop.cancel();
        // Answers that are on their way are cut off; nothing in there waits for anybody.
        let _ = admin.join();
        drop(socket_file);
        runtime.shutdown_timeout(Duration::from_millis(100));
        result
    }
}

fn quiet(signal: &'static str) -> Result<(), Failure> {
    tracing::info!(signal, "stopping before the kernel programs were loaded");
    Ok(())
}

/// Verifying takes the kernel some hundred milliseconds of one CPU: not on a worker of the runtime.
async fn load(config: Config) -> Result<Loaded, Failure> {
    let (tell, told) = oneshot::channel();
    let load = move || drop(tell.send(engine::load(&config)));
    std::thread::Builder::new().name("load".to_owned()).spawn(load).context("start a thread")?;
    told.await.context("load the kernel programs: the thread panicked")?
}

impl Running {
    fn start(
        config: &Config,
        loaded: Loaded,
        golden: Golden<NamesReader>,
        identities: IdentityIndex,
        shared: Shared<'_>,
    ) -> Result<Running, Failure> {
        let Shared { board, losses, ends, deadlines } = shared;
        let (stop, ready) = (CancellationToken::new(), CancellationToken::new());
        let attach = AttachConfig {
            mode: match config.attach.mode {
                AttachMode::Auto => Mode::Auto,
                AttachMode::Tcx => Mode::Tcx,
                AttachMode::Clsact => Mode::Clsact,
            },
            include_loopback: config.attach.loopback,
            ..AttachConfig::default()
        };
        let (events, attach_events) = attach_news();
        let tell = move |event| events.tell(event);
        let attacher = Attacher::start(attach, loaded.programs(), tell).context("start the attach workers")?;
        let node = Jobs::new(loaded.kernel.clone(), config.debug.proc.clone());
        // Bounded by who sends: seeds by the scan, which counts those under way; the end of a namespace once for each that was attached; the others a few in a run.
        let (orders, received) = mpsc::channel();
        let pipeline = PipelineThread::new(config, loaded, golden, board.clone(), losses, received);
        let pipeline = ends.thread("pipeline", move || pipeline.run()).context("start the pipeline thread")?;
        let (containerd, handle) = Containerd::new(containerd_config(config));
        let watch = ends.watch("containerd");
        let drain = stop.clone();
        tokio::spawn(async move {
            let _watch = watch;
            containerd.run(drain).await;
        });
        let scan = Scan::start(config, deadlines.clone(), orders.clone(), losses).context("start the scan's thread")?;
        let parts = Parts {
            handle,
            attacher,
            attach_events,
            identities,
            pipeline: orders.clone(),
            board: board.clone(),
            scan,
            deadlines,
            node,
            ready: ready.clone(),
            proc: config.debug.proc.clone(),
        };
        let containers = Containers::new(config, parts, losses);
        let (watch, until) = (ends.watch("containers"), stop.clone());
        let containers = tokio::spawn(async move {
            let _watch = watch;
            containers.run(until).await
        });
        Ok(Running { stop, ready, containers, orders, pipeline, kubernetes: None })
    }

    /// Takes our programs out of every namespace, then lets the pipeline read what is left.
    async fn drain(self, grace: Duration) {
        let Running { stop, ready: _, containers, orders, pipeline, kubernetes } = self;
        stop.cancel();
        if let Ok(attacher) = containers.await {
            // Detaching is system calls under the kernel's own locks.
            let left = tokio::task::spawn_blocking(move || attacher.shutdown(grace)).await.unwrap_or(usize::MAX);
            if left > 0 {
                tracing::warn!(left, "namespaces were not detached in time; the programs there do nothing from now on");
            }
        }
        let _ = orders.send(Order::Finish);
        let _ = tokio::task::spawn_blocking(move || pipeline.join()).await;
        if let Some(kubernetes) = kubernetes
            && tokio::time::timeout(grace, kubernetes).await.is_err()
        {
            tracing::warn!("the cluster's names were not kept in time for the next start");
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn register() -> anyhow::Result<Signals> {
        let register = |kind| signal(kind).context("register for signals");
        Ok(Signals { terminate: register(SignalKind::terminate())?, interrupt: register(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What is looked at once a second.
struct Look {
    board: Arc<Board>,
    figures: Figures,
    deadlines: Deadlines,
    proc: PathBuf,
}

/// Once a second: what the process uses, what the kernel half counted, and a view for the rates.
async fn upkeep(mut look: Look, stop: CancellationToken) {
    loop {
        let once = move || {
            let Look { board, figures, deadlines, proc } = &mut look;
            figures.read(board);
            board.traffic.tick(clock::now());
            let before = board.process();
            // Read first, and only then under the lock.
            let usage = process::usage(proc, deadlines, before);
            *board.process.lock() = usage;
            look
        };
        // One at a time: the next look is not taken before this one is over. A look that panicked was the last.
        match tokio::task::spawn_blocking(once).await {
            Ok(back) => look = back,
            Err(error) => return tracing::error!(%error, "the agent's own figures stand still"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SECOND) => {}
        }
    }
}
