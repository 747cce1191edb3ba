//! Probes that slow down, and a container that the kubelet ends for them. The test asks as a kubelet
//! does, from the node's own network.

use crate::world::{World, wait_named};
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};
use testbed::{Agent, Container, Netns, built_binary, until};

/// Ended when dropped.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a probe has, in seconds.
const TIMEOUT: u32 = 2;

/// A request of HTTP that was sent, and its answer, should it come within a probe's time.
struct Asked(Child, BufReader<ChildStdout>);

fn ask(from: &Netns, container: &Container, path: &str, agent: &str) -> Result<Asked> {
    let script = format!(
        "exec 3<>/dev/tcp/{}/8080 || exit 1
         printf 'GET {path} HTTP/1.1\\r\\nHost: a\\r\\nUser-Agent: {agent}\\r\\nConnection: close\\r\\n\\r\\n' >&3
         echo asked; IFS= read -t {TIMEOUT} -r line <&3; echo \"${{line:0:12}}\"",
        container.address
    );
    let mut bash = from.command(Path::new("bash"));
    bash.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = bash.spawn().context("bash")?;
    let mut out = BufReader::new(child.stdout.take().context("piped")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line == "asked\n", "nobody takes it: {line:?}");
    Ok(Asked(child, out))
}

impl Asked {
    fn answer(mut self) -> Result<String> {
        let mut line = String::new();
        self.1.read_line(&mut line)?;
        self.0.wait()?;
        Ok(line.trim().to_owned())
    }
}

/// As the kubelet does, which closes when its time is over.
fn probe(world: &World, container: &Container, path: &str) -> Result<String> {
    ask(world.bed.node(), container, path, "kube-probe/1.36")?.answer()
}

/// The exit code of `doctor --id ID`, and its document.
fn doctor(agent: &Agent, id: &str) -> Result<(i32, Value)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    command.args(["doctor", "--id", id, "-o", "json", "--socket"]).arg(&agent.socket);
    let output = command.output()?;
    let document =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code().context("it ends by itself")?, document))
}

/// The one finding of this check, once there is one, and it says `word`.
fn finding(agent: &Agent, id: &str, word: &str) -> Result<(i32, Value)> {
    let mut last = (0, Value::Null);
    let found = |document: &Value| document["findings"][0]["summary"].as_str().is_some_and(|said| said.contains(word));
    until(&format!("{id} is found with {word:?}"), PATIENCE, || {
        last = doctor(agent, id).unwrap_or_default();
        found(&last.1)
    })
    .with_context(|| format!("{:#}\n{}", last.1, agent.log_text()))?;
    ensure!(last.1["findings"].as_array().is_some_and(|all| all.len() == 1), "{:#}", last.1);
    Ok((last.0, last.1["findings"][0].clone()))
}

fn exit_of(agent: &Agent, workload: &str) -> Result<Value> {
    let exit = || -> Result<Option<Value>> {
        let document: Value = serde_json::from_str(&agent.cli(&["timeline", workload, "-o", "json"])?)?;
        let mut events = document["events"].as_array().into_iter().flatten();
        Ok(events.find(|event| event["event"] == "exit" && event["settled"] == true).cloned())
    };
    until(&format!("the exit of {workload} is told"), PATIENCE, || exit().is_ok_and(|exit| exit.is_some()))?;
    exit()?.context("an exit")
}

fn stop_and_go(container: &Container, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(container.pid.try_into()?), signal)?)
}

/// A tenth of a processor, of which a loop beside it wants more than there is.
fn throttle(container: &Container) -> Result<Held> {
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid))?;
    let path = |controller: &str| {
        let mut lines = cgroups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines.find(|(names, _)| names.split(',').any(|name| name == controller)).map(|(_, path)| path)
    };
    let (cgroup, limit, value) = match path("cpu") {
        Some(path) => (format!("/sys/fs/cgroup/cpu{path}"), "cpu.cfs_quota_us", "10000"),
        None => {
            let path = path("").context("a cgroup of version 2")?;
            (format!("/sys/fs/cgroup{path}"), "cpu.max", "10000 100000")
        }
    };
    fs::write(format!("{cgroup}/{limit}"), value)?;
    let busy = Held(Command::new("bash").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn()?);
    fs::write(format!("{cgroup}/cgroup.procs"), busy.0.id().to_string())?;
    Ok(busy)
}

fn kill_with(world: &World, container: &Container, signal: &str) -> Result<()> {
    let kill = ["task", "kill", "--signal", signal, &container.name];
    world.bed.containerd().ctr(&container.namespace, &kill).map(drop)
}

#[test]
fn a_probe_that_slows_down_is_warned_of_and_a_kill_by_one_is_told_with_what_it_cut() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (sick, calm, web) =
        (world.deployment("sick", "7d9f8")?, world.deployment("calm", "5c6b7")?, world.deployment("web", "11111")?);
    let probes = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "timeoutSeconds": TIMEOUT});
    let probes = json!({"readinessProbe": probes("/items?size=7"), "livenessProbe": probes("/items?size=8")});
    let (ready, live) = ("/items?size=7", "/items?size=8");
    let sick = world.probed("sick-7d9f8-abcde", &sick, &probes)?;
    let calm = world.probed("calm-5c6b7-abcde", &calm, &probes)?;
    let there = world.remote("elsewhere")?;
    world.remote_pod("web-11111-abcde", &web, &there)?;
    for (container, name) in [(&sick, "sick"), (&calm, "calm")] {
        agent.wait_attached_to(name, PATIENCE)?;
        wait_named(&agent, container.address.into(), "Deployment", name)?;
    }
    wait_named(&agent, there.address, "Deployment", "web")?;

    // Both are asked, and well.
    for container in [&sick, &calm, &sick, &calm] {
        ensure!(probe(&world, container, ready)? == "HTTP/1.1 200");
        ensure!(probe(&world, container, live)? == "HTTP/1.1 200");
    }
    for id in ["probe-slow", "probe-kill"] {
        let (code, document) = doctor(&agent, id)?;
        ensure!(code == 0 && document["fine"] == json!([id]), "{document:#}");
    }

    // One of them answers late, in time still. What is no probe says nothing, however long it takes.
    let other = ask(world.bed.node(), &calm, "/items?size=7&delay_ms=1300", "curl/8")?;
    stop_and_go(&sick, Signal::SIGSTOP)?;
    let asked = ask(world.bed.node(), &sick, ready, "kube-probe/1.36")?;
    thread::sleep(Duration::from_millis(1300));
    stop_and_go(&sick, Signal::SIGCONT)?;
    ensure!(asked.answer()? == "HTTP/1.1 200" && other.answer()? == "HTTP/1.1 200", "in time");
    let (code, slow) = finding(&agent, "probe-slow", "readiness probe /items p99 1.")?;
    ensure!(code == 1 && slow["severity"] == "warning" && slow["subject"]["name"] == "sick", "{slow:#}");
    let evidence = &slow["evidence"];
    ensure!(
        evidence["failures_in_a_row"] == 0 && evidence["probes"] == 3 && evidence["timeout_s"] == f64::from(TIMEOUT),
        "{slow:#}"
    );
    ensure!(evidence["p99_s"].as_f64().is_some_and(|p99| (1.2..2.0).contains(&p99)), "{slow:#}");
    ensure!(slow["certainty"] == "measured", "{slow:#}");
    // Why it is slow stands beside it.
    let busy = throttle(&sick)?;
    let (_, slow) = finding(&agent, "probe-slow", "CPU throttled in ")?;
    ensure!(slow["evidence"]["throttled_share"].as_f64().is_some_and(|share| share > 0.5), "{slow:#}");
    drop(busy);

    // It answers nobody any more, and the kubelet ends it.
    stop_and_go(&sick, Signal::SIGSTOP)?;
    let waits = "exec 3<>/dev/tcp/$0/8080; printf 'POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n' >&3; \
                 echo asked; read -r line <&3";
    let mut waits_for_ever = world.remote_netns(0).command(Path::new("bash"));
    waits_for_ever.args(["-c", waits, &sick.address.to_string()]).stdout(Stdio::null());
    let _waits = Held(waits_for_ever.spawn()?);
    for _ in 0..3 {
        ensure!(probe(&world, &sick, live)?.is_empty(), "it is stopped");
    }
    kill_with(&world, &sick, "SIGKILL")?;
    kill_with(&world, &calm, "SIGKILL")?;
    let exit = exit_of(&agent, "sick")?;
    ensure!(exit["cause"] == "probe" && exit["probe"]["probe"] == "liveness", "{exit:#}");
    // Of the client that waited for as long as that took; the probes are nobody's.
    ensure!(exit["cut_requests"] == 1 && exit["cut"][0]["client"] == "web", "{exit:#}");
    let (code, killed) = finding(&agent, "probe-kill", "ended by the kubelet after 3 failures of the liveness probe")?;
    ensure!(code == 2 && killed["subject"]["name"] == "sick" && killed["evidence"]["failures"] == 3, "{killed:#}");
    ensure!(killed["hurt"] == json!([{"client": "default/web", "requests": 1}]), "{killed:#}");
    let calm = exit_of(&agent, "calm")?;
    ensure!(calm["cause"] == "exit" && calm["probe"].is_null(), "{calm:#}");
    let labels = [("cause", "probe"), ("server_workload", "sick")];
    ensure!(agent.metrics()?.count("pilotfish_cut_exchanges_total", &labels) == 1);
    let page = agent.cli(&["timeline", "sick"])?;
    ensure!(page.contains("by the kubelet: the liveness probe /items failed"), "{page}");
    Ok(())
}
