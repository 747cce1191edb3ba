//! The pages. All are pure reads of the board, but for the one that `[debug]` switches on, for who
//! has an address, which also asks the pipeline and waits for it a little, and for the tap, which the
//! pipeline fills while somebody reads it. What can be large goes over the shelf.

use crate::clock;
use crate::serve::board::Board;
use crate::serve::identity::Lookup;
use crate::serve::pages::{Form, Packer, Refused, SHARED, SharedPages, Ticket};
use crate::serve::self_metrics::self_metrics;
use crate::serve::tap;
use agent_api::{By, routes};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use golden_metrics::Exposition;
use k8s_sync::watch::INSTANCE_HEADER;
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const HELP: &str = "pilotfish agent\n\
    /metrics  OpenMetrics text, or Prometheus protobuf by Accept\n\
    /livez    200 while the pipeline's heart beats\n\
    /readyz   200 when traffic is counted, with the reasons that keep it from being whole\n";

/// Longest pause that can be asked for.
const PAUSE_MS: u64 = 60_000;
/// Rows of 10,000 edges take some 15 MB while they are written: one answer of rows at a time.
const MAKING: usize = 1;
/// For an answer's turn to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the pages read.
#[derive(Clone, Debug)]
pub struct Pages {
    pub board: Arc<Board>,
    pub lookup: Arc<OnceLock<Lookup>>,
    metrics: Arc<SharedPages>,
    making: Arc<Semaphore>,
}

impl Pages {
    pub fn new(board: Arc<Board>, lookup: Arc<OnceLock<Lookup>>) -> Pages {
        let metrics = Arc::new(SharedPages::new(board.shelf.clone()));
        Pages { board, lookup, metrics, making: Arc::new(Semaphore::new(MAKING)) }
    }

    /// What anybody who reaches the address may read.
    pub fn public(&self) -> Router {
        Router::new()
            .route("/", get(|| async { HELP }))
            .route(routes::METRICS, get(metrics))
            .route(routes::LIVEZ, get(livez))
            .route(routes::READYZ, get(readyz))
            .fallback(|| async { (StatusCode::NOT_FOUND, "no such page; / lists them\n") })
            .layer(middleware::from_fn_with_state(self.clone(), refuse_own))
            .with_state(self.clone())
    }

    /// What those may ask who can open the unix socket: the above, and the command line's.
    pub fn private(&self, debug: bool) -> Router {
        let mut api = Router::new()
            .route(routes::VERSION, get(version))
            .route(routes::STATUS, get(status))
            .route(routes::EDGES, get(edges))
            .route(routes::WORKLOADS, get(workloads))
            .route(routes::PARTS, get(parts))
            .route(routes::IDENTITY, get(identity))
            .route(routes::TIMELINE, get(timeline))
            .route(routes::TAP, get(tapped));
        if debug {
            api = api.route(routes::PAUSE, post(pause));
        }
        self.public().merge(api.with_state(self.clone()))
    }
}

impl Pages {
    /// An answer of so many rows that it is made and read as pages are.
    async fn rows<T: Serialize>(
        &self,
        headers: &HeaderMap,
        rows: impl FnOnce(&Board) -> T + Send + 'static,
    ) -> Response {
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, self.making.clone().acquire_owned()).await else {
            return self.refused(&Refused::Later(SHARED));
        };
        let board = self.board.clone();
        let make = move || -> io::Result<Ticket> {
            let _turn = turn;
            let mut page = BufWriter::new(Packer::default());
            serde_json::to_writer(&mut page, &rows(&board))?;
            let page = page.into_inner().map_err(io::IntoInnerError::into_error)?;
            Ok(board.shelf.put(page.finish()?, Instant::now()))
        };
        let page = tokio::task::spawn_blocking(make).await;
        self.lying(page.ok().and_then(Result::ok).ok_or(Refused::Broken), "application/json", headers)
    }

    /// The answer that is read from the shelf.
    fn lying(&self, page: Result<Ticket, Refused>, content_type: &'static str, headers: &HeaderMap) -> Response {
        let form = Form::negotiate(headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()));
        let reader = page.and_then(|page| self.board.shelf.reader(&page, form).ok_or(Refused::Later(SHARED)));
        let reader = match reader {
            Ok(reader) => reader,
            Err(refused) => return self.refused(&refused),
        };
        let mut response = Response::new(Body::new(reader));
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        fields.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
        if form == Form::Gzip {
            fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn refused(&self, why: &Refused) -> Response {
        self.board.doors.refused.fetch_add(1, Ordering::Relaxed);
        match why {
            Refused::Later(after) => {
                let seconds = after.as_secs_f64().ceil().max(1.0).to_string();
                let text = "too many ask for too much; come again\n";
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds)], text).into_response()
            }
            Refused::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n").into_response(),
        }
    }
}

impl FromRef<Pages> for Arc<Board> {
    fn from_ref(pages: &Pages) -> Arc<Board> {
        pages.board.clone()
    }
}

/// Where the API server's name leads to this agent, its request comes back to it: answering would
/// be answering itself. RFC 5842 section 7.2.
async fn refuse_own(State(board): State<Arc<Board>>, request: Request, next: Next) -> Response {
    let sender = request.headers().get(INSTANCE_HEADER);
    if sender.is_some_and(|sender| sender.as_bytes() == board.instance.as_bytes()) {
        let text = "this is the agent that asks; what it takes for the API server leads back to it\n";
        return (StatusCode::LOOP_DETECTED, text).into_response();
    }
    next.run(request).await
}

async fn version(State(board): State<Arc<Board>>) -> Response {
    json(StatusCode::OK, &board.version)
}

async fn status(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    pages.rows(&headers, |board| board.status(Instant::now())).await
}

async fn edges(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    pages.rows(&headers, |board| board.traffic.edges(clock::now())).await
}

async fn workloads(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    pages.rows(&headers, |board| board.traffic.workloads(clock::now())).await
}

#[derive(Deserialize)]
struct AskedParts {
    by: By,
}

async fn parts(
    State(pages): State<Pages>,
    Query(AskedParts { by }): Query<AskedParts>,
    headers: HeaderMap,
) -> Response {
    pages.rows(&headers, move |board| board.traffic.parts(by, clock::now())).await
}

#[derive(Deserialize)]
struct Asked {
    ip: IpAddr,
    port: Option<u16>,
}

async fn identity(State(pages): State<Pages>, Query(Asked { ip, port }): Query<Asked>) -> Response {
    blocking(move || match pages.lookup.get() {
        Some(lookup) => {
            let report = pages.board.kubernetes_report(Instant::now());
            json(StatusCode::OK, &lookup.explain(ip, port, report.as_ref()))
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the kernel programs are being loaded\n").into_response(),
    })
    .await
}

#[derive(Deserialize)]
struct Since {
    since_ms: Option<u64>,
}

async fn timeline(State(pages): State<Pages>, Query(Since { since_ms }): Query<Since>, headers: HeaderMap) -> Response {
    let since = since_ms.map(Duration::from_millis);
    pages
        .rows(&headers, move |board| board.history.get().map(|history| history.answer(since)).unwrap_or_default())
        .await
}

async fn tapped(State(board): State<Arc<Board>>, Query(parameters): Query<Vec<(String, String)>>) -> Response {
    tap::answer(board, &parameters)
}

/// RFC 9111 section 5.2.1.4: who says `no-cache` gets no page from before the question.
async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let field = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let format = Exposition::negotiate(field(header::ACCEPT));
    let is_fresh_wanted = field(header::CACHE_CONTROL).is_some_and(|control| control.contains("no-cache"));
    let Pages { board, lookup, .. } = pages.clone();
    let render = move || {
        let cluster = lookup.get().map(Lookup::cluster_metrics).unwrap_or_default();
        let own = self_metrics(&board, cluster, Instant::now());
        let (mut page, mut written) = (Packer::default(), Ok(()));
        board.traffic.scrape(&own, format, &mut |piece| {
            if written.is_ok() {
                written = page.write_all(piece);
            }
        });
        written.and_then(|()| page.finish())
    };
    let page = pages.metrics.get(format, is_fresh_wanted, render).await;
    pages.lying(page, format.content_type(), &headers)
}

async fn livez(State(board): State<Arc<Board>>) -> Response {
    let now = Instant::now();
    if board.alive(now) {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        let text = format!("the pipeline has had no heartbeat for {:?}\n", board.pulse.age(now));
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn readyz(State(board): State<Arc<Board>>) -> Response {
    let readiness = board.readiness(Instant::now());
    json(if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &readiness)
}

#[derive(Deserialize)]
struct Pause {
    ms: u64,
}

async fn pause(State(board): State<Arc<Board>>, Query(Pause { ms }): Query<Pause>) -> Response {
    if ms > PAUSE_MS {
        return (StatusCode::BAD_REQUEST, format!("ms is at most {PAUSE_MS}\n")).into_response();
    }
    board.ask_for_pause(Duration::from_millis(ms));
    (StatusCode::ACCEPTED, "the reader will sleep\n").into_response()
}

/// Off the thread that answers `/livez`.
async fn blocking(page: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(page).await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
