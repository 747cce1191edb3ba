//! A start of the agent within a CPU quota, beside containers that are older.

use super::quantile;
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, Exposition, Quota, Testbed, fetch, installed, signals, until};

pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// A start within a quota, and what was seen of it.
pub(super) struct Start {
    pub agent: Agent,
    group: Quota,
    begun: Instant,
    ready: Duration,
    asking: Option<Asking>,
    attached: Option<Duration>,
    over: Option<Duration>,
    answers: Vec<Option<f64>>,
}

struct Asking {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Option<f64>>>,
}

impl Start {
    /// Returns when the kernel programs are loaded.
    pub fn of(bed: &Testbed, options: &AgentOptions, group: Quota) -> Result<Start> {
        let begun = Instant::now();
        let spawned = AgentOptions { cgroup: Some(group.procs()), ..options.clone() };
        let agent = Agent::spawn(bed, &spawned)?;
        let admin = agent.admin;
        // Every 10 ms, so that asking costs little of the quota.
        until("ready", PATIENCE, || {
            fetch(admin, "/readyz", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200)
        })?;
        let ready = begun.elapsed();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || livez(admin, &stop)
        });
        let asking = Some(Asking { stop, thread });
        Ok(Start { agent, group, begun, ready, asking, attached: None, over: None, answers: Vec::new() })
    }

    /// Until all of these are attached and scanned, and `more` that came later are.
    pub fn finish(&mut self, containers: &[Container], more: usize) -> Result<()> {
        let all = containers.len() + more;
        let mut attached = containers.iter().peekable();
        while self.over.is_none() {
            ensure!(!signals::interrupted() && self.begun.elapsed() < PATIENCE, "the scan did not end");
            thread::sleep(LOOK_EVERY);
            if self.attached.is_none() {
                while let Some(container) = attached.peek()
                    && is_attached(container)?
                {
                    attached.next();
                }
                if attached.peek().is_some() {
                    continue;
                }
                self.attached = Some(self.begun.elapsed());
            }
            // A scrape is some milliseconds, much of what the quota gives in a tenth of a second.
            thread::sleep(Duration::from_secs(1));
            if is_over(&self.agent.metrics()?, all) {
                self.over = Some(self.begun.elapsed());
            }
        }
        if let Some(Asking { stop, thread }) = self.asking.take() {
            stop.store(true, Ordering::Relaxed);
            self.answers = thread.join().map_err(|_| anyhow::anyhow!("the thread that asks /livez panicked"))?;
        }
        Ok(())
    }

    pub fn told(&self) -> String {
        let answered: Vec<f64> = self.answers.iter().copied().flatten().collect();
        let seconds = |at: Option<Duration>| at.map_or(f64::NAN, |at| at.as_secs_f64());
        let (periods, throttled) = self.group.periods();
        format!(
            "/readyz 200 after {} ms, all attached after {:.1} s, scan over within {:.1} s; /livez {} times: p50 {:.1} ms, p99 {:.1} ms, \
             worst {:.1} ms, {} failures; throttled in {throttled} of {periods} periods, for {} ms; {} ms of CPU in all",
            self.ready.as_millis(),
            seconds(self.attached),
            seconds(self.over),
            self.answers.len(),
            quantile(&answered, 0.5),
            quantile(&answered, 0.99),
            quantile(&answered, 1.0),
            self.answers.len() - answered.len(),
            self.group.throttled_ms(),
            self.agent.stat().map_or(0, |stat| stat.cpu_ns / 1_000_000),
        )
    }
}

/// Looks from outside, which cost the agent nothing.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether its interface has our filter that is made last: as the kernel has it, whatever the agent says.
fn is_attached(container: &Container) -> Result<bool> {
    let mut tc = container.netns.command(&installed("tc")?);
    let output = tc.args(["filter", "show", "dev", INTERFACE, "egress"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("pilotfish_out"))
}

/// What the testbed calls it.
const INTERFACE: &str = "eth0";

/// No multiple of it is one of the kernel's period.
const ASK_EVERY: Duration = Duration::from_millis(83);

/// Milliseconds of each `/livez` until `stop`; none for a failure.
fn livez(admin: SocketAddr, stop: &AtomicBool) -> Vec<Option<f64>> {
    let mut out = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answered = fetch(admin, "/livez", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200);
        let took = begun.elapsed();
        out.push(answered.then_some(took.as_secs_f64() * 1e3));
        thread::sleep(ASK_EVERY.saturating_sub(took));
    }
    out
}

/// How the scan is doing, from `/metrics`, which costs the agent less to answer than the status.
pub(super) fn is_over(metrics: &Exposition, namespaces: usize) -> bool {
    metrics.count("pilotfish_netns", &[("state", "attached")]) == namespaces as u64
        && metrics.sum("pilotfish_scan_progress_ratio", &[]) >= 1.0
        && metrics.count("pilotfish_scan_connections_total", &[]) > 0
}
