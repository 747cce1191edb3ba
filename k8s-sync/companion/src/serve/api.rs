//! The aggregated API over TLS, for the API server alone. A read is answered from memory.

use crate::apis::metrics::{self, Ask, Groups};
use crate::apis::{self, Answer, Asked, Failure, Form, FrontProxy, Reads, Selected, Watch};
use crate::figure::{Figure, Missing};
use crate::placed::Placed;
use crate::serve::accept::accept;
use crate::serve::certificate::{Certificate, CertificateError, provider};
use crate::serve::page::Body;
use crate::serve::push::Push;
use bytes::Bytes;
use futures_util::stream;
use golden_metrics::SelfMetric;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use join::limits::PATIENCE;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at one time: a few of each API server, and what scans ports.
const CONNECTIONS: usize = 256;
/// Watches at one time.
const WATCHES: usize = 256;
/// A watch tells of changes so often; pushes come every ten seconds.
const LOOK: Duration = Duration::from_secs(2);
/// Where pods run may be as old as this: in that time a pod may have begun on a node of which nobody tells.
const OLDEST: Duration = Duration::from_secs(60);

/// Serves the aggregated API.
pub struct Api {
    push: Arc<Push>,
    certificate: Arc<Certificate>,
    door: Mutex<Arc<Door>>,
    watches: Arc<Semaphore>,
    refused: AtomicU64,
    figures: OnceLock<Figures>,
    outcomes: Outcomes,
}

/// What became of figures that were asked for.
#[derive(Debug, Default)]
struct Outcomes {
    told: AtomicU64,
    incomplete: AtomicU64,
    none: AtomicU64,
}

/// For whoever scales.
#[derive(Debug)]
struct Figures {
    groups: Groups,
    placed: Arc<Mutex<Placed>>,
}

/// What is asked for.
enum Call {
    Traffic(Asked),
    Figure(Ask),
}

/// Who is let in, and by which handshake.
struct Door {
    /// `None`: nobody has told yet who the front proxy is.
    proxy: Option<FrontProxy>,
    tls: TlsAcceptor,
    /// Cancelled when another one takes its place: what an old CA has signed is worth nothing then.
    over: CancellationToken,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("proxy", &self.door.lock().proxy).finish_non_exhaustive()
    }
}

impl Api {
    /// Shows this certificate. Answers probes alone until it is told who the front proxy is.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn new(certificate: Arc<Certificate>, push: Arc<Push>) -> Result<Api, CertificateError> {
        let door = Mutex::new(Arc::new(door(certificate.clone(), None)?));
        let watches = Arc::new(Semaphore::new(WATCHES));
        let (refused, figures, outcomes) = (AtomicU64::new(0), OnceLock::new(), Outcomes::default());
        Ok(Api { push, certificate, door, watches, refused, figures, outcomes })
    }

    /// Answers whoever scales by figures, too. `placed` says where pods run. Once, before it runs.
    pub fn set_figures(&self, groups: Groups, placed: Arc<Mutex<Placed>>) {
        if self.figures.set(Figures { groups, placed }).is_ok() {
            self.push.fleet().lock().set_tells_figures();
        }
    }

    /// Lets in this front proxy. Connections of another end, and its clients come again.
    ///
    /// # Errors
    /// When its CA is none; the one of before stays.
    pub fn set_front_proxy(&self, proxy: FrontProxy) -> Result<(), CertificateError> {
        let mut now = self.door.lock();
        if now.proxy.as_ref() != Some(&proxy) {
            let next = Arc::new(door(self.certificate.clone(), Some(proxy))?);
            std::mem::replace(&mut *now, next).over.cancel();
        }
        Ok(())
    }

    /// What it says of itself.
    #[must_use]
    pub fn metrics(&self) -> [SelfMetric; 5] {
        let watches = WATCHES - self.watches.available_permits();
        let figures = |outcome: &'static str, total: &AtomicU64| {
            let help = "Figures that were asked for to scale by: told; incomplete, and so not told; or none.";
            let metric = SelfMetric::counter("pilotfish_companion_figures_total", help, total.load(Relaxed));
            metric.with("outcome", outcome)
        };
        let help =
            "Calls of the aggregated API that were not taken: not from the API server, not understood, or too many.";
        [
            SelfMetric::counter("pilotfish_companion_api_refused_total", help, self.refused.load(Relaxed)),
            SelfMetric::gauge("pilotfish_companion_api_watches", "Watches that are open.", watches as f64),
            figures("told", &self.outcomes.told),
            figures("incomplete", &self.outcomes.incomplete),
            figures("none", &self.outcomes.none),
        ]
    }

    /// Until `stop` is cancelled.
    pub async fn run(self: Arc<Api>, listener: TcpListener, stop: CancellationToken) {
        let refused = || {
            self.refused.fetch_add(1, Relaxed);
        };
        accept(listener, CONNECTIONS, stop, refused, |tcp| self.clone().connection(tcp)).await;
    }

    async fn connection(self: Arc<Api>, tcp: TcpStream) {
        let door = self.door.lock().clone();
        tokio::select! {
            () = self.serve(tcp, door.clone()) => {}
            () = door.over.cancelled() => {}
        }
    }

    async fn serve(self: Arc<Api>, tcp: TcpStream, door: Arc<Door>) {
        let Ok(Ok(tls)) = timeout(PATIENCE, door.tls.accept(tcp)).await else {
            self.refused.fetch_add(1, Relaxed);
            return;
        };
        let (_, session) = tls.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec());
        let is_h2 = session.alpn_protocol() == Some(b"h2");
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = self.answer(&request, certificate.as_deref(), door.proxy.as_ref());
            async move { Ok::<_, Infallible>(answer) }
        });
        let io = TokioIo::new(tls);
        // Either ends when its other end does; what it says of that is for nobody.
        if is_h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
            let _ = builder.max_header_list_size(64 << 10).serve_connection(io, service).await;
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE * 12);
            let _ = builder.serve_connection(io, service).await;
        }
    }

    fn answer(
        &self,
        request: &Request<Incoming>,
        certificate: Option<&[u8]>,
        proxy: Option<&FrontProxy>,
    ) -> Response<Body> {
        let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let accept = text(ACCEPT.as_str()).unwrap_or_default();
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let is_probe = matches!(path, "/readyz" | "/livez" | "/healthz");
        let asked = match proxy {
            _ if is_probe => Ok(()),
            Some(proxy) => proxy.user(certificate, text).map(drop),
            None => Err(Failure::unavailable(NOT_TOLD)),
        };
        let groups = self.figures.get().map_or_else(Groups::default, |figures| figures.groups);
        let method = request.method().as_str();
        let asked = asked.and_then(|()| match Ask::read(groups, method, path, query) {
            Some(ask) => ask.map(Call::Figure),
            None => Asked::read(method, path, query, &accept).map(Call::Traffic),
        });
        let asked = match asked {
            Ok(Call::Traffic(asked)) => asked,
            Ok(Call::Figure(ask)) => {
                return document(metrics::answer(&ask, |asked| self.figure(asked), SystemTime::now()));
            }
            Err(failure) => {
                self.refused.fetch_add(1, Relaxed);
                return document(failure.into());
            }
        };
        let shown = self.push.fleet().lock().shown(self.push.now());
        match asked {
            Asked::Objects { selected, form, reads: Reads::Watch { from_nothing, seconds } } => {
                self.watch(selected, form, from_nothing, seconds)
            }
            asked => {
                let mut answer = apis::answer(&asked, &shown, version());
                groups.announce(&asked, &mut answer);
                document(answer)
            }
        }
    }

    /// Of all nodes, or why there is none.
    fn figure(&self, asked: &metrics::Asked) -> Result<Figure, Missing> {
        let figure = self.figures.get().ok_or(Missing::Unknown(None)).and_then(|figures| {
            let places = {
                let placed = figures.placed.lock();
                let age = placed.age().ok_or(Missing::Unknown(None))?;
                if age > OLDEST {
                    return Err(Missing::Unknown(Some(age)));
                }
                placed.places(&asked.answering, SystemTime::now())
            };
            self.push.fleet().lock().figure(self.push.now(), &asked.answering, asked.measure, &places)
        });
        let count = match figure {
            Ok(_) => &self.outcomes.told,
            Err(Missing::Nodes(_) | Missing::Unknown(_)) => &self.outcomes.incomplete,
            Err(Missing::NoPods | Missing::NoRequests | Missing::NoAnswers) => &self.outcomes.none,
        };
        count.fetch_add(1, Relaxed);
        figure
    }

    fn watch(&self, selected: Selected, form: Form, from_nothing: bool, seconds: u64) -> Response<Body> {
        let Ok(place) = self.watches.clone().try_acquire_owned() else {
            self.refused.fetch_add(1, Relaxed);
            return document(Failure::too_many().into());
        };
        let push = self.push.clone();
        let shown = push.fleet().lock().shown(push.now());
        let watch = Watch::new(selected, form, from_nothing, &shown);
        let until = Instant::now() + Duration::from_secs(seconds);
        let ticks = interval(LOOK);
        let events =
            stream::unfold((watch, push, ticks, place), move |(mut watch, push, mut ticks, place)| async move {
                loop {
                    tokio::select! {
                        _ = ticks.tick() => {}
                        () = tokio::time::sleep_until(until) => return None,
                    }
                    let shown = push.fleet().lock().shown(push.now());
                    let lines: Vec<u8> = watch.events(&shown, version()).iter().flat_map(line).collect();
                    if !lines.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(lines))), (watch, push, ticks, place)));
                    }
                }
            });
        let mut response = Response::new(StreamBody::new(events).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        response
    }
}

const NOT_TOLD: &str = "the companion has not read yet who the API server's front proxy is \
                        (ConfigMap kube-system/extension-apiserver-authentication)";

fn door(certificate: Arc<Certificate>, proxy: Option<FrontProxy>) -> Result<Door, CertificateError> {
    let tls = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let tls = match &proxy {
        None => tls.with_no_client_auth(),
        Some(proxy) => {
            let mut roots = RootCertStore::empty();
            for ca in CertificateDer::pem_slice_iter(proxy.ca.as_bytes()) {
                roots.add(ca?)?;
            }
            // Probes show no certificate; who shows one of another CA gets no further.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = verifier.allow_unauthenticated().build();
            tls.with_client_cert_verifier(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
        }
    };
    let mut tls = tls.with_cert_resolver(certificate);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Door { proxy, tls: TlsAcceptor::from(Arc::new(tls)), over: CancellationToken::new() })
}

fn line(event: &Value) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Grows over restarts, and compares between replicas.
fn version() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn document(answer: Answer) -> Response<Body> {
    let Answer { status, content_type, body } = answer;
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
