//! Containers of a real dockerd: their names as `docker ps` and compose say them, in every kind of
//! network, over renames and restarts.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use e2e::{PATIENCE, alone, exchanges, losses, wait_edge, wait_equation};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use testbed::docker::Docker;
use testbed::{Agent, AgentOptions, Testbed, until};

/// A list of containerd is compared with what is known once a minute.
const NEXT_LIST: Duration = Duration::from_secs(90);

/// Workloads of attached namespaces, sorted.
fn workloads(agent: &Agent) -> Vec<String> {
    let status: Value =
        agent.cli(&["status", "-o", "json"]).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let rows = status["namespaces"].as_array().into_iter().flatten();
    let attached = rows.filter(|row| row["state"] == "attached");
    let mut names: Vec<String> = attached.map(|row| row["workload"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort_unstable();
    names
}

fn wait_workloads(agent: &Agent, expected: &[&str], patience: Duration) -> Result<()> {
    until(&format!("{expected:?} are attached"), patience, || workloads(agent) == expected)
        .with_context(|| format!("{:?}\n{}", workloads(agent), agent.log_text()))
}

/// A gate that containers find as `/conf/gate` once it is opened.
struct Gate(PathBuf);

impl Gate {
    fn new(bed: &Testbed, name: &str) -> Result<Gate> {
        let conf = bed.dir().join("conf").join(name);
        fs::create_dir_all(&conf)?;
        Ok(Gate(conf))
    }

    fn mount(&self) -> String {
        format!("{}:/conf:ro", self.0.display())
    }

    fn open(&self) -> Result<()> {
        Ok(fs::write(self.0.join("gate"), "")?)
    }
}

/// Runs a generator that waits at its gate.
fn generator(docker: &Docker, name: &str, gate: &Gate, network: &[&str], target: &str, more: &[&str]) -> Result<()> {
    let mount = gate.mount();
    let command = ["/bin/loadgen", "--gate", "/conf/gate", "--target", target];
    docker.run(name, &[network, &["--volume", &mount]].concat(), &[&command, more].concat())?;
    Ok(())
}

#[test]
fn docker_ps_and_status_say_the_same_names_in_every_network() -> Result<()> {
    const EACH: u64 = 200;
    let _alone = alone();
    let bed = Testbed::start()?;
    let docker = Docker::start(&bed)?;
    docker.docker(&["network", "create", "shopnet"])?;
    let compose = ["--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web"];
    // One before the agent, the others after it.
    docker.run("shop-web-1", &[&compose[..], &["--network", "shopnet"]].concat(), &["/bin/api"])?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    wait_workloads(&agent, &["shop-web"], PATIENCE)?;

    docker.run("store", &["--publish", "18080:8080"], &["/bin/api"])?;
    let (gate, count) = (Gate::new(&bed, "gate")?, EACH.to_string());
    let load = ["--rate", "500", "--connections", "4", "--count", &count];
    let target = |name, network| Ok::<_, anyhow::Error>(format!("{}:8080", docker.address(name, network)?));
    let (web, store) = (target("shop-web-1", "shopnet")?, target("store", "bridge")?);
    generator(&docker, "buyer", &gate, &["--network", "shopnet"], &web, &load)?;
    generator(&docker, "guest", &gate, &[], &store, &load)?;
    // It has the address that the port is published at.
    let host = format!("{}:18080", testbed::address_of(1));
    generator(&docker, "outside", &gate, &["--network", "host"], &host, &load)?;
    docker.run("sidecar", &["--network", "container:store"], &["/bin/sleep", "10000"])?;
    let all = ["buyer", "guest", "outside", "shop-web", "store"];
    wait_workloads(&agent, &all, PATIENCE)?;

    gate.open()?;
    wait_edge(&agent, "buyer", "shop-web", "http", EACH)?;
    wait_edge(&agent, "guest", "store", "http", EACH)?;
    until("requests by the published port are counted at the server", PATIENCE, || {
        let metrics = agent.metrics();
        let of = [("server_workload", "store"), ("reporter", "server")];
        metrics.is_ok_and(|it| it.count("http_server_request_duration_seconds_count", &of) == 2 * EACH)
    })
    .with_context(|| agent.cli(&["edges", "-o", "wide"]).unwrap_or_default())?;
    for (_, name) in fs::read_dir(bed.dir().join("docker/data/containers"))?.flatten().map(|it| ((), it.file_name())) {
        let text = agent.metrics()?.samples;
        let id = name.to_string_lossy()[..12].to_owned();
        assert!(text.iter().all(|sample| !format!("{:?}", sample.labels).contains(&id)), "{id} is somebody's name");
    }
    assert_eq!(agent.metrics()?.count("pilotfish_containerd_unread_docker_total", &[]), 0);
    Ok(())
}

#[test]
fn a_new_name_is_seen_and_who_stays_in_anothers_network_has_its_own() -> Result<()> {
    let _alone = alone();
    let bed = Testbed::start()?;
    let docker = Docker::start(&bed)?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    docker.run("first", &[], &["/bin/sleep", "10000"])?;
    docker.run("joined", &["--network", "container:first"], &["/bin/sleep", "10000"])?;
    wait_workloads(&agent, &["first"], PATIENCE)?;
    docker.docker(&["restart", "--time", "0", "first"])?;
    // Not both of them are the first.
    wait_workloads(&agent, &["first", "joined"], PATIENCE)?;
    docker.docker(&["rename", "first", "renamed"])?;
    wait_workloads(&agent, &["joined", "renamed"], NEXT_LIST)
}

#[test]
fn a_daemon_that_is_killed_and_started_again_takes_nothing_away() -> Result<()> {
    const SENT: u64 = 4000;
    let _alone = alone();
    let bed = Testbed::start()?;
    let mut docker = Docker::start(&bed)?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    docker.run("store", &[], &["/bin/api"])?;
    let gate = Gate::new(&bed, "gate")?;
    let target = format!("{}:8080", docker.address("store", "bridge")?);
    let load = ["--rate", "500", "--connections", "4", "--count", "4000"];
    generator(&docker, "buyer", &gate, &[], &target, &load)?;
    wait_workloads(&agent, &["buyer", "store"], PATIENCE)?;
    gate.open()?;
    until("traffic is counted", PATIENCE, || exchanges(&agent, "buyer", "store", "http", "client") > 100)?;
    docker.restart()?;
    wait_edge(&agent, "buyer", "store", "http", SENT)?;
    assert_eq!(wait_equation(&agent, SENT)?, [0, 0], "{}", losses(&agent));
    assert!(workloads(&agent).contains(&"store".to_owned()), "{:?}", workloads(&agent));
    assert_eq!(agent.metrics()?.count("pilotfish_containerd_corrections_total", &[]), 0);
    Ok(())
}
