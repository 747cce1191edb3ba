//! What test programs in a guest said of themselves on its console.

use anyhow::{Result, bail};
use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a guest prints when all its test programs have ended.
pub(crate) const DONE: &str = "pilotfish-guest-done";

/// What the console said of the tests.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Programs that were to be run.
    programs: usize,
    /// The last line of each.
    results: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    pub fn passed(&self) -> bool {
        let ran = |result: &String| !result.starts_with("ok. 0 passed");
        self.results.len() == self.programs
            && self.results.iter().all(|result| result.starts_with("ok."))
            // A filter may leave one of them without a test, not all.
            && self.results.iter().any(ran)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} test programs ended", self.results.len(), self.programs)?;
        self.results.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.failures.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Reads the console of a guest until `programs` test programs have ended, or `limit` is over, and
/// prints it with the guest's name before each line.
pub(crate) fn watch(lines: &mpsc::Receiver<String>, name: &str, programs: usize, limit: Duration) -> Result<Report> {
    let mut report = Report { programs, ..Report::default() };
    let mut last = Vec::new();
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(DONE) => return Ok(report),
            Ok(line) => {
                if let Some(result) = line.strip_prefix("test result: ") {
                    report.results.push(result.to_owned());
                } else if line.ends_with("FAILED")
                    || line.contains("panicked at")
                    || report.failures.last().is_some_and(|l| l.contains("panicked at"))
                {
                    report.failures.push(line.clone());
                }
                eprintln!("  {name} | {line}");
                last.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("nothing more within {} s", limit.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!(
                    "the guest ended early; its last words:\n{}",
                    last.split_off(last.len().saturating_sub(20)).join("\n")
                )
            }
        }
    }
}
