//! A picture of the service map, by a Chromium without a screen.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use testbed::installed;

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s-sync/companion/web/browser/drive.mjs");

/// Whether what takes one is there: before minutes have passed.
pub fn is_possible(file: Option<&Path>) -> Result<()> {
    if file.is_none() {
        return Ok(());
    }
    for program in ["node", "chromium"] {
        installed(program).with_context(|| "--screenshot: scripts/setup.sh --browser installs what is missing")?;
    }
    Ok(())
}

pub fn take(map: SocketAddr, file: &Path) -> Result<()> {
    let mut node = Command::new(installed("node")?);
    node.arg(DRIVER).args(["--url", &format!("http://{map}/")]).arg("--picture").arg(file).arg("picture");
    let output = node.output()?;
    ensure!(output.status.success(), "no picture of the map: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
