//! Once a second: what the process uses, what the kernel half counted, and a view for the rates.

use crate::clock;
use crate::run::kernel_stats::KernelStatsReader;
use crate::run::pace::Turns;
use crate::run::{process, quota};
use crate::serve::board::Board;
use netns_scanner::deadline::{Deadlines, PATIENCE};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
/// Looks between two at the CPU quota: it changes when somebody changes it.
const QUOTA_EVERY: u32 = 60;

/// What is looked at.
pub struct Upkeep {
    pub board: Arc<Board>,
    pub kernel: KernelStatsReader,
    pub deadlines: Deadlines,
    pub proc: PathBuf,
    pub looks: u32,
}

impl Upkeep {
    pub async fn run(mut self, stop: CancellationToken) {
        let turns = Turns::new(self.board.pacer.clone());
        loop {
            turns.next().await;
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
        let Upkeep { board, kernel, deadlines, proc, looks } = &mut self;
        *looks = looks.wrapping_add(1);
        if looks.is_multiple_of(QUOTA_EVERY) {
            look_at_quota(board, deadlines, proc);
        }
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

/// What cannot be read in time stays as it was.
pub fn look_at_quota(board: &Board, deadlines: &Deadlines, proc: &Path) {
    let (file, proc) = (proc.join("self/cgroup").display().to_string(), proc.to_owned());
    if let Ok(quota) = deadlines.read("quota", &file, PATIENCE, move || quota::find(&proc)) {
        board.pacer.set(quota);
    }
}
