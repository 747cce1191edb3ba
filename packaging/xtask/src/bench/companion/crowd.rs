//! The process with all the agents, which answers a command a line.

use super::options::Options;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use testbed::Stat;

/// Pushes with something new: 30 min of them.
const ROUNDS: u32 = 180;

pub(super) struct Crowd {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    named: u32,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sums over all agents.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    /// Of each.
    pub series: u64,
    /// Agents of whom the companion has something.
    pub held: u64,
    /// Agents that had all names.
    pub named: u64,
    /// Agents that were told how old their names are since the mark.
    pub told: u64,
    pub dials: u64,
    pub answered: u64,
    pub cut: u64,
    pub resyncs: u64,
    /// Why one of those that do not push does not.
    #[expect(dead_code, reason = "for whoever reads an error")]
    why: Option<String>,
}

impl Crowd {
    pub fn start(join: &Path, options: &Options) -> Result<Crowd> {
        let own = std::env::current_exe()?;
        let program = own.parent().context("xtask is in a directory")?.join("examples/many_agents");
        let mut command = Command::new(&program);
        command.arg(join);
        for number in [options.agents, options.pods, options.series, ROUNDS] {
            command.arg(number.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| {
            format!("{}: build it with `cargo build --release -p companion --examples`", program.display())
        })?;
        let commands = child.stdin.take().context("stdin")?;
        let answers = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Crowd { child, commands, answers, named: 0 })
    }

    fn ask(&mut self, command: &str) -> Result<Status> {
        writeln!(self.commands, "{command}").context("the agents ended")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).with_context(|| format!("the agents say {line:?}"))?;
        for none in ["left_out", "damaged"] {
            ensure!(told[none] == 0, "{none}: {told}");
        }
        let count = |name: &str| told[name].as_u64().with_context(|| format!("{name} in {told}"));
        Ok(Status {
            series: count("series")?,
            held: count("held")?,
            named: count("named")?,
            told: count("told")?,
            dials: count("dials")?,
            answered: count("answered")?,
            cut: count("cut")?,
            resyncs: count("resyncs")?,
            why: told["why"].as_str().map(str::to_owned),
        })
    }

    /// Of those that begin from now on the first so many take names.
    pub fn name(&mut self, agents: u32) -> Result<()> {
        self.named = agents;
        self.ask(&format!("named {agents}")).map(drop)
    }

    pub fn named(&self) -> u32 {
        self.named
    }

    /// So many run.
    pub fn set(&mut self, agents: u32) -> Result<()> {
        self.ask(&format!("agents {agents}")).map(drop)
    }

    /// All end, and begin at once without names.
    pub fn restart(&mut self) -> Result<()> {
        self.ask("restart").map(drop)
    }

    pub fn mark(&mut self) -> Result<()> {
        self.ask("mark").map(drop)
    }

    pub fn status(&mut self) -> Result<Status> {
        self.ask("status")
    }

    pub fn stat(&self) -> Result<Stat> {
        Stat::of(self.child.id())
    }
}
