//! Names from a real API server, joined with what a real containerd and real packets say. Needs root.
#![forbid(unsafe_code)]

mod ends;
mod probes;
mod services;
mod six;
mod storm;
mod world;

use e2e::{PATIENCE, alone, wait_edge};
use std::net::IpAddr;
use testbed::cluster::kinds;
use testbed::{Agent, AgentOptions, Testbed, until};
use world::{GRACE, World, degraded, identity, wait_edges, wait_named, wait_reached_by};

#[test]
fn edges_have_workloads_kinds_and_services_at_both_ends() -> anyhow::Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (api, web, tick) =
        (world.deployment("api", "7d9f8")?, world.deployment("web", "5c6b7")?, world.cron_job("tick")?);
    let server = world.pod("api-7d9f8-abcde", &api, &["/bin/api"])?;
    let there = world.remote("elsewhere")?;
    world.remote_pod("api-7d9f8-fghij", &api, &there)?;
    let here: IpAddr = server.address.into();
    let endpoints = [(here, "api-7d9f8-abcde"), (there.address, "api-7d9f8-fghij")];
    let cluster_ip = world.service("front-door", &endpoints)?;

    let direct = world.client_pod("web-5c6b7-klmno", &web, here, 8080, &["--count", "20"])?;
    let remote = world.client_pod("web-5c6b7-pqrst", &web, there.address, 8080, &["--count", "30"])?;
    let virtual_ip = world.client_pod("tick-1-uvwxy", &tick, cluster_ip, 80, &["--count", "40"])?;
    world.proxy(cluster_ip, here, &[&server.netns, &virtual_ip.netns])?;
    agent.wait_attached(4, PATIENCE)?;
    for (address, kind, name) in [
        (here, "Deployment", "api"),
        (there.address, "Deployment", "api"),
        (direct.address.into(), "Deployment", "web"),
        (remote.address.into(), "Deployment", "web"),
        (virtual_ip.address.into(), "CronJob", "tick"),
        (cluster_ip, "Deployment", "api"),
    ] {
        wait_named(&agent, address, kind, name)?;
    }
    for (address, port) in [(here, 8080), (there.address, 8080), (cluster_ip, 80)] {
        wait_reached_by(&agent, address, port, "front-door")?;
    }
    for client in [&direct, &remote, &virtual_ip] {
        world.run_to_end(client)?;
    }
    // No address, no pod, no Service where a workload is known; from the first packet on, since the
    // API had told before.
    wait_edges(
        &agent,
        &[
            "web (Deployment) > api (Deployment) by front-door, client: 50",
            "web (Deployment) > api (Deployment) by front-door, server: 20",
            "tick (CronJob) > api (Deployment) by front-door, client: 40",
            "tick (CronJob) > api (Deployment) by front-door, server: 40",
        ],
    )?;
    let labels = [("server_service", "front-door"), ("server_workload", "api"), ("server_namespace", "default")];
    assert_eq!(agent.metrics()?.count("http_server_request_duration_seconds_count", &labels), 60);
    let wide = agent.cli(&["edges", "-n", "default", "-o", "wide"])?;
    assert!(wide.contains("front-door") && wide.contains("CronJob"), "{wide}");

    let (code, of_pod) = identity(&agent, &format!("{}:8080", there.address))?;
    assert_eq!((code, of_pod.known, of_pod.service.as_str()), (0, true, "front-door"), "{of_pod:#?}");
    let fact = &of_pod.facts[0];
    assert_eq!((fact.source.as_str(), fact.node.as_str()), ("kubernetes", world::OTHER_NODE), "{of_pod:#?}");
    assert_eq!((fact.pod.as_str(), fact.stale), ("api-7d9f8-fghij", false), "{of_pod:#?}");
    assert!(fact.since_s.is_some(), "{of_pod:#?}");
    let (_, local) = identity(&agent, &server.address.to_string())?;
    let sources: Vec<&str> = local.facts.iter().map(|fact| fact.source.as_str()).collect();
    assert!(sources.contains(&"kubernetes") && sources.contains(&"containerd"), "{local:#?}");
    let (_, of_service) = identity(&agent, &cluster_ip.to_string())?;
    assert_eq!(of_service.service, "front-door", "{of_service:#?}");
    for (address, code) in [("[2001:db8::7]:80", 68), ("2001:db8::7", 68), ("10.0.0", 64), ("[10.0.0.1]:80", 64)] {
        assert_eq!(identity(&agent, address)?.0, code, "{address}");
    }
    let status = agent.cli(&["status"])?;
    for word in ["kubernetes connected", "pods", "endpointslices", "watching"] {
        assert!(status.contains(word), "no {word:?} in\n{status}");
    }
    assert_eq!(degraded(&agent, "kubernetes")?, Vec::<String>::new());
    Ok(())
}

#[test]
fn names_stay_while_the_api_server_is_away_and_containerd_names_what_is_new() -> anyhow::Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let state = tempfile::tempdir()?;
    let mut agent = world.agent(Some(state.path()))?;
    let (api, web) = (world.deployment("api", "7d9f8")?, world.deployment("web", "5c6b7")?);
    let there = world.remote("elsewhere")?;
    world.remote_pod("api-7d9f8-fghij", &api, &there)?;
    world.service("front-door", &[(there.address, "api-7d9f8-fghij")])?;
    let before = world.client_pod("web-5c6b7-klmno", &web, there.address, 8080, &["--count", "10"])?;
    agent.wait_attached(1, PATIENCE)?;
    wait_named(&agent, there.address, "Deployment", "api")?;
    wait_named(&agent, before.address.into(), "Deployment", "web")?;
    wait_reached_by(&agent, there.address, 8080, "front-door")?;
    world.run_to_end(&before)?;
    wait_edges(&agent, &["web (Deployment) > api (Deployment) by front-door, client: 10"])?;

    world.plane.kill_api_server();
    until("the agent says that the API server is away, and is ready", PATIENCE, || {
        degraded(&agent, "kubernetes").is_ok_and(|reasons| reasons.iter().any(|reason| reason.contains("API server")))
    })?;
    let (code, known) = identity(&agent, &there.address.to_string())?;
    assert_eq!((code, known.shown.name.as_str(), known.facts[0].stale), (0, "api", true), "{known:#?}");

    let late = world.unknown_pod("late-66778899-zzzzz", "66778899", there.address, &["--count", "7"])?;
    agent.wait_attached_to("late", PATIENCE)?;
    wait_named(&agent, late.address.into(), "Deployment", "late")?;
    world.run_to_end(&late)?;
    let both = [
        "web (Deployment) > api (Deployment) by front-door, client: 10",
        "late (Deployment) > api (Deployment) by front-door, client: 7",
    ];
    wait_edges(&agent, &both)?;

    // Another start, and still no API server: what was known is on disk.
    assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
    let agent = world.agent(Some(state.path()))?;
    wait_named(&agent, there.address, "Deployment", "api")?;
    let again = world.unknown_pod("late-66778899-yyyyy", "66778899", there.address, &["--count", "5"])?;
    agent.wait_attached_to("late", PATIENCE)?;
    wait_named(&agent, again.address.into(), "Deployment", "late")?;
    world.run_to_end(&again)?;
    let counted = "late (Deployment) > api (Deployment) by front-door, client: 12";
    wait_edges(&agent, &[both[0], counted])?;

    world.plane.start_api_server()?;
    until("names are fresh again", PATIENCE * 2, || {
        degraded(&agent, "kubernetes").is_ok_and(|reasons| reasons.is_empty())
    })?;
    let (_, fresh) = identity(&agent, &there.address.to_string())?;
    assert!(!fresh.facts[0].stale, "{fresh:#?}");
    Ok(())
}

#[test]
fn who_takes_over_an_address_is_never_called_by_the_old_name() -> anyhow::Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (old, new, web) =
        (world.deployment("old", "11111")?, world.deployment("new", "22222")?, world.deployment("web", "5c6b7")?);
    let place = world.remote("elsewhere")?;
    world.remote_pod("old-11111-aaaaa", &old, &place)?;
    let first = world.client_pod("web-5c6b7-aaaaa", &web, place.address, 8080, &["--count", "10"])?;
    agent.wait_attached(1, PATIENCE)?;
    wait_named(&agent, place.address, "Deployment", "old")?;
    wait_named(&agent, first.address.into(), "Deployment", "web")?;
    world.run_to_end(&first)?;
    wait_edges(&agent, &["web (Deployment) > old (Deployment) by no Service, client: 10"])?;

    world.plane.client().delete(&kinds::POD, Some("default"), "old-11111-aaaaa")?;
    world.remote_pod("new-22222-bbbbb", &new, &place)?;
    let second = world.client_pod("web-5c6b7-bbbbb", &web, place.address, 8080, &["--count", "20"])?;
    agent.wait_attached_to("web-5c6b7-bbbbb", PATIENCE)?;
    wait_named(&agent, place.address, "Deployment", "new")?;
    wait_named(&agent, second.address.into(), "Deployment", "web")?;
    world.run_to_end(&second)?;
    wait_edges(
        &agent,
        &[
            "web (Deployment) > old (Deployment) by no Service, client: 10",
            "web (Deployment) > new (Deployment) by no Service, client: 20",
        ],
    )?;
    let (_, both) = identity(&agent, &place.address.to_string())?;
    let told: Vec<(&str, bool)> = both.facts.iter().map(|fact| (fact.name.as_str(), fact.ended_s.is_none())).collect();
    assert!(told.starts_with(&[("new", true)]) && told.contains(&("old", false)), "{both:#?}");
    Ok(())
}

#[test]
fn a_pod_of_this_node_that_takes_over_an_address_is_never_called_by_the_old_name() -> anyhow::Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (old, new, web) =
        (world.deployment("old", "11111")?, world.deployment("new", "22222")?, world.deployment("web", "5c6b7")?);
    let server = world.pod("old-11111-aaaaa", &old, &["/bin/api"])?;
    let (taken, address) = (server.address, server.address.into());
    agent.wait_attached(1, PATIENCE)?;
    wait_named(&agent, address, "Deployment", "old")?;
    // The API still has the old pod when the new one lives at its address already: containerd is first to know.
    world.bed.stop(server, GRACE)?;
    agent.wait_attached(0, PATIENCE)?;
    let server = world.pod_at("new-22222-bbbbb", &new, taken, &["/bin/api"])?;
    let client = world.client_pod("web-5c6b7-bbbbb", &web, address, 8080, &["--count", "20"])?;
    agent.wait_attached(2, PATIENCE)?;
    wait_named(&agent, server.address.into(), "Deployment", "new")?;
    wait_named(&agent, client.address.into(), "Deployment", "web")?;
    world.run_to_end(&client)?;
    wait_edges(
        &agent,
        &[
            "web (Deployment) > new (Deployment) by no Service, client: 20",
            "web (Deployment) > new (Deployment) by no Service, server: 20",
        ],
    )?;
    world.plane.client().delete(&kinds::POD, Some("default"), "old-11111-aaaaa")?;
    wait_named(&agent, address, "Deployment", "new")
}

#[test]
fn without_a_cluster_it_says_so_once_and_works_as_before() -> anyhow::Result<()> {
    let _alone = alone();
    for mode in ["auto", "off"] {
        let mut bed = Testbed::start()?;
        let more = format!("\n[kubernetes]\nmode = \"{mode}\"\n");
        let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
        let server = e2e::api(&mut bed, "shop")?;
        let client = e2e::generator(&mut bed, "customer", &server, &["--count", "5"])?;
        agent.wait_attached(2, PATIENCE)?;
        e2e::run_to_end(&bed, &client)?;
        wait_edge(&agent, "customer", "shop", "http", 5)?;
        let (code, found) = identity(&agent, &server.address.to_string())?;
        assert_eq!((code, found.shown.name.as_str(), found.shown.kind.as_str()), (0, "shop", "Container"));
        assert_eq!(found.facts[0].source, "containerd", "{found:#?}");
        assert_eq!(identity(&agent, "192.0.2.77")?.0, 68);
        assert_eq!(degraded(&agent, "kubernetes")?, Vec::<String>::new());
        let own = agent.get("/metrics")?.body();
        assert!(!own.contains("pilotfish_k8s_"), "{own}");
        let said = agent.log_text().matches("names come from containerd only").count();
        assert_eq!(said, 1, "{mode}: {}", agent.log_text());
    }
    Ok(())
}

#[test]
fn an_api_server_that_is_expected_and_not_found_is_told_and_gates_nothing() -> anyhow::Result<()> {
    let _alone = alone();
    let bed = Testbed::start()?;
    let nowhere = bed.dir().join("no-such-kubeconfig");
    let more = format!("\n[kubernetes]\nmode = \"on\"\nkubeconfig = {nowhere:?}\n");
    let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    until("the reason is told", PATIENCE, || {
        degraded(&agent, "kubernetes").is_ok_and(|reasons| reasons.iter().any(|r| r.contains("no-such-kubeconfig")))
    })
}
