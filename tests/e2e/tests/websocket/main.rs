//! WebSockets between real ends, live: sent == counted + lost in messages, by kind and direction. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, losses, wait_equation};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed};

const ENDS: &str = include_str!("ends.py");

/// Of the distribution: the package with WebSockets is for this one.
const PYTHON: &str = "/usr/bin/python3";

const MESSAGES: &str = "1000";
/// Under way on each of four connections.
const MANY: &str = "4";

fn ends(mut command: Command, args: &[&str]) -> Command {
    command.args(["-W", "ignore", "-c", ENDS]).args(args);
    command
}

/// A program that ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What was counted of each kind at one end: "client text".
fn counted(agent: &Agent, reporter: &str) -> Result<BTreeMap<String, u64>> {
    let metrics = agent.metrics()?;
    let mut counted = BTreeMap::new();
    for end in ["client", "server"] {
        let name = format!("pilotfish_channel_{end}_messages_total");
        for opcode in ["text", "binary", "ping", "pong", "close"] {
            let labels = [
                ("client_workload", "customer"),
                ("server_workload", "shop"),
                ("reporter", reporter),
                ("network_protocol_name", "websocket"),
                ("websocket_opcode", opcode),
            ];
            let count = metrics.count(&name, &labels);
            if count > 0 {
                counted.insert(format!("{end} {opcode}"), count);
            }
        }
    }
    Ok(counted)
}

#[test]
fn every_message_is_counted_at_both_ends_and_none_is_lost() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let mut idle = |name| bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]));
    let (server, client) = (idle("shop")?, idle("customer")?);
    agent.wait_attached(2, PATIENCE)?;
    let python = Path::new(PYTHON);
    let address = server.address.to_string();
    let mut serving = Running(ends(server.netns.command(python), &["serve", &address]).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().context("its output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the server says {line:?}");
    let asked =
        ends(client.netns.command(python), &["ask", &address, MESSAGES, MANY]).stderr(Stdio::inherit()).output()?;
    ensure!(asked.status.success(), "the client: {}", asked.status);
    let passed: BTreeMap<String, u64> = serde_json::from_slice(&asked.stdout)?;
    let sent: u64 = passed.values().sum();
    ensure!(sent > 2_000, "{passed:?}");
    // Four upgrades are exchanges of HTTP.
    let lost = wait_equation(&agent, sent + 4)?;
    assert_eq!(lost, [0, 0], "{sent} sent: {}", losses(&agent));
    for reporter in ["client", "server"] {
        assert_eq!(counted(&agent, reporter)?, passed, "{reporter}");
        let metrics = agent.metrics()?;
        let labels = [("reporter", reporter), ("http_response_status_code", "101")];
        let name = format!("http_{reporter}_request_duration_seconds_count");
        assert_eq!(metrics.count(&name, &labels), 4, "{reporter}");
        for code in ["1000", "4xxx"] {
            let labels = [("reporter", reporter), ("websocket_close_code", code)];
            assert_eq!(metrics.count("pilotfish_channel_client_messages_total", &labels), 2, "{reporter} {code}");
        }
    }
    let metrics = agent.metrics()?;
    let secret = metrics.samples.iter().find(|sample| format!("{sample:?}").contains("s3cr3t"));
    ensure!(secret.is_none(), "{secret:?}");
    Ok(())
}
