//! What this process uses, from its files in `/proc` and getrusage(2). Both are answered from memory
//! by the kernel, without walking anything but this process' own descriptors.

use agent_api::Process;
use netns_scanner::deadline::{Deadlines, PATIENCE};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `proc` is where `/proc` is. What its files do not tell in time stays as it was `before`, or 0:
/// never waits longer than [`PATIENCE`].
#[must_use]
pub fn usage(proc: &Path, deadlines: &Deadlines, before: Process) -> Process {
    let cpu_seconds = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    });
    match deadlines.text("process", &own(proc).join("status"), PATIENCE) {
        Ok(status) => Process { cpu_seconds, ..told(&status.unwrap_or_default()) },
        Err(_) => Process { cpu_seconds, ..before },
    }
}

/// The process that reads files for this one: this very program, also where its file was replaced
/// meanwhile.
#[must_use]
pub fn reader() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("pilotfish").arg("read-files");
    command
}

/// This process' directory in `proc`. Not `self` where it is the real one: whoever reads it is another
/// process.
#[must_use]
pub fn own(proc: &Path) -> PathBuf {
    proc.join(if proc == Path::new("/proc") { std::process::id().to_string() } else { "self".to_owned() })
}

fn told(status: &str) -> Process {
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    // Our own table, which nothing holds up. One of them is the directory that is being read.
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u64);
    let (rss_bytes, threads) = (field("VmRSS:") << 10, field("Threads:"));
    Process { rss_bytes, cpu_seconds: 0.0, threads, descriptors, cpu_quota: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_uses_something() {
        let usage = usage(Path::new("/proc"), &Deadlines::default(), Process::default());
        assert!(usage.rss_bytes > 0 && usage.threads > 0 && usage.descriptors > 2, "{usage:?}");
    }
}
