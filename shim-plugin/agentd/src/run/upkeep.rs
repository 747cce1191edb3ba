//! Once a second: what the process uses, what the kernel half counted, and a view for the rates.

use crate::clock;
use crate::run::kernel_stats::KernelStatsReader;
use crate::run::process;
use crate::serve::board::Board;
use netns_scanner::deadline::Deadlines;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// What is looked at.
pub struct Upkeep {
    pub board: Arc<Board>,
    pub kernel: KernelStatsReader,
    pub deadlines: Deadlines,
    pub proc: PathBuf,
}

impl Upkeep {
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            // One at a time: the next look is not taken before this one is over. A look that
            // panicked was the last.
            match tokio::task::spawn_blocking(move || self.look()).await {
                Ok(back) => self = back,
                Err(error) => return tracing::error!(%error, "the agent's own figures stand still"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SECOND) => {}
            }
        }
    }

    fn look(mut self) -> Upkeep {
        let Upkeep { board, kernel, deadlines, proc } = &mut self;
        kernel.read(board);
        board.look(Instant::now());
        board.traffic.tick(clock::now());
        let before = board.process();
        // Read first, and only then under the lock.
        let usage = process::usage(proc, deadlines, before);
        *board.process.lock() = usage;
        self
    }
}
