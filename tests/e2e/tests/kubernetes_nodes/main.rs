//! Two whole nodes with kubelets, an agent on each: every edge has workloads at both ends. Needs
//! root and, once, the minutes that Kubernetes' programs take to build.
#![forbid(unsafe_code)]

mod circles;
mod companion;
mod daemonset;
mod map;
mod memory;
mod probes;

use agent_api::{EdgeRow, Party};
use anyhow::{Context, Result};
use e2e::alone;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use testbed::cluster::kinds::{self, Kind};
use testbed::cluster::{Cluster, ClusterOptions, ControlPlaneOptions, User, scene};
use testbed::{Agent, AgentOptions, until};

/// Whole nodes on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Kinds of an end of which there is a better name: all ends of the scene are of some Deployment,
/// StatefulSet, DaemonSet, CronJob, or a node.
const UNNAMED: [&str; 9] =
    ["Address", "External", "NotFound", "Pending", "Ambiguous", "Pod", "ReplicaSet", "Job", "Service"];

/// What the scene's workloads do, and by which Service.
const EDGES: [(&str, &str, &str, &str, &str); 4] = [
    ("frontend", "Deployment", "api", "Deployment", "api"),
    ("api", "Deployment", "redis", "Deployment", "redis"),
    ("worker", "Deployment", "store", "StatefulSet", "store"),
    ("tick", "CronJob", "api", "Deployment", "api"),
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    src: [String; 2],
    dst: [String; 2],
    service: String,
    protocol: String,
    reporter: String,
    requests: u64,
    open: u64,
}

impl Edge {
    fn is_named(&self) -> bool {
        // At the server's end, a pod on its node's network is known by the node's address, and by
        // its containers where its port is looked up.
        let by_port = |name: &str, kind: &str| name.starts_with("edge-") && kind == "Pod";
        [&self.src, &self.dst].iter().all(|[name, kind]| !UNNAMED.contains(&kind.as_str()) || by_port(name, kind))
    }

    fn is_between(&self, (src, src_kind, dst, dst_kind, service): (&str, &str, &str, &str, &str)) -> bool {
        self.src == [src, src_kind] && self.dst == [dst, dst_kind] && self.service == service
    }
}

fn edges(agent: &Agent) -> Result<Vec<Edge>> {
    let rows: Vec<EdgeRow> = serde_json::from_str(&agent.cli(&["edges", "-n", scene::NAMESPACE, "-o", "json"])?)?;
    let party = |Party { name, kind, .. }: Party| [name, kind];
    let edge = |EdgeRow { src, dst, service, protocol, reporter, golden }: EdgeRow| Edge {
        src: party(src),
        dst: party(dst),
        service,
        protocol,
        reporter,
        requests: golden.requests,
        open: golden.tcp_connections,
    };
    Ok(rows.into_iter().map(edge).collect())
}

/// Nodes that have or had a pod of this workload.
fn nodes_of(cluster: &Cluster, workload: &str) -> Result<BTreeSet<String>> {
    let prefix = format!("{workload}-");
    Ok(cluster
        .pods(scene::NAMESPACE)?
        .into_iter()
        .filter(|pod| pod.name.starts_with(&prefix))
        .map(|pod| pod.node)
        .collect())
}

/// Waits until each node shows what its pods do, and until nothing without a name goes on there.
fn wait_named(cluster: &Cluster, agents: &[Agent], wanted: &[(&str, &str, &str, &str, &str)]) -> Result<()> {
    for (node, agent) in cluster.nodes().iter().zip(agents) {
        for edge in wanted {
            // Whoever asks is seen asking. Which pod of a Service is asked is up to its proxy.
            if nodes_of(cluster, edge.0)?.contains(node.name()) {
                until(&format!("{} shows {edge:?}", node.name()), PATIENCE, || {
                    edges(agent)
                        .is_ok_and(|all| all.iter().any(|one| one.is_between(*edge) && one.reporter == "client"))
                })
                .with_context(|| page(agent))?;
            }
        }
        until(&format!("{} has no open connection without names", node.name()), PATIENCE, || {
            edges(agent).is_ok_and(|all| all.iter().all(|edge| edge.is_named() || edge.open == 0))
        })
        .with_context(|| page(agent))?;
        // A new pod of another node has no name before the API has told its address; then it has.
        let unnamed = |all: &[Edge]| -> Vec<Edge> { all.iter().filter(|edge| !edge.is_named()).cloned().collect() };
        let total = |all: &[Edge]| all.iter().map(|edge| edge.requests).sum::<u64>();
        let mut before = edges(agent)?;
        until(&format!("{} counts 200 requests, all of them under names", node.name()), PATIENCE, || {
            let Ok(now) = edges(agent) else { return false };
            if unnamed(&now) != unnamed(&before) {
                before = now;
                return false;
            }
            total(&now) > total(&before) + 200
        })
        .with_context(|| page(agent))?;
    }
    Ok(())
}

fn page(agent: &Agent) -> String {
    let of = |args: &[&str]| agent.cli(args).unwrap_or_default();
    format!("{}\n{}\n{}", of(&["edges", "-o", "wide"]), of(&["status"]), agent.log_text())
}

#[test]
fn edges_of_two_nodes_have_workloads_and_services_at_both_ends() -> Result<()> {
    let _alone = alone();
    // Ten addresses are enough for what runs at a time, and each is soon another pod's.
    let options = ClusterOptions { nodes: 2, control: ControlPlaneOptions::default(), pod_addresses: Some(10) };
    let cluster = Cluster::start_with(&options, |step| eprintln!("  {step}"))?;
    let kubeconfig = cluster.plane().kubeconfig(User::Agent)?;
    let start = || -> Result<Vec<Agent>> {
        let options = AgentOptions::default();
        cluster.nodes().iter().map(|node| node.start_agent(cluster.plane(), Some(&kubeconfig), &options)).collect()
    };
    let agents = start()?;
    scene::start(&cluster, |step| eprintln!("  {step}"))?;
    wait_named(&cluster, &agents, &EDGES)?;
    eprintln!("  named, as the pods came up");

    // A pod on the node's own network is named at least by its node, never by the address.
    for (node, agent) in cluster.nodes().iter().zip(&agents) {
        let by_host = |edge: &Edge| {
            let [name, kind] = [0, 1].map(|i| edge.src[i].as_str());
            (name, kind) == ("edge", "DaemonSet") || (kind == "Node" && ["n1", "n2"].contains(&name))
        };
        until(&format!("{} shows who asks from a node's network", node.name()), PATIENCE, || {
            edges(agent)
                .is_ok_and(|all| all.iter().any(|edge| by_host(edge) && edge.dst[0] == "api" && edge.requests > 0))
        })
        .with_context(|| page(agent))?;
    }

    // The same by agents that come later than the pods and their connections.
    let client = cluster.plane().client();
    client.patch(&kinds::CRON_JOB, Some(scene::NAMESPACE), "tick", &json!({"spec": {"suspend": true}}))?;
    let jobs_end = || {
        let jobs = client.list(&kinds::JOB, Some(scene::NAMESPACE));
        jobs.is_ok_and(|jobs| jobs.iter().all(|job| job["status"]["active"].as_u64().unwrap_or(0) == 0))
    };
    until("the jobs end", PATIENCE, jobs_end)?;
    for mut agent in agents {
        assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
    }
    let agents = start()?;
    wait_named(&cluster, &agents, &EDGES[..3])?;
    let addresses: Vec<String> =
        cluster.pods(scene::NAMESPACE)?.iter().filter_map(|pod| Some(pod.address?.to_string())).collect();
    for agent in &agents {
        let shown = agent.cli(&["edges", "-n", scene::NAMESPACE])?;
        assert!(addresses.iter().all(|address| !shown.contains(address.as_str())), "{addresses:?} in\n{shown}");
    }
    eprintln!("  named, by agents that came later");

    // New pods, some at addresses that others had: the Deployment stays what is shown, and nobody
    // is shown as what he was. Clients after the servers: a connection to a pod that went in the
    // middle of it is given up by TCP only after two minutes.
    for (kind, workload, pods) in
        [(kinds::DEPLOYMENT, "api", 2), (kinds::DEPLOYMENT, "frontend", 1), (kinds::DAEMON_SET, "edge", 2)]
    {
        roll(&cluster, &kind, workload, pods, 1)?;
    }
    wait_named(&cluster, &agents, &EDGES[..3])?;
    let known: BTreeSet<&str> = ["frontend", "api", "redis", "worker", "store", "tick", "edge", "n1", "n2"].into();
    for agent in &agents {
        let named: BTreeSet<String> = edges(agent)?
            .into_iter()
            .filter(Edge::is_named)
            .flat_map(|edge| [edge.src, edge.dst])
            .map(|[name, _]| name)
            .collect();
        let is_known = |name: &String| known.contains(name.as_str()) || name.starts_with("edge-");
        let strange: Vec<&String> = named.iter().filter(|name| !is_known(name)).collect();
        assert!(strange.is_empty(), "{strange:?}\n{}", page(agent));
    }

    let reused = a_successor_is_never_called_by_the_old_name(&cluster, &agents)?;
    eprintln!("  {reused} addresses taken over, and nobody called by the old name");
    probes::a_slow_probe_is_warned_of_before_it_fails_and_a_kill_is_told(&cluster, &agents)?;
    eprintln!("  a slow probe was warned of, and a kill by one told");
    drop(agents);
    companion::runs_from_its_image(&cluster)?;
    eprintln!("  the agent ran from its image, as a DaemonSet, and nothing of it stays");
    assert_eq!(cluster.take_down()?, Vec::<String>::new());
    Ok(())
}

/// `frontend` goes, and pods of another Deployment come until one of them has an address that was a
/// pod of `frontend`'s. From then on `frontend` must not be seen doing anything, though somebody at
/// its address does.
fn a_successor_is_never_called_by_the_old_name(cluster: &Cluster, agents: &[Agent]) -> Result<usize> {
    let (client, namespace) = (cluster.plane().client(), Some(scene::NAMESPACE));
    let addresses = |prefix: &str| -> Result<BTreeSet<IpAddr>> {
        let pods = cluster.pods(scene::NAMESPACE)?.into_iter().filter(|pod| pod.name.starts_with(prefix));
        Ok(pods.filter_map(|pod| pod.address).collect())
    };
    let old = addresses("frontend-")?;
    client.delete_gracefully(&kinds::DEPLOYMENT, namespace, "frontend")?;
    until("frontend is gone", PATIENCE, || pod_names(cluster, "frontend-").is_ok_and(|pods| pods.is_empty()))?;
    let done = |workload: &str| -> u64 {
        let all = agents.iter().flat_map(|agent| edges(agent).unwrap_or_default());
        all.filter(|edge| edge.src[0] == workload).map(|edge| edge.requests).sum()
    };
    // What was under way when it went is settled while others go on.
    let seen = done("worker");
    until("worker goes on", PATIENCE, || done("worker") > seen + 100)?;
    let before = done("frontend");
    let worker = client.read(&kinds::DEPLOYMENT, namespace, "worker")?;
    let command = worker["spec"]["template"]["spec"]["containers"][0]["command"].clone();
    let command: Vec<&str> = command.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    client.create(&kinds::DEPLOYMENT, &scene::workload(&kinds::DEPLOYMENT, "visitor", 2, &command))?;
    for round in 0..20 {
        cluster.wait_pods(scene::NAMESPACE, "visitor-", 2, PATIENCE)?;
        let reused = addresses("visitor-")?.intersection(&old).count();
        if reused > 0 {
            let seen = done("visitor");
            until("the successor is seen by its own name", PATIENCE, || done("visitor") > seen + 200)?;
            for agent in agents {
                anyhow::ensure!(done("frontend") == before, "{}", page(agent));
            }
            return Ok(reused);
        }
        roll(cluster, &kinds::DEPLOYMENT, "visitor", 2, round)?;
    }
    anyhow::bail!("none of {old:?} was given to anybody else")
}

/// Replaces all pods of a workload, and waits until that is done.
fn roll(cluster: &Cluster, kind: &Kind, workload: &str, pods: usize, round: u32) -> Result<()> {
    let prefix = format!("{workload}-");
    let before = pod_names(cluster, &prefix)?;
    let again = json!({"spec": {"template": {"metadata": {"annotations": {"round": round.to_string()}}}}});
    cluster.plane().client().patch(kind, Some(scene::NAMESPACE), workload, &again)?;
    until(&format!("other pods of {workload}"), PATIENCE, || {
        pod_names(cluster, &prefix).is_ok_and(|now| now.len() == pods && now.is_disjoint(&before))
    })?;
    cluster.wait_pods(scene::NAMESPACE, &prefix, pods, PATIENCE).map(drop)
}

fn pod_names(cluster: &Cluster, prefix: &str) -> Result<BTreeSet<String>> {
    Ok(cluster
        .pods(scene::NAMESPACE)?
        .into_iter()
        .map(|pod| pod.name)
        .filter(|name| name.starts_with(prefix))
        .collect())
}
