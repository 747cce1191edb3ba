//! What this process uses, from `/proc/self` and getrusage(2). Both are answered from memory by the kernel, without walking anything
//! but this process' own descriptors.

use crate::api::Process;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs;

#[must_use]
pub fn usage() -> Process {
    // What cannot be read is shown as 0.
    let cpu_seconds = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    // One of them is the directory that is being read.
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u64);
    Process { rss_bytes: field("VmRSS:") << 10, cpu_seconds, threads: field("Threads:"), descriptors }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_living_process_uses_something() {
        let usage = super::usage();
        assert!(usage.rss_bytes > 0 && usage.threads > 0 && usage.descriptors > 2, "{usage:?}");
    }
}
