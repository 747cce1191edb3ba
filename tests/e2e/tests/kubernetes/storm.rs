//! A client that opens a connection to the API server again and again, and one that keeps its own. The server
//! is a real one of TLS, at the address that the names have for the API server.

use crate::world::{World, identity};
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testbed::cluster::kinds;
use testbed::{Agent, Container, built_binary, until};

/// Of TLS, for many clients at a time: one of them stays.
const SERVER: &str = r#"
import socket, ssl, threading

tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("cert", "key")

def talk(client):
    try:
        with tls.wrap_socket(client, server_side=True) as connection:
            while connection.recv(4096):
                pass
    except OSError:
        pass

server = socket.create_server(("0.0.0.0", 8443), backlog=128)
while True:
    threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()
"#;

/// Ended when dropped.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn within(container: &Container, script: &str) -> Result<Held> {
    let mut bash = container.netns.command(Path::new("bash"));
    // Open as long as it is held.
    bash.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Held(bash.spawn().context("bash")?))
}

/// What `doctor --id api-storm` says.
fn doctor(agent: &Agent) -> Result<(i32, Value)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    let output = command.args(["doctor", "--id", "api-storm", "-o", "json", "--socket"]).arg(&agent.socket).output()?;
    let code = output.status.code().context("it ends by itself")?;
    let document =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((code, document))
}

#[test]
fn a_loop_of_connections_to_the_api_server_is_found_and_one_that_stays_is_fine() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    // Ten windows of an agent are ten seconds.
    let agent = world.agent_with(None, "\n[debug]\nwindow = \"1s\"\n")?;
    let stored = world.plane.client().read(&kinds::SERVICE, Some("default"), "kubernetes")?;
    let api_server: IpAddr = stored["spec"]["clusterIP"].as_str().context("a ClusterIP")?.parse()?;
    let (server, polls, keeps) = (
        world.deployment("server", "7d9f8")?,
        world.deployment("polls", "5c6b7")?,
        world.deployment("keeps", "5c6b8")?,
    );
    let sleep = ["/bin/sleep", "10000"];
    let server = world.pod("server-7d9f8-abcde", &server, &sleep)?;
    let polls = world.pod("polls-5c6b7-klmno", &polls, &sleep)?;
    let keeps = world.pod("keeps-5c6b8-pqrst", &keeps, &sleep)?;
    agent.wait_attached(3, PATIENCE)?;
    let pods = [&server.netns, &polls.netns, &keeps.netns].map(|netns| &**netns);
    world.proxy_port((api_server, 443), (server.address.into(), 8443), &pods)?;
    until("the API server's address has its name", PATIENCE, || {
        identity(&agent, &format!("{api_server}:443")).is_ok_and(|(_, found)| found.service == "kubernetes")
    })?;

    let directory = tempfile::tempdir()?;
    let place = directory.path().display();
    let serves = format!(
        "cd {place} && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kubernetes -keyout key -out cert \
         && exec python3 -c '{SERVER}'"
    );
    let _serves = within(&server, &serves)?;
    until("it listens", PATIENCE, || {
        let output = server.netns.command(Path::new("ss")).args(["-Hltn", "sport = :8443"]).output();
        output.is_ok_and(|output| !output.stdout.is_empty())
    })?;
    let once = format!("openssl s_client -connect {api_server}:443");
    let _keeps = within(&keeps, &format!("exec {once}"))?;
    let _polls = within(&polls, &format!("while :; do echo | {once}; sleep 0.05; done"))?;

    // What the agent saw, without the last minute's sockets: the gauge has no other source.
    let labels = [("id", "api-storm"), ("severity", "warning"), ("namespace", "default"), ("workload", "polls")];
    until("the gauge rises", PATIENCE, || {
        agent.metrics().is_ok_and(|all| all.count("pilotfish_finding", &labels) == 1)
    })
    .with_context(|| format!("{:?}\n{:?}", agent.cli(&["edges", "-o", "wide"]), doctor(&agent)))?;
    let (code, found) = doctor(&agent)?;
    let all = found["findings"].as_array().cloned().unwrap_or_default();
    ensure!(code == 1 && all.len() == 1 && all[0]["subject"]["name"] == "polls", "{found:#}");
    ensure!(all[0]["evidence"]["rate"].as_f64().is_some_and(|rate| rate > 2.0), "{found:#}");
    ensure!(agent.metrics()?.count("pilotfish_finding", &[("workload", "keeps")]) == 0);
    Ok(())
}
