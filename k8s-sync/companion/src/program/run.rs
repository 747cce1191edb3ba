//! `pilotfish-companion serve`: binds what it answers on, starts the parts, waits for a signal.

use super::config::{Config, Format, Limits, Log, Mode};
use super::exit::Failure;
use super::files::{Files, Looks};
use companion::apis::metrics::Groups;
use companion::cluster::{self, Replica};
use companion::map::Guard;
use companion::serve::desk::{Desk, InCluster, Place};
use companion::serve::{
    self, Api, Certificate, Http, HttpConfig, Listener, ListenerConfig, Map, Push, Reviews, Telling,
};
use companion::{Config as Bounds, Fleet, Placed, Ran, Wanted, Watched};
use flow_model::Ts;
use join::Me;
use join::names::Shelf;
use k8s_sync::access::{self, OwnAddresses, Sources};
use k8s_sync::cluster::Moment;
use k8s_sync::watch::{self, Agent, ApiServer, Handle, Timing};
use parking_lot::Mutex;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Of all kinds. The largest cluster that Kubernetes supports has some 300,000.
const NAMES: usize = 1_000_000;
/// What is on its way is given so long at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Until a signal comes.
///
/// # Errors
/// Before it serves: what is wrong with flags, files or addresses. Later: a part that ended.
pub fn serve(path: &Path) -> Result<(), Failure> {
    let config = Config::read(path)?;
    log(&config.log);
    // Handshakes and pages; one of them may be at a large push.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(8).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::software(format!("start the runtime: {error}")))?;
    let served = runtime.block_on(run(config));
    runtime.shutdown_timeout(Duration::from_millis(100));
    served
}

fn log(log: &Log) {
    // What is no filter was refused when it was read.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Fails only when logging was started before.
    let _ = match log.format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// With the address that it got.
async fn bind(key: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let what = format!("{key}: listen on {address}");
    let failed = |error| Failure::of_system(&what, &error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn run(config: Config) -> Result<(), Failure> {
    let register = |kind| signal(kind).map_err(|error| Failure::software(format!("register for signals: {error}")));
    let (mut terminate, mut interrupt) = (register(SignalKind::terminate())?, register(SignalKind::interrupt())?);
    let files = Files::of(&config);
    let (secrets, seen) = files.begin()?;
    let tls = |error: serve::CertificateError| Failure::usage(format!("tls.certificate, tls.key: {error}"));
    let certificate = Certificate::new(&secrets.chain, &secrets.key).map_err(tls)?;

    let Limits { agents, connections, names_bytes, values_bytes, period_s } = config.limits;
    let period = Duration::from_secs(period_s);
    let bounds = Bounds { period, agents, names: names_bytes, values: values_bytes, ..Bounds::default() };
    // Two of them are equal once in 2^64.
    let instance = RandomState::new().hash_one(std::process::id());
    let fleet = Fleet::new(Me::new(env!("CARGO_PKG_VERSION"), instance), bounds);
    let push = Arc::new(Push::new(Arc::new(Mutex::new(fleet)), secrets.token.hash()));
    let listener_config = ListenerConfig { connections, ..ListenerConfig::default() };
    let listener = Listener::new(certificate.clone(), push.clone(), listener_config).map_err(tls)?;
    let api = match config.api.enabled {
        true => Some(Arc::new(Api::new(certificate.clone(), push.clone()).map_err(tls)?)),
        false => None,
    };

    let groups = Groups { custom: config.hpa.custom_metrics, external: config.hpa.external_metrics };
    let placed = groups.any().then(Arc::<Mutex<Placed>>::default);
    if let (Some(api), Some(placed)) = (&api, &placed) {
        api.set_figures(groups, placed.clone());
    }

    let ran = Arc::<Mutex<Ran>>::default();
    if config.join.pods {
        push.fleet().lock().set_ran(ran.clone());
    }
    let (pushes, push_at) = bind("push.listen", config.push.listen).await?;
    let (pages, metrics_at) = bind("metrics.listen", config.metrics.listen).await?;
    let (calls, api_at) = match &api {
        Some(_) => Some(bind("api.listen", config.api.listen).await?),
        None => None,
    }
    .unzip();
    let (map, map_at) = match config.map.enabled {
        true => Some(bind("map.listen", config.map.listen).await?),
        false => None,
    }
    .unzip();
    let map = map.map(|listener| (Arc::new(Map::new(push.clone(), Guard { any_address: config.map.proxy })), listener));

    let (stop, looks, reports) = (CancellationToken::new(), Arc::new(Looks::default()), Arc::default());
    let mut http = Http::new(push.clone(), HttpConfig::default());
    if let Some(api) = &api {
        http = http.with_api(api.clone());
    }
    let (told, looked): (Arc<Mutex<cluster::Reports>>, _) = (Arc::clone(&reports), looks.clone());
    let (tells, shows, judges) = (push.clone(), map.as_ref().map(|(map, _)| map.clone()), ran.clone());
    let http = Arc::new(http.with_more(move || {
        let mut metrics =
            serve::process_metrics(env!("CARGO_PKG_VERSION"), looked.read.load(Relaxed), looked.refused.load(Relaxed));
        if let Some(telling) = tells.telling() {
            serve::told(telling, &mut metrics);
        }
        if let Some(desk) = tells.desk() {
            serve::joined(desk.counts(), &mut metrics);
        }
        serve::ran(judges.lock().counts(), &mut metrics);
        metrics.extend(tells.reviews().iter().flat_map(|reviews| reviews.metrics()));
        metrics.extend(shows.iter().flat_map(|map| map.metrics()));
        for (resource, report) in told.lock().iter() {
            serve::followed(resource, &report.lock(), &mut metrics);
        }
        metrics
    }));

    let server = api_server(&config, &format!("{instance:016x}")).map(Arc::new);
    if let Some(server) = server.clone().filter(|_| !config.join.nodes.is_empty()) {
        let place = Place { namespace: config.service.namespace.clone(), name: config.join.nodes.clone() };
        push.set_desk(Arc::new(Desk::new(place.clone(), InCluster { server, place })));
    }
    if let Some(server) = server.clone().filter(|_| !config.join.audience.is_empty()) {
        let (namespace, account) = (config.service.namespace.clone(), config.join.service_account.clone());
        let wanted = Wanted { audience: config.join.audience.clone(), namespace, account };
        push.set_reviews(Arc::new(Reviews::new(wanted, server, ran.clone())));
    }
    let mut parts = JoinSet::new();
    parts.spawn(listener.run(pushes, stop.clone()));
    parts.spawn(http.clone().run(pages, stop.clone()));
    if let (Some(api), Some(calls)) = (&api, calls) {
        parts.spawn(api.clone().run(calls, stop.clone()));
    }
    if let Some((map, listener)) = map {
        parts.spawn(map.run(listener, stop.clone()));
    }
    parts.spawn(tick(push.clone(), period, stop.clone()));
    parts.spawn(files.follow(seen, certificate, push.clone(), looks, stop.clone()));
    if let Some(server) = server {
        let replica = replica(&config);
        *reports.lock() = cluster::follow(&server, &replica, &push, &http, api.as_ref(), (&mut parts, &stop));
    }
    let mut watches = match config.names.enabled {
        true => watch(&config, &format!("{instance:016x}"), &push, (placed, ran), (&mut parts, &stop))?,
        false => None,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        push = %push_at,
        metrics = %metrics_at,
        api = api_at.map(|address| address.to_string()),
        map = map_at.map(|address| address.to_string()),
        "the companion serves"
    );

    let watching = async {
        match &mut watches {
            Some(handle) => drop(handle.ended().await),
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        () = watching => Some(None),
        ended = parts.join_next() => Some(ended),
    };
    stop.cancel();
    match ended {
        None => {
            tracing::info!("the companion stops");
            let _ = tokio::time::timeout(GRACE, async { while parts.join_next().await.is_some() {} }).await;
            Ok(())
        }
        Some(Some(Err(error))) => Err(Failure::software(format!("a part of the companion ended: {error}"))),
        Some(_) => Err(Failure::software("a part of the companion ended without being told to")),
    }
}

/// Ends the series of nodes that have been silent for long.
async fn tick(push: Arc<Push>, period: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        let now = push.now();
        push.fleet().lock().tick(now);
    }
}

/// Watches for all agents; `None` where there is no API server.
fn watch(
    config: &Config,
    instance: &str,
    push: &Arc<Push>,
    (placed, ran): (Option<Arc<Mutex<Placed>>>, Arc<Mutex<Ran>>),
    (parts, stop): (&mut JoinSet<()>, &CancellationToken),
) -> Result<Option<Handle>, Failure> {
    let sources = Sources::of_this_process(config.kubernetes.kubeconfig.clone());
    if config.kubernetes.mode == Mode::Off || access::find(&sources).is_err_and(|none| none.is_normal()) {
        return Ok(None);
    }
    let shelf = Arc::new(Mutex::new(Shelf::new(NAMES)));
    let telling = Arc::new(Telling::new(shelf.clone(), config.names.bytes_per_s));
    // Of one or two replicas, and not of as many as there are nodes.
    let watches = watch::Config { sources, agent: agent(config, instance), in_turn: false, ..watch::Config::default() };
    let watched = Watched::new(shelf).with_placed(placed.clone()).with_ran(Some(ran.clone()));
    let started = watch::start_with(watches, watched, moment, stop.clone());
    let handle = started.map_err(|error| Failure::software(format!("start the watches: {error}")))?;
    let (report, mut fresh) = (handle.reporter(), None);
    let age = Mutex::new(move || {
        let now = Instant::now();
        if report(now).is_fresh().is_ok() {
            fresh = Some(now);
        }
        fresh.map_or(Duration::ZERO, |fresh| now.duration_since(fresh))
    });
    let told = push.clone();
    let age = move || {
        let age = (*age.lock())();
        ran.lock().tick(told.now(), age);
        if let Some(placed) = &placed {
            placed.lock().set_age(age);
        }
        age
    };
    parts.spawn(telling.clone().run(age, stop.clone()));
    push.set_telling(telling);
    Ok(Some(handle))
}

/// Both clocks. Nobody here compares times.
fn moment() -> Moment {
    Moment { mono: Ts(0), wall: SystemTime::now() }
}

fn agent(config: &Config, instance: &str) -> Agent {
    Agent {
        instance: instance.to_owned(),
        user_agent: concat!("pilotfish-companion/", env!("CARGO_PKG_VERSION")).to_owned(),
        own: OwnAddresses::new([config.push.listen, config.metrics.listen, config.api.listen]),
    }
}

/// `None` where there is none, or nobody wants it.
fn api_server(config: &Config, instance: &str) -> Option<ApiServer> {
    if config.kubernetes.mode == Mode::Off {
        return None;
    }
    let sources = Sources::of_this_process(config.kubernetes.kubeconfig.clone());
    if let Err(none) = access::find(&sources)
        && none.is_normal()
    {
        tracing::info!(reason = %none, "no cluster is read: any node may join, and kubectl is not answered");
        return None;
    }
    Some(ApiServer::new(sources, agent(config, instance), Timing::default()))
}

fn replica(config: &Config) -> Replica {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // A pod's host name is its own.
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let said = Some(config.service.pod.clone()).filter(|pod| !pod.is_empty());
    let pod = said.or_else(|| named("POD_NAME")).or_else(host).unwrap_or_default();
    Replica { namespace: config.service.namespace.clone(), service: config.service.name.clone(), pod }
}
