//! A capture of real requests (tcpdump at the server's interface, the testbed's generator and API),
//! then `pilotfish replay` on it: requests a second of wall time and of CPU time, and whether the
//! number of records is the number that was sent. Beside it, tshark's HTTP fields on the first part
//! of the same file, and another build of `pilotfish` on all of it, in turn.

use super::{quantile, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testbed::{ContainerSpec, Process, Testbed, built_binary, installed, scene};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Packets of the file that tshark gets
    #[arg(long, default_value_t = 100_000)]
    tshark_packets: u64,
    /// Another pilotfish, which replays the same file in turn with this one
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// How often each of them does
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

pub fn run(options: &Options) -> Result<()> {
    let mut bed = Testbed::start()?;
    let file = bed.dir().join("capture.pcap");
    let sent = capture(options, &mut bed, &file)?;
    let size = std::fs::metadata(&file)?.len() as f64 / 1e6;
    say(&format!("replay: {sent} requests, {size:.0} MB"));

    let mut command = Command::new(built_binary("pilotfish")?);
    command.arg("replay").arg(&file).args(["-o", "metrics"]);
    let (output, wall, cpu) = timed(&mut command)?;
    let metrics = testbed::Exposition::parse(&output);
    let counted = metrics.count("pilotfish_exchanges_total", &[("protocol", "http1")]);
    let per = |seconds: f64| sent as f64 / seconds;
    say(&format!(
        "replay: counted {counted}; {:.0} requests/s, {:.0} per second of CPU ({wall:.2} s, {cpu:.2} s of CPU)",
        per(wall),
        per(cpu)
    ));
    if let Some(other) = &options.against {
        compare(other, &file, options.rounds)?;
    }

    let part = bed.dir().join("part.pcap");
    let mut cut = Command::new(installed("tcpdump")?);
    cut.arg("-r").arg(&file).arg("-w").arg(&part).args(["-c", &options.tshark_packets.to_string()]);
    timed(&mut cut)?;
    let fields = ["-T", "fields", "-e", "http.request.method", "-e", "http.response.code"];
    let mut tshark = Command::new(installed("tshark")?);
    tshark.arg("-r").arg(&part).args(["-Y", "http.request"]).args(fields);
    let (output, wall, cpu) = timed(&mut tshark)?;
    let requests = output.lines().count() as f64;
    say(&format!(
        "replay: tshark on the first {} packets: {:.0} requests/s, {:.0} per second of CPU",
        options.tshark_packets,
        requests / wall,
        requests / cpu
    ));
    let mut command = Command::new(built_binary("pilotfish")?);
    command.arg("replay").arg(&part).args(["-o", "json", "--records"]);
    let (_, wall, cpu) = timed(&mut command)?;
    say(&format!(
        "replay: pilotfish on the same part, records as JSON: {:.0} requests/s, {:.0} per second of CPU",
        requests / wall,
        requests / cpu
    ));
    ensure!(counted == sent, "counted {counted} of {sent}");
    Ok(())
}

/// CPU of this build over that of another one, pair by pair: the machine's speed drifts.
fn compare(other: &Path, file: &Path, rounds: usize) -> Result<()> {
    let cpu = |program: &Path| {
        let (_, _, cpu) = timed(Command::new(program).arg("replay").arg(file).args(["-o", "metrics"]))?;
        Ok::<f64, anyhow::Error>(cpu)
    };
    let this = built_binary("pilotfish")?;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        ratios.push(cpu(&this)? / cpu(other)?);
    }
    let [least, median, most] = [0.0, 0.5, 1.0].map(|q| quantile(&ratios, q));
    say(&format!("replay: CPU over that of {}: {median:.3} ({least:.3} {most:.3})", other.display()));
    Ok(())
}

fn capture(options: &Options, bed: &mut Testbed, file: &Path) -> Result<u64> {
    let server = bed.run(ContainerSpec::new("server", &["/bin/api"]))?;
    let target = format!("{}:8080", server.address);
    let args = [
        "/bin/loadgen",
        "--gate",
        "/conf/gate",
        "--target",
        &target,
        "--connections",
        "32",
        "--count",
        &options.requests.to_string(),
    ];
    let client = bed.run(ContainerSpec::new("client", &args))?;
    let log = bed.log_file("tcpdump");
    let mut command = server.netns.command(&installed("tcpdump")?);
    // A buffer of 512 MB, so that the capture itself loses nothing.
    command.args(["-i", "eth0", "-s", "600", "-B", "524288", "-Z", "root", "-w"]).arg(file).arg("tcp");
    let mut tcpdump = Process::start("tcpdump", &mut command, &log)?;
    bed.record_process(tcpdump.pid())?;
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    testbed::until("tcpdump listens", Duration::from_secs(10), || text().contains("listening on"))?;
    scene::open_gate(bed, &client)?;
    let sent = scene::last_line(&client, Duration::from_secs(3600))?["sent"].as_u64().unwrap_or(0);
    // What is in its buffer at SIGINT, tcpdump does not write: wait until the file stands still.
    let mut last = 0;
    testbed::until("the capture is written", Duration::from_secs(120), || {
        std::thread::sleep(Duration::from_millis(1500));
        let now = std::fs::metadata(file).map_or(0, |meta| meta.len());
        std::mem::replace(&mut last, now) == now
    })?;
    tcpdump.signal(nix::sys::signal::Signal::SIGINT)?;
    testbed::until("tcpdump ends", Duration::from_secs(20), || !tcpdump.is_running())?;
    let dropped = text().lines().find(|line| line.contains("dropped by kernel")).unwrap_or_default().to_owned();
    ensure!(dropped.starts_with("0 "), "tcpdump: {dropped}");
    Ok(sent)
}

/// Output, wall seconds and CPU seconds of a command.
fn timed(command: &mut Command) -> Result<(String, f64, f64)> {
    let before = children_seconds()?;
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {:?}", command.get_program()))?;
    let wall = begun.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), wall, children_seconds()? - before))
}

fn children_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}
