//! `pilotfish replay FILE`: a capture through the same pipeline as live traffic; only the source differs.

mod input;
mod json;
mod names;
mod output;
mod report;
mod summary;
mod totals;

use crate::exit::{Exit, Failure};
use anyhow::Context;
use capture_engine::pipeline::{Pipeline, PipelineConfig};
use capture_engine::replay::{Damage, MAX_FLOWS, OpenError, Replay, Summary};
use clap::{Args, ValueEnum};
use flow_model::Ts;
use golden_metrics::{Config, Exposition, Format, Golden, Losses, Reader};
use indicatif::{ProgressBar, ProgressStyle};
use input::Piped;
use names::CaptureNames;
use output::Output;
use report::{Lines, Report};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use totals::Noted;

/// Packets between two looks at the clock of the capture, the output and the progress bar.
const BATCH: u64 = 1024;

/// What all flows together may hold: open exchanges, heads that are not whole, what came before its
/// turn. With the tables and the series a replay stays within 256 MB, whatever the file.
const HELD: usize = 64 << 20;
/// What is held for a byte of a capture at most: a pipelined request has 18 bytes and takes some 250.
const HELD_PER_BYTE: u64 = 16;

/// Smaller files are read before a bar could be looked at.
const WORTH_A_BAR: u64 = 32 << 20;

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// pcap or pcapng file, compressed by gzip or not; `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: ReplayOutput,
    /// Each exchange too, as it ends
    #[arg(long)]
    pub records: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplayOutput {
    /// Golden metrics of each edge, then what the capture holds
    Table,
    /// One object a line: exchanges (with --records), flows, the capture
    Json,
    /// As the agent's /metrics would say it
    Metrics,
}

/// Ends with 0, 65 (the file is damaged; what could be read was printed) or 66 (it cannot be opened).
pub fn run(args: &ReplayArgs) -> Result<Exit, Failure> {
    let (replay, interrupted) = open(&args.file)?;
    let out = Output::new(io::stdout());
    match replayed(args, replay, &out) {
        Ok(summary) => {
            let stopped = interrupted.is_some_and(|flag| flag.load(Ordering::Relaxed));
            // Where the reader stopped is no damage.
            let cut = summary.damages == 1 && matches!(summary.damage, Some(Damage::Truncated { .. }));
            Ok(if stopped && cut { Exit::Ok } else { ending(&args.file, &summary) })
        }
        // Whoever reads has seen enough (`| head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(error) => Err(Failure::from(anyhow::Error::new(error).context("writing to standard output"))),
    }
}

/// The capture, and whether its reading was interrupted.
fn open(file: &Path) -> Result<(Replay, Option<Arc<AtomicBool>>), Failure> {
    let exit = |error: &OpenError| if matches!(error, OpenError::Open { .. }) { Exit::NoInput } else { Exit::Data };
    let opened = if file == Path::new("-") {
        let path = || "standard input".to_owned();
        Piped::open().map_err(|source| OpenError::Open { path: path(), source }).and_then(|(piped, interrupted)| {
            let replay = Replay::new(piped).map_err(|source| OpenError::Read { path: path(), source })?;
            Ok((replay, Some(interrupted)))
        })
    } else {
        Replay::open(file).map(|replay| (replay, None))
    };
    opened.map_err(|error| Failure::new(exit(&error), error))
}

fn ending(file: &Path, summary: &Summary) -> Exit {
    let Some(damage) = &summary.damage else { return Exit::Ok };
    let more = if summary.damages > 1 { format!(" (and {} more)", summary.damages - 1) } else { String::new() };
    let cause = std::error::Error::source(damage).map(|cause| format!(": {cause}")).unwrap_or_default();
    eprintln!("pilotfish: {} is damaged: {damage}{cause}{more}; {} packets were read", file.display(), summary.packets);
    Exit::Data
}

fn replayed(args: &ReplayArgs, mut replay: Replay, out: &Output) -> io::Result<Summary> {
    let lines = match (args.output, args.records) {
        (ReplayOutput::Json, records) => Lines::Json { records },
        (ReplayOutput::Table, true) => Lines::Text,
        _ => Lines::None,
    };
    let losses = Losses::default();
    // A capture's own time says nothing of how long its figures are wanted.
    let config = Config { expiry: Duration::MAX, ..Config::default() };
    let (golden, reader) = Golden::new(CaptureNames::new(&losses), config, &losses);
    let mut pipeline = Pipeline::new(pipeline_config(), Report::new(golden, lines, out));
    let bar = progress(&args.file);
    let mut told = 0;
    let mut bounds = Bounds::default();
    loop {
        let more = replay.advance(BATCH, |event| pipeline.event(&event));
        let now = replay.now();
        settle(&mut pipeline, now);
        bounds.keep(&mut pipeline, replay.offset());
        out.flush()?;
        if let Some(bar) = &bar
            && replay.offset() - told >= 1 << 20
        {
            told = replay.offset();
            bar.set_position(told);
        }
        if !more {
            break;
        }
    }
    pipeline.finish(replay.now());
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let summary = replay.into_summary();
    pipeline.sink_mut().publish();
    let mut text = Vec::new();
    let noted = Noted { flows_shed: bounds.flows_shed, unasked: pipeline.stats().unasked };
    finish(args, &summary, noted, pipeline.sink(), &reader, &mut text)?;
    out.line(|lines| lines.append(&mut text));
    out.flush()?;
    Ok(summary)
}

/// Keeps what the flows hold within its bound.
#[derive(Debug, Default)]
struct Bounds {
    /// Bytes of the capture before the next look: until then no more than the bound can have come.
    next: u64,
    flows_shed: u64,
}

impl Bounds {
    fn keep(&mut self, pipeline: &mut Pipeline<Report>, offset: u64) {
        if offset < self.next {
            return;
        }
        let shed = pipeline.shed(HELD);
        self.flows_shed += shed.flows;
        let room = HELD.saturating_sub(shed.held) as u64;
        // A look costs less than reading so much.
        self.next = offset + (room / HELD_PER_BYTE).max(1 << 20);
    }
}

fn finish(
    args: &ReplayArgs,
    summary: &Summary,
    noted: Noted,
    report: &Report,
    reader: &Reader,
    out: &mut impl Write,
) -> io::Result<()> {
    let snapshot = reader.snapshot();
    match args.output {
        ReplayOutput::Table => out.write_all(summary::text(summary, noted, report.totals(), &snapshot).as_bytes()),
        ReplayOutput::Metrics => out.write_all(&Exposition::render(&snapshot, &[], Format::Text)),
        ReplayOutput::Json => {
            if !args.records {
                for edge in snapshot.view().edges() {
                    json::line(out, &json::Edge::from(&edge))?;
                }
            }
            for tunnel in &summary.tunnels {
                json::line(out, &json::Tunnel::from(tunnel))?;
            }
            json::line(out, &json::Capture::new(summary, noted, &snapshot))
        }
    }
}

/// What only the owner of the kernel's tables has to do is nothing here; the lists must not grow all the same.
fn settle(pipeline: &mut Pipeline<Report>, now: Ts) {
    pipeline.tick(now, |_| None);
    let requests = pipeline.requests();
    requests.take_interests().for_each(drop);
    requests.take_headers().for_each(drop);
    requests.take_servers().for_each(drop);
    drop(requests.take_removable(now));
    requests.forget(now, 0, 0);
}

/// A capture is read by somebody who waits for it alone: memory per flow may be larger than in the
/// agent. What all of them hold together has a bound of its own.
fn pipeline_config() -> PipelineConfig {
    PipelineConfig {
        flows: MAX_FLOWS,
        l7: l7::Limits {
            reassembly_bytes: 1 << 18,
            gaps: 64,
            head_bytes: 64 << 10,
            open_exchanges: 1 << 14,
            keep_strings: true,
            routes: true,
            report_partial: true,
            wires: l7::Wires::ALL,
        },
        has_aside: false,
    }
}

fn progress(file: &Path) -> Option<ProgressBar> {
    let size = std::fs::metadata(file).context("size").ok()?.len();
    if size < WORTH_A_BAR || !io::stderr().is_terminal() {
        return None;
    }
    let compressed = file.extension().is_some_and(|extension| extension == "gz");
    // How much a compressed file holds is not known before its end.
    let bar = if compressed { ProgressBar::no_length() } else { ProgressBar::new(size) };
    let template =
        if compressed { "{spinner} {bytes} {binary_bytes_per_sec}" } else { "{wide_bar} {bytes}/{total_bytes} {eta}" };
    ProgressStyle::with_template(template).ok().map(|style| bar.with_style(style))
}
