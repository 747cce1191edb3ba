//! Standard input as a capture, as `tcpdump -w -` writes it. An interrupt ends it, not the program:
//! what was read until then is printed.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{self, Read, Stdin};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long more is waited for after an interrupt: it goes to the writer, too, which then hands over
/// what it still holds and closes the pipe.
const LAST_WORDS_MS: u16 = 500;

pub(super) struct Piped {
    stdin: Stdin,
    signals: SignalFd,
    interrupted: Arc<AtomicBool>,
}

impl Piped {
    /// From here on SIGINT and SIGTERM end the input. Call it before any thread is started. The flag
    /// tells whether one did.
    pub fn open() -> io::Result<(Piped, Arc<AtomicBool>)> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        Ok((Piped { stdin: io::stdin(), signals, interrupted: interrupted.clone() }, interrupted))
    }

    /// Waits for bytes; false when there will be none.
    fn wait(&mut self) -> io::Result<bool> {
        loop {
            let ending = self.interrupted.load(Ordering::Relaxed);
            let patience = if ending { PollTimeout::from(LAST_WORDS_MS) } else { PollTimeout::NONE };
            let mut both = [self.stdin.as_fd(), self.signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let ready = match poll(&mut both, patience) {
                Err(nix::errno::Errno::EINTR) => continue,
                ready => ready?,
            };
            let [bytes, signal] = both.map(|fd| fd.any().unwrap_or(true));
            if signal && self.signals.read_signal()?.is_some() {
                if ending {
                    return Ok(false);
                }
                self.interrupted.store(true, Ordering::Relaxed);
            }
            if bytes || ready == 0 {
                return Ok(bytes);
            }
        }
    }
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wait()? { nix::unistd::read(self.stdin.as_fd(), buffer).map_err(io::Error::from) } else { Ok(0) }
    }
}
