//! `pilotfish report` beside a real agent: every part is there, and of a masked report no name,
//! address or id of any container is left.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, api, generator, run_to_end, wait_edge};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use testbed::{Agent, AgentOptions, Testbed, built_binary, until};

/// The report's files, and what the command said of it.
fn report(agent: &Agent, into: &Path, args: &[&str]) -> Result<BTreeMap<String, String>> {
    let archive = into.with_extension("tar.gz");
    let mut command = Command::new(built_binary("pilotfish")?);
    command.args(["report", "-o"]).arg(&archive).args(args);
    command.arg("--config").arg(agent.config()).arg("--socket").arg(&agent.socket);
    let output = command.env_remove("KUBECONFIG").env_remove("NODE_NAME").output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(fs::metadata(&archive)?.len() <= 10_000_000, "larger than it may be");
    fs::create_dir(into)?;
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into).output()?;
    ensure!(unpacked.status.success(), "{unpacked:?}");
    let mut files = BTreeMap::new();
    for file in fs::read_dir(into.join("pilotfish-report"))? {
        let file = file?;
        files.insert(file.file_name().to_string_lossy().into_owned(), fs::read_to_string(file.path())?);
    }
    Ok(files)
}

fn states(files: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let manifest: Value = serde_json::from_str(files.get("manifest.json").context("a manifest")?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parts = manifest["parts"].as_array().context("parts")?.iter();
    Ok(parts.map(|part| (text(&part["file"]), text(&part["state"]))).collect())
}

#[test]
fn a_report_has_every_part_and_a_masked_one_no_name() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "zqxshop")?;
    let client = generator(&mut bed, "zqxcustomer", &server, &["--count", "50"])?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "zqxcustomer", "zqxshop", "http", 50)?;
    bed.containerd().ctr(&server.namespace, &["task", "kill", "--signal", "SIGKILL", &server.name])?;
    until("the end of the server is told", PATIENCE, || {
        agent.cli(&["timeline", "-o", "json"]).is_ok_and(|told| told.contains("\"event\": \"exit\""))
    })?;

    let plain = report(&agent, &bed.dir().join("plain"), &[])?;
    let states = states(&plain)?;
    for part in [
        "config.txt",
        "version.json",
        "check.json",
        "status.json",
        "doctor.json",
        "timeline.json",
        "metrics.txt",
        "kernel.txt",
    ] {
        ensure!(states.get(part).is_some_and(|state| state == "whole"), "{part}: {states:?}");
    }
    // Whether there is a journal is up to the machine.
    ensure!(states.contains_key("log.jsonl"), "{states:?}");
    for (part, name) in [("metrics.txt", "zqxshop"), ("timeline.json", "zqxshop"), ("timeline.json", "zqxcustomer")] {
        ensure!(plain.get(part).is_some_and(|text| text.contains(name)), "{name} is not in {part}");
    }

    let masked = report(&agent, &bed.dir().join("masked"), &["--mask"])?;
    ensure!(masked.keys().eq(plain.keys()), "{:?}", masked.keys());
    let names = ["zqx".to_owned(), server.address.to_string(), client.address.to_string()];
    for (file, text) in &masked {
        for name in &names {
            ensure!(!text.contains(name), "{name} in {file}:\n{text}");
        }
    }
    let count = |text: &str| text.lines().count();
    for part in ["metrics.txt", "status.json"] {
        let (plain, masked) = (plain.get(part).map_or("", String::as_str), masked.get(part).map_or("", String::as_str));
        ensure!(count(masked) * 2 > count(plain), "{part} lost more than names");
    }
    // The same end of the same edge has one mask in all of them.
    let metrics = masked.get("metrics.txt").context("metrics")?;
    let mask = |label: &str| metrics.split(&format!("{label}=\"")).nth(1)?.split('"').next().map(str::to_owned);
    let workload = mask("server_workload").context("a masked edge")?;
    ensure!(masked.get("timeline.json").is_some_and(|text| text.contains(&workload)), "{workload} is nowhere else");
    Ok(())
}
