//! Takes connections of agents: bounded in number, and in the time that each may say nothing.

use crate::serve::accept::accept;
use crate::serve::certificate::{Certificate, CertificateError, provider};
use crate::serve::push::Push;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use join::Reason;
use join::limits::PATIENCE;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Of names that an agent has not read; all agents may read slowly at once. A message more may wait.
const SEND: usize = 64 << 10;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerConfig {
    /// Connections at one time. An agent has one, and for a moment two.
    pub connections: usize,
    /// A handshake, and the first call of a connection, take no longer.
    pub patience: Duration,
}

impl Default for ListenerConfig {
    fn default() -> ListenerConfig {
        ListenerConfig { connections: 10_000, patience: PATIENCE }
    }
}

/// Serves pushes.
pub struct Listener {
    tls: TlsAcceptor,
    push: Arc<Push>,
    config: ListenerConfig,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Listener {
    /// Shows this certificate.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn new(
        certificate: Arc<Certificate>,
        push: Arc<Push>,
        config: ListenerConfig,
    ) -> Result<Listener, CertificateError> {
        let tls = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut tls = tls.with_no_client_auth().with_cert_resolver(certificate);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Listener { tls: TlsAcceptor::from(Arc::new(tls)), push, config })
    }

    /// Until `stop` is cancelled.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let this = Arc::new(self);
        let refused = || this.push.fleet().lock().refused(Reason::Busy);
        accept(listener, this.config.connections, stop, refused, |tcp| this.clone().connection(tcp)).await;
    }

    async fn connection(self: Arc<Listener>, tcp: TcpStream) {
        let patience = self.config.patience;
        let _ = tcp.set_nodelay(true);
        let tls = match timeout(patience, self.tls.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            // A port scan, a probe, an agent that does not trust us: the other end says why.
            Ok(Err(_)) => return,
            Err(_) => return self.push.fleet().lock().said_nothing(),
        };
        let (called, over) = (AtomicBool::new(false), CancellationToken::new());
        let service = service_fn(|request| {
            called.store(true, Relaxed);
            let (push, over) = (self.push.clone(), over.clone());
            async move { Ok::<_, Infallible>(push.call(request, over).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // One call, and the one that takes its place.
            .max_concurrent_streams(2)
            .max_header_list_size(8 << 10)
            .max_send_buf_size(SEND)
            .serve_connection(TokioIo::new(tls), service);
        let mut connection = pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = over.cancelled() => {}
            () = async {
                sleep(patience).await;
                if called.load(Relaxed) {
                    over.cancelled().await;
                } else {
                    self.push.fleet().lock().said_nothing();
                }
            } => {}
        }
        // A connection is for one call: what is answered is still sent.
        connection.as_mut().graceful_shutdown();
        let _ = timeout(patience, connection).await;
    }
}
