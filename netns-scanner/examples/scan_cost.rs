//! What one scan of namespaces costs, by source, as `cargo xtask bench scan` prints it: `scan_cost
//! SOURCE PID...` looks into the namespaces of these processes, `scan_cost killed N` into those of
//! processes that are killed while it does. One line of JSON.
#![forbid(unsafe_code)]

use flow_model::Slot;
use netns::Netns;
use netns_scanner::deadline::Deadlines;
use netns_scanner::{Looked, Scanner, ScannerConfig, Source, Target, Want};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (first, rest) = arguments.split_first().ok_or("scan_cost SOURCE PID... | killed N")?;
    let source = match first.as_str() {
        "iterator" => Some(Source::Iterator),
        "sock_diag" => Some(Source::SockDiag),
        "procfs" => Some(Source::Procfs),
        "auto" => None,
        "killed" => return killed(rest.first().ok_or("killed N")?.parse()?),
        other => return Err(format!("{other} is no source").into()),
    };
    let mut targets = Vec::new();
    for (slot, pid) in rest.iter().enumerate() {
        let pid = pid.parse()?;
        let netns = Arc::new(Netns::open_pid(pid)?);
        targets.push(Target { slot: Slot(u32::try_from(slot)?), netns, pid, want: Want::Seeds });
    }
    let looked = look(source, true, |scanner| targets.drain(..).for_each(|target| scanner.enqueue(target)))?;
    say(&looked.line(first));
    Ok(())
}

struct Cost {
    seeds: u64,
    failed: u64,
    total: u64,
    wall: Duration,
    cpu_us: i64,
    rss_kib: i64,
}

impl Cost {
    fn line(&self, what: &str) -> String {
        let Cost { seeds, failed, total, wall, cpu_us, rss_kib } = self;
        format!(
            "{{\"source\":\"{what}\",\"namespaces\":{total},\"failed\":{failed},\"seeds\":{seeds},\"wall_ms\":{},\"cpu_ms\":{:.1},\"rss_kib\":{rss_kib}}}",
            wall.as_millis(),
            *cpu_us as f64 / 1e3
        )
    }
}

/// Runs one scan to its end. `at_once`: without rests, which cost time and no CPU.
fn look(source: Option<Source>, at_once: bool, enqueue: impl FnOnce(&Scanner)) -> Result<Cost, Anything> {
    let seeds = Arc::new(AtomicU64::new(0));
    let count = seeds.clone();
    let mut config = ScannerConfig { source, released: false, ..ScannerConfig::default() };
    if at_once {
        config.rest_factor = 0;
    }
    let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
        if let Looked::Seeds(seeds) = seeded.found {
            count.fetch_add(seeds.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let (began, before) = (Instant::now(), cpu_us()?);
    enqueue(&scanner);
    scanner.release();
    let progress = loop {
        let progress = scanner.progress();
        if progress.done == progress.total {
            break progress;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Cost {
        seeds: seeds.load(Ordering::Relaxed),
        failed: progress.failed,
        total: progress.total,
        wall: began.elapsed(),
        cpu_us: cpu_us()? - before,
        rss_kib: getrusage(UsageWho::RUSAGE_SELF)?.max_rss(),
    })
}

fn cpu_us() -> Result<i64, Anything> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

/// Namespaces whose processes end while they are being looked into: nothing may be left of it here.
fn killed(count: u32) -> Result<(), Anything> {
    let held = || -> Result<(u64, usize), Anything> {
        Ok((Netns::current()?.id().ino, std::fs::read_dir("/proc/self/fd")?.count()))
    };
    let before = held()?;
    let mut failed = 0;
    let mut total = 0;
    for source in [Source::SockDiag, Source::Procfs] {
        let look = look(Some(source), true, |scanner| {
            scanner.release();
            for slot in 0..count / 2 {
                let child = Command::new("unshare").args(["--net", "sleep", "60"]).stdin(Stdio::null()).spawn();
                let Ok(mut child) = child else { continue };
                // Whatever namespace it is in by now: its own, or still ours.
                if let Ok(netns) = Netns::open_pid(child.id()) {
                    scanner.enqueue(Target {
                        slot: Slot(slot),
                        netns: Arc::new(netns),
                        pid: child.id(),
                        want: Want::Seeds,
                    });
                }
                let _ = child.kill();
                let _ = child.wait();
            }
        })?;
        failed += look.failed;
        total += look.total;
    }
    let after = held()?;
    say(&format!(
        "{{\"killed\":{total},\"lost_items\":{failed},\"own_namespace_unchanged\":{},\"descriptors_before\":{},\"descriptors_after\":{}}}",
        before.0 == after.0,
        before.1,
        after.1
    ));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn say(line: &str) {
    println!("{line}");
}
