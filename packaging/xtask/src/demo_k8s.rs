//! `cargo xtask demo-k8s`: a Kubernetes cluster of two nodes with workloads that call each other,
//! the agent on each node, and what each of them sees, live, by name. Everything is taken away at
//! the end.

use agent_api::{EdgeRow, Party};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testbed::cluster::binaries::{self, Program};
use testbed::cluster::{Cluster, ControlPlaneOptions, User, scene};
use testbed::{Agent, AgentOptions, signals, until};

use crate::demo::{Output, Shown, duration};

#[derive(Debug, Args)]
pub struct Options {
    /// End after this long, like 30s or 2m; without it, Ctrl-C ends it
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
    /// table shows the edges live; json prints one line at the end
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Default)]
struct Report {
    /// By node: what its agent saw.
    edges: BTreeMap<String, Vec<EdgeRow>>,
    /// Requests that the agents made of the API server, by `verb resource`.
    api_requests: BTreeMap<String, usize>,
    leftovers: Vec<String>,
    error: Option<String>,
}

impl Report {
    fn rows(&self) -> impl Iterator<Item = &EdgeRow> {
        self.edges.values().flatten()
    }

    /// Ends of edges that are told as an address where a name belongs. A few are to be expected:
    /// what came before the first names.
    fn unnamed(&self) -> usize {
        let is_address = |end: &Party| end.kind == "Address" || end.name.parse::<IpAddr>().is_ok();
        self.rows().map(|row| [&row.src, &row.dst].into_iter().filter(|end| is_address(end)).count()).sum()
    }

    fn requests(&self) -> u64 {
        self.rows().map(|row| row.golden.requests).sum()
    }

    fn to_json(&self) -> Value {
        let Report { edges, api_requests, leftovers, error } = self;
        json!({
            "edges": edges,
            "edges_seen": self.rows().count(),
            "ends_without_name": self.unnamed(),
            "exchanges_reported": self.requests(),
            "api_requests": api_requests,
            "cleaned_up": leftovers.is_empty(),
            "leftovers": leftovers,
            "error": error,
        })
    }
}

#[allow(clippy::print_stdout, reason = "the report is this command's output")]
pub fn run(options: &Options) -> Result<ExitCode> {
    testbed::sweep::sweep()?;
    binaries::find_all(&Program::ALL)?;
    let mut report = Report::default();
    let cluster = Cluster::start(2, &ControlPlaneOptions::default(), step);
    let shown = Shown::of(cluster, |cluster| show(options, cluster, &mut report), Cluster::take_down);
    report.leftovers = shown.leftovers;
    report.error = shown.error;
    match options.output {
        Output::Json => println!("{}", report.to_json()),
        Output::Table => print!("{}", summary(&report)),
    }
    let good = report.error.is_none() && report.leftovers.is_empty() && report.requests() > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step(what: &str) {
    eprintln!("  {what}");
}

fn show(options: &Options, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let plane = cluster.plane();
    let kubeconfig = plane.kubeconfig(User::Agent)?;
    let mark = plane.audit().mark();
    let mut agents = Vec::new();
    for node in cluster.nodes() {
        step(&format!("starting pilotfish on {}", node.name()));
        let agent = node.start_agent(plane, Some(&kubeconfig), &AgentOptions::default())?;
        agents.push((node.name().to_owned(), agent));
    }
    scene::start(cluster, step)?;
    let kubectl = binaries::find(Program::Kubectl)?;
    eprintln!(
        "\n  pods      {} --kubeconfig {} get pods -o wide",
        kubectl.display(),
        plane.kubeconfig(User::Admin)?.display()
    );
    for (name, agent) in &agents {
        eprintln!("  edges     pilotfish edges --socket {}    (of {name})", agent.socket.display());
    }
    let end = options.length.map_or("Ctrl-C".into(), |length| format!("after {length:?}, or Ctrl-C"));
    eprintln!("  end       {end}\n");
    watch(options, &mut agents)?;
    // From here on a second Ctrl-C cuts the waiting short.
    signals::acted_on();
    until("every client was seen", Duration::from_secs(15), || {
        agents.iter().all(|(_, agent)| edges(agent).is_ok_and(|edges| !edges.is_empty()))
    })?;
    for (name, agent) in &mut agents {
        report.edges.insert(name.clone(), edges(agent)?);
        if agent.stop() != Some(0) {
            bail!("the agent on {name} did not end by itself:\n{}", agent.log_text());
        }
    }
    report.api_requests = plane.audit().counts(User::Agent.name(), mark)?;
    Ok(())
}

fn edges(agent: &Agent) -> Result<Vec<EdgeRow>> {
    serde_json::from_str(&agent.cli(&["edges", "-n", scene::NAMESPACE, "-o", "json"])?)
        .context("pilotfish edges -o json")
}

/// Shows each node's table until the time is over or a signal comes: in place on a terminal, else now and then.
fn watch(options: &Options, agents: &mut [(String, Agent)]) -> Result<()> {
    let started = Instant::now();
    let in_place = options.output == Output::Table && std::io::stdout().is_terminal();
    let every = Duration::from_secs(if in_place { 1 } else { 5 });
    let (mut shown_lines, mut next) = (0, started + Duration::from_secs(1));
    while !signals::interrupted() && options.length.is_none_or(|length| started.elapsed() < length) {
        std::thread::sleep(Duration::from_millis(50));
        if Instant::now() < next {
            continue;
        }
        next += every;
        let mut page = String::new();
        for (name, agent) in agents.iter_mut() {
            if !agent.is_running() {
                bail!("the agent on {name} ended:\n{}", agent.log_text());
            }
            page += &format!(
                "seen on {name}\n{}\n",
                agent.cli(&["edges", "-n", scene::NAMESPACE, "-o", "wide"])?.trim_end()
            );
        }
        if options.output == Output::Json {
            let lines = page.lines().count();
            eprintln!("  {:>4} s  {lines} lines of edges", started.elapsed().as_secs());
            continue;
        }
        let mut out = std::io::stdout().lock();
        if in_place && shown_lines > 0 {
            // Cursor up, and erase from there to the end of the screen (ECMA-48 CUU and ED).
            write!(out, "\x1b[{shown_lines}A\x1b[J")?;
        }
        writeln!(out, "{page}")?;
        shown_lines = page.lines().count() + 1;
        out.flush()?;
    }
    Ok(())
}

fn summary(report: &Report) -> String {
    let mut text = format!(
        "\n  seen      {} exchanges on {} edges, {} ends of them without a name\n",
        report.requests(),
        report.rows().count(),
        report.unnamed()
    );
    let requests: Vec<String> = report.api_requests.iter().map(|(what, count)| format!("{count} {what}")).collect();
    if !requests.is_empty() {
        text += &format!("  asked     the API server: {}\n", requests.join(", "));
    }
    match report.leftovers.as_slice() {
        [] => text += "  cleaned   everything that the demo made is gone\n",
        some => text += &format!("  left      {}\n", some.join("\n            ")),
    }
    if let Some(error) = &report.error {
        text += &format!("  failed    {error}\n");
    }
    text
}
