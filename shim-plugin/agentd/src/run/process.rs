//! What this process uses, from `/proc/self` and getrusage(2). Both are answered from memory by the
//! kernel, without walking anything but this process' own descriptors.

use agent_api::Process;
use netns_scanner::deadline::{Deadlines, PATIENCE};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs;
use std::path::Path;

/// `proc` is where `/proc` is. What its files do not tell in time stays as it was `before`, or 0:
/// never waits longer than [`PATIENCE`].
#[must_use]
pub fn usage(proc: &Path, deadlines: &Deadlines, before: Process) -> Process {
    let cpu_seconds = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    });
    let own = proc.join("self");
    let files = deadlines.read("process", &own.display().to_string(), PATIENCE, move || files(&own));
    match files {
        Ok(read) => Process { cpu_seconds, ..read },
        Err(_) => Process { cpu_seconds, ..before },
    }
}

fn files(own: &Path) -> Process {
    let status = fs::read_to_string(own.join("status")).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    // One of them is the directory that is being read.
    let descriptors = fs::read_dir(own.join("fd")).map_or(0, |all| all.count().saturating_sub(1) as u64);
    Process { rss_bytes: field("VmRSS:") << 10, cpu_seconds: 0.0, threads: field("Threads:"), descriptors }
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
