//! `cargo xtask demo-k8s`: a Kubernetes cluster of two nodes with workloads that call each other, an
//! agent on each node, and one companion that makes one cluster of them: kubectl's tables, the service
//! map, an HPA that scales by what was seen. Everything is taken away at the end.

mod picture;
mod report;
mod tables;

use agent_api::EdgeRow;
use anyhow::{Context, Result, bail};
use clap::Args;
use report::{Report, Scaled};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testbed::cluster::binaries::{self, Program};
use testbed::cluster::companion::{self, With};
use testbed::cluster::{Cluster, User, scene};
use testbed::{Agent, signals, until};

use crate::demo::{Output, Shown, duration};

#[derive(Debug, Args)]
pub struct Options {
    /// End after this long, like 30s or 2m, or when the HPA has scaled, if that is later; without it,
    /// Ctrl-C ends it
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
    /// table shows what kubectl shows, live; json prints one line at the end
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Writes a picture of the service map there (PNG); needs Chromium and Node
    #[arg(long, value_name = "FILE")]
    screenshot: Option<PathBuf>,
}

/// The companion's account, as the audit log calls it.
const ACCOUNT: &str = "system:serviceaccount:pilotfish:companion";
/// The APIs that lead to it, and their APIServices.
const GROUPS: [(&str, &str); 2] =
    [("traffic", "v1alpha1.traffic.pilotfish.io"), ("custom-metrics", "v1beta2.custom.metrics.k8s.io")];
/// A minute until the rate is that of a minute, and some looks of the controller at each 15 s.
const SCALES: Duration = Duration::from_secs(180);

#[allow(clippy::print_stdout, reason = "the report is this command's output")]
pub fn run(options: &Options) -> Result<ExitCode> {
    testbed::sweep::sweep()?;
    binaries::find_all(&Program::ALL)?;
    picture::is_possible(options.screenshot.as_deref())?;
    let mut report = Report::default();
    let cluster = Cluster::start(2, &companion::control(), step);
    let shown = Shown::of(cluster, |cluster| show(options, cluster, &mut report), Cluster::take_down);
    report.leftovers = shown.leftovers;
    report.error = shown.error;
    match options.output {
        Output::Json => println!("{}", report.to_json()),
        Output::Table => print!("{}", report.summary()),
    }
    let good = report.error.is_none() && report.leftovers.is_empty() && report.requests() > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step(what: &str) {
    eprintln!("  {what}");
}

fn show(options: &Options, cluster: &Cluster, report: &mut Report) -> Result<()> {
    let plane = cluster.plane();
    let mark = plane.audit().mark();
    step("making the companion's image, and loading it on each node");
    let archive = plane.dir().join("companion.tar");
    companion::make_image(&archive)?;
    companion::load(cluster, &archive)?;
    step("starting two replicas of the companion");
    companion::install(cluster, With::Figures)?;
    step("starting pilotfish on each node, which joins the companion");
    let mut agents = companion::join(cluster)?;
    companion::aggregate(cluster, &GROUPS)?;
    scene::start(cluster, step)?;
    companion::feed(cluster, "apply", &tables::autoscaler())?;
    let map = companion::forward_map(cluster)?;
    let kubectl = binaries::find(Program::Kubectl)?;
    let kubeconfig = plane.kubeconfig(User::Admin)?;
    eprintln!("\n  kubectl   {} --kubeconfig {} get wt -A", kubectl.display(), kubeconfig.display());
    for (node, agent) in cluster.nodes().iter().zip(&agents) {
        eprintln!("  edges     pilotfish edges --socket {}    (of {} alone)", agent.socket.display(), node.name());
    }
    eprintln!("  map       http://{}/", map.address);
    let end = options.length.map_or("Ctrl-C".into(), |length| format!("after {length:?}, or Ctrl-C"));
    eprintln!("  end       {end}\n");
    watch(options, cluster, &mut agents, report)?;
    // From here on a second Ctrl-C cuts the waiting short.
    signals::acted_on();
    until("every client was seen", Duration::from_secs(15), || {
        agents.iter().all(|agent| edges(agent).is_ok_and(|edges| !edges.is_empty()))
    })?;
    note(report, tables::findings(cluster)?);
    report.tables = tables::page(cluster)?;
    if let Some(file) = &options.screenshot {
        step("looking at the map");
        picture::take(map.address, file)?;
    }
    for (node, agent) in cluster.nodes().iter().zip(&mut agents) {
        report.edges.insert(node.name().to_owned(), edges(agent)?);
        if agent.stop() != Some(0) {
            bail!("the agent on {} did not end by itself:\n{}", node.name(), agent.log_text());
        }
    }
    report.api_requests = plane.audit().counts(ACCOUNT, mark)?;
    Ok(())
}

/// Each once, with its first figures, though it may be gone at the end.
fn note(report: &mut Report, findings: Vec<String>) {
    for found in findings {
        let name = |text: &str| text.split_once(": ").map(|(name, _)| name.to_owned());
        if !report.findings.iter().any(|known| name(known) == name(&found)) {
            report.findings.push(found);
        }
    }
}

fn edges(agent: &Agent) -> Result<Vec<EdgeRow>> {
    serde_json::from_str(&agent.cli(&["edges", "-n", scene::NAMESPACE, "-o", "json"])?)
        .context("pilotfish edges -o json")
}

/// Shows kubectl's tables until the time is over and the HPA has scaled, or a signal comes: in place
/// on a terminal, else now and then.
fn watch(options: &Options, cluster: &Cluster, agents: &mut [Agent], report: &mut Report) -> Result<()> {
    let started = Instant::now();
    let in_place = options.output == Output::Table && std::io::stdout().is_terminal();
    let every = Duration::from_secs(if in_place { 2 } else { 15 });
    let (mut shown_lines, mut next) = (0, started + Duration::from_secs(1));
    let goes_on = |report: &Report| {
        let scales = report.scaled.is_none() && started.elapsed() < SCALES;
        options.length.is_none_or(|length| started.elapsed() < length || scales)
    };
    while !signals::interrupted() && goes_on(report) {
        std::thread::sleep(Duration::from_millis(50));
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + every;
        for (node, agent) in cluster.nodes().iter().zip(agents.iter_mut()) {
            if !agent.is_running() {
                bail!("the agent on {} ended:\n{}", node.name(), agent.log_text());
            }
        }
        let replicas = tables::replicas(cluster)?;
        if report.scaled.is_none() && replicas > tables::REPLICAS {
            let after = started.elapsed();
            report.scaled = Some(Scaled { from: tables::REPLICAS, to: replicas, after });
            eprintln!("  the HPA has scaled api from {} to {replicas} pods", tables::REPLICAS);
            shown_lines = 0;
        }
        note(report, tables::findings(cluster)?);
        let page = tables::page(cluster)?;
        if options.output == Output::Json {
            eprintln!(
                "  {:>4} s  {} lines of tables, {replicas} pods of api",
                started.elapsed().as_secs(),
                page.lines().count()
            );
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
