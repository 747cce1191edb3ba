//! `/v1/tap`: exchanges as they end, an object a line, for as long as somebody reads.

use crate::clock;
use crate::serve::board::Board;
use agent_api::{TapEnd, TapLine, TapLoss};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flow_model::{LossReason, Ts};
use futures_util::stream;
use golden_metrics::{Gap, MOST_TAPS, TapQuery, TapReader, Told};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at a queue in which nothing was: nobody who watches sees the difference, and
/// the pipeline wakes nobody for a record.
const TICK: Duration = Duration::from_millis(50);
/// How long who reads is waited for when the agent stops: his turn comes once in a tick.
const FAREWELL: Duration = Duration::from_millis(250);
/// Records that are written at a time: some 40 KiB. The rest waits in its queue, which is bounded,
/// until the reader has taken these.
const PIECE: usize = 64;

/// This answer has no end by itself: it is not late while it is read slowly.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

/// The answer to this question.
pub fn answer(board: Arc<Board>, parameters: &[(String, String)]) -> Response {
    let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let query = match TapQuery::read(parameters) {
        Ok(query) => query,
        Err(wrong) => return (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response(),
    };
    let left = query.limit();
    let Ok(reader) = board.taps.open(query) else {
        board.doors.refused.fetch_add(1, Ordering::Relaxed);
        let text = format!("{MOST_TAPS} taps are open, and no more are served at a time; end one of them first\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text).into_response();
    };
    let tap = Stream { reader, board, left, is_over: false };
    let lines = stream::unfold(tap, |mut tap| async move {
        let piece = tap.piece().await?;
        Some((Ok::<_, Infallible>(piece), tap))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.extensions_mut().insert(Endless);
    response
}

/// Lets those who read be told that the agent stops; not for long, since one may have fallen asleep.
pub async fn farewell(board: &Board) {
    let until = Instant::now() + FAREWELL;
    while board.taps.readers() > 0 && Instant::now() < until {
        tokio::time::sleep(TICK / 5).await;
    }
}

#[derive(Debug)]
struct Stream {
    reader: TapReader,
    board: Arc<Board>,
    /// Exchanges that may still be told.
    left: Option<u64>,
    is_over: bool,
}

impl Stream {
    /// Waits for the next lines; `None` behind the last.
    async fn piece(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            let is_draining = self.board.draining.load(Ordering::Relaxed);
            let told = self.reader.take(PIECE);
            if told.is_empty() && !is_draining {
                tokio::time::sleep(TICK).await;
                continue;
            }
            let mut lines = self.lines(&told, &Wall::now());
            let end = match self.left {
                Some(0) => Some("limit"),
                _ => is_draining.then_some("stopping"),
            };
            if let Some(reason) = end {
                self.is_over = true;
                write(&mut lines, &TapLine::End(TapEnd { reason: reason.to_owned() }));
            }
            return Some(lines.into());
        }
    }

    fn lines(&mut self, told: &[Told], wall: &Wall) -> Vec<u8> {
        let mut lines = Vec::with_capacity(told.len() * 640);
        for told in told {
            match told {
                Told::Exchange(record) => {
                    self.left = self.left.map(|left| left.saturating_sub(1));
                    write(&mut lines, &TapLine::Exchange(Box::new(record.row(|at| wall.unix_nano(at)))));
                }
                Told::Lost(Gap { unread, unseen }) => {
                    let unseen = LossReason::ALL.map(LossReason::as_str).into_iter().zip(*unseen);
                    for (reason, count) in [("slow_reader", *unread)].into_iter().chain(unseen) {
                        if count > 0 {
                            write(&mut lines, &TapLine::Lost(TapLoss { reason: reason.to_owned(), count }));
                        }
                    }
                }
            }
        }
        lines
    }
}

fn write(lines: &mut Vec<u8>, line: &TapLine) {
    let before = lines.len();
    // Our types have a JSON form, and memory takes what is written.
    match serde_json::to_writer(&mut *lines, line) {
        Ok(()) => lines.push(b'\n'),
        Err(_) => lines.truncate(before),
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Wall {
    mono: Ts,
    unix_nano: u64,
}

impl Wall {
    fn now() -> Wall {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Wall { mono: clock::now(), unix_nano: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// What the wall's clock said then, as far as it has not been set since.
    fn unix_nano(&self, at: Ts) -> u64 {
        match self.mono.0.checked_sub(at.0) {
            Some(ago) => self.unix_nano.saturating_sub(ago),
            None => self.unix_nano.saturating_add(at.0 - self.mono.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_the_clock_on_the_wall() {
        let wall = Wall { mono: Ts(5_000), unix_nano: 1_700_000_000_000_000_000 };
        assert_eq!(wall.unix_nano(Ts(4_000)), 1_699_999_999_999_999_000);
        assert_eq!(wall.unix_nano(Ts(6_000)), 1_700_000_000_000_001_000);
    }
}
