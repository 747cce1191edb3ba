//! Containers are met by the kernel's word, before containerd's: who is attached then, who is let go
//! of, and what is said too early for anybody is counted. Needs root.
#![forbid(unsafe_code)]

use agent_api::Client;
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, api, wait_edge};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use testbed::{Agent, AgentOptions, ContainerSpec, Process, Testbed, filters_in, installed, scene, until};

/// What looks like a shim of `containerd`, and begins a process in `netns` again and again.
fn shim(bed: &Testbed, name: &str, containerd: &Path, netns: &Path) -> Result<Process> {
    let program: PathBuf = bed.dir().join("containerd-shim-test");
    if !program.exists() {
        std::os::unix::fs::symlink(installed("dash")?, &program).context("link a shell")?;
    }
    let script = format!("while :; do nsenter --net={} sleep 0.1; done", netns.display());
    let mut command = Command::new(program);
    command.args(["-c", &script, "-namespace", "testbed", "-id", name, "-address"]).arg(containerd);
    let process = Process::start(name, &mut command, &bed.log_file(name))?;
    bed.record_process(process.pid())?;
    Ok(process)
}

fn count(agent: &Agent, name: &str, labels: &[(&str, &str)]) -> u64 {
    agent.metrics().map_or(0, |metrics| metrics.count(name, labels))
}

fn outcome(agent: &Agent, outcome: &str) -> u64 {
    count(agent, "pilotfish_alarm_outcomes_total", &[("outcome", outcome)])
}

#[test]
fn a_namespace_is_attached_without_a_word_of_containerd_and_let_go_of_where_none_comes() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let (ours, _) = bed.new_pod_netns("ours")?;
    let (foreign, _) = bed.new_pod_netns("foreign")?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let other = shim(&bed, "other", Path::new("/run/nobody/containerd.sock"), &foreign.path())?;
    until("the shim of another containerd is told of", PATIENCE, || outcome(&agent, "foreign") == 1)
        .with_context(|| agent.log_text())?;
    let own = shim(&bed, "own", &bed.containerd().socket(), &ours.path())?;
    until("it is attached", PATIENCE, || filters_in(&ours.path()).is_ok_and(|filters| filters.len() == 2))
        .with_context(|| agent.log_text())?;
    ensure!(filters_in(&foreign.path())?.is_empty(), "another containerd's are left alone");
    until("it is shown", PATIENCE, || {
        let rows = Client::new(&agent.socket).status().map(|status| status.namespaces).unwrap_or_default();
        rows.iter().any(|row| row.state == "attached" && row.workload.is_empty())
    })?;
    until("nobody came", PATIENCE, || count(&agent, "pilotfish_netns_unowned_total", &[]) == 1)?;
    until("it is detached", PATIENCE, || filters_in(&ours.path()).is_ok_and(|filters| filters.is_empty()))?;
    until("once", PATIENCE, || outcome(&agent, "attached") == 1)?;
    drop((other, own));
    Ok(())
}

#[test]
fn containers_are_met_once_whoever_tells_first_and_their_first_words_are_counted() -> Result<()> {
    const CONTAINERS: u64 = 6;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    agent.wait_attached(1, PATIENCE)?;
    let target = format!("{}:8080", server.address);
    // The second request is due in some hours.
    let command = ["/bin/loadgen", "--target", &target, "--rate", "0.0001", "--count", "2"];
    for number in 0..CONTAINERS {
        let name = format!("client-{number}");
        bed.run(ContainerSpec::new(&name, &command))?;
        agent.wait_attached_to(&name, PATIENCE)?;
        wait_edge(&agent, &name, "shop", "http", 1)?;
    }
    // The server may have come before the kernel's word was asked for.
    let heard = || outcome(&agent, "attached") + outcome(&agent, "known");
    until("each is told of by the kernel", PATIENCE, || heard() >= CONTAINERS)?;
    ensure!(outcome(&agent, "attached") > 0, "{}", agent.log_text());
    ensure!(agent.attached()? == CONTAINERS + 1, "each once");
    ensure!(count(&agent, "pilotfish_netns_unowned_total", &[]) == 0);
    Ok(())
}

#[test]
fn what_a_namespace_said_before_it_was_met_is_counted() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    agent.wait_attached(1, PATIENCE)?;
    let late = || count(&agent, "pilotfish_lost_total", &[("stage", "attach"), ("reason", "late")]);
    let before = late();
    let script = format!("/bin/loadgen --target {}:8080 --count 50; exec sleep 10000", server.address);
    // Nobody hears of the container while it talks.
    agent.signal(Signal::SIGSTOP)?;
    let client = bed.run(ContainerSpec::new("client", &["/bin/sh", "-c", &script]));
    let said = client.and_then(|client| scene::last_line(&client, PATIENCE));
    agent.signal(Signal::SIGCONT)?;
    ensure!(said?["answered"] == 50);
    agent.wait_attached_to("client", PATIENCE)?;
    until("what it said is counted", PATIENCE, || late() >= before + 100)?;
    ensure!(late() < before + 1000, "{} packets of some 110", late() - before);
    Ok(())
}
