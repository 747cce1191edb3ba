//! A real kubelet and its probes: one that slows down, and a container that is ended for another.

use super::PATIENCE;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use testbed::cluster::{Cluster, kinds, scene};
use testbed::{Agent, built_binary, until};

/// Nobody else listens there.
const LISTEN: &str = "0.0.0.0:8099";

fn doctor(agent: &Agent, id: &str) -> Result<(i32, Value)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    command.args(["doctor", "--id", id, "-o", "json", "--socket"]).arg(&agent.socket);
    let output = command.output()?;
    let document =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code().context("it ends by itself")?, document))
}

fn process_that_listens() -> Result<Pid> {
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
        if words.first() == Some(&b"/bin/api".as_slice()) && words.contains(&LISTEN.as_bytes()) {
            return Ok(Pid::from_raw(pid));
        }
    }
    anyhow::bail!("nobody listens on {LISTEN}")
}

/// Starts a Deployment `sick`, whose process is stopped now and then: its probes take longer, and
/// then fail.
pub fn a_slow_probe_is_warned_of_before_it_fails_and_a_kill_is_told(cluster: &Cluster, agents: &[Agent]) -> Result<()> {
    let probe = |path: &str| {
        let get = json!({"path": path, "port": 8099});
        json!({"httpGet": get, "timeoutSeconds": 1, "periodSeconds": 1, "failureThreshold": 3})
    };
    let mut sick = scene::workload(&kinds::DEPLOYMENT, "sick", 1, &["/bin/api", "--listen", LISTEN]);
    let container = &mut sick["spec"]["template"]["spec"]["containers"][0];
    container["readinessProbe"] = probe("/items?size=7");
    container["livenessProbe"] = probe("/items?size=8");
    cluster.plane().client().create(&kinds::DEPLOYMENT, &sick)?;
    let pods = cluster.wait_pods(scene::NAMESPACE, "sick-", 1, PATIENCE)?;
    let pod = pods.first().context("a pod")?;
    let (node, agent) = cluster
        .nodes()
        .iter()
        .zip(agents)
        .find(|(node, _)| node.name() == pod.node)
        .context("an agent on the node of the pod")?;
    let process = process_that_listens()?;

    // Its healthy twin is itself: some seconds of both probes, and all is well.
    thread::sleep(Duration::from_secs(3));
    for id in ["probe-slow", "probe-kill"] {
        let (code, document) = doctor(agent, id)?;
        ensure!(code == 0 && document["fine"] == json!([id]), "{document:#}");
    }
    let mut slow = Value::Null;
    until("a slow probe is warned of", PATIENCE, || {
        for (signal, millis) in [(Signal::SIGSTOP, 620), (Signal::SIGCONT, 50)] {
            if kill(process, signal).is_err() {
                return false;
            }
            thread::sleep(Duration::from_millis(millis));
        }
        slow = doctor(agent, "probe-slow").map(|(_, document)| document).unwrap_or_default();
        slow["findings"].as_array().is_some_and(|found| !found.is_empty())
    })
    .with_context(|| agent.log_text())?;
    let found = &slow["findings"][0];
    ensure!(found["severity"] == "warning" && found["subject"]["name"] == "sick", "{slow:#}");
    ensure!(found["evidence"]["failures_in_a_row"] == 0 && found["certainty"] == "measured", "{slow:#}");
    let stored = cluster.plane().client().read(&kinds::POD, Some(scene::NAMESPACE), &pod.name)?;
    let status = &stored["status"]["containerStatuses"][0];
    ensure!(status["ready"] == true && status["restartCount"] == 0, "before anything failed: {status:#}");

    // Somebody waits when it stops for good.
    let waits = "exec 3<>/dev/tcp/$0/8099; \
                 printf 'POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n' >&3; read -r line <&3";
    kill(process, Signal::SIGSTOP)?;
    let address = pod.address.context("an address")?.to_string();
    let mut client = node.command(Path::new("bash"));
    let mut client = client.args(["-c", waits, &address]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut killed = (0, Value::Null);
    until("the kubelet ends it, and the probe is told", PATIENCE, || {
        killed = doctor(agent, "probe-kill").unwrap_or_default();
        killed.0 == 2
    })
    .with_context(|| format!("{:#}\n{}", killed.1, agent.log_text()))?;
    client.wait()?;
    let found = &killed.1["findings"][0];
    let summary = found["summary"].as_str().unwrap_or_default();
    ensure!(summary.contains("of the liveness probe /items: no answer"), "{found:#}");
    ensure!(found["subject"]["name"] == "sick" && found["evidence"]["failures"].as_u64() >= Some(3), "{found:#}");
    let timeline: Value = serde_json::from_str(&agent.cli(&["timeline", &pod.name, "-o", "json"])?)?;
    let mut events = timeline["events"].as_array().into_iter().flatten();
    let exit = events.find(|event| event["event"] == "exit" && event["cause"] == "probe").context("its exit")?;
    ensure!(exit["cut_requests"] == 1 && exit["cut"][0]["what"] == "POST", "{exit:#}");
    cluster.plane().client().delete_gracefully(&kinds::DEPLOYMENT, Some(scene::NAMESPACE), "sick")
}
