//! What a container says before the agent is there, beside a busy loop on each core. One container
//! at a time; its first process sends one HTTP request to a server that the agent watches already.
//! A pod is a sandbox whose process asks, too, and then an application in the same namespace: both
//! counted means that the namespace was attached before its first process did anything. A bare
//! container has no sandbox and stays; a brief one ends with its request.
//!
//! A request was seen when the client's end counts it. Those under their client's name are said
//! beside it: a name that comes after the request names only what follows. For pods, all of them
//! are those whose sandbox was seen, too.

use super::{quantile, say};
use agent_api::Status;
use anyhow::{Result, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, PodLabels, Testbed, signals, until};

#[derive(Debug, Args)]
pub struct Options {
    /// Containers of each kind
    #[arg(long, default_value_t = 100)]
    count: u32,
    /// Busy loops, at the nice value of everybody
    #[arg(long, default_value_t = 2)]
    busy: u32,
    /// More of the agent's configuration file, whole sections
    #[arg(long, default_value = "")]
    config: String,
    /// Only this kind: pod, bare or brief
    #[arg(long)]
    kind: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    Bare,
    Brief,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Pod => "pod",
            Kind::Bare => "bare",
            Kind::Brief => "brief",
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
/// By then a container that was started has asked as a rule.
const ASKED: Duration = Duration::from_millis(150);

pub fn run(options: &Options) -> Result<()> {
    for kind in [Kind::Pod, Kind::Bare, Kind::Brief] {
        if options.kind.as_deref().is_none_or(|wanted| wanted == kind.name()) {
            one_kind(options, kind)?;
        }
    }
    Ok(())
}

/// A process that computes for ever.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Busy> {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        Ok(Busy(command.spawn()?))
    }

    /// They rest while a container is removed: that is not what is measured.
    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn one_kind(options: &Options, kind: Kind) -> Result<()> {
    let mut bed = Testbed::start()?;
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let agent = Agent::start(&bed, &AgentOptions { more: options.config.clone(), ..AgentOptions::default() })?;
    agent.wait_attached(1, PATIENCE)?;
    let busy = (0..options.busy).map(|_| Busy::start()).collect::<Result<Vec<Busy>>>()?;
    let target = format!("{}:8080", server.address);
    // The second request of who stays is due in some hours.
    let (stays, ends) = (["--rate", "0.0001", "--count", "2"], ["--count", "1"]);
    let more: &[&str] = if kind == Kind::Brief { &ends } else { &stays };
    let command = [&["/bin/loadgen", "--target", &target], more].concat();
    let (mut attached, mut took_ms) = (0, Vec::new());
    let mut asked = 0;
    for n in 0..options.count {
        ensure!(!signals::interrupted(), "interrupted");
        let name = format!("{}{n}", kind.name());
        let mut started = Vec::new();
        if kind == Kind::Pod {
            let pod = PodLabels { namespace: "first".into(), name: name.clone(), uid: format!("uid-{n}") };
            let sandbox = bed.run(ContainerSpec::new(&format!("{name}-sandbox"), &command).sandbox_of(&pod))?;
            let application = ContainerSpec::new(&format!("{name}-app"), &command).part_of(&pod, "app");
            let application = bed.run(application.sharing(&sandbox))?;
            started.extend([application, sandbox]);
        } else {
            started.push(bed.run(ContainerSpec::new(&name, &command))?);
        }
        asked += started.len() as u64;
        std::thread::sleep(ASKED);
        busy.iter().try_for_each(|busy| busy.signal(Signal::SIGSTOP))?;
        // Who has not come to it by now does at once.
        std::thread::sleep(ASKED);
        if kind != Kind::Brief {
            let took = attach_ms(&agent, &name)?;
            attached += u32::from(took.is_some());
            took_ms.extend(took);
        }
        for container in started {
            bed.stop(container, Duration::ZERO)?;
        }
        busy.iter().try_for_each(|busy| busy.signal(Signal::SIGCONT))?;
    }
    drop(busy);
    // What was answered is counted at the server's end, which was attached before anybody asked.
    let answered = || served(&agent);
    until("all have asked", PATIENCE, || answered() == asked).ok();
    let asked = answered();
    let each = if kind == Kind::Pod { 2 } else { 1 };
    let metrics = agent.metrics()?;
    let (mut some, mut all) = (0, 0);
    for n in 0..options.count {
        let name = format!("{}{n}", kind.name());
        let counted = metrics.count("http_client_request_duration_seconds_count", &[("client_workload", &name)]);
        some += u32::from(counted > 0);
        all += u32::from(counted >= each);
    }
    say(&format!(
        "first words: {} of {}, {} busy loops: attached {}; requests counted {} of {asked} (a first one each of {some}, \
         all of {all}, under their names); p50 {:.1} ms, p99 {:.1} ms from the news to the attachment",
        options.count,
        kind.name(),
        options.busy,
        if kind == Kind::Brief { "-".to_owned() } else { attached.to_string() },
        metrics.count("http_client_request_duration_seconds_count", &[]),
        quantile(&took_ms, 0.5),
        quantile(&took_ms, 0.99),
    ));
    let lost = |reason| metrics.count("pilotfish_lost_total", &[("stage", "attach"), ("reason", reason)]);
    let alarms = |outcome| metrics.count("pilotfish_alarm_outcomes_total", &[("outcome", outcome)]);
    say(&format!(
        "first words: {}: {} packets before an attachment; alarms: {} attached, {} known, {} foreign, {} vanished, {} full",
        kind.name(),
        lost("late"),
        alarms("attached"),
        alarms("known"),
        alarms("foreign"),
        alarms("vanished"),
        lost("alarms_full")
    ));
    Ok(())
}

fn served(agent: &Agent) -> u64 {
    agent.metrics().map_or(0, |metrics| metrics.count("http_server_request_duration_seconds_count", &[]))
}

/// What `pilotfish status` says of a workload's attachment.
fn attach_ms(agent: &Agent, workload: &str) -> Result<Option<f64>> {
    let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    Ok(status.namespaces.iter().find(|row| row.workload == workload).and_then(|row| row.attach_ms))
}
