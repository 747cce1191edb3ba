//! The thread that the watches live on, and what others hold of it.

use super::choice::{Choice, From};
use super::inlet::{self, Inlet, Outlet};
use super::report::{Board, Link, Report};
use super::server::Server;
use super::snapshot::{self, Kept};
use super::supervisor::Supervisor;
use super::transport::chain;
use super::{Config, Table};
use crate::access;
use crate::cluster::object::Resource;
use crate::cluster::{ClusterNames, Moment};
use futures_util::future::join_all;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

/// Holds the watches. Dropping it does not stop them; the token does.
#[derive(Debug)]
pub struct Handle {
    board: Board,
    names: ClusterNames,
    ended: Option<oneshot::Receiver<Ended>>,
    inlet: Option<Inlet>,
}

/// That the thread has ended because it was asked to. It ends otherwise only by a fault of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl Handle {
    /// A copy of how things stand at `now`.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        self.board.read(now)
    }

    /// For readers on other threads.
    pub fn reporter(&self) -> impl Fn(Instant) -> Report + Send + Sync + 'static {
        let board = self.board.clone();
        move |now| board.read(now)
    }

    /// Empty for good where the thread was started with another table than `Cluster`.
    #[must_use]
    pub fn names(&self) -> ClusterNames {
        self.names.clone()
    }

    /// For names that a companion tells; once.
    pub fn take_inlet(&mut self) -> Option<Inlet> {
        self.inlet.take()
    }

    /// Waits for the end of the thread; to be called once. An error means that it ended by a fault.
    ///
    /// # Errors
    /// The thread panicked: it went without telling of its end.
    pub async fn ended(&mut self) -> Result<Ended, oneshot::error::RecvError> {
        match self.ended.take() {
            Some(ended) => ended.await,
            None => std::future::pending().await,
        }
    }
}

pub(super) fn start<T: Table>(
    config: Config,
    table: T,
    kept: Kept,
    names: ClusterNames,
    clock: fn() -> Moment,
    stop: CancellationToken,
) -> io::Result<Handle> {
    // One provider of primitives for all of TLS; that another part has set it already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let board = Board::new(&Resource::ALL, names.clone(), Instant::now());
    let (told, ended) = oneshot::channel();
    let (inlet, outlet) = inlet::inlet();
    let handle = Handle { board: board.clone(), names, ended: Some(ended), inlet: Some(inlet) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // For names and snapshots. A resolver that hangs holds one of them.
        .max_blocking_threads(2)
        .thread_name("k8s-blocking")
        .build()?;
    std::thread::Builder::new().name("k8s".to_owned()).spawn(move || {
        let server = Server::new(config, board, table, kept, clock);
        runtime.block_on(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work(&server, outlet) => {}
            }
        });
        // Nothing is asked any more; what is known is kept for the next run.
        save_now(&server);
        runtime.shutdown_timeout(Duration::from_millis(100));
        let _ = told.send(Ended);
    })?;
    Ok(handle)
}

async fn work<T: Table>(server: &Server<T>, outlet: Outlet) {
    tokio::join!(names(server, outlet), save(server), forget(server), note_stops(server));
}

/// Watches, or takes what a companion tells.
async fn names<T: Table>(server: &Server<T>, mut outlet: Outlet) {
    let (began, mut choice, mut from) = (Instant::now(), Choice::default(), From::Own);
    let mut watches = Some(Box::pin(watch(server)));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = async {
                match &mut watches {
                    Some(watches) => watches.await,
                    None => std::future::pending().await,
                }
            } => watches = None,
            // What comes late, after the watches began again, is dropped: they tell everything.
            Some(streamed) = outlet.told.recv() => {
                if from == From::Companion {
                    server.streamed(streamed);
                }
            }
            _ = tick.tick() => server.board.tick(Instant::now()),
        }
        let is_there = *outlet.there.borrow();
        let has_own = || access::find(&server.config.sources).is_ok();
        let next = choice.step(began.elapsed(), is_there, has_own);
        if next == from {
            continue;
        }
        from = next;
        match from {
            From::Companion => {
                tracing::info!("names come from the companion");
                watches = None;
                server.board.streaming(true);
            }
            From::Own => {
                tracing::info!("the companion is away; watching the API server again");
                server.board.streaming(false);
                server.begin_anew();
                watches = Some(Box::pin(watch(server)));
            }
        }
        outlet.wanted.send_replace(from == From::Companion);
    }
}

async fn watch<T: Table>(server: &Server<T>) {
    found(server).await;
    join_all(Resource::ALL.map(|resource| Supervisor::new(server, resource).run())).await;
}

/// Tells when this process was stopped (SIGSTOP, a frozen control group, a migrated or sleeping
/// machine): timers come late, or wall time has passed that the monotonic clock, which stands still
/// in a suspended machine, knows nothing of. A clock that is set forward looks the same and costs a
/// new connection.
async fn note_stops<T: Table>(server: &Server<T>) {
    loop {
        let (monotonic, wall) = (Instant::now(), SystemTime::now());
        sleep(TICK).await;
        let passed = monotonic.elapsed().max(wall.elapsed().unwrap_or_default());
        if let Some(stopped) = stopped_for(passed) {
            server.was_stopped(stopped);
        }
    }
}

const TICK: Duration = Duration::from_secs(1);
/// A thread that waits for a processor is late by a fraction of a second, also under a quota of a tenth of one.
const STOPPED: Duration = Duration::from_secs(3);

/// How long this process was stopped within a wait for `TICK` that took `passed`.
fn stopped_for(passed: Duration) -> Option<Duration> {
    passed.checked_sub(TICK).filter(|stopped| *stopped >= STOPPED)
}

/// Waits until it is known where an API server is. That there is none is said once.
async fn found<T: Table>(server: &Server<T>) {
    let mut said = String::new();
    loop {
        match access::find(&server.config.sources) {
            Ok(access) => {
                if access.is_unverified {
                    tracing::warn!(place = access.place, "the API server's certificate is not verified");
                }
                server.show(&access);
                server.board.change(|report| report.link = Link::Connecting);
                return;
            }
            Err(none) => {
                let reason = chain(&none);
                if reason != said && none.is_normal() {
                    tracing::info!(reason, "names come from containerd only");
                } else if reason != said {
                    tracing::warn!(reason, "names come from containerd only");
                }
                server.board.change(|report| report.link = Link::None { reason: reason.clone() });
                said = reason;
            }
        }
        sleep(server.config.timing.look_again).await;
    }
}

/// Half a minute is short against the ten minutes that names of the past are kept.
async fn forget<T: Table>(server: &Server<T>) {
    loop {
        sleep(Duration::from_secs(30)).await;
        server.forget();
    }
}

async fn save<T: Table>(server: &Server<T>) {
    let Some(path) = server.config.snapshot.clone() else { return };
    loop {
        sleep(server.config.timing.save_every).await;
        let Some(bytes) = server.snapshot() else { continue };
        let path = path.clone();
        // A disk that hangs holds one thread and the next snapshot, and no watch.
        let written = match bytes {
            Ok(bytes) => tokio::task::spawn_blocking(move || snapshot::write(&path, &bytes)).await,
            Err(error) => Ok(Err(error)),
        };
        saved(server, written.unwrap_or_else(|error| Err(io::Error::other(error))));
    }
}

fn save_now<T: Table>(server: &Server<T>) {
    if let (Some(path), Some(bytes)) = (&server.config.snapshot, server.snapshot()) {
        saved(server, bytes.and_then(|bytes| snapshot::write(path, &bytes)));
    }
}

fn saved<T: Table>(server: &Server<T>, result: io::Result<()>) {
    match result {
        Ok(()) => server.board.change(|report| {
            report.snapshots_saved += 1;
            report.snapshot_error = None;
        }),
        Err(error) => {
            server.snapshot_failed();
            tracing::warn!(error = chain(&error), "the snapshot of the cluster's names was not saved");
            server.board.change(|report| report.snapshot_error = Some(chain(&error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_is_no_stop_and_a_very_late_one_is() {
        let s = Duration::from_secs;
        assert_eq!([s(0), s(1), Duration::from_millis(3_900)].map(stopped_for), [None; 3]);
        assert_eq!([s(4), s(3_600)].map(stopped_for), [Some(s(3)), Some(s(3_599))]);
    }
}
