//! What another program prints, bounded in time and size: a part that hangs or talks without end
//! takes nothing from the others.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of what a program says on standard error.
const SAID_BYTES: usize = 16 << 10;
/// For a program that was killed to be gone; one that hangs in the kernel is left to it.
const GONE: Duration = Duration::from_millis(200);

/// What a program printed.
#[derive(Debug, Default)]
pub struct Printed {
    pub out: Vec<u8>,
    /// It printed more than was asked for, and was ended.
    pub cut: bool,
    /// Of standard error, the first 16 KiB.
    pub said: String,
    /// None where a signal ended it.
    pub code: Option<i32>,
}

/// Runs it and reads what it prints, `most` bytes at the most.
///
/// # Errors
/// It does not start, or does not end in time.
pub fn output(command: &mut Command, most: usize, patience: Duration) -> Result<Printed, String> {
    let until = Instant::now() + patience;
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program} is not there"),
        _ => format!("start {program}: {error}"),
    })?;
    let read = printed(&mut child, most, until);
    let mut printed = match read {
        Ok(printed) if !printed.cut => printed,
        Ok(printed) => {
            end(&mut child);
            return Ok(printed);
        }
        Err(error) => {
            end(&mut child);
            let late = error.kind() == io::ErrorKind::TimedOut;
            return Err(if late { format!("no answer within {patience:?}") } else { error.to_string() });
        }
    };
    match ended(&mut child, until) {
        Some(code) => printed.code = code,
        None => end(&mut child),
    }
    Ok(printed)
}

fn printed(child: &mut Child, most: usize, until: Instant) -> io::Result<Printed> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("it has no standard output"));
    };
    let (mut printed, mut said) = (Printed::default(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let wanted = |open: bool| if open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut both = [PollFd::new(out.as_fd(), wanted(out_open)), PollFd::new(err.as_fd(), wanted(err_open))];
        // Rounded up, so that no time is left that is not waited for.
        let wait = PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut both, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let (out_has, err_has) = (out_open && has(&both[0]), err_open && has(&both[1]));
        if out_has {
            out_open = more(&mut out, &mut printed.out)?;
            if printed.out.len() > most {
                printed.out.truncate(most);
                printed.cut = true;
                break;
            }
        }
        if err_has {
            err_open = more(&mut err, &mut said)?;
            said.truncate(SAID_BYTES);
        }
    }
    printed.said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(printed)
}

/// Reads what is there; whether there may be more.
fn more(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 16 << 10];
    match from.read(&mut piece) {
        Ok(read) => {
            into.extend_from_slice(piece.get(..read).unwrap_or_default());
            Ok(read > 0)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

/// How it ended; None where it has not by then. A program that closed its output is about to end.
fn ended(child: &mut Child, until: Instant) -> Option<Option<i32>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code()),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended meanwhile.
    let _ = child.kill();
    let _ = ended(child, Instant::now() + GONE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, most: usize, patience: Duration) -> Result<Printed, String> {
        output(Command::new("sh").args(["-c", script]), most, patience)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_it_prints_says_and_ends_with() {
        let printed = shell("echo out; echo err >&2; exit 3", 100, LONG).expect("runs");
        assert_eq!((printed.out.as_slice(), printed.said.as_str()), (&b"out\n"[..], "err"));
        assert_eq!((printed.code, printed.cut), (Some(3), false));
    }

    #[test]
    fn who_talks_without_end_is_cut_and_ended() {
        let printed = shell("yes", 100_000, LONG).expect("runs");
        assert_eq!((printed.out.len(), printed.cut), (100_000, true));
        let printed = shell("yes >&2 & sleep 0.2; kill $!", 100, LONG).expect("runs");
        assert!(printed.said.len() <= SAID_BYTES && printed.said.len() > SAID_BYTES - 3, "{}", printed.said.len());
    }

    #[test]
    fn who_hangs_is_ended_and_not_waited_for() {
        let late = shell("echo begun; exec sleep 10000", 100, Duration::from_millis(50)).expect_err("late");
        assert_eq!(late, "no answer within 50ms");
        let closed =
            shell("exec >&- 2>&-; exec sleep 10000", 100, Duration::from_millis(50)).expect("its output ended");
        assert_eq!(closed.code, None);
        assert!(output(&mut Command::new("/nonexistent/x"), 1, LONG).expect_err("none").ends_with("is not there"));
    }
}
