//! Serves HTTP/1 to strangers: connections, heads and times are bounded, and whoever sends garbage
//! or nothing harms nobody else.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// A request's head must be complete after this; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A connection ends after this: a reader of one byte a second holds a connection no longer.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Heads of scrapers and browsers are below 2 KiB; 8 KiB is hyper's smallest buffer.
const HEAD_BYTES: usize = 8 << 10;
const HEADERS: usize = 64;
/// `accept` failed for want of descriptors or memory: they do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves until `stop`. At most `connections` at once: when one more comes, the oldest makes room
/// (and is counted as `evicted`), so that a scraper and the kubelet get through however many
/// connections somebody else holds open.
pub async fn serve(
    listener: impl Accept,
    router: Router,
    connections: usize,
    evicted: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let mut open: JoinSet<()> = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.next() => match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        by_age.retain(|connection| !connection.is_finished());
        while by_age.len() >= connections {
            let Some(oldest) = by_age.pop_front() else { break };
            oldest.abort();
            evicted.fetch_add(1, Ordering::Relaxed);
        }
        by_age.push_back(open.spawn(one(stream, router.clone())));
    }
    open.shutdown().await;
}

async fn one(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What goes wrong on a connection is the client's: it got a 4xx, or is gone.
    let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
}
