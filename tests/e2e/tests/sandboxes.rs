//! Sandboxes that are no container, as virtual machines have them (containerd 2.x): no container, no
//! task and no process of theirs, until the first container of the pod comes. runc's own shim of 2.4
//! has none; `cargo xtask runtime-test` brings that of 1.7.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use e2e::{PATIENCE, alone};
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, until};

#[test]
fn a_sandbox_without_a_container_is_nobody_and_what_joins_it_comes_and_goes_by_itself() -> Result<()> {
    let _alone = alone();
    let shim = std::env::var("PILOTFISH_SANDBOX_SHIM").context("PILOTFISH_SANDBOX_SHIM: a shim that has sandboxes")?;
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let stays = bed.run(ContainerSpec::new("stays", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(1, PATIENCE)?;
    let (netns, address) = bed.new_pod_netns("pod")?;
    let config = bed.dir().join("pod.json");
    std::fs::write(&config, "{\"ociVersion\": \"1.0.2\"}")?;
    let config = config.display().to_string();
    let sandboxes = |bed: &Testbed, args: &[&str]| bed.containerd().ctr("k8s.io", &[&["sandboxes"], args].concat());
    sandboxes(&bed, &["run", "--runtime", &shim, &config, "pod"])?;
    assert!(sandboxes(&bed, &["list"])?.contains("pod"));
    // The application begins anew twice, and its sandbox stays.
    for run in 1..=3_u32 {
        let name = format!("app-{run}");
        let app = ContainerSpec::new(&name, &["/bin/sleep", "10000"]).inside(netns.clone(), address);
        let app = bed.run(app.in_namespace("k8s.io").in_sandbox("pod", &shim))?;
        agent.wait_attached_to(&name, PATIENCE)?;
        assert_eq!(agent.attached()?, 2);
        bed.stop(app, Duration::ZERO)?;
        agent.wait_attached(1, PATIENCE)?;
    }
    let seen = |topic| {
        let of = [("topic", topic)];
        agent.metrics().map_or(0, |all| all.count("pilotfish_containerd_events_total", &of))
    };
    let before = seen("exit");
    // It tells of the end of a task that there never was, by no pid.
    sandboxes(&bed, &["remove", "--force", "pod"])?;
    until("its end was told of", PATIENCE, || seen("exit") > before)?;
    assert_eq!(agent.attached()?, 1);
    assert_eq!(agent.metrics()?.count("pilotfish_containerd_corrections_total", &[]), 0);
    bed.stop(stays, Duration::ZERO)
}
