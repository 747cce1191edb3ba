//! When which file may be read: one that is late is not read again while the old read is under way,
//! and then at growing intervals.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads under way at once, on threads or in the helper.
pub const MOST: usize = 64;
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
    /// Not made: the process that reads is away. It hung, or it ended; the next is started later.
    #[error("{file}: the process that reads files is away, and started again later")]
    NoHelper {
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

/// A read under way; over when it is dropped, however it ended.
#[derive(Debug)]
pub(crate) struct Reading {
    pub schedule: Arc<Mutex<Schedule>>,
    pub file: String,
    pub began: Instant,
    pub patience: Duration,
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
}
