//! What an agent and `pilotfish doctor` hold for wrong beside a demo, in which nothing is.

use anyhow::{Context, Result};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use testbed::{Agent, built_binary};

/// Between two looks: a look of the agent's, and some seconds of doctor's.
pub const EVERY: Duration = Duration::from_secs(30);

/// Above info: by the agent's own gauge, and by doctor of this namespace's workloads.
pub fn by(agent: &Agent, namespace: &str) -> Result<Vec<String>> {
    let metrics = agent.metrics()?;
    let shown = metrics.samples.iter().filter(|sample| sample.name == "pilotfish_finding").map(|sample| {
        let [id, severity, namespace, workload] =
            ["id", "severity", "namespace", "workload"].map(|name| sample.label(name));
        (severity, format!("{id} {namespace}/{workload}"))
    });
    let mut found: Vec<String> = shown.filter(|(severity, _)| *severity != "info").map(|(_, what)| what).collect();
    let mut doctor = Command::new(built_binary("pilotfish")?);
    doctor.args(["doctor", "-n", namespace, "-o", "json", "--socket"]).arg(&agent.socket);
    let output = doctor.output()?;
    let document: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let told = document["findings"].as_array().into_iter().flatten().filter(|one| one["severity"] != "info");
    found.extend(
        told.map(|one| format!("{} {namespace}/{}, by doctor: {one}", word(&one["id"]), word(&one["subject"]["name"]))),
    );
    Ok(found)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
