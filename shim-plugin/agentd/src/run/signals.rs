//! The signals that end the agent.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// Outside of a runtime.
    pub fn register() -> anyhow::Result<Signals> {
        let register = |kind| signal(kind).context("register for signals");
        Ok(Signals { terminate: register(SignalKind::terminate())?, interrupt: register(SignalKind::interrupt())? })
    }

    /// The next one, by name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
