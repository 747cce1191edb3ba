//! `cargo xtask map-test`: the page of the service map. Its own tests under Node, whether the bundle is
//! what its sources say, and a Chromium without a screen that looks at it. `scripts/setup.sh --browser`
//! installs what this needs.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub struct Options {
    /// Keeps pictures of what the browser showed here
    #[arg(long)]
    screenshots: Option<PathBuf>,
    /// Leaves out the bundle: npm installs esbuild for it, from its registry
    #[arg(long)]
    without_npm: bool,
}

const WEB: &str = "k8s-sync/companion/web";

pub fn run(options: &Options) -> Result<()> {
    let web = Path::new(WEB);
    let tests = ["format", "layout", "model", "panel"].map(|name| format!("test/{name}.test.mjs"));
    step(Command::new("node").arg("--test").args(tests).current_dir(web))?;
    if !options.without_npm {
        // As the lock file says, and no script of a package is run.
        step(Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(web))?;
        step(Command::new("node").args(["build.mjs", "--check"]).current_dir(web))?;
    }
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace", "--features", "companion/browser", "--test", "map", "--test", "bundle", "--"]);
    // Frames are measured: nothing else is to run.
    tests.args(["--test-threads=1", "--nocapture"]);
    if let Some(directory) = &options.screenshots {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        tests.env("PILOTFISH_MAP_SHOTS", std::path::absolute(directory)?);
    }
    step(&mut tests)
}

fn step(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status();
    let status =
        status.with_context(|| format!("run {program}: scripts/setup.sh --browser installs what is missing"))?;
    ensure!(status.success(), "{program} {:?}: {status}", command.get_args().collect::<Vec<_>>());
    Ok(())
}
