//! What series cost: in memory, and in a scrape. The pods are of one kind: a name of their own, 14
//! HTTP series (7 as a client, 7 as a server), 3 of DNS, 2 of TCP, 1 of UDP; 100 exchanges in each,
//! spread over a factor of ten.
//!
//! Bytes come from the crate's own benchmark, which counts what it asks the allocator for (`cargo
//! bench -p golden-metrics --bench series`). Beside it the whole program: `pilotfish replay` reads
//! a capture of such pods from a pipe that stays open, so that what it holds at the end can be
//! looked at; the resident memory of many pods above that of one, by the number of pods. With
//! `--against`, another program's beside it.

mod capture;

use super::say;
use crate::demo::Output;
use anyhow::{Context, Result, ensure};
use capture::Capture;
use clap::Args;
use serde_json::{Value, json};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testbed::{Stat, built_binary};

#[derive(Debug, Args)]
pub struct Options {
    /// Pods of the capture; above 700 their series no longer fit under replay's cap
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..=700))]
    pods: u32,
    /// Another build of pilotfish, whose memory is shown beside this one's
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

const SETTLED: Duration = Duration::from_millis(300);

pub fn run(options: &Options) -> Result<()> {
    let mut figures = benchmark()?;
    let own = resident_per_pod(&built_binary("pilotfish")?, options.pods)?;
    let other = options.against.as_deref().map(|program| resident_per_pod(program, options.pods)).transpose()?;
    figures["resident"] = json!({
        "pods": options.pods,
        "bytes_per_pod": own,
        "against_bytes_per_pod": other,
        "ratio": other.filter(|other| *other > 0).map(|other| own as f64 / other as f64),
    });
    match options.output {
        Output::Json => say(&figures.to_string()),
        Output::Table => table(&figures).into_iter().for_each(|line| say(&line)),
    }
    Ok(())
}

/// Its one line of output. Sizes do not depend on the profile: it is built with this program's.
fn benchmark() -> Result<Value> {
    let profile = if cfg!(debug_assertions) { "dev" } else { "bench" };
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["bench", "-q", "--profile", profile, "-p", "golden-metrics", "--bench", "series"])
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "cargo bench -p golden-metrics --bench series ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("read the figures of the benchmark")
}

/// How much more the program holds for each pod after the first.
fn resident_per_pod(program: &Path, pods: u32) -> Result<u64> {
    let one = resident(program, 1)?;
    let many = resident(program, pods)?;
    Ok(many.saturating_sub(one) / u64::from(pods - 1))
}

fn resident(program: &Path, pods: u32) -> Result<u64> {
    let child = Command::new(program)
        .args(["replay", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let mut replay = Replay(child);
    let pipe = replay.0.stdin.take().context("no pipe")?;
    let mut capture = Capture::begin(BufWriter::new(pipe))?;
    capture.pods(pods).context("write the capture")?;
    // It has read everything once it waits for more and uses no CPU.
    let mut before = replay.stat()?;
    let resident = loop {
        std::thread::sleep(SETTLED);
        let now = replay.stat()?;
        if now.cpu_ns == before.cpu_ns {
            break now.rss_bytes;
        }
        before = now;
    };
    drop(capture);
    let status = replay.0.wait().context("wait for the replay")?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(resident)
}

/// Ends with this value.
struct Replay(Child);

impl Replay {
    fn stat(&self) -> Result<Stat> {
        Stat::of(self.0.id())
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn table(figures: &Value) -> Vec<String> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut lines = Vec::new();
    for row in figures["memory"].as_array().into_iter().flatten() {
        let pods = number(&row["pods"]).max(1);
        let each = |key: &str| number(&row[key]) / pods;
        lines.push(format!(
            "series: {pods} pods, {} edges, {} series: {:.1} MB; a pod {} bytes: counters {}, labels and tables {}, \
             three views {}",
            number(&row["edges"]),
            number(&row["series"]),
            number(&row["bytes"]) as f64 / 1e6,
            each("bytes"),
            each("counters"),
            each("labels_and_tables"),
            each("views"),
        ));
    }
    lines.push(format!(
        "series: a flow's names and the series that it used last: {} bytes",
        number(&figures["flow_bytes"])
    ));
    let resident = &figures["resident"];
    let mut line = format!(
        "series: resident memory of a replay of {} pods: {} bytes a pod",
        number(&resident["pods"]),
        number(&resident["bytes_per_pod"])
    );
    if let Some(ratio) = resident["ratio"].as_f64() {
        line += &format!(", the other program {}: {ratio:.2} of it", number(&resident["against_bytes_per_pod"]));
    }
    lines.push(line);
    for row in figures["scrapes"].as_array().into_iter().flatten() {
        lines.push(format!(
            "series: 1,000 edges, histograms {:?}, {}: {} time series, {:.1} MB",
            row["histograms"].as_str().unwrap_or_default(),
            row["format"].as_str().unwrap_or_default(),
            number(&row["series"]),
            number(&row["bytes"]) as f64 / 1e6
        ));
    }
    lines
}
