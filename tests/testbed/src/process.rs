use crate::wait::until;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A program that this testbed started: in a process group of its own (a Ctrl-C on the terminal is
/// for us to handle), with its output in a file, and killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
        let out =
            File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let child = command.spawn().with_context(|| format!("start {name}: {:?}", command.get_program()))?;
        Ok(Process { name: name.into(), child })
    }

    /// Starts `command` with its standard output kept for [`Process::output`], the rest to `log`.
    pub fn start_piped(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
        let out =
            File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(out).process_group(0);
        let child = command.spawn().with_context(|| format!("start {name}: {:?}", command.get_program()))?;
        Ok(Process { name: name.into(), child })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit code once it has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// SIGSTOP returns when each of its threads stands: on another CPU one may still answer for a
    /// moment after kill(2) has returned.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), signal)
            .with_context(|| format!("{signal} to {}", self.name))?;
        if signal == Signal::SIGSTOP {
            let what = format!("{} stands still", self.name);
            until(&what, Duration::from_secs(30), || stands(self.pid()).unwrap_or(false))?;
        }
        Ok(())
    }

    /// Asks it to end, and makes it after `grace`. The exit code where it ended by itself.
    pub fn stop(&mut self, grace: Duration) -> Option<i32> {
        if self.is_running() {
            self.signal(Signal::SIGTERM).ok();
            let started = std::time::Instant::now();
            while self.is_running() && started.elapsed() < grace {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if self.is_running() {
            self.child.kill().ok();
        }
        self.child.wait().ok().and_then(|status| status.code())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Waits for its end and returns its standard output (of a process made by [`Process::start_piped`]).
    pub fn output(&mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut out, &mut text)?;
        }
        self.child.wait()?;
        Ok(text)
    }

    pub fn stat(&self) -> Result<Stat> {
        Stat::of(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.stop(Duration::from_secs(3));
        }
    }
}

/// Whether each thread is stopped (state T) or has ended: field 3 of proc_pid_stat(5).
fn stands(pid: u32) -> Option<bool> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, after)| after.starts_with(['T', 'X', 'Z']))
    }))
}

/// What `/proc/<pid>` tells of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// CPU time of all its threads, nanoseconds, from `/proc/<pid>/task/*/schedstat` (the
    /// scheduler's own count, not ticks).
    pub cpu_ns: u64,
    pub rss_bytes: u64,
    pub descriptors: usize,
    pub threads: usize,
    /// Start time in clock ticks since boot: with the pid, names a process.
    pub started: u64,
}

impl Stat {
    pub fn of(pid: u32) -> Result<Stat> {
        let proc = Path::new("/proc").join(pid.to_string());
        let mut stat = Stat { started: start_time(pid).with_context(|| format!("process {pid}"))?, ..Stat::default() };
        // The process's own count also has the threads that have ended.
        stat.cpu_ns = cpu_clock_ns(pid).unwrap_or_default();
        // Not from `statm`, which counts in pages: those of aarch64 have 4, 16 or 64 KiB.
        stat.rss_bytes = resident(&fs::read_to_string(proc.join("status"))?);
        stat.descriptors = fs::read_dir(proc.join("fd"))?.count();
        stat.threads = fs::read_dir(proc.join("task"))?.count();
        Ok(stat)
    }
}

/// Bytes, of what `/proc/<pid>/status` says in kilobytes; a zombie has none.
fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Nanoseconds of CPU of a whole process, ended threads included (clock_getcpuclockid(3)).
pub(crate) fn cpu_clock_ns(pid: u32) -> Option<u64> {
    let clock = nix::time::clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    let time = nix::time::clock_gettime(clock).ok()?;
    Some(u64::try_from(time.tv_sec()).ok()? * 1_000_000_000 + u64::try_from(time.tv_nsec()).ok()?)
}

/// Start time in clock ticks since boot, field 22 of proc_pid_stat(5); `None` when there is no such process.
#[must_use]
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace();
    // Field 3 is the first one after the name; a zombie has ended.
    (fields.next()? != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// Busy time of one processor in nanoseconds, from `/proc/stat`: everything but idle and iowait.
/// Resolution: a clock tick (10 ms).
pub fn cpu_of_processor(number: usize) -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let label = format!("cpu{number} ");
    let line = stat.lines().find(|line| line.starts_with(&label)).with_context(|| format!("no processor {number}"))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().skip(1).filter_map(|v| v.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal (proc_stat(5)); steal is not ours.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&i| ticks.get(i)).sum();
    Ok(busy * 10_000_000)
}
