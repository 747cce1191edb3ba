//! Plain HTTP for a browser that comes by `kubectl port-forward`: the service map. A read is answered
//! from memory; while a page is open, agents are asked to push more often.

use crate::counts::FleetCounts;
use crate::map::{self, Asked, Document, Guard, POLICY, Refused, asset};
use crate::serve::accept::accept;
use crate::serve::http::takes_gzip;
use crate::serve::page::{self, Body};
use crate::serve::push::Push;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use golden_metrics::SelfMetric;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use join::limits::PATIENCE;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Connections at one time: a browser makes six.
const CONNECTIONS: usize = 64;
/// Figures are made so often, however many pages ask.
const RENDERING: Duration = Duration::from_secs(1);
/// Edges of which details are made between two renderings.
const DETAILS: usize = 64;
/// A page asks every two seconds. One that has asked for nothing for so long is closed.
const OPEN: Duration = Duration::from_secs(10);
/// How often agents push while a page is open.
const FAST: Duration = Duration::from_secs(2);
/// And the companion takes no more than 50 pushes a second for a page.
const PER_AGENT: Duration = Duration::from_millis(20);
/// What the companion could not take is shown for as long as what agents lost.
const WINDOW: Duration = Duration::from_secs(60);

/// Serves the map.
#[derive(Debug)]
pub struct Map {
    push: Arc<Push>,
    guard: Guard,
    rendered: Mutex<Rendered>,
    counts: Counts,
}

/// What pages share until the next rendering.
#[derive(Debug, Default)]
struct Rendered {
    at: Option<Duration>,
    document: Document,
    map: Content,
    details: HashMap<u64, Content>,
    /// What the companion could not take, at times in the last minute.
    before: VecDeque<(Duration, FleetCounts)>,
}

/// A body, as it is and compressed.
#[derive(Clone, Debug, Default)]
struct Content {
    plain: Bytes,
    gzip: Bytes,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    renderings: AtomicU64,
    refused_host: AtomicU64,
    refused_site: AtomicU64,
    refused_busy: AtomicU64,
    left_out: AtomicU64,
    /// When a page asked last: milliseconds of the fleet's clock, and one; 0: never.
    asked: AtomicU64,
}

impl Content {
    fn new(plain: impl Into<Bytes>) -> Content {
        let plain = plain.into();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Into memory: nothing can fail.
        let gzip = encoder.write_all(&plain).and_then(|()| encoder.finish()).unwrap_or_default();
        Content { plain, gzip: gzip.into() }
    }
}

impl Map {
    /// Of what `push` takes.
    #[must_use]
    pub fn new(push: Arc<Push>, guard: Guard) -> Map {
        Map { push, guard, rendered: Mutex::default(), counts: Counts::default() }
    }

    /// What it says of itself.
    #[must_use]
    pub fn metrics(&self) -> Vec<SelfMetric> {
        let Counts { requests, renderings, refused_host, refused_site, refused_busy, left_out, asked: _ } =
            &self.counts;
        let help = "Requests of the service map that were answered.";
        let mut metrics =
            vec![SelfMetric::counter("pilotfish_companion_map_requests_total", help, requests.load(Relaxed))];
        let help = "Times that the figures of the service map were made; all pages share them.";
        metrics.push(SelfMetric::counter("pilotfish_companion_map_renderings_total", help, renderings.load(Relaxed)));
        let help = "Requests and connections of the service map that were refused: by a host that is not this \
                    machine, by a page of another site, or because there were too many.";
        for (reason, total) in [("host", refused_host), ("site", refused_site), ("busy", refused_busy)] {
            let refused = SelfMetric::counter("pilotfish_companion_map_refused_total", help, total.load(Relaxed));
            metrics.push(refused.with("reason", reason));
        }
        let help = "1 while a page is open, for which agents push more often.";
        let open = f64::from(u8::from(self.is_open()));
        metrics.push(SelfMetric::gauge("pilotfish_companion_map_open", help, open));
        let help = "Workloads and edges with the least traffic that the service map does not show.";
        let left_out = left_out.load(Relaxed) as f64;
        metrics.push(SelfMetric::gauge("pilotfish_companion_map_left_out", help, left_out));
        metrics
    }

    /// Until `stop` is cancelled.
    pub async fn run(self: Arc<Map>, listener: TcpListener, stop: CancellationToken) {
        let refused = || count(&self.counts.refused_busy);
        let serving = accept(listener, CONNECTIONS, stop, refused, |tcp| self.clone().connection(tcp));
        tokio::select! {
            () = serving => {}
            () = self.pace() => {}
        }
    }

    /// Asks agents to push as often as somebody looks.
    async fn pace(&self) {
        loop {
            self.push.set_pace(if self.is_open() { self.fast() } else { None });
            sleep(RENDERING).await;
        }
    }

    fn is_open(&self) -> bool {
        let asked = self.counts.asked.load(Relaxed).checked_sub(1).map(Duration::from_millis);
        asked.is_some_and(|asked| self.push.now().saturating_sub(asked) < OPEN)
    }

    /// `None`: agents push as often as always.
    fn fast(&self) -> Option<Duration> {
        let fleet = self.push.fleet().lock();
        let agents = u32::try_from(fleet.joined()).unwrap_or(u32::MAX);
        Some(FAST.max(PER_AGENT.saturating_mul(agents))).filter(|fast| *fast < fleet.period())
    }

    async fn connection(self: Arc<Map>, tcp: TcpStream) {
        let service = service_fn(|request| {
            let (this, wanted) = (self.clone(), self.wanted(&request));
            async move {
                let answer = match wanted {
                    Ok(wanted) => this.answer(wanted).await,
                    Err((status, text)) => text_of(status, text),
                };
                Ok::<_, Infallible>(answer)
            }
        });
        // It ends when its other end does; what it says of that is for nobody.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            // A page that is not looked at keeps a connection for a while.
            .header_read_timeout(PATIENCE * 12)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    }

    fn wanted(&self, request: &Request<Incoming>) -> Result<Wanted, (StatusCode, &'static str)> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let host = header(HOST.as_str()).filter(|_| request.headers().get_all(HOST).iter().count() == 1);
        // Of a request to a proxy, which this is not.
        let host = host.filter(|host| request.uri().authority().is_none_or(|authority| authority.as_str() == *host));
        let asked = Asked::read(request.uri().path());
        let is_figures = !matches!(asked, Some(Asked::File(_)));
        if let Err(refused) = self.guard.check(host, header("sec-fetch-site"), is_figures) {
            let (counter, text) = match refused {
                Refused::Host => (
                    &self.counts.refused_host,
                    "come by localhost: kubectl -n pilotfish port-forward svc/companion 8080\n",
                ),
                Refused::Site => (&self.counts.refused_site, "figures are for the page that is served here\n"),
            };
            count(counter);
            return Err((StatusCode::FORBIDDEN, text));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "GET only\n"));
        }
        let Some(asked) = asked else { return Err((StatusCode::NOT_FOUND, NOTHING)) };
        Ok(Wanted { asked, gzip: takes_gzip(header(ACCEPT_ENCODING.as_str()).unwrap_or_default()) })
    }

    async fn answer(&self, Wanted { asked, gzip }: Wanted) -> Response<Body> {
        let found = match asked {
            Asked::File(name) => asset(name).map(|asset| (Content::new(asset.content), asset.content_type)),
            Asked::Map => Some((self.map().await, JSON)),
            Asked::Edge(id) => match self.edge(id).await {
                Ok(content) => content.map(|content| (content, JSON)),
                Err(Busy) => {
                    count(&self.counts.refused_busy);
                    return text_of(StatusCode::SERVICE_UNAVAILABLE, "details of others are being made\n");
                }
            },
        };
        let Some((content, content_type)) = found else { return text_of(StatusCode::NOT_FOUND, NOTHING) };
        count(&self.counts.requests);
        let mut response = response(if gzip { content.gzip } else { content.plain });
        page::describe(&mut response, HeaderValue::from_static(content_type), "Accept-Encoding", gzip);
        response
    }

    /// The figures, a second old at most.
    async fn map(&self) -> Content {
        let now = self.push.now();
        let asked = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.counts.asked.store(asked, Relaxed);
        let mut rendered = self.rendered.lock().await;
        if !rendered.is_fresh(now) {
            self.render(&mut rendered, now).await;
        }
        rendered.map.clone()
    }

    async fn render(&self, rendered: &mut Rendered, now: Duration) {
        let (shown, counts) = {
            let mut fleet = self.push.fleet().lock();
            (fleet.shown(now), fleet.counts())
        };
        while rendered.before.front().is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW) {
            rendered.before.pop_front();
        }
        let before = rendered.before.front().map_or(counts, |(_, counts)| *counts);
        if rendered.before.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= WINDOW / 6) {
            rendered.before.push_back((now, counts));
        }
        let period = self.push.pace();
        let made = tokio::task::spawn_blocking(move || {
            let mut document = Document::of(&shown, [counts, before], period);
            let content = Content::new(std::mem::take(&mut document.json));
            (document, content)
        });
        // Fails only when the runtime ends.
        let Ok((document, content)) = made.await else { return };
        count(&self.counts.renderings);
        self.counts.left_out.store(document.left_out as u64, Relaxed);
        (rendered.at, rendered.document, rendered.map) = (Some(now), document, content);
        rendered.details.clear();
    }

    /// One edge of the figures that were shown last; `None`: there is none.
    async fn edge(&self, id: u64) -> Result<Option<Content>, Busy> {
        let now = self.push.now();
        let mut rendered = self.rendered.lock().await;
        if !rendered.is_fresh(now) {
            self.render(&mut rendered, now).await;
        }
        if let Some(content) = rendered.details.get(&id) {
            return Ok(Some(content.clone()));
        }
        let Some((client, server, open)) = rendered.document.edge(id) else { return Ok(None) };
        if rendered.details.len() >= DETAILS {
            return Err(Busy);
        }
        let detail = self.push.fleet().lock().edge(now, client, server);
        let content = Content::new(map::detail(detail, *open));
        rendered.details.insert(id, content.clone());
        Ok(Some(content))
    }
}

/// A request that is to be answered.
struct Wanted {
    asked: Asked,
    gzip: bool,
}

/// Details of enough edges were made for now.
struct Busy;

impl Rendered {
    fn is_fresh(&self, now: Duration) -> bool {
        self.at.is_some_and(|at| now.saturating_sub(at) < RENDERING)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

const JSON: &str = "application/json";
const NOTHING: &str = "nothing is here; the service map is at the root\n";

/// With what every answer says: to whom it is, and what may be done with it. No other origin may read.
fn response(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Another companion's page may come at the same address.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text_of(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = response(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
