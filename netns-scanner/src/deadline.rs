//! Reads of `/proc` and `/sys` that may hang. Each is made on a thread of its own and waited for
//! only so long; a file that is late is not read again while the old read is under way, and then at
//! growing intervals.
//!
//! A read that hangs cannot be ended from outside, so its thread stays until the kernel answers;
//! [`MOST`] bounds how many there can be.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long one may wait for a file of `/proc` that is about one process or about us; they take
/// microseconds.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Reads under way at once. Each has a thread with a stack of 256 KiB, of which it touches some 16.
pub const MOST: usize = 64;
const STACK_BYTES: usize = 256 << 10;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Files that were late and are remembered for it.
const REMEMBERED: usize = 1024;

/// Why there is no value now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    /// The read was begun and is not back in time; its thread still waits.
    #[error("{file}: no answer within {after:?}")]
    Deadline {
        /// Its path, as the caller named it.
        file: String,
        /// How long was waited.
        after: Duration,
    },
    /// Not tried: the thread of a late read has not come back.
    #[error("{file}: an earlier read of it still hangs")]
    Hangs {
        /// As for `Deadline`.
        file: String,
    },
    /// Not tried: after a late read a file rests 1 s, twice as long after each further one, 300 s
    /// at most.
    #[error("{file}: was late {times} times, and is left alone for a while")]
    Resting {
        /// As for `Deadline`.
        file: String,
        /// Late reads in a row, from 1 on.
        times: u32,
    },
    /// Not tried: [`MOST`] reads of any files are under way.
    #[error("{file}: {MOST} other reads are under way")]
    Crowded {
        /// As for `Deadline`.
        file: String,
    },
    /// Not tried for want of a thread, or the read panicked.
    #[error("{file}: its thread could not be started, or panicked")]
    Thread {
        /// As for `Deadline`.
        file: String,
    },
}

/// When which file may be read. Pure: time is passed in.
#[derive(Debug, Default)]
pub struct Schedule {
    files: HashMap<String, File>,
    under_way: usize,
    late: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug)]
struct File {
    reading: bool,
    /// Times in a row that it did not answer in time.
    times: u32,
    retry_at: Instant,
}

impl Schedule {
    /// Whether `file` may be read now; it is under way then.
    ///
    /// # Errors
    /// It hangs, it rests, or too many others are under way.
    pub fn begin(&mut self, file: &str, now: Instant) -> Result<(), Late> {
        if let Some(known) = self.files.get(file) {
            if known.reading {
                return Err(Late::Hangs { file: file.to_owned() });
            }
            if now < known.retry_at {
                return Err(Late::Resting { file: file.to_owned(), times: known.times });
            }
        }
        if self.under_way >= MOST {
            return Err(Late::Crowded { file: file.to_owned() });
        }
        self.under_way += 1;
        self.files.entry(file.to_owned()).or_insert(File { reading: true, times: 0, retry_at: now }).reading = true;
        Ok(())
    }

    /// It did not answer in time. `kind` is what such files are called in the counter.
    pub fn late(&mut self, kind: &'static str, file: &str, now: Instant) {
        *self.late.entry(kind).or_default() += 1;
        if let Some(known) = self.files.get_mut(file) {
            known.retry_at = now + FIRST_RETRY.saturating_mul(1 << known.times.min(16)).min(LAST_RETRY);
            known.times = known.times.saturating_add(1);
        }
    }

    /// It answered, in time or not.
    pub fn done(&mut self, file: &str, in_time: bool, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if in_time {
            self.files.remove(file);
        } else if let Some(known) = self.files.get_mut(file) {
            known.reading = false;
        }
        if self.files.len() > REMEMBERED {
            self.files.retain(|_, known| known.reading || now < known.retry_at);
        }
    }

    /// Late reads so far, by kind.
    #[must_use]
    pub fn late_reads(&self) -> BTreeMap<&'static str, u64> {
        self.late.clone()
    }

    /// Files whose last read was late: what is shown of them is old.
    #[must_use]
    pub fn stale(&self) -> Vec<String> {
        let mut stale: Vec<String> =
            self.files.iter().filter(|(_, file)| file.times > 0).map(|(name, _)| name.clone()).collect();
        stale.sort_unstable();
        stale
    }
}

/// Reads with a deadline. A handle: clones share schedule and counters.
#[derive(Clone, Debug, Default)]
pub struct Deadlines(Arc<Mutex<Schedule>>);

impl Deadlines {
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
        self.0.lock().begin(file, began)?;
        // Says that the read is over, however it ends.
        let reading = Reading { schedule: Arc::clone(&self.0), file: file.to_owned(), began, patience };
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
        self.0.lock().late(kind, file, Instant::now());
        tracing::warn!(file, ?patience, "a read is late; what it would have told is missing or stale");
        Late::Deadline { file: file.to_owned(), after: patience }
    }

    /// Late reads so far, by kind.
    #[must_use]
    pub fn late_reads(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().late_reads()
    }

    /// Files whose last read was late, sorted: what is shown of them is old.
    #[must_use]
    pub fn stale(&self) -> Vec<String> {
        self.0.lock().stale()
    }
}

/// A read under way.
struct Reading {
    schedule: Arc<Mutex<Schedule>>,
    file: String,
    began: Instant,
    patience: Duration,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let now = Instant::now();
        let in_time = now.saturating_duration_since(self.began) < self.patience;
        self.schedule.lock().done(&self.file, in_time, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_file_is_read_once_at_a_time_and_then_at_growing_intervals() {
        let mut schedule = Schedule::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(schedule.begin("f", now), Ok(()));
            assert_eq!(schedule.begin("f", now), Err(Late::Hangs { file: "f".into() }));
            schedule.late("proc", "f", now);
            schedule.done("f", false, now);
            let from = now;
            while schedule.begin("f", now).is_err() {
                now += Duration::from_secs(1);
            }
            schedule.done("f", false, now);
            waits.push((now - from).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(schedule.late_reads(), BTreeMap::from([("proc", 12)]));
        assert_eq!(schedule.stale(), ["f"]);
        assert_eq!(schedule.begin("f", now), Ok(()));
        schedule.done("f", true, now);
        assert!(schedule.stale().is_empty(), "an answer in time and all is forgotten");
    }

    #[test]
    fn files_that_hang_are_bounded_and_leave_room_again() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        for i in 0..MOST {
            assert_eq!(schedule.begin(&format!("{i}"), now), Ok(()));
        }
        assert_eq!(schedule.begin("more", now), Err(Late::Crowded { file: "more".into() }));
        schedule.done("0", true, now);
        assert_eq!(schedule.begin("more", now), Ok(()));
    }

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
