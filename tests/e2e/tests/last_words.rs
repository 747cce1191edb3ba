//! A container ends right after its last word, most of which is in its socket then and passes later:
//! both ends count it. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::node_agent::NodeAgent;
use e2e::{PATIENCE, alone, losses, wait_equation};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testbed::{Agent, AgentOptions, BRIDGE, Container, ContainerSpec, Testbed, address_of, filters_in, scene, until};

const MESSAGES: u64 = 300;
/// Of the container whose task owns its namespace; nobody else of the testbed gets so far.
const HOST: u16 = 200;

/// A server that takes its time, in a pod of its own.
fn server(bed: &mut Testbed) -> Result<Container> {
    let server = bed.run(ContainerSpec::new("broker", &["/bin/leaves", "serve", "/conf/gate"]))?;
    scene::wait_listening(&server, 9092)?;
    Ok(server)
}

fn count(agent: &Agent, name: &str, labels: &[(&str, &str)]) -> u64 {
    agent.metrics().map_or(0, |all| all.count(name, labels))
}

fn one_way(agent: &Agent, reporter: &str) -> u64 {
    let labels = [("client_workload", "talker"), ("server_workload", "broker"), ("reporter", reporter)];
    count(agent, "pilotfish_messaging_one_way_total", &labels)
}

/// States of the client's namespace.
fn rows(agent: &Agent) -> Option<Vec<String>> {
    let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"]).ok()?).ok()?;
    let all = status["namespaces"].as_array()?.iter().filter(|row| row["workload"] == "talker");
    Some(all.map(|row| row["state"].as_str().unwrap_or_default().to_owned()).collect())
}

fn lost_at_the_end(agent: &Agent) -> u64 {
    let of = |reason| count(agent, "pilotfish_lost_total", &[("stage", "attach"), ("reason", reason)]);
    of("ended_late") + of("ended_full")
}

/// The client has gone. Its namespace is looked at until its socket is empty, and no longer.
fn read_the_rest(bed: &Testbed, agent: &Agent, server: &Container) -> Result<()> {
    until("its end is known", PATIENCE, || rows(agent).is_some_and(|rows| !rows.contains(&"attached".into())))
        .with_context(|| agent.log_text())?;
    scene::open_gate(bed, server)?;
    let read = scene::last_line(server, PATIENCE)?;
    ensure!(read["read"] == MESSAGES + 1, "{read}");
    let lost = wait_equation(agent, MESSAGES + 1)?;
    for (reporter, lost) in ["client", "server"].into_iter().zip(lost) {
        // Under its own names, though it was said after it had ended.
        until(&format!("all is counted at the {reporter}"), PATIENCE, || one_way(agent, reporter) + lost >= MESSAGES)
            .with_context(|| format!("{} and {lost} lost\n{}", one_way(agent, reporter), losses(agent)))?;
        ensure!(lost <= MESSAGES / 10, "{reporter}: {lost} lost\n{}", losses(agent));
    }
    until("it is let go of", PATIENCE, || rows(agent).is_some_and(|rows| rows.is_empty()))?;
    ensure!(count(agent, "pilotfish_attach_lingered_total", &[]) == 1, "its socket was waited for");
    ensure!(lost_at_the_end(agent) == 0, "{}", losses(agent));
    Ok(())
}

#[test]
fn what_a_pod_leaves_in_its_socket_is_counted_at_both_ends() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = server(&mut bed)?;
    let target = server.address.to_string();
    let words = ["/bin/leaves", "say", &target, &MESSAGES.to_string(), "/conf/gate"];
    let client = bed.run(ContainerSpec::new("talker", &words))?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    scene::last_line(&client, PATIENCE)?;
    let netns = client.netns.path();
    bed.stop(client.clone(), Duration::from_secs(2))?;
    read_the_rest(&bed, &agent, &server)?;
    ensure!(filters_in(&netns)?.is_empty(), "nothing of ours is left there");
    Ok(())
}

/// A container whose task owns its network namespace, which lives on by its socket alone; the address
/// and the number of its process.
fn owner(bed: &Testbed, command: &[&str]) -> Result<u32> {
    let [runc, rootfs, pid_file, log]: [PathBuf; 4] =
        ["runc", "rootfs", "pids/talker", "logs/talker.log"].map(|file| bed.dir().join(file));
    let (runc, rootfs) = (runc.display().to_string(), rootfs.display().to_string());
    let (pid_file, log) = (pid_file.display().to_string(), format!("file://{}", log.display()));
    let cgroup = format!("/{}/talker", bed.id());
    let run = ["run", "--detach", "--rootfs", "--runc-root", &runc, "--cgroup", &cgroup, "--pid-file", &pid_file];
    bed.containerd().ctr("default", &[&run[..], &["--log-uri", &log, &rootfs, "talker"], command].concat())?;
    let pid: u32 = std::fs::read_to_string(&pid_file)?.trim().parse().context("pid file")?;
    let own = format!("--net=/proc/{pid}/ns/net");
    let within = |words: &str| -> Result<()> {
        let status = Command::new("nsenter").arg(&own).args(words.split(' ')).status()?;
        ensure!(status.success(), "{words}");
        Ok(())
    };
    let (outer, pid_text) = (format!("v{HOST}"), pid.to_string());
    bed.node().ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &pid_text])?;
    bed.node().ip(&["link", "set", &outer, "master", BRIDGE, "up"])?;
    within(&format!("ip addr add {}/16 dev eth0", address_of(HOST)))?;
    within("ip link set eth0 up")?;
    Ok(pid)
}

#[test]
fn what_a_task_leaves_in_the_socket_of_its_own_namespace_is_counted_and_keeps_it_no_longer() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = server(&mut bed)?;
    let target = server.address.to_string();
    let gate = bed.dir().join("rootfs/tmp/talk");
    let pid = owner(&bed, &["/bin/leaves", "say", &target, &MESSAGES.to_string(), "/tmp/talk"])?;
    let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
    until("its interface has its programs", PATIENCE, || filters_in(&netns).is_ok_and(|filters| filters.len() == 2))
        .with_context(|| agent.log_text())?;
    agent.wait_attached_to("talker", PATIENCE)?;
    std::fs::write(gate, "")?;
    let ctr = |args: &[&str]| bed.containerd().ctr("default", args).is_ok();
    until("the container is removed", PATIENCE, || {
        !netns.exists() && {
            ctr(&["task", "rm", "--force", "talker"]);
            ctr(&["container", "rm", "talker"])
        }
    })?;
    let outer = || bed.node().ip(&["link", "show", &format!("v{HOST}")]).is_ok();
    ensure!(outer(), "its socket keeps the namespace");
    read_the_rest(&bed, &agent, &server)?;
    until("the namespace is gone, and its interface", PATIENCE, || !outer())
}

#[test]
fn what_a_container_of_the_node_leaves_in_its_socket_is_counted_too() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let server = server(&mut bed)?;
    let target = server.address.to_string();
    let words = ["/bin/leaves", "say", &target, &MESSAGES.to_string(), "/conf/gate"];
    let client = bed.run(ContainerSpec::new("talker", &words).on_the_node())?;
    agent.wait_pods(1)?;
    agent.wait_cgroup("talker")?;
    let of_talker = agent.status()?.node.cgroups.into_iter().find(|row| row.workload == "talker");
    let cgroup = of_talker.context("the row of its cgroup")?.path;
    scene::open_gate(&bed, &client)?;
    scene::last_line(&client, PATIENCE)?;
    bed.stop(client, Duration::from_secs(2))?;
    // As runc does where version 2 stands alone.
    until("its cgroup is removed", PATIENCE, || !Path::new(&cgroup).exists() || std::fs::remove_dir(&cgroup).is_ok())?;
    until("its end is known", PATIENCE, || agent.cgroup("talker").is_none())?;
    scene::open_gate(&bed, &server)?;
    let read = scene::last_line(&server, PATIENCE)?;
    ensure!(read["read"] == MESSAGES + 1, "{read}");
    let all = || ["client", "server"].map(|reporter| agent.all(reporter));
    until("all is counted or lost", PATIENCE, || all().iter().all(|(counted, lost)| counted + lost == MESSAGES + 1))
        .with_context(|| format!("{:?}\n{}", all(), agent.edges()))?;
    for (_, lost) in all() {
        ensure!(lost <= MESSAGES / 10, "{:?}", all());
    }
    Ok(())
}
