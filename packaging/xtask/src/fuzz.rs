//! `cargo xtask fuzz`: each fuzz target of tests/fuzz under libFuzzer for a bounded time. LLVM's
//! coverage instrumentation is asked for with flags that the stable compiler has, so no nightly and
//! no cargo-fuzz is needed; what is found is written beside the corpus.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
}

const TARGETS: [&str; 8] = ["tcp", "udp", "dns", "redis", "postgres", "mysql", "websocket", "kafka"];

/// What `cargo fuzz` passes, without a sanitizer: the code under test is safe Rust, a fault is a panic.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1 -Coverflow-checks";

pub fn run(options: &Options) -> Result<()> {
    let host = host_triple()?;
    let directory = Path::new("target/fuzz");
    let mut build = Command::new("cargo");
    // With --target, the flags are for the code under test only: build scripts and macros are left alone.
    build.args(["build", "--release", "-p", "fuzz", "--bins", "--target", &host, "--target-dir"]).arg(directory);
    build.env("RUSTFLAGS", FLAGS).env("CARGO_PROFILE_RELEASE_LTO", "off").stdin(Stdio::null());
    ensure!(build.status()?.success(), "the fuzz targets do not build");
    for target in TARGETS.iter().filter(|target| options.target.as_deref().is_none_or(|only| only == **target)) {
        let corpus = directory.join("corpus").join(target);
        let faults = directory.join("faults").join(target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&faults)?;
        let mut fuzz = Command::new(directory.join(&host).join("release").join(format!("fuzz-{target}")));
        fuzz.arg(&corpus).arg(format!("-artifact_prefix={}/", faults.display()));
        fuzz.args([
            format!("-max_total_time={}", options.seconds).as_str(),
            "-max_len=4096",
            "-timeout=5",
            "-rss_limit_mb=1024",
        ]);
        fuzz.args(["-print_final_stats=1", "-verbosity=0"]).stdin(Stdio::null());
        let log = directory.join(format!("{target}.log"));
        let status =
            fuzz.stderr(std::fs::File::create(&log)?).status().with_context(|| format!("run the target {target}"))?;
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let runs =
            text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).unwrap_or("?").trim();
        eprintln!("fuzz: {target}: {runs} inputs in {} s", options.seconds);
        ensure!(
            status.success(),
            "{target}: a fault was found; its input is in {}\n{}",
            faults.display(),
            panic_of(&text)
        );
    }
    Ok(())
}

/// The panic's lines of libFuzzer's output.
fn panic_of(text: &str) -> String {
    let from = text.lines().skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR:"));
    from.take(12).collect::<Vec<_>>().join("\n")
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?.to_owned())
}
