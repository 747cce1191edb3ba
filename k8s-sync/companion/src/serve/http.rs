//! Plain HTTP for scrapers and probes: `/metrics`, `/livez`, `/readyz`. A read causes no request to
//! anybody, and changes nothing.

use crate::serve::accept::accept;
use crate::serve::api::Api;
use crate::serve::page::{self, Body};
use crate::serve::push::Push;
use crate::serve::self_metrics::self_metrics;
use crate::shown::{Only, Rows};
use bytes::Bytes;
use golden_metrics::{Exposition, Histograms, SelfMetric};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use join::limits::PATIENCE;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bounds of what is served.
#[derive(Clone, Copy, Debug)]
pub struct HttpConfig {
    /// Connections at one time: scrapers, and the kubelet's probes.
    pub connections: usize,
    /// Pages that are made at one time; whoever asks meanwhile is told to come back.
    pub pages: usize,
    /// A request's head takes no longer.
    pub patience: Duration,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig { connections: 64, pages: 2, patience: PATIENCE }
    }
}

/// What the process says of itself besides.
type More = dyn Fn() -> Vec<SelfMetric> + Send + Sync;

/// Serves what is kept.
pub struct Http {
    push: Arc<Push>,
    config: HttpConfig,
    pages: Arc<Semaphore>,
    /// Whether this replica shows the series of the nodes.
    shows_nodes: AtomicBool,
    refused: AtomicU64,
    api: Option<Arc<Api>>,
    more: Box<More>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Http {
    /// Of what `push` takes.
    #[must_use]
    pub fn new(push: Arc<Push>, config: HttpConfig) -> Http {
        let pages = Arc::new(Semaphore::new(config.pages));
        let (shows_nodes, refused) = (AtomicBool::new(true), AtomicU64::new(0));
        Http { push, config, pages, shows_nodes, refused, api: None, more: Box::new(Vec::new) }
    }

    /// Shows this, too.
    #[must_use]
    pub fn with_more(mut self, more: impl Fn() -> Vec<SelfMetric> + Send + Sync + 'static) -> Http {
        self.more = Box::new(more);
        self
    }

    /// Shows what the aggregated API says of itself, too.
    #[must_use]
    pub fn with_api(mut self, api: Arc<Api>) -> Http {
        self.api = Some(api);
        self
    }

    /// Of several replicas one shows the series of the nodes, so that whoever scrapes all of them
    /// counts nothing twice.
    pub fn set_shows_nodes(&self, shows: bool) {
        self.shows_nodes.store(shows, Relaxed);
    }

    /// Until `stop` is cancelled.
    pub async fn run(self: Arc<Http>, listener: TcpListener, stop: CancellationToken) {
        let refused = || {
            self.refused.fetch_add(1, Relaxed);
        };
        accept(listener, self.config.connections, stop, refused, |tcp| self.clone().connection(tcp)).await;
    }

    async fn connection(self: Arc<Http>, tcp: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        // It ends when its other end does; what it says of that is for nobody.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.patience)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        match request.uri().path() {
            "/livez" | "/readyz" => text(StatusCode::OK, "ok\n"),
            "/metrics" => match Asked::read(request.uri().query().unwrap_or_default()) {
                Ok(asked) => self.metrics(request, asked),
                Err(what) => text(StatusCode::BAD_REQUEST, &what),
            },
            _ => text(StatusCode::NOT_FOUND, "/metrics, /livez and /readyz are here\n"),
        }
    }

    fn metrics(&self, request: &Request<Incoming>, asked: Asked) -> Response<Body> {
        let Ok(place) = self.pages.clone().try_acquire_owned() else {
            self.refused.fetch_add(1, Relaxed);
            return text(StatusCode::SERVICE_UNAVAILABLE, "others are being answered\n");
        };
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let format = Exposition::negotiate(header(ACCEPT));
        let gzip = takes_gzip(header(ACCEPT_ENCODING).unwrap_or_default());
        let (rows, mut own) = {
            let (now, fleet) = (self.push.now(), self.push.fleet().lock());
            let rows = if self.shows_nodes.load(Relaxed) { fleet.rows(&asked.only) } else { Rows::default() };
            (rows, self_metrics(&fleet, now))
        };
        own.push(SelfMetric::counter(
            "pilotfish_companion_scrapes_refused_total",
            "Connections and scrapes that were refused because others were being answered.",
            self.refused.load(Relaxed),
        ));
        let help = "1 while this replica shows the series of the nodes; of several replicas one does.";
        let shows = f64::from(u8::from(self.shows_nodes.load(Relaxed)));
        own.push(SelfMetric::gauge("pilotfish_companion_shows_nodes", help, shows));
        own.extend(self.api.iter().flat_map(|api| api.metrics()));
        own.extend((self.more)());
        let body = page::body(gzip, move |take| {
            let _place: OwnedSemaphorePermit = place;
            Exposition::render_nodes(&rows.page(), &own, format, asked.histograms, take);
        });
        let mut response = Response::new(body);
        let content_type = format.content_type().parse().unwrap_or(TEXT);
        page::describe(&mut response, content_type, "Accept, Accept-Encoding", gzip);
        response
    }
}

const TEXT: hyper::header::HeaderValue = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");

fn text(status: StatusCode, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// The query of `/metrics`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    only: Only,
    histograms: Histograms,
}

impl Asked {
    fn read(query: &str) -> Result<Asked, String> {
        // Native ones take a tenth of the bytes; whoever has no use for them asks for the others.
        let mut asked = Asked { only: Only::default(), histograms: Histograms::Native };
        for (name, value) in
            query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
        {
            // Names of nodes and of namespaces need no escape.
            match (name, value) {
                ("node", node) => asked.only.node = Some(node.to_owned()),
                ("namespace", namespace) => asked.only.namespace = Some(namespace.to_owned()),
                ("histograms", "native") => asked.histograms = Histograms::Native,
                ("histograms", "classic") => asked.histograms = Histograms::Classic,
                ("histograms", "both") => asked.histograms = Histograms::Both,
                _ => {
                    return Err(
                        "node=, namespace= and histograms=native, classic or both can be asked for\n".to_owned()
                    );
                }
            }
        }
        Ok(asked)
    }
}

/// RFC 9110 section 12.5.3: where gzip, or anything, is named and not with a weight of zero.
pub(super) fn takes_gzip(header: &str) -> bool {
    let mut any = None;
    for part in header.split(',') {
        let (coding, weight) = part.split_once(';').unwrap_or((part, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f64>().ok()).unwrap_or(1.0);
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return weight > 0.0,
            "*" => any = Some(weight > 0.0),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_not_understood_is_told_so() {
        let only = |node: Option<&str>, namespace: Option<&str>| Only {
            node: node.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
        };
        let asked = |node, namespace, histograms| Ok(Asked { only: only(node, namespace), histograms });
        assert_eq!(Asked::read(""), asked(None, None, Histograms::Native));
        assert_eq!(Asked::read("node=n1&namespace=shop"), asked(Some("n1"), Some("shop"), Histograms::Native));
        assert_eq!(Asked::read("&histograms=classic"), asked(None, None, Histograms::Classic));
        for query in ["nod=n1", "histograms", "histograms=all", "="] {
            assert!(Asked::read(query).is_err(), "{query}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for header in ["gzip", "deflate, gzip;q=0.5", "GZIP", "*", "br;q=1, *;q=0.1", "x-gzip"] {
            assert!(takes_gzip(header), "{header}");
        }
        for header in ["", "identity", "gzip;q=0", "*;q=0", "gzip;q=0, *", "br"] {
            assert!(!takes_gzip(header), "{header}");
        }
    }
}
