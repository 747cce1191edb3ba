//! Descriptors: as many as this process may have, and those of them that are kept for who asks it.
//!
//! Each attached namespace holds some for as long as it lives. When all are taken, no connection is
//! accepted, no file of /proc read and no connection to containerd made: so namespaces leave a
//! reserve alone, and the ones beyond are failed with the reason.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::Mutex;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A quarter is kept, within these: some connections at each door, one to containerd, two to the
/// API server, and what is read of /proc at once.
const RESERVE: (u64, u64) = (16, 512);
/// The namespace, and the news of its links; TCX has two more for each interface.
const EACH: u64 = 2;
/// What a process has unless somebody says otherwise.
const ROOMY: u64 = 1024;
/// Between two lines of the log.
const SAID: Duration = Duration::from_secs(60);

/// What is left of them, asked anew each time: the limit may be changed from outside (prlimit(1)).
#[derive(Clone, Debug, Default)]
pub struct Descriptors {
    said: Arc<Mutex<Option<Instant>>>,
    /// In use before there is a namespace.
    own: u64,
}

/// Takes what the hard limit allows: the soft one is there for programs that use select(2).
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        tracing::debug!(soft, hard, "the limit of descriptors stays as it is");
    }
}

fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Those that are for everybody, of so many.
fn common(limit: u64) -> u64 {
    let (least, most) = RESERVE;
    limit.saturating_sub((limit / 4).clamp(least, most))
}

impl Descriptors {
    /// To be called when everything but namespaces is open.
    #[must_use]
    pub fn look() -> Descriptors {
        let own = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u64);
        Descriptors { said: Arc::default(), own }
    }

    /// Whether there are enough for what the agent can do without: with fewer, namespaces have them.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn room_for_more_than_namespaces(&self) -> Result<(), String> {
        let limit = limit();
        if limit < ROOMY { Err(format!("of {limit} descriptors none can be spared (LimitNOFILE)")) } else { Ok(()) }
    }

    /// Whether one more namespace may be attached beside so many.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn room_for_another(&self, attached: usize) -> Result<(), String> {
        let limit = limit();
        self.refuse_if((attached as u64 + 1).saturating_mul(EACH) > common(limit).saturating_sub(self.own), limit)
    }

    /// Whether what was just opened may stay open. The kernel gives out the lowest number that is
    /// free (open(2)), so that its number says how many are taken.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn room_with(&self, newest: &impl AsFd) -> Result<(), String> {
        let limit = limit();
        let number = u64::try_from(newest.as_fd().as_raw_fd()).unwrap_or(0);
        self.refuse_if(number >= common(limit), limit)
    }

    fn refuse_if(&self, is_full: bool, limit: u64) -> Result<(), String> {
        if !is_full {
            return Ok(());
        }
        let kept = limit.saturating_sub(common(limit));
        let mut said = self.said.lock();
        if said.is_none_or(|said| said.elapsed() >= SAID) {
            *said = Some(Instant::now());
            tracing::warn!(limit, kept, "namespaces are left out for want of descriptors");
        }
        Err(format!("too few descriptors: of {limit}, the last {kept} are kept for who asks the agent (LimitNOFILE)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_of_any_limit() {
        assert_eq!([64, 1024, 65_536, 1 << 30].map(|limit| limit - common(limit)), [16, 256, 512, 512]);
        assert_eq!(common(10), 0);
    }

    #[test]
    fn a_file_with_a_low_number_is_let_in() {
        let file = fs::File::open("/proc/self/status").expect("opens");
        assert_eq!(Descriptors::default().room_with(&file), Ok(()));
        assert_eq!(Descriptors::default().room_for_another(0), Ok(()));
        let full = Descriptors { own: limit(), ..Descriptors::default() };
        let refused = full.room_for_another(0).expect_err("full");
        assert!(refused.starts_with("too few descriptors: of "), "{refused}");
    }
}
