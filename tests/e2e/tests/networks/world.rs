//! Makes scenes, and says what their traffic has to be called.

use crate::links::{EKS_WORDS, Scene, WORDS};
use agent_api::EdgeRow;
use anyhow::{Context, Result, ensure};
use e2e::node_agent::NodeAgent;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use testbed::{Container, ContainerSpec, Netns, Process, Testbed, installed, scene};

/// Requests of each scene's client.
pub const COUNT: u64 = 60;

/// A scene whose containers run.
pub struct Made {
    pub scene: &'static Scene,
    number: usize,
    pub client: Container,
    _other: Arc<Netns>,
    _tunnel: Vec<Process>,
}

/// The words of a scene's texts for this scene.
struct Words(Vec<(&'static str, String)>);

impl Words {
    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("${word}"), value))
    }
}

impl Made {
    pub fn start(bed: &mut Testbed, scene: &'static Scene, number: usize) -> Result<Made> {
        let name = |end: &str| format!("{}-{end}", scene.name);
        // Short: the names of namespaces are in commands of every kind.
        let (client, c) = bed.new_pod_netns(&format!("{number}c"))?;
        let (server, s) = bed.new_pod_netns(&format!("{number}s"))?;
        let (other, o) = bed.new_pod_netns(&format!("{number}o"))?;
        let words = Words(vec![
            ("C", client.name().to_owned()),
            ("S", server.name().to_owned()),
            ("O", other.name().to_owned()),
            ("N", bed.node().name().to_owned()),
            ("c", c.to_string()),
            ("s", s.to_string()),
            ("o", o.to_string()),
            ("r", number.to_string()),
        ]);
        let set: String = words.0.iter().map(|(word, value)| format!("{word}={value}\n")).collect();
        let script = format!("{set}{WORDS}{EKS_WORDS}{}{}", scene.words, scene.make);
        let output = Command::new("sh").args(["-euc", &script]).output()?;
        ensure!(output.status.success(), "{}: {}", scene.name, String::from_utf8_lossy(&output.stderr));
        let tunnel = match scene.tunnel {
            true => tunnel(bed, [&client, &server], [&c.to_string(), &s.to_string()], number)?,
            false => Vec::new(),
        };
        let listens = ContainerSpec::new(&name("server"), &["/bin/api", "--listen", "[::]:8080"]);
        let server = bed.run(listens.inside(server, s))?;
        scene::wait_listening(&server, 8080)?;
        let (target, count) = (words.fill(scene.target), COUNT.to_string());
        let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--target", &target, "--count", &count];
        command.extend_from_slice(scene.load);
        let client = ContainerSpec::new(&name("client"), &command).inside(client, c);
        let client = bed.run(if scene.asks_itself { client.sharing(&server) } else { client })?;
        Ok(Made { scene, number, client, _other: other, _tunnel: tunnel })
    }

    /// How many namespaces have containers.
    pub fn pods(&self) -> usize {
        if self.scene.asks_itself { 1 } else { 2 }
    }

    /// IP bytes of datagrams that its pods sent to each other, as the sender saw them.
    pub fn datagrams(&self, agent: &NodeAgent) -> Result<f64> {
        let [client, server] = ["client", "server"].map(|end| format!("{}-{end}", self.scene.name));
        let metrics = agent.metrics()?;
        let sent = |from: &str, to: &str| {
            let labels = [("client_workload", from), ("server_workload", to)];
            metrics.sum("pilotfish_udp_sent_bytes_total", &labels)
        };
        Ok(sent(&client, &server) + sent(&server, &client))
    }

    /// `client > server, reporter: requests` for both ends.
    pub fn edges(&self, node: &str) -> Vec<String> {
        let Scene { client_end, server_end, .. } = self.scene;
        let ends = [("client", Some(client_end)), ("server", server_end.as_ref())];
        let called = |word: &str| match word {
            "NODE" => node.to_owned(),
            "client" | "server" => format!("{}-{word}", self.scene.name),
            other => other.replace("$r", &self.number.to_string()),
        };
        let line = |(reporter, ends): (&str, Option<&[&str; 2]>)| {
            let [client, server] = ends?.map(called);
            Some(format!("{client} > {server}, {reporter}: {COUNT}"))
        };
        ends.into_iter().filter_map(line).collect()
    }
}

/// Frames of `tun0` in datagrams from pod to pod, as a VPN's program carries them.
const TUNNEL: &str = r#"
import fcntl, os, select, socket, struct, sys
mine, theirs = sys.argv[1:]
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", b"tun0", 0x1001))
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.bind((mine, 7000))
wire.connect((theirs, 7000))
while True:
    for end in select.select([tun, wire], [], [])[0]:
        try: wire.send(os.read(tun, 65536)) if end is tun else os.write(tun, wire.recv(65536))
        except OSError: pass
"#;

fn tunnel(bed: &Testbed, pods: [&Netns; 2], addresses: [&str; 2], number: usize) -> Result<Vec<Process>> {
    let mut ends = Vec::new();
    for (end, pod) in pods.into_iter().enumerate() {
        let mut command = pod.command(&installed("python3")?);
        command.args(["-c", TUNNEL, addresses[end], addresses[1 - end]]);
        let process = Process::start("tunnel", &mut command, &bed.log_file(&format!("tunnel-{number}-{end}")))?;
        bed.record_process(process.pid())?;
        ends.push(process);
        let made = || pod.ip(&["addr", "add", &format!("10.80.{number}.{}/24", end + 2), "dev", "tun0"]).is_ok();
        testbed::until("the tunnel has an interface", e2e::PATIENCE, made)?;
        pod.ip(&["link", "set", "tun0", "mtu", "1400", "up"])?;
    }
    Ok(ends)
}

/// All edges with requests, as [`Made::edges`] tells them, sorted.
pub fn edges(agent: &NodeAgent) -> Result<Vec<String>> {
    let rows: Vec<EdgeRow> = serde_json::from_str(&agent.cli(&["edges", "-o", "json"])?).context("edges -o json")?;
    let line =
        |row: &EdgeRow| format!("{} > {}, {}: {}", row.src.name, row.dst.name, row.reporter, row.golden.requests);
    let mut lines: Vec<String> = rows.iter().filter(|row| row.golden.requests > 0).map(line).collect();
    lines.sort();
    Ok(lines)
}

/// What the agent calls its node.
pub fn node_name() -> Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))?.trim().to_owned())
}
