//! Routes of HTTP beside a real containerd: what is shown of paths, at both ends and after a restart,
//! and what is never shown of them. Needs root.
#![forbid(unsafe_code)]

use agent_api::{PartRow, Parts};
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, api, wait_edge};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, fetch_fresh, until};

const SECRETS: [&str; 4] = ["hunter2", "eyJhbGciOiJIUzI1NiJ9", "anna@example.com", "9f86d081884c7d65"];

/// Asks from the client's network, each path on a connection of its own.
fn ask(client: &Container, server: &Container, paths: &[String]) -> Result<()> {
    for path in paths {
        let url = format!("http://{}:8080{path}", server.address);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", client.netns.path().display())).args(["curl", "-sS", "-o", "/dev/null", &url]);
        let output = command.output().context("nsenter and curl")?;
        ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn page(agent: &Agent) -> Result<String> {
    Ok(fetch_fresh(agent.admin, "/metrics", "*/*", PATIENCE)?.body())
}

fn parts(agent: &Agent, by: &str) -> Result<BTreeMap<String, u64>> {
    let text = agent.cli(&["stat", "--by", by, "-o", "json"])?;
    let rows: Vec<PartRow> = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(rows.into_iter().filter(|row| row.protocol == "http").map(|row| (row.value, row.golden.requests)).collect())
}

#[test]
fn paths_become_routes_and_secrets_do_not() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let state = tempfile::tempdir()?;
    let options = AgentOptions { state: Some(state.path().to_owned()), ..AgentOptions::default() };
    let mut agent = Agent::start(&bed, &options)?;
    let server = api(&mut bed, "shop")?;
    let client = bed.run(ContainerSpec::new("customer", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(2, PATIENCE)?;

    let mut paths: Vec<String> = (0..5).map(|n| format!("/orders/{n}?size=10&password=hunter2")).collect();
    paths.extend((0..4).map(|n| format!("/carts/{n}/items;session=hunter2")));
    paths.extend(SECRETS.iter().skip(1).map(|secret| format!("/reset/{secret}")));
    paths.extend((0..30).map(|n| format!("/people/person-{n}")));
    ask(&client, &server, &paths)?;
    let sent = paths.len() as u64;
    wait_edge(&agent, "customer", "shop", "http", sent)?;

    let metrics = agent.metrics()?;
    for end in ["client", "server"] {
        let name = format!("http_{end}_request_duration_seconds_count");
        let count = |route: &str| metrics.count(&name, &[("server_workload", "shop"), ("http_route", route)]);
        assert_eq!(count("/orders/{id}"), 5, "{end}");
        assert_eq!(count("/carts/{id}/items"), 4, "{end}");
        assert_eq!(count("/reset/{id}"), 3, "{end}");
        assert!(count("/people/{id}") >= 5, "{end}: a set that grows");
        assert_eq!(metrics.count(&name, &[("server_workload", "shop")]), sent, "{end}: a label is no count");
    }

    let routes = parts(&agent, "route")?;
    assert_eq!(routes.values().sum::<u64>(), sent, "{routes:?}");
    assert_eq!(routes.get("/orders/{id}"), Some(&5));
    assert_eq!(parts(&agent, "operation")?.get("GET /carts/{id}/items"), Some(&4));
    assert_eq!(parts(&agent, "status")?.values().sum::<u64>(), sent);
    let table = agent.cli(&["stat", "--by", "route"])?;
    assert!(table.lines().next().is_some_and(|line| line.contains("ROUTE") && line.contains("RPS")), "{table}");

    // Once more, so that there is something of the time for which rates are kept by now.
    ask(&client, &server, &["/orders/77".to_owned()])?;
    let lately = || -> Result<Parts> { Ok(agent_api::Client::new(&agent.socket).parts(agent_api::By::Route)?) };
    until("a rate of the route", PATIENCE, || {
        let is_it = |row: &PartRow| row.value == "/orders/{id}" && row.golden.requests == 6 && row.golden.rps > 0.0;
        lately().is_ok_and(|parts| parts.span_ms.is_some() && parts.rows.iter().any(is_it))
    })?;

    let page = page(&agent)?;
    assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
    let log = agent.log_text();
    let mut told = vec![("metrics", page), ("the log", log), ("stat", table)];
    for file in fs::read_dir(state.path())? {
        told.push(("the state", fs::read_to_string(file?.path())?));
    }
    ensure!(told.iter().any(|(what, text)| *what == "the state" && text.contains("/carts/{id}/items")), "it is kept");
    for secret in SECRETS {
        for (what, text) in &told {
            assert!(!text.contains(secret), "{what} tells {secret}");
        }
    }
    // What is kept goes on where it was.
    let mut agent = Agent::start(&bed, &options)?;
    agent.wait_attached(2, PATIENCE)?;
    ask(&client, &server, &["/orders/78".to_owned()])?;
    until("the route goes on", PATIENCE, || parts(&agent, "route").is_ok_and(|parts| parts["/orders/{id}"] == 7))?;
    assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
    Ok(())
}

#[test]
fn without_the_key_there_are_none() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let more = "\n[metrics]\nroute = false\n".to_owned();
    let mut agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    let server = api(&mut bed, "shop")?;
    let client = bed.run(ContainerSpec::new("customer", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(2, PATIENCE)?;
    ask(&client, &server, &["/orders/1".to_owned(), "/orders/two".to_owned()])?;
    wait_edge(&agent, "customer", "shop", "http", 2)?;
    assert!(!page(&agent)?.contains("http_route"));
    assert_eq!(parts(&agent, "route")?, BTreeMap::from([("-".to_owned(), 2)]));
    assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
    Ok(())
}
