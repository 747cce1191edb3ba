//! Two agents and one companion, joined by a real API server: what the agents count is shown in one
//! place, once, and stays right when one of them is killed; the names of the cluster come down the
//! same streams. Needs root.
#![forbid(unsafe_code)]

mod credentials;
mod findings;
mod hpa;
mod names;
mod strangers;
mod tokens;
mod world;

use agent_api::Readiness;
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use std::net::TcpStream;
use std::time::Duration;
use testbed::cluster::{kinds, objects};
use testbed::{scene, until};
use world::{BACK, NODES, POD, World};

/// Requests of each node, sent before the others begin.
const SENT: u64 = 300;
/// Requests a second that each node goes on with.
const RATE: f64 = 20.0;

#[test]
fn a_cluster_is_seen_in_one_place_whoever_is_killed() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    world.install()?;
    let mut first = Vec::new();
    let mut second = Vec::new();
    for place in 0..NODES.len() {
        world.wait_joined(place)?;
        let (count, rate) = (SENT.to_string(), RATE.to_string());
        first.push(world.pair(place, &format!("first{place}"), &["--rate", "300", "--count", &count])?);
        second.push(world.pair(place, &format!("second{place}"), &["--rate", &rate, "--for", "1200"])?);
        world.attached(place, 4)?;
    }
    for generator in &first {
        scene::open_gate(&world.bed, generator)?;
        scene::last_line(generator, PATIENCE)?;
    }
    kubectl_has_what_was_sent(&world)?;
    sums_are_what_was_sent(&world)?;
    credentials::each_node_has_its_own(&world)?;
    let wrong = findings::begin(&mut world)?;
    let scaled = hpa::install(&mut world)?;
    for generator in second.iter().chain(&scaled) {
        scene::open_gate(&world.bed, generator)?;
    }
    kubectl_shows_them(&world)?;
    one_replica_shows_the_nodes(&world)?;
    names::come_down_the_stream(&world)?;
    findings::are_shown(&world)?;
    the_companion_is_killed(&mut world)?;
    findings::are_told_again(&world)?;
    drop(wrong);
    hpa::scales_up(&mut world)?;
    hpa::holds(&mut world)?;
    credentials::the_join_token_is_changed(&world)?;
    an_agent_is_killed(&mut world)?;
    hpa::is_killed_and_back(&mut world, 0, Duration::from_secs(2))?;
    hpa::end(&mut world, &scaled)?;
    strangers::are_refused(&world)?;
    tokens::are_asked_about(&world, 0)?;
    the_api_server_is_killed(&mut world)?;
    who_may_not_push_is_refused(&world)?;
    for generator in &second {
        scene::final_line(&world.bed, generator, PATIENCE)?;
    }
    world.wait_equal()?;
    a_node_that_is_deleted_is_not_shown(&world)?;
    an_agent_that_is_told_to_stop_says_so(&mut world)?;
    ensure!(world.companion.stop() == Some(0), "{}", world.companion.log_text());
    Ok(())
}

/// To the request, in the table of the last minute.
fn kubectl_has_what_was_sent(world: &World) -> Result<()> {
    for (place, node) in NODES.into_iter().enumerate() {
        let of = format!("pilotfish.io/client=first{place}-client,pilotfish.io/server=first{place}-server");
        let edges = ["get", "edges", "-n", "shop", "-l", &of, "-o", "jsonpath={.items[*].golden.requests}"];
        let mut told = String::new();
        until(&format!("kubectl shows {SENT} requests of {node}"), BACK, || {
            told = world.kubectl(&edges).unwrap_or_else(|error| format!("{error:#}"));
            told.split(' ').map(|count| count.parse().unwrap_or(u64::MAX)).fold(0, u64::saturating_add) == SENT
        })
        .context(told)?;
    }
    Ok(())
}

/// Each series once, with its node, and as its agent has it; together as many as were sent.
fn sums_are_what_was_sent(world: &World) -> Result<()> {
    world.wait_equal()?;
    let page = world.companion.scrape()?;
    for reporter in ["client", "server"] {
        let of = [("reporter", reporter)];
        let (counted, lost) =
            (page.count("pilotfish_exchanges_total", &of), page.count("pilotfish_exchanges_lost_total", &of));
        ensure!(counted + lost == SENT * NODES.len() as u64, "{reporter}: {counted} counted, {lost} lost");
    }
    for agent in &world.agents {
        let status = agent.cli(&["status"])?;
        ensure!(status.contains(" joined, ") && status.contains(&world.companion.push.to_string()), "{status}");
        let check = agent_check(agent)?;
        ensure!(check.contains("answers with the certificate that is trusted"), "{check}");
    }
    Ok(())
}

/// `pilotfish check` with the configuration of an agent; whether it could run is no matter here.
fn agent_check(agent: &testbed::Agent) -> Result<String> {
    let mut command = std::process::Command::new(testbed::built_binary("pilotfish")?);
    let output = command.args(["check", "--config"]).arg(agent.config()).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

fn kubectl_shows_them(world: &World) -> Result<()> {
    let mut table = String::new();
    until("kubectl shows both nodes", BACK, || {
        table = world.kubectl(&["get", "workloadtraffic", "-A"]).unwrap_or_else(|error| format!("{error:#}"));
        ["second0-server", "second1-server"].iter().all(|server| {
            let row = table.lines().find(|line| line.contains(server));
            row.is_some_and(|row| row.starts_with("shop ") && row.contains("100.00%"))
        })
    })
    .with_context(|| format!("{table}\n{}", world.companion.log_text()))?;
    let edges = world.kubectl(&["get", "edges", "-n", "shop", "-o", "wide"])?;
    ensure!(edges.contains("second1-client") && edges.contains("http"), "{edges}");
    Ok(())
}

/// Of the replicas of its Service that are ready, the first by name.
fn one_replica_shows_the_nodes(world: &World) -> Result<()> {
    let shows = |yes| world.wait_own("pilotfish_companion_shows_nodes", &[], move |shows| shows == yes);
    shows(1)?;
    let address = "198.51.100.7".parse()?;
    let endpoints = [(address, POD), (address, "another-companion")];
    let client = world.plane.client();
    let slice = objects::endpoint_slice("pilotfish", "companion", 10_250, &endpoints);
    client.create(&kinds::ENDPOINT_SLICE, &slice)?;
    shows(0)?;
    ensure!(world.counted("n1").is_none(), "both show the nodes");
    client.delete(&kinds::ENDPOINT_SLICE, Some("pilotfish"), "companion-ipv4")?;
    shows(1)
}

/// No rate is negative, and none is above what was ever sent.
fn rates_are_sane(world: &World) -> Result<()> {
    // Without the companion there is no answer, which is none of a wrong rate.
    let rates = world.rates().unwrap_or_default();
    ensure!(rates.iter().all(|rate| (0.0..=RATE * 3.0).contains(rate)), "{rates:?}");
    Ok(())
}

fn wait_grows(world: &World, node: &str, from: u64) -> Result<()> {
    let mut wrong = Ok(());
    until(&format!("{node} grows beyond {from}"), BACK, || {
        wrong = rates_are_sane(world);
        wrong.is_err() || world.counted(node).is_some_and(|counted| counted > from)
    })?;
    wrong
}

fn the_companion_is_killed(world: &mut World) -> Result<()> {
    let before = NODES.map(|node| world.counted(node).unwrap_or_default());
    ensure!(before.iter().all(|counted| *counted > 0), "{before:?}");
    world.companion.kill();
    until("an agent says why", BACK, || says_why(&world.agents[0]).unwrap_or(false))?;
    names::stay_and_one_ends(world)?;
    world.companion.start_again(&world.bed)?;
    names::are_those_of_now(world)?;
    for (node, before) in NODES.into_iter().zip(before) {
        // What the agents counted meanwhile is there, too: nothing was lost, nothing began anew.
        wait_grows(world, node, before)?;
    }
    until("rates are shown again", BACK, || world.rates().is_ok_and(|rates| rates.len() >= NODES.len()))?;
    rates_are_sane(world)
}

/// It is ready all the same.
fn says_why(agent: &testbed::Agent) -> Result<bool> {
    let ready = agent.get("/readyz")?;
    let Readiness { ready, reasons } = serde_json::from_str(&ready.body())?;
    ensure!(ready, "{reasons:?}");
    Ok(reasons.iter().any(|reason| reason.part == "companion" && !reason.detail.is_empty()))
}

fn an_agent_is_killed(world: &mut World) -> Result<()> {
    let [killed, other] = NODES.map(|node| world.counted(node).unwrap_or_default());
    world.agents[0].kill();
    wait_grows(world, NODES[1], other)?;
    // Its series stay as they were: it is not known yet that it is gone for good.
    ensure!(world.counted(NODES[0]).is_some_and(|counted| counted >= killed), "the series of a killed agent are gone");
    world.agents[0].start_again(&world.bed)?;
    world.wait_joined(0)?;
    // Its counters began at zero, as scrapers know it.
    until("the counters began anew", BACK, || world.counted(NODES[0]).is_some_and(|counted| counted < killed))?;
    let anew = world.counted(NODES[0]).unwrap_or_default();
    wait_grows(world, NODES[0], anew)
}

/// Nobody needs it but kubectl; what it tells is heard again.
fn the_api_server_is_killed(world: &mut World) -> Result<()> {
    world.plane.kill_api_server();
    let before = NODES.map(|node| world.counted(node).unwrap_or_default());
    for (node, before) in NODES.into_iter().zip(before) {
        wait_grows(world, node, before)?;
    }
    world.plane.start_api_server()?;
    objects::create_node(world.plane.client(), "n3", "192.0.2.3".parse()?)?;
    world.wait_own("pilotfish_companion_k8s_objects", &[("resource", "nodes")], |nodes| nodes == 3)?;
    for resource in ["nodes", "endpointslices", "configmaps"] {
        world.wait_own("pilotfish_companion_k8s_fresh", &[("resource", resource)], |fresh| fresh == 1)?;
    }
    until("kubectl is answered again", BACK, || world.rates().is_ok_and(|rates| !rates.is_empty()))?;
    rates_are_sane(world)
}

fn who_may_not_push_is_refused(world: &World) -> Result<()> {
    let refused = |reason| world.own("pilotfish_companion_refused_total", &[("reason", reason)]);
    let before = refused("token");
    let (file, ticket) = (world.join_file(1), world.companion.join_toml()?);
    credentials::a_second_machine_is_refused(world, 1)?;
    // It is let in now, but not by this.
    let wrong: Vec<&str> = ticket
        .lines()
        .map(|line| if line.starts_with("token") { "token = \"the-token-of-another-cluster\"" } else { line })
        .collect();
    std::fs::write(&file, wrong.join("\n"))?;
    world.wait_own("pilotfish_companion_refused_total", &[("reason", "token")], |refused| refused > before)?;
    until("the agent says what to do", BACK, || {
        world.agents[1].cli(&["status"]).is_ok_and(|status| status.contains("take a new join.toml from it"))
    })?;
    std::fs::write(&file, ticket)?;
    world.wait_joined(1)?;
    credentials::each_node_has_its_own(world)?;

    let before = world.own("pilotfish_companion_silent_connections_total", &[]);
    let silent = (0..20).map(|_| TcpStream::connect(world.companion.push)).collect::<std::io::Result<Vec<_>>>()?;
    world.wait_own("pilotfish_companion_silent_connections_total", &[], |ended| ended >= before + 20)?;
    drop(silent);
    world.wait_joined(0)
}

fn a_node_that_is_deleted_is_not_shown(world: &World) -> Result<()> {
    world.plane.client().delete(&kinds::NODE, None, NODES[1])?;
    until("its series end", BACK, || world.counted(NODES[1]).is_none() && world.counted(NODES[0]).is_some())?;
    until("its agent says why", BACK, || {
        world.agents[1].cli(&["status"]).is_ok_and(|status| {
            status.contains("the cluster has no node") || status.contains("the node was deleted from the cluster")
        })
    })
}

/// It is not silent: nobody has to look for it.
fn an_agent_that_is_told_to_stop_says_so(world: &mut World) -> Result<()> {
    let agents = |state: &'static str| [("state", state)];
    world.wait_own("pilotfish_companion_agents", &agents("live"), |live| live == 1)?;
    let agent = world.agents.first_mut().context("an agent")?;
    ensure!(agent.stop() == Some(0), "{}", agent.log_text());
    world.wait_own("pilotfish_companion_agents", &agents("ended"), |ended| ended == 1)
}
