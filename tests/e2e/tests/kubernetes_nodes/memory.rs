//! Pods that a real kubelet runs and that run out of memory under load: what each of them cut is what its clients
//! lost, to the request, by their own report and at their own interface. As the timeline's test has it without a
//! kubelet, and by command: `cargo test -p e2e --test kubernetes_nodes -- --ignored --nocapture out_of_memory`; with
//! `PILOTFISH_OOMS` so many times.

use super::PATIENCE;
use anyhow::{Context, Result, ensure};
use e2e::askers::{Askers, Said, cut_by_client};
use e2e::{alone, losses};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use testbed::cluster::companion::kubectl;
use testbed::cluster::{Cluster, ControlPlaneOptions, Node, PodView, User, kinds, scene};
use testbed::{Agent, AgentOptions, until, until_some};

const CLIENTS: [&str; 2] = ["web", "mobile"];
const TIMES: u64 = 3;

/// The first process of the pod's container, as the machine counts.
fn process_of(cluster: &Cluster, node: &Node, pod: &PodView) -> Result<u32> {
    let stored = cluster.plane().client().read(&kinds::POD, Some(scene::NAMESPACE), &pod.name)?;
    let id = stored["status"]["containerStatuses"][0]["containerID"].as_str().context("its container")?.to_owned();
    let id = id.strip_prefix("containerd://").context("a container of containerd")?.to_owned();
    let tasks = node.ctr(&["tasks", "ls"])?;
    let row = tasks.lines().find(|row| row.starts_with(&id)).context("its task")?;
    row.split_ascii_whitespace().nth(1).and_then(|pid| pid.parse().ok()).context("its process")
}

fn start(cluster: &Cluster, name: &str, command: &[&str], memory: Option<&str>) -> Result<PodView> {
    let mut object = scene::workload(&kinds::DEPLOYMENT, name, 1, command);
    if let Some(memory) = memory {
        let limits = json!({"limits": {"memory": memory}, "requests": {"memory": memory}});
        object["spec"]["template"]["spec"]["containers"][0]["resources"] = limits;
    }
    cluster.plane().client().create(&kinds::DEPLOYMENT, &object)?;
    let pods = cluster.wait_pods(scene::NAMESPACE, &format!("{name}-"), 1, PATIENCE)?;
    pods.into_iter().next().context("a pod")
}

/// The first exit of this workload, once nothing more is expected of it.
fn exit_of(agent: &Agent, workload: &str) -> Result<Value> {
    until_some(&format!("the exit of {workload} is told"), PATIENCE, || {
        let told: Value = serde_json::from_str(&agent.cli(&["timeline", workload, "-o", "json"]).ok()?).ok()?;
        let mut events = told["events"].as_array()?.iter();
        events.find(|event| event["event"] == "exit" && event["settled"] == true).cloned()
    })
    .with_context(|| agent.log_text())
}

/// Starts a server, asks it from both clients, and has the kernel kill it for memory meanwhile. What the clients say.
fn run_out(cluster: &Cluster, agent: &Agent, clients: &[u32], name: &str, seed: u64) -> Result<Vec<Said>> {
    let node = &cluster.nodes()[0];
    let pod = start(cluster, name, &["/bin/api"], Some("32Mi"))?;
    agent.wait_attached_to(name, PATIENCE)?;
    // The kernel is to choose the server, not who eats.
    fs::write(format!("/proc/{}/oom_score_adj", process_of(cluster, node, &pod)?), "1000")?;
    let server = format!("{}:8080", pod.address.context("its address")?);
    until("the server listens", PATIENCE, || {
        let mut connect = within(clients[0], "bash");
        let connect = connect.args(["-c", &format!("exec 3<>/dev/tcp/{}", server.replace(':', "/"))]);
        connect.output().is_ok_and(|output| output.status.success())
    })?;
    let asks = |(at, client): (usize, &u32)| {
        let log = cluster.plane().dir().join("logs").join(format!("{}-{name}", CLIENTS[at]));
        let connections = 2 + (seed + 3 * at as u64) % 7;
        Askers::start(within(*client, "python3"), log, &server, connections, seed * 2 + at as u64)
    };
    let all: Vec<Askers> = clients.iter().enumerate().map(asks).collect::<Result<_>>()?;
    all.iter().try_for_each(|askers| askers.wait_begun(PATIENCE))?;
    let eat = "x=$(/bin/busybox yes 0123456789012345678901234567890123456789)";
    kubectl(cluster, &["-n", scene::NAMESPACE, "exec", &pod.name, "--", "/bin/sh", "-c", eat]).ok();
    all.into_iter().map(|askers| askers.end(PATIENCE)).collect()
}

/// A program of the machine's in the network of that process.
fn within(pid: u32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(Path::new(program));
    command
}

/// Returns what was sent, what was cut, and how much of that amid its answer.
fn check(agent: &Agent, server: &str, clients: &[Said]) -> Result<[u64; 3]> {
    let exit = exit_of(agent, server)?;
    let told = || format!("{clients:?}\n{exit:#}\n{}", losses(agent));
    ensure!(exit["code"] == 137 && exit["cause"] == "oom" && exit["oom_ms"].is_number(), "{}", told());
    let mut all = [0; 3];
    for (client, said) in CLIENTS.into_iter().zip(clients) {
        let (cut, broken_off) = cut_by_client(&exit, client);
        ensure!(cut == said.lost(), "{client} lost {:?}, and {cut:?} were cut: {}", said.lost(), told());
        ensure!(broken_off == said.broken_off(), "{client}, broken off: {}", told());
        // At their own interface: what was broken off has a status there.
        let count = |error: &[(&str, &str)]| {
            let edge = [("client_workload", client), ("server_workload", server), ("reporter", "client")];
            let labels = [&edge[..], error].concat();
            agent.metrics().map_or(0, |all| all.count("http_client_request_duration_seconds_count", &labels))
        };
        let mut seen = [0; 2];
        until(&format!("{client}'s interface has all requests to {server}"), PATIENCE, || {
            seen = [count(&[]), count(&[("error_type", "unanswered")])];
            seen[0] == said.sent()
        })
        .with_context(|| format!("{seen:?}: {}", told()))?;
        ensure!(seen[1] == said.unanswered(), "{client}'s interface saw {seen:?}: {}", told());
        all = [all[0] + said.sent(), all[1] + said.unanswered() + said.broken_off(), all[2] + broken_off];
    }
    let labels = [("cause", "oom"), ("server_workload", server)];
    let counted = agent.metrics()?.count("pilotfish_cut_exchanges_total", &labels);
    ensure!(counted == all[1] && exit["cut_requests"] == counted, "{counted}: {}", told());
    Ok(all)
}

#[test]
#[ignore = "a measurement"]
fn pods_of_a_kubelet_that_run_out_of_memory_cut_what_their_clients_lost() -> Result<()> {
    let given = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let (times, seed) = (given("PILOTFISH_OOMS").unwrap_or(TIMES), given("PILOTFISH_SEED").unwrap_or(1));
    let _alone = alone();
    let cluster = Cluster::start(1, &ControlPlaneOptions::default(), |step| eprintln!("  {step}"))?;
    let kubeconfig = cluster.plane().kubeconfig(User::Agent)?;
    let node = &cluster.nodes()[0];
    let agent = node.start_agent(cluster.plane(), Some(&kubeconfig), &AgentOptions::default())?;
    let mut clients = Vec::new();
    for name in CLIENTS {
        let pod = start(&cluster, name, &["/bin/sleep", "2147483647"], None)?;
        agent.wait_attached_to(name, PATIENCE)?;
        clients.push(process_of(&cluster, node, &pod)?);
    }
    for number in 0..times {
        let server = format!("api{number}");
        let said = run_out(&cluster, &agent, &clients, &server, seed + number)?;
        let [sent, cut, broken_off] =
            check(&agent, &server, &said).with_context(|| format!("seed {}", seed + number))?;
        eprintln!("  {server}: {cut} of {sent} requests cut, {broken_off} of them amid their answers, each told");
        cluster.plane().client().delete_gracefully(&kinds::DEPLOYMENT, Some(scene::NAMESPACE), &server)?;
    }
    drop(agent);
    ensure!(cluster.take_down()?.is_empty());
    Ok(())
}
