//! `pilotfish doctor` as a person meets it: a workload that suffers is named with what to do, a
//! healthy one is not, and without an agent it does what it can.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testbed::scene::{self, Scene};
use testbed::{Agent, AgentOptions, Container, Testbed, built_binary};

/// The exit code and the document.
fn doctor(socket: &Path, args: &[&str]) -> Result<(i32, Value)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    let output = command.args(["doctor", "-o", "json", "--socket"]).arg(socket).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let code = output.status.code().context("it ends by itself")?;
    let document = serde_json::from_str(&said)
        .with_context(|| format!("exit {code}: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((code, document))
}

/// Datagrams for port 53 of the container's own network, all the time. Ended when dropped.
struct Flood(Child);

impl Flood {
    fn at(container: &Container) -> Result<Flood> {
        let mut flood = container.netns.command(Path::new("bash"));
        flood.args(["-c", "while :; do echo x > /dev/udp/127.0.0.1/53; done"]);
        Ok(Flood(flood.stdin(Stdio::null()).spawn().context("bash")?))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry["id"].as_str().or(entry.as_str())).collect()
}

#[test]
fn a_workload_that_suffers_is_named_and_its_neighbours_are_fine() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let mut agent = Agent::start(&bed, &AgentOptions::default())?;
    let scene = Scene::start(&mut bed, |_| {})?;
    let load = scene.start_load(&mut bed, &["--connections", "4", "--rate", "200", "--dns-rate", "50"])?;
    scene::open_gate(&bed, &load)?;
    agent.wait_attached_to("dns", PATIENCE)?;
    agent.wait_attached_to("loadgen", PATIENCE)?;

    // Everything works: nothing is found, and everything was looked at.
    let (code, healthy) = doctor(&agent.socket, &["-n", scene::NAMESPACE])?;
    ensure!(code == 0 && healthy["agent"] == "ready", "{healthy:#}");
    ensure!(ids(&healthy["findings"]).is_empty() && ids(&healthy["not_made"]).is_empty(), "{healthy:#}");
    ensure!(ids(&healthy["fine"]).len() == 9, "{healthy:#}");
    ensure!(healthy["looked"]["namespaces"] == 5, "four servers and a client: {healthy:#}");

    // The resolver stands still, and questions keep coming.
    kill(Pid::from_raw(i32::try_from(scene.dns.pid)?), Signal::SIGSTOP)?;
    let flood = Flood::at(&scene.dns)?;
    let (code, ill) = doctor(&agent.socket, &["-n", scene::NAMESPACE])?;
    ensure!(code == 2 && ids(&ill["findings"]) == ["udp-drop"], "{ill:#}");
    let found = &ill["findings"][0];
    ensure!(found["severity"] == "error" && found["evidence"]["port"] == 53, "{ill:#}");
    ensure!(found["subject"]["namespace"] == scene::NAMESPACE && found["subject"]["name"] == "dns", "{ill:#}");
    ensure!(found["evidence"]["drops"].as_u64().is_some_and(|drops| drops > 10), "{ill:#}");
    ensure!(ids(&ill["fine"]).len() == 8 && ids(&ill["not_made"]).is_empty(), "{ill:#}");

    // Without an agent it is the same finding by another name.
    agent.stop();
    let (code, alone) = doctor(&agent.socket, &["--id", "udp-drop"])?;
    ensure!(code == 2 && alone["agent"] == "absent", "{alone:#}");
    let found = alone["findings"].as_array().into_iter().flatten().find(|found| found["evidence"]["port"] == 53);
    ensure!(found.is_some_and(|found| found["subject"]["name"] == "dnsmasq"), "{alone:#}");
    drop(flood);
    kill(Pid::from_raw(i32::try_from(scene.dns.pid)?), Signal::SIGCONT)?;

    // Whose namespace that is nobody can say then: nothing was looked at, which is not fine.
    let (code, nowhere) = doctor(&agent.socket, &["-n", scene::NAMESPACE])?;
    ensure!(code == 3 && ids(&nowhere["fine"]).is_empty() && ids(&nowhere["not_made"]).len() == 12, "{nowhere:#}");
    scene::final_line(&bed, &load, PATIENCE)?;
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

#[test]
fn bad_words_and_missing_rights_are_told_at_once() -> Result<()> {
    let _alone = alone();
    let run = |command: &mut Command| -> Result<(Option<i32>, String)> {
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let program = built_binary("pilotfish")?;
    let pilotfish = |args: &[&str]| run(Command::new(&program).arg("doctor").args(args));
    let (code, said) = pilotfish(&["--explain", "dead-peer"])?;
    ensure!(code == Some(0) && said.contains("TCP_USER_TIMEOUT"), "{said}");
    let (code, said) = pilotfish(&["--id", "dead-beef"])?;
    ensure!(code == Some(64) && said.contains("there are listen-overflow, udp-drop"), "{said}");
    let (code, said) = pilotfish(&["--since", "yesterday"])?;
    ensure!(code == Some(64) && said.contains("write seconds or a text like"), "{said}");
    let without = ["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"];
    let (code, said) = run(Command::new("setpriv").args(without).arg(&program).arg("doctor"))?;
    ensure!(code == Some(77) && said.contains("missing CAP_BPF, CAP_SYS_ADMIN"), "{said}");
    Ok(())
}
