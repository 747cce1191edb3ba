//! What a containerd does of itself, whichever version it is: namespaces of its own that come and
//! go, labels that change, execs by the dozen, pauses, and a container that runs a second time.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use e2e::{PATIENCE, alone, api, check_attached_once, exchanges, generator, run_to_end, wait_edge, wait_equation};
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, PodLabels, Testbed, scene, until};

/// What is attached, as `namespace/workload`, sorted.
fn workloads(agent: &Agent) -> Vec<String> {
    let text = agent.cli(&["status", "-o", "json"]).unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let rows = status["namespaces"].as_array().into_iter().flatten().filter(|row| row["state"] == "attached");
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> =
        rows.map(|row| format!("{}/{}", word(&row["namespace"]), word(&row["workload"]))).collect();
    all.sort_unstable();
    all
}

fn wait_workloads(agent: &Agent, expected: &[&str]) -> Result<()> {
    until(&format!("{expected:?} are attached"), PATIENCE, || workloads(agent) == expected)
        .with_context(|| format!("{:?}\n{}", workloads(agent), agent.log_text()))
}

fn idle(why: &str, agent: &Agent) -> u64 {
    agent.metrics().map_or(0, |all| all.count("pilotfish_containerd_idle_events_total", &[("why", why)]))
}

fn sleeper(name: &str) -> ContainerSpec {
    ContainerSpec::new(name, &["/bin/sleep", "10000"])
}

/// None of them has an image; Docker's have its namespace and no name, a pod's have its labels.
#[test]
fn containers_of_all_namespaces_are_named_by_their_labels_and_found_again_by_a_list() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let mut agent = Agent::start(&bed, &AgentOptions::default())?;
    let pod = PodLabels { namespace: "shop".into(), name: "cart-0".into(), uid: "uid-1".into() };
    let sandbox = bed.run(sleeper("pause").sandbox_of(&pod))?;
    bed.run(sleeper("app").part_of(&pod, "app").sharing(&sandbox))?;
    let id = "5e".repeat(32);
    bed.run(sleeper(&id).in_namespace("moby"))?;
    bed.run(sleeper("plain").in_namespace("default"))?;
    let named = sleeper("0f0f").in_namespace("default").label("nerdctl/name", "web");
    let named = bed.run(named)?;
    let all = ["default/plain", "default/web", "moby/5e5e5e5e5e5e", "shop/cart-0"];
    wait_workloads(&agent, &all)?;
    // A label that changes is told of by an event.
    bed.containerd().ctr("default", &["container", "label", &named.name, "nerdctl/name=shop"])?;
    let renamed = ["default/plain", "default/shop", "moby/5e5e5e5e5e5e", "shop/cart-0"];
    wait_workloads(&agent, &renamed)?;
    // An agent that comes later finds them all, once each.
    agent.kill();
    agent.start_again(&bed)?;
    wait_workloads(&agent, &renamed)?;
    check_attached_once(&sandbox, &["eth0"])
}

#[test]
fn namespaces_of_containerd_come_and_go_while_it_is_listed() -> Result<()> {
    const ROUNDS: usize = 2;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let stays = bed.run(sleeper("stays"))?;
    for round in 0..ROUNDS {
        let namespace = format!("brief-{round}");
        bed.containerd().ctr("default", &["namespace", "create", &namespace])?;
        let container = bed.run(sleeper("c").in_namespace(&namespace))?;
        wait_workloads(&agent, &[&format!("{namespace}/c"), "testbed/stays"])?;
        bed.stop(container, Duration::ZERO)?;
        wait_workloads(&agent, &["testbed/stays"])?;
        bed.containerd().ctr("default", &["namespace", "rm", &namespace])?;
    }
    // Listed anew, which the ones that are gone do not disturb.
    let lists = || agent.metrics().map_or(0, |all| all.count("pilotfish_containerd_reconciles_total", &[]));
    let before = lists();
    bed.containerd_mut().kill();
    bed.containerd_mut().start_again()?;
    until("it is listed", PATIENCE, || lists() > before)?;
    wait_workloads(&agent, &["testbed/stays"])?;
    let metrics = agent.metrics()?;
    for name in ["pilotfish_containerd_corrections_total", "pilotfish_containerd_unread_namespaces_total"] {
        assert_eq!(metrics.count(name, &[]), 0, "{name}");
    }
    check_attached_once(&stays, &["eth0"])
}

#[test]
fn a_storm_of_execs_neither_ends_a_container_nor_hides_another() -> Result<()> {
    const THREADS: u64 = 4;
    const EACH: u64 = 10;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--rate", "200", "--for", "600"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    std::thread::scope(|scope| {
        let bed = &bed;
        let storm = |thread: u64| {
            for round in 0..EACH {
                let id = format!("exec-{thread}-{round}");
                let fifos = bed.dir().join("fifo").display().to_string();
                let exec = ["task", "exec", "--fifo-dir", &fifos, "--exec-id", &id, &server.name, "/bin/true"];
                bed.containerd().ctr(&server.namespace, &exec)?;
            }
            anyhow::Ok(())
        };
        let all: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || storm(thread))).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    until("each of them was seen to end", PATIENCE, || idle("exec", &agent) >= THREADS * EACH)?;
    let late = bed.run(sleeper("late"))?;
    wait_workloads(&agent, &["testbed/customer", "testbed/late", "testbed/shop"])?;
    bed.stop(late, Duration::ZERO)?;
    let sent = scene::final_line(&bed, &client, PATIENCE)?["sent"].as_u64().context("what was sent")?;
    assert_eq!(wait_equation(&agent, sent)?, [0, 0]);
    check_attached_once(&server, &["eth0"])
}

#[test]
fn a_pause_is_no_end_and_what_waits_meanwhile_is_counted_after_it() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--rate", "200", "--connections", "2", "--for", "600"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    let counted = || exchanges(&agent, "customer", "shop", "http", "client");
    until("traffic is counted", PATIENCE, || counted() > 50)?;
    for _ in 0..2 {
        bed.containerd().ctr(&server.namespace, &["task", "pause", &server.name])?;
        // Whatever was on its way.
        let mut last = u64::MAX;
        until("nothing is answered any more", PATIENCE, || {
            let before = std::mem::replace(&mut last, counted());
            std::thread::sleep(Duration::from_millis(100));
            before == last
        })?;
        assert_eq!(agent.attached()?, 2, "it is still there");
        bed.containerd().ctr(&server.namespace, &["task", "resume", &server.name])?;
        until("traffic is counted again", PATIENCE, || counted() > last + 50)?;
    }
    let sent = scene::final_line(&bed, &client, PATIENCE)?["sent"].as_u64().context("what was sent")?;
    assert_eq!(wait_equation(&agent, sent)?, [0, 0]);
    check_attached_once(&server, &["eth0"])
}

#[test]
fn a_container_that_runs_a_second_time_is_attached_a_second_time() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    agent.wait_attached(1, PATIENCE)?;
    let pid_file = bed.dir().join("second").display().to_string();
    for run in 1..=2 {
        let name = format!("customer-{run}");
        let client = generator(&mut bed, &name, &server, &["--count", "5"])?;
        agent.wait_attached(2, PATIENCE)?;
        run_to_end(&bed, &client)?;
        wait_edge(&agent, &name, "shop", "http", 5)?;
        // The record stays, and with it the namespace that it names.
        let ctr = |args: &[&str]| bed.containerd().ctr(&server.namespace, args);
        ctr(&["task", "kill", "--signal", "SIGKILL", &server.name])?;
        until("its task is removed", PATIENCE, || ctr(&["task", "rm", &server.name]).is_ok())?;
        agent.wait_attached(0, PATIENCE)?;
        ctr(&["task", "start", "--detach", "--null-io", "--pid-file", &pid_file, &server.name])?;
        let pid = std::fs::read_to_string(&pid_file)?.trim().parse().context("a pid")?;
        agent.wait_attached(1, PATIENCE)?;
        until("it listens", PATIENCE, || scene::listens(pid, 8080))?;
    }
    Ok(())
}
