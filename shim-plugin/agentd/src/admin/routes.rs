//! The pages. All are pure reads of the board, but for the one that `[debug]` switches on.

use super::Format;
use crate::board::Board;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HELP: &str = "pilotfish agent\n\
    /metrics  OpenMetrics text, or Prometheus protobuf by Accept\n\
    /livez    200 while the pipeline's heart beats\n\
    /readyz   200 when traffic is counted, with the reasons that keep it from being whole\n";

/// Longest pause that can be asked for.
const PAUSE_MS: u64 = 60_000;

/// What anybody who reaches the address may read.
pub fn public(board: Arc<Board>) -> Router {
    Router::new()
        .route("/", get(|| async { HELP }))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page; / lists them\n") })
        .with_state(board)
}

/// What those may ask who can open the unix socket: the above, and the command line's.
pub fn private(board: Arc<Board>, debug: bool) -> Router {
    let mut api = Router::new()
        .route(
            "/v1/version",
            get(|State(board): State<Arc<Board>>| async move { json(StatusCode::OK, &board.version) }),
        )
        .route(
            "/v1/status",
            get(|State(board): State<Arc<Board>>| async move { json(StatusCode::OK, &board.status(Instant::now())) }),
        )
        .route(
            "/v1/edges",
            get(|State(board): State<Arc<Board>>| {
                blocking(move || {
                    json(
                        StatusCode::OK,
                        &board.traffic.lock().clone().map(|traffic| traffic.edges()).unwrap_or_default(),
                    )
                })
            }),
        )
        .route(
            "/v1/workloads",
            get(|State(board): State<Arc<Board>>| {
                blocking(move || {
                    json(
                        StatusCode::OK,
                        &board.traffic.lock().clone().map(|traffic| traffic.workloads()).unwrap_or_default(),
                    )
                })
            }),
        );
    if debug {
        api = api.route("/debug/pause", post(pause));
    }
    public(board.clone()).merge(api.with_state(board))
}

async fn metrics(State(board): State<Arc<Board>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()));
    blocking(move || {
        let own = board.own(Instant::now());
        let traffic = board.traffic.lock().clone();
        match traffic {
            Some(traffic) => {
                ([(header::CONTENT_TYPE, format.content_type())], traffic.expose(format, &own)).into_response()
            }
            None => {
                (StatusCode::SERVICE_UNAVAILABLE, "nothing was counted yet: the kernel programs are being loaded\n")
                    .into_response()
            }
        }
    })
    .await
}

async fn livez(State(board): State<Arc<Board>>) -> Response {
    let now = Instant::now();
    if board.pulse.alive(now) {
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
