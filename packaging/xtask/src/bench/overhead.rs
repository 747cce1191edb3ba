//! nginx (one worker, an answer of 300 bytes from memory) and wrk (one thread) share one processor,
//! in containers' namespaces of their own; the agent is free to use the other ones. Windows of a
//! second alternate: with an observer, without, and so on. What is compared is CPU time per
//! request: nginx's and wrk's own by the scheduler (softirq work runs in their context here;
//! ksoftirqd's is added), which other programs on the machine do not change. "full" adds what the
//! observer itself used, from the window's start until its counters stand still: its backlog. A
//! control (nothing against nothing) runs in the same rounds; rounds in which it differs from 1 by
//! more than 0.01 are left out.

use super::{quantile, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use std::process::{Command, Stdio};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Process, Stat, Testbed, installed, scene};

#[derive(Debug, Args)]
pub struct Options {
    /// Rounds; each has a pair of windows for every observer
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Length of a window, seconds
    #[arg(long, default_value_t = 1)]
    window: u32,
    /// The processor that nginx and wrk share
    #[arg(long, default_value_t = 0)]
    processor: usize,
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Observer {
    Nothing,
    /// Watching both containers: each request is two exchanges, one for each reporter.
    Agent,
    /// Watching nginx's container only: wrk is somebody from outside.
    AgentOneEnd,
    /// `tcpdump -s 320 -w /dev/null` at nginx's interface.
    Tcpdump,
    /// The same at both interfaces, as the agent has them.
    TcpdumpBoth,
}

const OBSERVERS: [(Observer, &str); 5] = [
    (Observer::Nothing, "control"),
    (Observer::AgentOneEnd, "pilotfish"),
    (Observer::Agent, "pilotfish, both ends"),
    (Observer::Tcpdump, "tcpdump -s 320"),
    (Observer::TcpdumpBoth, "tcpdump -s 320, both ends"),
];

/// Nanoseconds of CPU per request.
#[derive(Clone, Copy, Debug)]
struct Cost {
    app: f64,
    full: f64,
}

pub fn run(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    let body = "x".repeat(300);
    let server = format!("server {{ listen 80; location / {{ return 200 \"{body}\"; }} }}");
    let nginx = scene::nginx(&mut bed, "nginx", &server, Some(options.processor))?;
    let wrk = bed.run(ContainerSpec::new("wrk", &["/bin/sleep", "100000"]).in_namespace("outside"))?;
    let mut rounds: Vec<Vec<(Cost, Cost)>> = Vec::new();
    for n in 0..options.rounds {
        let mut round = Vec::new();
        for (observer, _) in OBSERVERS {
            let measure = |observer| window(options, &bed, &nginx, &wrk, observer);
            // Now one first, now the other, so that a drift of the machine does not count for one of them.
            round.push(if n % 2 == 0 {
                let with = measure(observer)?;
                (with, measure(Observer::Nothing)?)
            } else {
                let without = measure(Observer::Nothing)?;
                (measure(observer)?, without)
            });
        }
        rounds.push(round);
    }
    let ratio = |(with, without): &(Cost, Cost)| with.app / without.app;
    let kept: Vec<&Vec<(Cost, Cost)>> = rounds.iter().filter(|round| (ratio(&round[0]) - 1.0).abs() <= 0.01).collect();
    say(&format!(
        "overhead: {} rounds of {} s windows, {} kept by the control",
        rounds.len(),
        options.window,
        kept.len()
    ));
    for (i, (_, name)) in OBSERVERS.iter().enumerate() {
        let of = |value: fn(&(Cost, Cost)) -> f64| kept.iter().map(|round| value(&round[i])).collect::<Vec<f64>>();
        let (app, full) =
            (of(|(with, without)| with.app / without.app), of(|(with, without)| with.full / without.full));
        let base = quantile(&of(|(_, without)| without.app), 0.5) / 1e3;
        say(&format!(
            "overhead: {name:<26} app {:.3} (quartiles {:.3} {:.3}), full {:.3} (quartiles {:.3} {:.3}); without: {base:.1} us per request",
            quantile(&app, 0.5),
            quantile(&app, 0.25),
            quantile(&app, 0.75),
            quantile(&full, 0.5),
            quantile(&full, 0.25),
            quantile(&full, 0.75),
        ));
    }
    Ok(())
}

fn window(options: &Options, bed: &Testbed, nginx: &Container, wrk: &Container, observer: Observer) -> Result<Cost> {
    let (mut agent, mut dumps) = (None, Vec::new());
    match observer {
        Observer::Nothing => {}
        Observer::Agent => agent = Some(watching(bed, &[], 2)?),
        Observer::AgentOneEnd => agent = Some(watching(bed, &["demo"], 1)?),
        Observer::Tcpdump => dumps.push(tcpdump(bed, nginx)?),
        Observer::TcpdumpBoth => dumps.extend([tcpdump(bed, nginx)?, tcpdump(bed, wrk)?]),
    }
    let observers = || -> u64 {
        let pids = agent.iter().map(Agent::pid).chain(dumps.iter().map(Process::pid));
        pids.filter_map(|pid| Stat::of(pid).ok()).map(|stat| stat.cpu_ns).sum()
    };
    let softirqd = ksoftirqd(options.processor)?;
    let observers_before = observers();
    let before = Stat::of(nginx.pid)?.cpu_ns + scheduled(softirqd)? + children_ns()?;
    let requests = run_wrk(options, nginx, wrk)?;
    let app = Stat::of(nginx.pid)?.cpu_ns + scheduled(softirqd)? + children_ns()? - before;
    drain(observers, agent.as_ref())?;
    let observer_ns = observers() - observers_before;
    if let Some(mut agent) = agent {
        ensure!(agent.stop() == Some(0), "the agent ended badly:\n{}", agent.log_text());
    }
    for mut dump in dumps {
        dump.stop(Duration::from_secs(2));
    }
    let requests = requests as f64;
    Ok(Cost { app: app as f64 / requests, full: (app + observer_ns) as f64 / requests })
}

/// An agent for the containers of these containerd namespaces (all, when none is named), attached
/// to as many as there are.
fn watching(bed: &Testbed, namespaces: &[&str], containers: u64) -> Result<Agent> {
    let namespaces = namespaces.iter().map(ToString::to_string).collect();
    let agent = Agent::start(bed, &AgentOptions { namespaces, ..AgentOptions::default() })?;
    agent.wait_attached(containers, Duration::from_secs(10))?;
    Ok(agent)
}

/// Waits until the observer has worked off its backlog: the agent's count stands still, or it uses no more CPU.
fn drain(observers: impl Fn() -> u64, agent: Option<&Agent>) -> Result<()> {
    let mut last = (0, 0);
    for _ in 0..50 {
        let counted = match agent {
            Some(agent) => agent.counted_and_lost("server")?.0,
            None => observers() / 1_000_000,
        };
        if counted == last.0 {
            last.1 += 1;
        } else {
            last = (counted, 0);
        }
        if last.1 >= 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn tcpdump(bed: &Testbed, container: &Container) -> Result<Process> {
    let mut command = container.netns.command(&installed("tcpdump")?);
    command.args(["-i", "eth0", "-s", "320", "-w", "/dev/null"]);
    let log = bed.log_file(&format!("tcpdump-{}", container.name));
    std::fs::write(&log, "")?;
    let process = Process::start("tcpdump", &mut command, &log)?;
    bed.record_process(process.pid())?;
    testbed::until("tcpdump listens", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
    })?;
    Ok(process)
}

fn run_wrk(options: &Options, nginx: &Container, wrk: &Container) -> Result<u64> {
    let mut command = wrk.netns.command(&installed("taskset")?);
    command.arg("-c").arg(options.processor.to_string()).arg(installed("wrk")?);
    command.args(["-t1", &format!("-c{}", options.connections), &format!("-d{}s", options.window)]);
    command.arg(format!("http://{}/", nginx.address));
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains("requests in")).context("wrk's output")?;
    Ok(line.split_ascii_whitespace().next().unwrap_or_default().parse()?)
}

/// CPU of the children that have ended and been waited for: wrk's, when it is the only one between two calls.
fn children_ns() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let nanoseconds = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000_000 + time.tv_usec() * 1000;
    Ok(u64::try_from(nanoseconds(usage.user_time()) + nanoseconds(usage.system_time()))?)
}

fn ksoftirqd(processor: usize) -> Result<u32> {
    let output = Command::new("pgrep").arg("-x").arg(format!("ksoftirqd/{processor}")).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().with_context(|| format!("ksoftirqd/{processor}"))
}

/// Nanoseconds on a processor, from the scheduler (`/proc/<pid>/schedstat`, first field).
fn scheduled(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    text.split_ascii_whitespace().next().unwrap_or_default().parse().context("schedstat")
}
