//! The processes that read files for an agent, as `/proc` shows them.

use anyhow::{Context, Result};
use std::fs;

/// How the line of a task begins in `/proc/PID/task/TID/syscall` that waits for a file to open.
#[cfg(target_arch = "x86_64")]
pub const OPENS: &str = "257 ";
/// Of all later architectures (asm-generic/unistd.h).
#[cfg(not(target_arch = "x86_64"))]
pub const OPENS: &str = "56 ";

/// Those that this agent started and that are there.
pub fn readers_of(agent: u32) -> Result<Vec<u32>> {
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("Name:\tpf-read\n") && status.contains(&format!("PPid:\t{agent}\n"))
    };
    let all = fs::read_dir("/proc").context("/proc")?.flatten();
    Ok(all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).filter(is_child).collect())
}

/// This file of each thread of a process; none of one that is gone.
pub fn tasks(pid: u32, file: &str) -> Result<Vec<String>> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(Vec::new()) };
    Ok(tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join(file)).ok()).collect())
}

/// Threads of a process that are in the kernel and hear no signal, not even SIGKILL.
pub fn stuck(pid: u32) -> Result<usize> {
    let is_stuck = |stat: &String| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('D'));
    Ok(tasks(pid, "stat")?.iter().filter(|stat| is_stuck(stat)).count())
}
