//! Things end, come back and change while the agent counts.
#![forbid(unsafe_code)]

use anyhow::Context;
use e2e::{PATIENCE, alone, api, check_attached_once, exchanges, generator, generator_spec, run_to_end, wait_edge};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Testbed, filters_in, scene, until};

/// Requests that an edge has had so far, as its client saw them.
fn requests(agent: &Agent, src: &str, dst: &str) -> u64 {
    exchanges(agent, src, dst, "http", "client")
}

#[test]
fn containers_of_a_pod_are_one_attachment_that_ends_with_the_last() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let beside = bed.run(generator_spec("beside", &server, &["--count", "1"]).sharing(&server))?;
    agent.wait_attached(1, PATIENCE)?;
    check_attached_once(&server, &["eth0"])?;
    bed.stop(beside, Duration::from_secs(2))?;
    let client = generator(&mut bed, "customer", &server, &["--count", "3"])?;
    agent.wait_attached(2, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "customer", "shop", "http", 3)?;
    bed.stop(client, Duration::from_secs(2))?;
    bed.stop(server, Duration::from_secs(2))?;
    agent.wait_attached(0, PATIENCE)
}

#[test]
fn the_end_of_an_exec_is_not_the_end_of_its_container() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    agent.wait_attached(1, PATIENCE)?;
    for _ in 0..3 {
        bed.exec(&server, &["/bin/true"])?;
    }
    let client = generator(&mut bed, "customer", &server, &["--count", "5"])?;
    agent.wait_attached(2, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "customer", "shop", "http", 5)
}

#[test]
fn a_restart_of_containerd_loses_no_request_and_no_container() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--rate", "500", "--for", "600"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    until("traffic is counted", PATIENCE, || requests(&agent, "customer", "shop") > 100)?;
    bed.containerd_mut().kill();
    let before = requests(&agent, "customer", "shop");
    until("traffic is counted while containerd is away", PATIENCE, || {
        requests(&agent, "customer", "shop") > before + 100
    })?;
    bed.containerd_mut().start_again()?;
    let late = generator(&mut bed, "late", &server, &["--count", "10"])?;
    agent.wait_attached(3, PATIENCE)?;
    run_to_end(&bed, &late)?;
    wait_edge(&agent, "late", "shop", "http", 10)?;
    let done = scene::final_line(&bed, &client, PATIENCE)?;
    wait_edge(&agent, "customer", "shop", "http", done["sent"].as_u64().context("what was sent")?)
}

#[test]
fn a_killed_agent_counts_again_and_leaves_no_second_filter() -> anyhow::Result<()> {
    let _alone = alone();
    for mode in ["clsact", "tcx"] {
        let mut bed = Testbed::start()?;
        let mut agent = Agent::start(&bed, &AgentOptions { attach_mode: Some(mode), ..AgentOptions::default() })?;
        let server = api(&mut bed, "shop")?;
        let client = generator(&mut bed, "customer", &server, &["--rate", "500", "--connections", "4", "--for", "60"])?;
        agent.wait_attached(2, PATIENCE)?;
        scene::open_gate(&bed, &client)?;
        until("traffic is counted", PATIENCE, || requests(&agent, "customer", "shop") > 100)?;
        agent.kill();
        agent.start_again(&bed)?;
        agent.wait_attached(2, PATIENCE)?;
        // The connections are older than this agent, and so is the name of the workload behind them.
        until("traffic is counted again", PATIENCE, || requests(&agent, "customer", "shop") > 100)?;
        check_attached_once(&server, &["eth0"])?;
        check_attached_once(&client, &["eth0"])?;
        scene::final_line(&bed, &client, PATIENCE)?;
        assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
        for container in [&server, &client] {
            assert_eq!(filters_in(&container.netns.path())?, Vec::<String>::new(), "{mode}, {}", container.name);
        }
    }
    Ok(())
}

#[test]
fn an_interface_that_appears_later_is_followed() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    agent.wait_attached(1, PATIENCE)?;
    bed.plug(&server, "eth1")?;
    let mut last = Ok(());
    until("both interfaces have their programs", PATIENCE, || {
        last = check_attached_once(&server, &["eth0", "eth1"]);
        last.is_ok()
    })
    .map_err(|error| last.err().unwrap_or(error))
}

#[test]
fn a_qdisc_that_somebody_removes_is_put_back_and_what_went_unseen_is_within_what_is_told() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--rate", "1000", "--for", "600"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let removed = || agent.metrics().map_or(0, |all| all.count("pilotfish_attach_removed_programs_total", &[]));
    for times in 1..=3 {
        let before = requests(&agent, "customer", "shop");
        until("traffic is counted", PATIENCE, || requests(&agent, "customer", "shop") > before + 100)?;
        let netns = format!("--net={}", server.netns.path().display());
        let command = [&netns, "tc", "qdisc", "del", "dev", "eth0", "clsact"];
        assert!(std::process::Command::new("nsenter").args(command).status()?.success());
        until("the removal is seen", PATIENCE, || removed() >= times)?;
    }
    let sent = scene::final_line(&bed, &client, PATIENCE)?["sent"].as_u64().context("what was sent")?;
    check_attached_once(&server, &["eth0"])?;
    // The client's end is whole; the server's lacks no more than packets went by. Its last exchanges
    // may be counted a moment after the client's.
    wait_edge_at(&agent, "client", sent)?;
    let mut last = (0, 0, 0);
    until("what is missing is within what is told", PATIENCE, || {
        let (counted, lost) = agent.counted_and_lost("server").unwrap_or_default();
        let of = [("stage", "attach"), ("reason", "removed")];
        let told = agent.metrics().map_or(0, |all| all.count("pilotfish_lost_total", &of));
        last = (counted, lost, told);
        assert!(counted + lost <= sent, "{counted} + {lost} of {sent}");
        sent - counted - lost <= told
    })
    .with_context(|| format!("(counted, lost, told): {last:?} of {sent}"))?;
    assert_eq!(agent.get("/readyz")?.status, 200);
    Ok(())
}

fn wait_edge_at(agent: &Agent, reporter: &str, wanted: u64) -> anyhow::Result<()> {
    let counted = || exchanges(agent, "customer", "shop", "http", reporter);
    until(&format!("{wanted} requests at the {reporter}"), PATIENCE, || counted() == wanted)
}

#[test]
fn readiness_liveness_and_metrics_answer_under_load() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--connections", "32", "--count", "100000"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let mut answers = 0;
    while !client.output().contains("\"sent\"") {
        for target in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(agent.get(target)?.status, 200, "{target} after {answers} answers");
            answers += 1;
        }
    }
    assert!(answers > 0);
    Ok(())
}
