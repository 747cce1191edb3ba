//! Who is left out: pods that say so themselves, and namespaces that the operator names, also while
//! the agent runs. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, api, check_attached_once, exchanges, generator, generator_spec, run_to_end};
use nix::sys::signal::Signal;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, PodLabels, Testbed, filters_in, scene, until};

const OBSERVE: &str = "pilotfish.io/observe";

/// State and reason of a workload's namespace, as `pilotfish status` has them.
fn state(agent: &Agent, workload: &str) -> Option<(String, String)> {
    let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"]).ok()?).ok()?;
    let row = status["namespaces"].as_array()?.iter().find(|row| row["workload"] == workload)?;
    Some((row["state"].as_str()?.to_owned(), row["reason"].as_str()?.to_owned()))
}

fn wait_state(agent: &Agent, workload: &str, wanted: &str) -> Result<String> {
    let is_it = || state(agent, workload).is_some_and(|(state, _)| state == wanted);
    until(&format!("{workload} is {wanted}"), PATIENCE, is_it)
        .with_context(|| format!("{:?}\n{}", state(agent, workload), agent.log_text()))?;
    Ok(state(agent, workload).map(|(_, reason)| reason).unwrap_or_default())
}

/// What its interface received, as the kernel counts it (proc_pid_net(5), "dev").
fn packets(container: &Container) -> Result<u64> {
    let all = std::fs::read_to_string(format!("/proc/{}/net/dev", container.pid))?;
    let eth0 = all.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).context("eth0")?;
    eth0.split_whitespace().nth(1).context("packets")?.parse().context("a number")
}

/// A pod whose sandbox says `word`, with one container that runs `app`.
fn pod(bed: &mut Testbed, word: &str, name: &str, app: ContainerSpec) -> Result<Container> {
    let labels = PodLabels { namespace: "shop".into(), name: name.into(), uid: format!("uid-{name}") };
    let pause = ContainerSpec::new(&format!("pause-{name}"), &["/bin/sleep", "10000"]);
    let sandbox = bed.run(pause.sandbox_of(&labels).label(OBSERVE, word))?;
    bed.run(app.part_of(&labels, "app").sharing(&sandbox))
}

fn tcp_bytes(agent: &Agent, client: &str) -> u64 {
    let labels = [("client_workload", client), ("reporter", "client")];
    agent.metrics().map_or(0, |all| all.count("pilotfish_tcp_sent_bytes_total", &labels))
}

#[test]
fn a_pod_says_how_much_of_it_is_seen() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = pod(&mut bed, "false", "silent", ContainerSpec::new("silent-app", &["/bin/api"]))?;
    scene::wait_listening(&server, 8080)?;
    let seen = generator(&mut bed, "seen", &server, &["--count", "20"])?;
    let quiet = generator_spec("quiet-app", &server, &["--count", "30"]);
    let quiet = pod(&mut bed, "tcp", "quiet", quiet)?;
    let odd = pod(&mut bed, "nothing", "odd", generator_spec("odd-app", &server, &["--count", "10"]))?;
    let reason = wait_state(&agent, "silent", "left_out")?;
    ensure!(reason.contains(OBSERVE), "{reason}");
    let reason = wait_state(&agent, "quiet", "attached")?;
    ensure!(reason.contains("\"tcp\""), "{reason}");
    wait_state(&agent, "odd", "attached")?;
    ensure!(agent.log_text().contains("says neither"), "{}", agent.log_text());
    ensure!(filters_in(&server.netns.path())?.is_empty(), "nothing is left where nobody looks");
    check_attached_once(&quiet, &["eth0"])?;

    for client in [&seen, &quiet, &odd] {
        run_to_end(&bed, client)?;
    }
    let at_clients = || ["seen", "odd"].map(|client| client_exchanges(&agent, client));
    until("the others are counted", PATIENCE, || at_clients() == [20, 10])
        .with_context(|| format!("{:?}\n{}", at_clients(), agent.cli(&["edges"]).unwrap_or_default()))?;
    until("the quiet one's bytes are counted", PATIENCE, || tcp_bytes(&agent, "quiet") > 0)?;
    ensure!(client_exchanges(&agent, "quiet") == 0);
    let (counted, lost) = agent.counted_and_lost("client")?;
    ensure!((counted, lost) == (30, 0), "what is left out is not lost: {counted} {lost}");
    ensure!(agent.counted_and_lost("server")? == (0, 0), "nobody looks at the server's end");
    let metrics = agent.metrics()?;
    ensure!(metrics.count("pilotfish_netns", &[("state", "left_out")]) == 1);
    Ok(())
}

/// The server has no name but its address: where it lives nobody looks.
fn client_exchanges(agent: &Agent, client: &str) -> u64 {
    let labels = [("client_workload", client), ("reporter", "client")];
    agent.metrics().map_or(0, |all| all.count("http_client_request_duration_seconds_count", &labels))
}

#[test]
fn the_operator_leaves_out_a_namespace_and_takes_it_in_again_without_a_restart() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let more = "\n[capture]\nexclude_namespaces = [\"kitchen\"]\n".to_owned();
    let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    let server = api(&mut bed, "shop")?;
    let spec = |name: &str| ContainerSpec::new(name, &["/bin/sleep", "10000"]);
    let kitchen = bed.run(spec("cook").in_namespace("kitchen"))?;
    let reason = wait_state(&agent, "cook", "left_out")?;
    ensure!(reason.contains("capture.exclude_namespaces"), "{reason}");
    ensure!(filters_in(&kitchen.netns.path())?.is_empty());
    let client = generator(&mut bed, "customer", &server, &["--rate", "200", "--connections", "2", "--for", "600"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let counted = || exchanges(&agent, "customer", "shop", "http", "client");
    until("traffic is counted", PATIENCE, || counted() > 50)?;

    let exclude = |namespaces: &str| -> Result<()> {
        let text = std::fs::read_to_string(agent.config())?;
        let (kept, _) = text.split_once("exclude_namespaces").context("the key")?;
        std::fs::write(agent.config(), format!("{kept}exclude_namespaces = [{namespaces}]\n"))?;
        agent.signal(Signal::SIGHUP)
    };
    exclude(&format!("\"{}\"", server.namespace))?;
    wait_state(&agent, "customer", "left_out")?;
    wait_state(&agent, "shop", "left_out")?;
    wait_state(&agent, "cook", "attached")?;
    agent.wait_attached(1, PATIENCE)?;
    ensure!(filters_in(&server.netns.path())?.is_empty() && filters_in(&client.netns.path())?.is_empty());
    let (before, passed) = (counted(), packets(&client)?);
    until("traffic goes on", PATIENCE, || packets(&client).is_ok_and(|packets| packets > passed + 100))?;
    ensure!(counted() == before, "nobody counts what is left out");

    exclude("\"no.such-namespace\"")?;
    agent.wait_attached(3, PATIENCE)?;
    until("traffic is counted again", PATIENCE, || counted() > before + 50)?;
    exclude("\"not a name\"")?;
    until("a mistake is told", PATIENCE, || agent.log_text().contains("is no name of a namespace"))?;
    ensure!(agent.attached()? == 3, "and changes nothing");
    ensure!(!agent.log_text().contains("by a restart only"), "{}", agent.log_text());
    check_attached_once(&server, &["eth0"])
}

#[test]
fn protocols_that_are_not_read_cost_no_exchange_and_come_back_with_a_reload() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let more = "\n[l7]\nprotocols = [\"dns\"]\n".to_owned();
    let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    let server = api(&mut bed, "shop")?;
    let before = generator(&mut bed, "before", &server, &["--count", "20"])?;
    agent.wait_attached(2, PATIENCE)?;
    run_to_end(&bed, &before)?;
    let left_out = || agent.metrics().map_or(0, |all| all.count("pilotfish_pipeline_flows_left_out_total", &[]));
    until("its connection is left out at both ends", PATIENCE, || left_out() >= 2)?;
    until("its bytes are counted", PATIENCE, || tcp_bytes(&agent, "before") > 0)?;

    let text = std::fs::read_to_string(agent.config())?;
    std::fs::write(agent.config(), text.replace("[\"dns\"]", "[\"dns\", \"http1\"]"))?;
    agent.signal(Signal::SIGHUP)?;
    until("it is read again", PATIENCE, || agent.log_text().contains("l7.protocols changed"))?;
    let after = generator(&mut bed, "after", &server, &["--count", "20"])?;
    agent.wait_attached_to("after", PATIENCE)?;
    run_to_end(&bed, &after)?;
    e2e::wait_edge(&agent, "after", "shop", "http", 20)?;
    ensure!(agent.counted_and_lost("client")? == (20, 0) && exchanges(&agent, "before", "shop", "http", "client") == 0);
    Ok(())
}
