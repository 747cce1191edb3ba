//! Tells systemd how the agent is. All of it is silence where no systemd listens.

use crate::serve::board::Board;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often STATUS is looked at; it is sent when it changed.
const STATUS: Duration = Duration::from_secs(2);

pub fn ready() {
    send(&[NotifyState::Ready]);
}

pub fn stopping(grace: Duration) {
    let micros = u32::try_from(grace.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::Status("stopping"), NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Keeps STATUS fresh, and the watchdog fed while the pipeline's heart beats.
pub async fn run(board: Arc<Board>, stop: CancellationToken) {
    // Half of what systemd allows, as sd_watchdog_enabled(3) advises; no more than the status needs
    // where there is no watchdog.
    let period = sd_notify::watchdog_enabled().map_or(STATUS, |allowed| STATUS.min(allowed / 2));
    let mut said = String::new();
    loop {
        let line = board.status_line();
        if line != said {
            send(&[NotifyState::Status(&line)]);
            said = line;
        }
        if board.alive(Instant::now()) {
            send(&[NotifyState::Watchdog]);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
