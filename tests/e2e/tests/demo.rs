//! `make demo`, which is what everybody sees first: it ends by itself, adds up and leaves nothing. Needs
//! root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::alone;
use serde_json::Value;
use std::process::Command;
use testbed::built_binary;

#[test]
fn what_is_seen_first_adds_up() -> Result<()> {
    let _alone = alone();
    let output = Command::new(built_binary("xtask")?).args(["demo", "--for", "3s", "--output", "json"]).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&told).with_context(|| format!("{output:?}"))?;
    ensure!(output.status.success() && report["exact"] == true && report["lost"] == 0, "{report}");
    for part in ["generator_http", "proxied_http", "redis", "dns"] {
        ensure!(report["parts"][part].as_u64() > Some(0), "{part}: {report}");
    }
    Ok(())
}
