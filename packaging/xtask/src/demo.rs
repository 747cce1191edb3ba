//! `cargo xtask demo`: containers that call each other, the agent beside them, a live table, and at
//! the end the comparison of what was sent with what was counted and lost.

use crate::found;
use agent_api::EdgeRow;
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testbed::scene::{self, Scene};
use testbed::{Agent, AgentOptions, Container, Testbed, signals, until};

#[derive(Debug, Args)]
pub struct Options {
    /// End after this long, like 30s or 2m; without it, Ctrl-C ends it
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
    /// table shows the edges live; json prints one line at the end
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// HTTP requests a second of the generator
    #[arg(long, default_value_t = 500)]
    rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no duration; write 30s, 2m or 1h"))?;
    let seconds = match unit {
        "" | "s" => number,
        "m" => number * 60,
        "h" => number * 3600,
        _ => return Err(format!("{unit:?} is no unit of time; write s, m or h")),
    };
    Ok(Duration::from_secs(seconds))
}

/// What one reporter saw, beside what was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    counted: u64,
    lost: u64,
}

#[derive(Debug, Default)]
struct Report {
    /// Exchanges that took place: the generator's requests, nginx's to the API, the API's commands to
    /// Redis, and DNS lookups.
    sent: u64,
    generator: u64,
    proxied: u64,
    commands: u64,
    lookups: u64,
    client: Account,
    server: Account,
    edges: Vec<EdgeRow>,
    /// What was held for wrong at any time, beyond remarks; none where nobody has looked yet.
    findings: Option<BTreeSet<String>>,
    leftovers: Vec<String>,
    error: Option<String>,
}

impl Report {
    fn is_exact(&self) -> bool {
        self.sent > 0 && [self.client, self.server].iter().all(|account| account.counted + account.lost == self.sent)
    }

    fn to_json(&self) -> Value {
        let Report { sent, generator, proxied, commands, lookups, client, server, edges, .. } = self;
        let Report { findings, leftovers, error, .. } = self;
        let account = |a: &Account| json!({"sent": sent, "counted": a.counted, "lost": a.lost});
        json!({
            "sent": sent,
            "counted": client.counted,
            "lost": client.lost,
            "exact": self.is_exact(),
            "reporters": {"client": account(client), "server": account(server)},
            "parts": {"generator_http": generator, "proxied_http": proxied, "redis": commands, "dns": lookups},
            "edges": edges,
            "findings": findings,
            "cleaned_up": leftovers.is_empty(),
            "leftovers": leftovers,
            "error": error,
        })
    }
}

/// How a demo ended.
#[derive(Debug, Default)]
pub struct Shown {
    pub leftovers: Vec<String>,
    pub error: Option<String>,
}

impl Shown {
    /// Shows what was started, takes it away again however that ended, and tells an interruption from a failure.
    pub fn of<T>(
        started: Result<T>,
        show: impl FnOnce(&mut T) -> Result<()>,
        take_down: impl FnOnce(T) -> Result<Vec<String>>,
    ) -> Shown {
        let mut scene = match started {
            Ok(scene) => scene,
            Err(_) if signals::interrupted() => return Shown { error: Some("interrupted".into()), ..Shown::default() },
            Err(error) => return Shown { error: Some(format!("{error:#}")), ..Shown::default() },
        };
        let mut outcome = show(&mut scene);
        if signals::interrupted() {
            outcome = outcome.map_err(|_| anyhow!("interrupted"));
            signals::acted_on();
        }
        eprintln!("  removing what the demo made");
        let leftovers = take_down(scene).unwrap_or_else(|error| vec![format!("{error:#}")]);
        Shown { leftovers, error: outcome.err().map(|error| format!("{error:#}")) }
    }
}

#[allow(clippy::print_stdout, reason = "the report is this command's output")]
pub fn run(options: &Options) -> Result<ExitCode> {
    testbed::sweep::sweep()?;
    let mut report = Report::default();
    step("a containerd of its own");
    let shown = Shown::of(Testbed::start(), |bed| show(options, bed, &mut report), Testbed::take_down);
    report.leftovers.extend(shown.leftovers);
    report.error = shown.error;
    match options.output {
        Output::Json => println!("{}", report.to_json()),
        Output::Table => print!("{}", summary(&report)),
    }
    let good = report.error.is_none() && report.is_exact() && report.leftovers.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step(what: &str) {
    eprintln!("  starting {what}");
}

fn show(options: &Options, bed: &mut Testbed, report: &mut Report) -> Result<()> {
    let scene = Scene::start(bed, step)?;
    step("pilotfish");
    let mut agent = Agent::start(bed, &AgentOptions::default())?;
    step("the load generator");
    let rate = options.rate.to_string();
    let names = "api.demo.test,www.demo.test,missing.demo.test";
    let args = ["--connections", "16", "--rate", &rate, "--profile", "mixed", "--dns-rate", "20", "--dns-names", names];
    let load = scene.start_load(bed, &args)?;
    agent.wait_attached(bed.containers().len() as u64, Duration::from_secs(20))?;
    scene::open_gate(bed, &load)?;
    eprintln!("\n  metrics   http://{}/metrics", agent.admin);
    eprintln!("  edges     pilotfish edges --socket {}", agent.socket.display());
    eprintln!(
        "  end       {}\n",
        options.length.map_or("Ctrl-C".into(), |length| format!("after {length:?}, or Ctrl-C"))
    );
    watch(options, &mut agent, report)?;
    // From here on a second Ctrl-C cuts the waiting short.
    signals::acted_on();
    settle(bed, &scene, &load, &agent, report)?;
    report.edges = serde_json::from_str(&agent.cli(&["edges", "-o", "json"])?).context("pilotfish edges -o json")?;
    if agent.stop() != Some(0) {
        bail!("the agent did not end by itself:\n{}", agent.log_text());
    }
    if testbed::installed("bpftool").is_ok() {
        for container in bed.containers() {
            let left = testbed::filters_in(&container.netns.path())?;
            report.leftovers.extend(left.into_iter().map(|filter| format!("filter {filter} in {}", container.name)));
        }
    }
    Ok(())
}

/// Shows the table until the time is over or a signal comes: in place on a terminal, else now and then.
fn watch(options: &Options, agent: &mut Agent, report: &mut Report) -> Result<()> {
    let started = Instant::now();
    let in_place = options.output == Output::Table && std::io::stdout().is_terminal();
    let every = Duration::from_secs(if in_place { 1 } else { 5 });
    let mut shown_lines = 0;
    let mut next = started + Duration::from_secs(1);
    let mut doctor = started + found::EVERY;
    while !signals::interrupted() && options.length.is_none_or(|length| started.elapsed() < length) {
        std::thread::sleep(Duration::from_millis(50));
        if Instant::now() < next {
            continue;
        }
        next += every;
        if !agent.is_running() {
            bail!("the agent ended:\n{}", agent.log_text());
        }
        if Instant::now() >= doctor {
            doctor += found::EVERY;
            report.findings.get_or_insert_default().extend(found::by(agent, scene::NAMESPACE)?);
        }
        if options.output == Output::Json {
            let (counted, lost) = agent.counted_and_lost("client")?;
            eprintln!("  {:>4.0?} s  counted {counted}  lost {lost}", started.elapsed().as_secs());
            continue;
        }
        let table = agent.cli(&["edges"])?;
        let mut out = std::io::stdout().lock();
        if in_place && shown_lines > 0 {
            // Cursor up, and erase from there to the end of the screen (ECMA-48 CUU and ED).
            write!(out, "\x1b[{shown_lines}A\x1b[J")?;
        }
        writeln!(out, "{}", table.trim_end())?;
        shown_lines = table.trim_end().lines().count();
        if !in_place {
            writeln!(out)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Ends the load, asks each program what it did, and waits until the agent has said the same or stopped moving.
fn settle(bed: &Testbed, scene: &Scene, load: &Container, agent: &Agent, report: &mut Report) -> Result<()> {
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap_or(0);
    let sent = scene::final_line(bed, load, Duration::from_secs(10))?;
    let served = scene::final_line(bed, &scene.api, Duration::from_secs(10))?;
    report.generator = number(&sent, "sent");
    report.lookups = number(&sent, "dns_sent");
    report.proxied = number(&served, "served");
    report.commands = scene::redis_commands(&bed.exec(&scene.redis, &["/bin/redis-cli", "info", "commandstats"])?)?;
    report.sent = report.generator + report.lookups + report.proxied + report.commands;
    // The agent counts an exchange when its end is known; idle flows are asked about every few seconds.
    until("the agent has counted everything", Duration::from_secs(15), || {
        for (reporter, account) in [("client", &mut report.client), ("server", &mut report.server)] {
            let Ok((counted, lost)) = agent.counted_and_lost(reporter) else { return false };
            *account = Account { counted, lost };
        }
        report.is_exact()
    })
    .ok();
    Ok(())
}

fn summary(report: &Report) -> String {
    let Report { sent, generator, proxied, commands, lookups, client, server, .. } = report;
    let Report { findings, leftovers, error, .. } = report;
    let mut text = format!(
        "\n  sent      {sent} exchanges: {generator} HTTP by the generator, {proxied} HTTP by nginx to the API, \
         {commands} commands to Redis, {lookups} DNS lookups\n"
    );
    for (reporter, Account { counted, lost }) in [("client", client), ("server", server)] {
        let missing = sent.abs_diff(counted + lost);
        let verdict = if missing == 0 { "exact".to_owned() } else { format!("differs by {missing}") };
        text += &format!("  {reporter:<9} {counted} counted + {lost} lost: {verdict}\n");
    }
    match findings.iter().flatten().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] if findings.is_none() => {}
        [] => text += "  findings  none above info\n",
        some => text += &format!("  findings  {}\n", some.join("\n            ")),
    }
    match leftovers.as_slice() {
        [] => text += "  cleaned   everything that the demo made is gone\n",
        some => text += &format!("  left      {}\n", some.join("\n            ")),
    }
    if let Some(error) = error {
        text += &format!("  failed    {error}\n");
    }
    text
}
