//! The connection to the API server: one for all watches where it speaks HTTP/2, as API servers do.
//!
//! Every way in which it can be silent has an end: name and connection (`connect`), TLS and the
//! head of an answer (`answer`), a connection whose other end is gone (pings; and the kernel's own
//! keep-alive and `TCP_USER_TIMEOUT` for what speaks HTTP/1 only).

use super::config::{Agent, Timing};
use crate::access::{Access, OwnAddresses, is_local};
use futures_util::future::BoxFuture;
use hyper::http::Uri;
use hyper::http::header::{HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client as HyperClient, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt};
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::vec::IntoIter;
use tower::BoxError;
use tower::util::MapErrLayer;

/// Tells an agent its own requests, should one ever come back to it: `admin` refuses what bears its own.
pub const INSTANCE_HEADER: &str = "x-pilotfish-instance";

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{url} has no host")]
    NoHost { url: String },
    #[error("{to} is this agent's own address; a request there would come back to it")]
    Own { to: SocketAddr },
    #[error("TLS")]
    Tls(#[source] Box<kube::Error>),
    #[error("{0} is no server name")]
    ServerName(String),
    #[error("a header's value")]
    Header(#[from] InvalidHeaderValue),
}

/// A client for what `access` says. Connects with the first request.
pub(super) fn client(access: &Access, agent: &Agent, timing: &Timing) -> Result<Client, Fault> {
    let mut config = access.config.clone();
    for (name, value) in [(USER_AGENT, &agent.user_agent), (HeaderName::from_static(INSTANCE_HEADER), &agent.instance)]
    {
        config.headers.push((name, HeaderValue::from_str(value)?));
    }
    let resolver = Resolver { port: port(&config.cluster_url), own: agent.own.clone() };
    resolver.check_literal(&config.cluster_url)?;

    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timing.connect));
    tcp.set_keepalive(Some(timing.ping_every));
    tcp.set_keepalive_interval(Some(timing.ping_answer));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(timing.ping_every + timing.ping_answer));

    let tls = config.rustls_client_config().map_err(|error| Fault::Tls(Box::new(error)))?;
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = config.tls_server_name.clone() {
        let parsed = name.clone().try_into().map_err(|_| Fault::ServerName(name))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(parsed));
    }
    let connector = builder.enable_http1().enable_http2().wrap_connector(tcp);
    let http = HyperClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        // One attempt is one attempt.
        .retry_canceled_requests(false)
        .http2_keep_alive_interval(timing.ping_every)
        .http2_keep_alive_timeout(timing.ping_answer)
        .build::<_, Body>(connector);

    let tls_error = |error| Fault::Tls(Box::new(error));
    let headers = config.extra_headers_layer().map_err(tls_error)?;
    // The parts of the stack have to agree on one kind of error.
    let boxed = MapErrLayer::new(|error: HyperError| -> BoxError { error.into() });
    let builder = ClientBuilder::new(http, "default").with_layer(&boxed).with_layer(&headers);
    Ok(match config.auth_layer().map_err(tls_error)? {
        Some(auth) => builder.with_layer(&auth).with_layer(&config.base_uri_layer()).build(),
        None => builder.with_layer(&config.base_uri_layer()).build(),
    })
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 })
}

/// The system's resolver, on the runtime's thread for blocking work, less the addresses of the agent itself.
#[derive(Clone, Debug)]
struct Resolver {
    port: u16,
    own: OwnAddresses,
}

impl Resolver {
    fn is_own(&self, ip: IpAddr) -> Option<SocketAddr> {
        Some(SocketAddr::new(ip, self.port)).filter(|to| self.own.holds(*to, is_local))
    }

    /// An address in the URL is never resolved.
    fn check_literal(&self, url: &Uri) -> Result<(), Fault> {
        let host = url.host().ok_or_else(|| Fault::NoHost { url: url.to_string() })?;
        match host.trim_matches(['[', ']']).parse().ok().and_then(|ip| self.is_own(ip)) {
            Some(to) => Err(Fault::Own { to }),
            None => Ok(()),
        }
    }
}

impl tower::Service<Name> for Resolver {
    type Response = IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<IntoIter<SocketAddr>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            // A resolver of the system that hangs holds one of two threads for as long; the attempt
            // itself has its time-out.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.take(16).collect();
            if let Some(to) = found.iter().find_map(|address| resolver.is_own(address.ip())) {
                return Err(io::Error::other(Fault::Own { to }));
            }
            Ok(found.into_iter())
        })
    }
}

/// An error with its causes, on one line of at most 300 bytes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = flow_model::in_full(error);
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= 300).unwrap_or(text.len());
    text.truncate(end);
    text
}
