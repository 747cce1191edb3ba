//! Reads of files by a process of their own. A thread that is stuck in the kernel outlives the
//! process that it is of, and keeps all that this process had open: sockets that are listened on,
//! programs that are attached. The process that reads has nothing open.
//!
//! Here is the side that asks; [`serve`] is the other. Knows nothing of deadlines: whoever waits says
//! when it gave up.

mod frame;
mod life;
mod serve;

pub use serve::serve;

use crate::schedule::Reading;
use frame::{Answer, PATH_BYTES, Request};
use life::{Life, Way};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Instant;

/// Of the thread that hears the answers.
const STACK_BYTES: usize = 256 << 10;

/// There is no process that reads, and none may be started now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

/// What became of the processes that read. Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelperCounts {
    /// Started, the first included.
    pub started: u64,
    /// Left behind, because what they read hung.
    pub left_behind: u64,
    /// Reads that were not made while there was none.
    pub refused: u64,
}

/// A read that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    process: u64,
    id: u64,
}

/// What a file holds, or the kernel's word why not.
pub(crate) type Outcome = io::Result<Vec<u8>>;

/// Whoever asks. A handle: clones share the process.
#[derive(Clone, Debug)]
pub(crate) struct Helper(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    command: fn() -> Command,
    life: Life,
    running: Option<Running>,
    /// Numbers of those that were left behind and have not ended.
    left: HashSet<u64>,
    /// Number of the next request.
    next: u64,
    counts: HelperCounts,
}

/// The process that is asked now. Whoever lets go of it closes its standard input, which ends it.
#[derive(Debug)]
struct Running {
    /// Which of those that were started.
    number: u64,
    pid: Pid,
    to: ChildStdin,
    waiting: HashMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    tell: mpsc::SyncSender<Outcome>,
    /// Nobody waits any longer.
    given_up: bool,
    /// Over when this is dropped.
    reading: Reading,
}

impl Helper {
    /// `command` starts the process that calls [`serve`]. None is started before it is needed.
    pub fn new(command: fn() -> Command) -> Helper {
        let (life, counts) = (Life::default(), HelperCounts::default());
        Helper(Arc::new(Mutex::new(Inner { command, life, running: None, left: HashSet::new(), next: 0, counts })))
    }

    /// Asks for a file. What is received is disconnected where the process ends first.
    pub fn ask(&self, path: &Path, reading: Reading, now: Instant) -> Result<(Ticket, mpsc::Receiver<Outcome>), Away> {
        let mut inner = self.0.lock();
        if inner.life.way(now) == Way::Start {
            self.start(&mut inner, now);
        }
        let id = inner.next;
        inner.next += 1;
        let asked = match &mut inner.running {
            Some(running) => running.ask(id, path, reading),
            None => Err(Unasked(reading)),
        };
        match asked {
            Ok(asked) => Ok(asked),
            Err(Unasked(reading)) => {
                inner.counts.refused += 1;
                if inner.running.take().is_some() {
                    inner.life.ended(now);
                }
                drop(inner);
                // It tells the schedule, which has a lock of its own.
                drop(reading);
                Err(Away)
            }
        }
    }

    /// Nobody waits for this read any longer.
    pub fn gave_up(&self, ticket: Ticket, now: Instant) {
        let mut inner = self.0.lock();
        let Inner { life, running, left, counts, .. } = &mut *inner;
        let Some(current) = running.as_mut().filter(|running| running.number == ticket.process) else { return };
        let Some(waiting) = current.waiting.get_mut(&ticket.id) else { return };
        waiting.given_up = true;
        if life.late(now) {
            counts.left_behind += 1;
            left.insert(current.number);
            tracing::warn!(pid = current.pid.as_raw(), "the process that reads files hangs");
            // Not waited for: it may hang in the kernel, and then ends when that lets it.
            let _ = kill(current.pid, Signal::SIGKILL);
            let gone = running.take();
            drop(inner);
            drop(gone);
        }
    }

    pub fn counts(&self) -> HelperCounts {
        self.0.lock().counts
    }

    fn start(&self, inner: &mut Inner, now: Instant) {
        match self.started(inner) {
            Ok(running) => {
                inner.counts.started += 1;
                inner.life.started();
                inner.running = Some(running);
            }
            Err(error) => {
                tracing::warn!(%error, "the process that reads files cannot be started");
                inner.life.ended(now);
            }
        }
    }

    fn started(&self, inner: &Inner) -> io::Result<Running> {
        let mut command = (inner.command)();
        // What standard error leads to is not to be kept either.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).env_clear().current_dir("/");
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
        let number = inner.counts.started + 1;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.ok_or_else(|| io::Error::other("its pipes are missing"))?;
        let shared = Arc::downgrade(&self.0);
        let listen = move || listen(&shared, number, child, from);
        // Without the thread its pipes are closed, which ends it.
        thread::Builder::new().name("pf-answers".to_owned()).stack_size(STACK_BYTES).spawn(listen)?;
        Ok(Running { number, pid, to, waiting: HashMap::new() })
    }
}

/// It could not be asked; the read is over.
struct Unasked(Reading);

impl Running {
    fn ask(&mut self, id: u64, path: &Path, reading: Reading) -> Result<(Ticket, mpsc::Receiver<Outcome>), Unasked> {
        let (tell, told) = mpsc::sync_channel(1);
        let Some(request) = Request::encode(id, path) else {
            // Longer than any path that is asked for: that is said as the kernel would.
            debug_assert!(path.as_os_str().as_bytes().len() > PATH_BYTES);
            let _ = tell.send(Err(nix::errno::Errno::ENAMETOOLONG.into()));
            return Ok((Ticket { process: self.number, id }, told));
        };
        // Waits for nobody: there is room for all that may be under way.
        if self.to.write_all(&request).is_err() {
            return Err(Unasked(reading));
        }
        self.waiting.insert(id, Waiting { tell, given_up: false, reading });
        Ok((Ticket { process: self.number, id }, told))
    }
}

/// Hears the answers of one process until it ends, and takes note of that. One that was left behind
/// may never end: the thread is then all that is kept of it, and it hangs nowhere.
fn listen(shared: &Weak<Mutex<Inner>>, number: u64, mut child: Child, mut from: ChildStdout) {
    while let Ok(Some(Answer { id, outcome })) = Answer::read(&mut from) {
        let Some(inner) = shared.upgrade() else { break };
        let mut inner = inner.lock();
        let Inner { life, running, .. } = &mut *inner;
        let Some(running) = running.as_mut().filter(|running| running.number == number) else { continue };
        let Some(Waiting { tell, given_up, reading }) = running.waiting.remove(&id) else { continue };
        if given_up {
            life.came_back();
        }
        drop(inner);
        drop(reading);
        // Whoever waited may have gone.
        let _ = tell.send(outcome.map_err(io::Error::from_raw_os_error));
    }
    ended(shared, number);
    // Whatever it says that is no answer, it is of no use any more.
    let _ = child.kill();
    let _ = child.wait();
    if let Some(inner) = shared.upgrade() {
        let mut inner = inner.lock();
        if inner.left.remove(&number) {
            inner.life.left_ended();
        }
    }
}

/// Nothing more is asked of this one. Those that wait hear that nobody answers.
fn ended(shared: &Weak<Mutex<Inner>>, number: u64) {
    let Some(inner) = shared.upgrade() else { return };
    let mut inner = inner.lock();
    if inner.running.as_ref().is_some_and(|running| running.number == number) {
        let gone = inner.running.take();
        inner.life.ended(Instant::now());
        drop(inner);
        drop(gone);
    }
}
