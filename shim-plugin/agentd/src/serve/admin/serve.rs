//! Serves HTTP/1 to strangers: connections, heads and times are bounded, and whoever sends garbage
//! or nothing, or reads slowly, harms nobody else.

use super::crowd::Crowd;
use crate::serve::doors::Doors;
use crate::serve::tap::Endless;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A request's head must be complete after this; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// An answer must be read after this, however it trickles. Prometheus gives up after 10 s as
/// shipped; 13 MB in 30 s are 4 Mbit/s.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
/// No further request after this on one connection: whoever lives on comes again.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Heads of scrapers and browsers are below 2 KiB; 8 KiB is hyper's smallest buffer.
const HEAD_BYTES: usize = 8 << 10;
const HEADERS: usize = 64;
/// `accept` failed for want of descriptors or memory: they do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines of the log about that.
const ACCEPT_SAID: Duration = Duration::from_secs(60);

/// Where connections come from.
pub trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A connection, and whose it is where that is known.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        self.accept().await.map(|(stream, peer)| (stream, Some(peer.ip())))
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn next(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

/// What holds for all connections.
#[derive(Debug)]
pub struct House {
    /// At once, at each door.
    pub connections: usize,
    /// See [`ANSWER_TIME`].
    pub answer_time: Duration,
    pub doors: Arc<Doors>,
    pub stop: CancellationToken,
}

/// Serves until `stop`. At most `connections` at once: when one more comes, one makes room (and is
/// counted as `evicted`), so that a scraper and the kubelet get through however many connections
/// somebody else holds open.
pub async fn serve(listener: impl Accept, router: Router, house: &House) {
    let House { connections, answer_time, doors, stop } = house;
    let mut open: JoinSet<()> = JoinSet::new();
    let mut crowd = Crowd::default();
    let mut said: Option<Instant> = None;
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.next() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    doors.no_descriptor.fetch_add(1, Relaxed);
                    if said.is_none_or(|said| said.elapsed() >= ACCEPT_SAID) {
                        said = Some(Instant::now());
                        tracing::warn!(%error, "cannot accept a connection");
                    }
                    // One of ours gives its descriptor to the one who knocks.
                    let is_full = [Errno::EMFILE, Errno::ENFILE].map(|errno| Some(errno as i32));
                    if is_full.contains(&error.raw_os_error()) && crowd.evict() {
                        doors.evicted.fetch_add(1, Relaxed);
                        continue;
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        while crowd.len() >= *connections && crowd.evict() {
            doors.evicted.fetch_add(1, Relaxed);
        }
        crowd.add(peer, open.spawn(one(stream, router.clone(), *answer_time, doors.clone())));
    }
    open.shutdown().await;
}

async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    answer_time: Duration,
    doors: Arc<Doors>,
) {
    let begun = Instant::now();
    // `None`: what is being answered has no time.
    let asked = Arc::new(Mutex::new(Some(begun)));
    let router = TowerToHyperService::new(router);
    let service = {
        let asked = asked.clone();
        service_fn(move |request| {
            *asked.lock() = Some(Instant::now());
            let (asked, answer) = (asked.clone(), router.call(request));
            async move {
                let answer = answer.await?;
                if answer.extensions().get::<Endless>().is_some() {
                    *asked.lock() = None;
                }
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut is_last = false;
    loop {
        // One that has no time is looked at again: another question may follow it.
        let due = asked.lock().unwrap_or_else(Instant::now) + answer_time;
        tokio::select! {
            // What goes wrong on a connection is the client's: it got a 4xx, or is gone.
            _ = connection.as_mut() => return,
            () = sleep_until(begun + CONNECTION_TIME), if !is_last => {
                is_last = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(due) => if asked.lock().is_some_and(|at| at + answer_time <= Instant::now()) {
                doors.late.fetch_add(1, Relaxed);
                return;
            },
        }
    }
}
