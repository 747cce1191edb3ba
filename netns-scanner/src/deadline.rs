//! Reads of `/proc` and `/sys` that may hang, waited for only so long. Files are read by a process of
//! their own where there is one ([`Deadlines::with_helper`]), whatever else takes long on a thread of
//! its own.
//!
//! A read that hangs cannot be ended from outside, so its thread stays until the kernel answers, and
//! the process with it: [`MOST`] bounds how many there can be.

use crate::helper::{Away, Helper, HelperCounts};
use crate::schedule::Reading;
pub use crate::schedule::{Late, MOST, Schedule};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// How long one may wait for a file of `/proc` that is about one process or about us; they take
/// microseconds.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Of a thread; it touches some 16 KiB of them.
const STACK_BYTES: usize = 256 << 10;

/// Reads with a deadline. A handle: clones share schedule, counters and helper.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    schedule: Arc<Mutex<Schedule>>,
    helper: Option<Helper>,
}

impl Deadlines {
    /// Files are read by the process that `command` starts, which calls
    /// [`crate::helper::serve`]: what hangs in the kernel then keeps nothing of ours.
    #[must_use]
    pub fn with_helper(command: fn() -> Command) -> Deadlines {
        Deadlines { schedule: Arc::default(), helper: Some(Helper::new(command)) }
    }

    /// What is in the file `path`, or why it is not there after `patience`. Waits for it: not for a
    /// thread that others wait for.
    ///
    /// # Errors
    /// Late, or not tried; within, what the kernel said to the read.
    pub fn text(&self, kind: &'static str, path: &Path, patience: Duration) -> Result<io::Result<String>, Late> {
        let file = path.display().to_string();
        let Some(helper) = &self.helper else {
            let path = path.to_owned();
            return self.read(kind, &file, patience, move || fs::read_to_string(path));
        };
        let began = Instant::now();
        self.schedule.lock().begin(&file, began)?;
        let reading = Reading { schedule: Arc::clone(&self.schedule), file: file.clone(), began, patience };
        let (ticket, told) = match helper.ask(path, reading, began) {
            Ok(asked) => asked,
            Err(Away) => return Err(Late::NoHelper { file }),
        };
        match told.recv_timeout(patience) {
            Ok(read) => Ok(read.and_then(|bytes| {
                String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            })),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Late::NoHelper { file }),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let late = self.gave_up(kind, &file, patience);
                helper.gave_up(ticket, Instant::now());
                Err(late)
            }
        }
    }

    /// What became of the processes that read; None where files are read on threads.
    #[must_use]
    pub fn helper_counts(&self) -> Option<HelperCounts> {
        self.helper.as_ref().map(Helper::counts)
    }

    /// The outcome of `read`, or why it is not there after `patience`. Waits for it: not for a
    /// thread that others wait for.
    ///
    /// `kind` is a word for such files, `file` the one that is read.
    ///
    /// # Errors
    /// Late, or not tried.
    pub fn read<T: Send + 'static>(
        &self,
        kind: &'static str,
        file: &str,
        patience: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let (tell, told) = mpsc::sync_channel(1);
        // Whoever waited may have gone.
        self.start(file, patience, read, move |value| drop(tell.send(value)))?;
        match told.recv_timeout(patience) {
            Ok(value) => Ok(value),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Late::Thread { file: file.to_owned() }),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(self.gave_up(kind, file, patience)),
        }
    }

    /// The same without waiting: `tell` hears the outcome on the thread of the read; it is dropped
    /// when the read panics. Whoever waits for it in a way of its own says so by
    /// [`Deadlines::gave_up`] when `patience` is over.
    ///
    /// # Errors
    /// Not tried.
    pub fn start<T: 'static>(
        &self,
        file: &str,
        patience: Duration,
        read: impl FnOnce() -> T + Send + 'static,
        tell: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), Late> {
        let began = Instant::now();
        self.schedule.lock().begin(file, began)?;
        // Says that the read is over, however it ends.
        let reading = Reading { schedule: Arc::clone(&self.schedule), file: file.to_owned(), began, patience };
        let reader = move || {
            let value = read();
            drop(reading);
            tell(value);
        };
        match thread::Builder::new().name("pf-read".to_owned()).stack_size(STACK_BYTES).spawn(reader) {
            Ok(_) => Ok(()),
            Err(_) => Err(Late::Thread { file: file.to_owned() }),
        }
    }

    /// Nobody waits for this read any longer: it is counted, and its file rests.
    pub fn gave_up(&self, kind: &'static str, file: &str, patience: Duration) -> Late {
        self.schedule.lock().late(kind, file, Instant::now());
        tracing::warn!(file, ?patience, "a read is late; what it would have told is missing or stale");
        Late::Deadline { file: file.to_owned(), after: patience }
    }

    /// Late reads so far, by kind.
    #[must_use]
    pub fn late_reads(&self) -> BTreeMap<&'static str, u64> {
        self.schedule.lock().late_reads()
    }

    /// Files whose last read was late, sorted: what is shown of them is old.
    #[must_use]
    pub fn stale(&self) -> Vec<String> {
        self.schedule.lock().stale()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_delays_no_other() {
        let deadlines = Deadlines::default();
        let (release, hangs) = mpsc::channel::<()>();
        let hang = move || hangs.recv().is_ok();
        let late = deadlines.read("proc", "slow", Duration::from_millis(10), hang);
        assert_eq!(late, Err(Late::Deadline { file: "slow".into(), after: Duration::from_millis(10) }));
        assert_eq!(deadlines.read("proc", "slow", Duration::MAX, || 1), Err(Late::Hangs { file: "slow".into() }));
        assert_eq!(deadlines.read("proc", "fast", Duration::from_secs(60), || 2), Ok(2));
        assert_eq!(deadlines.stale(), ["slow"]);
        drop(release);
        while let Err(Late::Hangs { .. }) = deadlines.read("proc", "slow", Duration::from_secs(60), || 3) {
            thread::yield_now();
        }
        assert_eq!(deadlines.late_reads(), BTreeMap::from([("proc", 1)]));
    }

    #[test]
    fn a_read_that_panics_is_over() {
        let deadlines = Deadlines::default();
        let late =
            deadlines.read("proc", "bad", Duration::from_secs(60), || -> u32 { panic!("on purpose, in a test") });
        assert_eq!(late, Err(Late::Thread { file: "bad".into() }));
        assert_eq!(deadlines.read("proc", "bad", Duration::from_secs(60), || 1), Ok(1));
    }
}
