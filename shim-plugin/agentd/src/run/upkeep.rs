//! Once a second: what the process uses, what the kernel half counted, a view for the rates, and CPU
//! limits of containers that are ill. Once a window: the files of the node that findings need.

use crate::clock;
use crate::run::drops::WatchedDrops;
use crate::run::kernel_stats::KernelStatsReader;
use crate::run::pace::Turns;
use crate::run::{process, quota};
use crate::serve::board::Board;
use doctor::cgroup;
use doctor::node::{NodeFile, NodeReading, NodeText};
use netns_scanner::deadline::{Deadlines, Late, PATIENCE};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
const SECOND: Duration = Duration::from_secs(1);
/// Looks between two at the CPU quota: it changes when somebody changes it.
const QUOTA_EVERY: u32 = 60;

/// What is looked at.
pub struct Upkeep {
    pub board: Arc<Board>,
    pub kernel: KernelStatsReader,
    pub deadlines: Deadlines,
    pub proc: PathBuf,
    /// None: nobody wants to hear of them all the time.
    pub drops: Option<WatchedDrops>,
    /// Between two looks at the files of the node.
    pub window: Duration,
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
        let Upkeep { board, kernel, deadlines, proc, window, looks, .. } = &mut self;
        *looks = looks.wrapping_add(1);
        if looks.is_multiple_of(QUOTA_EVERY) {
            look_at_quota(board, deadlines, &process::own(proc));
        }
        kernel.read(board);
        board.look(Instant::now());
        board.traffic.tick(clock::now());
        let before = board.process();
        // Read first, and only then under the lock.
        let usage = process::usage(proc, deadlines, before);
        *board.process.lock() = usage;
        let looks_a_window = u32::try_from(window.as_secs()).unwrap_or(u32::MAX).max(1);
        if looks.is_multiple_of(looks_a_window) {
            self.node();
        }
        self.throttling();
        self
    }

    /// Reads the files of the node that findings need: some 10 to 50 us each.
    fn node(&mut self) {
        let Upkeep { board, deadlines, proc, drops, .. } = self;
        let Some(history) = board.history.get() else { return };
        let read = |file: NodeFile| {
            let text = match deadlines.text("node", &file.path(proc, Path::new(CGROUPS)), PATIENCE) {
                Ok(Ok(text)) => NodeText::There(text),
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => NodeText::Absent,
                Ok(Err(_)) | Err(_) => NodeText::Unread,
            };
            (file, text)
        };
        let reading = NodeReading::of(NodeFile::ALL.into_iter().map(read).collect());
        let drops = drops.as_mut().map(|drops| drops.read(&board.namespaces.lock().clone()));
        history.node(&NodeReading { drops, ..reading });
    }

    /// Reads how often the CPU limit stopped containers that are ill. What cannot be read is
    /// not told: it is evidence beside a finding, and none by itself.
    fn throttling(&self) {
        let Upkeep { board, deadlines, proc, .. } = self;
        let Some(history) = board.history.get() else { return };
        let read = |path: &Path| deadlines.text("cgroup", path, PATIENCE).ok()?.ok();
        for (task, pid) in history.throttling_due() {
            let file = read(&proc.join(pid.to_string()).join("cgroup")).and_then(|text| cgroup::cpu_file(&text));
            let stat = file.and_then(|file| read(&Path::new(CGROUPS).join(file.trim_start_matches('/'))));
            if let Some(periods) = stat.and_then(|stat| cgroup::periods(&stat)) {
                history.throttling(task, periods);
            }
        }
    }
}

/// What cannot be read in time stays as it was. The files may hang, so the agent's own threads stay out
/// of them. `own` is the agent's directory in `/proc`: the process that reads is another one.
pub fn look_at_quota(board: &Board, deadlines: &Deadlines, own: &Path) {
    if let Ok(quota) = quota::find(own, |path| Ok::<_, Late>(deadlines.text("cgroup", path, PATIENCE)?.ok())) {
        board.pacer.set(quota);
    }
}
