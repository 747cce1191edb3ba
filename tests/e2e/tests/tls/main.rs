//! Handshakes of TLS between real ends: a capture of one of each kind, beside what the ends themselves
//! and tshark say of it; and thousands of them counted live.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, losses, wait_equation};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Process, Testbed, built_binary, installed, until};

const ENDS: &str = include_str!("ends.py");

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {} {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A key and a certificate that nobody has signed.
fn certify(dir: &Path) -> Result<()> {
    let flags = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test.example -keyout key.pem -out cert.pem";
    run(Command::new(installed("openssl")?).args(flags.split_whitespace()).current_dir(dir))?;
    Ok(())
}

fn ends(mut command: Command, args: &[&str]) -> Command {
    command.args(["-W", "ignore", "-c", ENDS]).args(args);
    command
}

/// A network namespace of its own, removed with the value.
struct Alone(String);

impl Alone {
    fn new() -> Result<Alone> {
        let netns = Alone(format!("pft-{}", std::process::id()));
        run(Command::new(installed("ip")?).args(["netns", "add", &netns.0]))?;
        run(Command::new(installed("ip")?).args(["-n", &netns.0, "link", "set", "lo", "up"]))?;
        Ok(netns)
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(installed("ip")?);
        command.args(["netns", "exec", &self.0]).arg(installed(program)?);
        Ok(command)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let delete = |ip| Command::new(ip).args(["netns", "delete", &self.0]).status();
        // Gone already is as good.
        let _ = installed("ip").map(delete);
    }
}

/// What the ends said of each handshake, and the capture of them.
fn matrix(dir: &Path) -> Result<(Vec<Value>, PathBuf)> {
    certify(dir)?;
    let netns = Alone::new()?;
    let capture = Capture::start(netns.command("tcpdump")?, "lo", dir)?;
    let said = run(&mut ends(netns.command("python3")?, &["matrix", &dir.display().to_string()]))?;
    Ok((said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?, capture.end()?))
}

struct Capture {
    tcpdump: Process,
    file: PathBuf,
    log: PathBuf,
}

impl Capture {
    fn start(mut tcpdump: Command, interface: &str, dir: &Path) -> Result<Capture> {
        let (file, log) = (dir.join("capture.pcap"), dir.join("tcpdump.log"));
        tcpdump.args(["-i", interface, "-U", "--immediate-mode", "-B", "65536", "--time-stamp-precision=nano", "-w"]);
        let capture = Capture { tcpdump: Process::start("tcpdump", tcpdump.arg(&file).arg("tcp"), &log)?, file, log };
        until("tcpdump to listen", PATIENCE, || capture.text().contains("listening on"))?;
        Ok(capture)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What was sent is in the file once nothing is added any more.
    fn end(mut self) -> Result<PathBuf> {
        let mut size = 0;
        until("the capture to be complete", PATIENCE, || {
            let now = std::fs::metadata(&self.file).map_or(0, |meta| meta.len());
            std::mem::replace(&mut size, now) == now && now > 24
        })?;
        self.tcpdump.stop(Duration::from_secs(10));
        ensure!(self.text().contains("\n0 packets dropped by kernel"), "{}", self.text());
        Ok(self.file)
    }
}

/// Handshakes as replay tells them, each with the ports of the client and the server. Of many, some
/// share them: a client's port is used again once its connection is over.
fn replay(file: &Path) -> Result<Vec<((u64, u64), Value)>> {
    let mut command = Command::new(built_binary("pilotfish")?);
    let mut records = Vec::new();
    for line in run(command.arg("replay").arg(file).args(["-o", "json", "--records"]))?.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(record["exchanges_lost"].as_u64().unwrap_or(0) == 0, "{record}");
        if record["type"] == "l7" {
            let port = |end: &str| record[end]["port"].as_u64().context("a port");
            let ports = (port("client")?, port("server")?);
            ensure!(record["protocol"] == "tls", "{line}");
            records.push((ports, record));
        }
    }
    Ok(records)
}

/// tshark's fields of the messages that a filter takes, by the ports of the packet: the last one's,
/// where there are several.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Result<BTreeMap<(u64, u64), Vec<String>>> {
    let mut command = Command::new(installed("tshark")?);
    command.arg("-r").arg(file).args(["-d", "tcp.port==20000-20100,tls", "-Y", filter, "-T", "fields"]);
    command.args(["-E", "aggregator=;", "-e", "tcp.srcport", "-e", "tcp.dstport"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let text = run(command.stderr(Stdio::null()))?;
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let mut row = line.split('\t').map(str::to_owned);
        let mut port = || row.next().context("a port")?.parse().context("a port");
        rows.insert((port()?, port()?), row.collect());
    }
    Ok(rows)
}

/// The suites and groups of these ends, as numbers.
fn number(name: &str) -> u64 {
    const NUMBERS: [(&str, u64); 8] = [
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", 0xc014),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
        ("TLS_AES_256_GCM_SHA384", 0x1302),
        ("x25519", 29),
        ("secp256r1", 23),
        ("secp384r1", 24),
        ("1.2", 0x0303),
        ("1.3", 0x0304),
    ];
    NUMBERS.iter().find(|(known, _)| *known == name).map_or(u64::MAX, |(_, number)| *number)
}

fn integer(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn openssl_name(suite: &str) -> &str {
    match suite {
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA" => "ECDHE-RSA-AES256-SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => "ECDHE-RSA-AES256-GCM-SHA384",
        other => other,
    }
}

#[test]
fn handshakes_are_as_their_ends_and_tshark_say() -> Result<()> {
    let _alone = alone();
    let dir = tempfile::tempdir()?;
    let (said, file) = matrix(dir.path())?;
    let records: BTreeMap<(u64, u64), Value> = replay(&file)?.into_iter().collect();
    assert_eq!((said.len(), records.len()), (18, 18));
    let greetings =
        tshark(&file, "tls.handshake.type == 1", &["tls.handshake.extensions_server_name", "frame.time_epoch"])?;
    let chosen = ["tls.handshake.ciphersuite", "tls.handshake.extensions.supported_version", "tls.handshake.version"];
    let answers = tshark(&file, "tls.handshake.type == 2", &chosen)?;
    let groups = tshark(&file, "tls.handshake.type == 2", &["tls.handshake.extensions_key_share_group"])?;
    let curves = tshark(&file, "tls.handshake.type == 12", &["tls.handshake.server_named_curve"])?;
    let alerts = tshark(&file, "tls.alert_message.level == 2", &["tls.alert_message.desc"])?;
    for said in &said {
        let text = |name: &str| said[name].as_str().unwrap_or_default();
        let (from, to) = (said["from"].as_u64().context("from")?, said["port"].as_u64().context("port")?);
        let record = records.get(&(from, to)).with_context(|| said.to_string())?;
        let ours = |name: &str| record[name].as_str().unwrap_or_default();
        let context = || format!("{said}\n{record}");
        assert_eq!(ours("tls.client.server_name"), text("sni"), "{}", context());
        assert_eq!(record["notes"], Value::Array(vec![]), "{}", context());
        // The ends.
        if said["error"].is_null() {
            assert_eq!(ours("outcome"), "answered", "{}", context());
            let version = text("version").strip_prefix("TLSv").map(|v| if v == "1" { "1.0" } else { v });
            assert_eq!(Some(ours("tls.protocol.version")), version, "{}", context());
            assert_eq!(openssl_name(ours("tls.cipher")), text("cipher"), "{}", context());
            assert_eq!(record["tls.resumed"].as_bool().unwrap_or(false), said["resumed"] == true, "{}", context());
            // TLS 1.3 encrypts the server's choice.
            let alpn = if text("version") == "TLSv1.3" { "" } else { text("alpn") };
            assert_eq!(ours("tls.next_protocol"), alpn, "{}", context());
            assert!(record["tls.alert"].is_null(), "{}", context());
        }
        let retried = record["tls.retried"].as_bool().unwrap_or(false);
        assert_eq!(retried, text("case") == "retry", "{}", context());
        // tshark.
        let [sni, at] = &greetings[&(from, to)][..] else { panic!("{}", context()) };
        assert_eq!(ours("tls.client.server_name"), sni, "{}", context());
        let (start, at) = (record["start_unix_nano"].as_u64().context("start")?, at.parse::<f64>()?);
        // A second hello of a client is not the first.
        assert!(retried || (start as f64 / 1e9 - at).abs() < 2e-6, "{at} {}", context());
        let theirs = |rows: &BTreeMap<(u64, u64), Vec<String>>, place: usize| {
            rows.get(&(to, from)).and_then(|row| integer(row.get(place)?))
        };
        let named = |name: &str| Some(ours(name)).filter(|name| !name.is_empty()).map(number);
        assert_eq!(named("tls.cipher"), theirs(&answers, 0), "{}", context());
        let group = theirs(&groups, 0).or(theirs(&curves, 0));
        assert_eq!(named("tls.curve"), group, "{}", context());
        let version = theirs(&answers, 1).or(theirs(&answers, 2));
        if let Some(version @ 0x0303..) = version {
            assert_eq!(named("tls.protocol.version"), Some(version), "{}", context());
        }
        let alert = [(from, to), (to, from)].iter().find_map(|ports| integer(alerts.get(ports)?.first()?));
        assert_eq!(record["tls.alert"].as_u64(), alert, "{}", context());
    }
    let of = |case: &str| {
        let said = said.iter().find(|said| said["case"] == case)?;
        records.get(&(said["from"].as_u64()?, said["port"].as_u64()?))
    };
    for (case, outcome) in [("plain", "unanswered"), ("silent", "unanswered"), ("wary12", "answered")] {
        assert_eq!(of(case).context("a case")?["outcome"], outcome);
    }
    for (case, alert) in [("wary12", 48), ("version", 70), ("cipher", 40), ("anonymous12", 40)] {
        assert_eq!(of(case).context("a case")?["tls.alert"], alert, "{case}");
    }
    Ok(())
}

/// A program that is ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn idle(bed: &mut Testbed, name: &str) -> Result<Container> {
    bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]))
}

const HANDSHAKES: u64 = 2_000;
/// What is asked in turn, and the version that is agreed on.
const KINDS: [(&str, &str); 6] =
    [("v10", "1.0"), ("v12", "1.2"), ("v13", "1.3"), ("again12", "1.2"), ("again13", "1.3"), ("refused", "")];

#[test]
fn every_handshake_is_counted_at_both_ends_and_none_is_lost() -> Result<()> {
    let _alone = alone();
    let dir = tempfile::tempdir()?;
    certify(dir.path())?;
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let (server, client) = (idle(&mut bed, "shop")?, idle(&mut bed, "customer")?);
    agent.wait_attached(2, PATIENCE)?;
    let python = installed("python3")?;
    let (place, address) = (dir.path().display().to_string(), server.address.to_string());
    let mut command = ends(server.netns.command(&python), &["serve", &place, &address]);
    let mut serving = Running(command.stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().context("its output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the server says {line:?}");
    let capture = Capture::start(client.netns.command(&installed("tcpdump")?), "eth0", dir.path())?;
    let asked = run(&mut ends(client.netns.command(&python), &["ask", &address, &HANDSHAKES.to_string()]))?;
    let asked: BTreeMap<String, u64> = serde_json::from_str(&asked)?;
    assert_eq!(asked.values().sum::<u64>(), HANDSHAKES);
    let lost = wait_equation(&agent, HANDSHAKES)?;
    assert_eq!(lost, [0, 0], "{}", losses(&agent));
    // By what they were: name, version, and how they ended; the same packets replayed say the same.
    let metrics = agent.metrics()?;
    let name = "pilotfish_tls_handshake_duration_seconds_count";
    let mut replayed: BTreeMap<String, u64> = BTreeMap::new();
    for (_, record) in replay(&capture.end()?)? {
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        let end = if record["tls.alert"].is_null() { text("outcome") } else { "refused" };
        let key = format!("{} {} {end}", text("tls.client.server_name"), text("tls.protocol.version"));
        *replayed.entry(key).or_default() += 1;
    }
    for reporter in ["client", "server"] {
        let mut live: BTreeMap<String, u64> = BTreeMap::new();
        for (kind, version) in KINDS {
            let sni = format!("{kind}.example");
            let labels = [
                ("client_workload", "customer"),
                ("server_workload", "shop"),
                ("reporter", reporter),
                ("tls_client_server_name", &*sni),
            ];
            let with = |label| labels.into_iter().chain([label]).collect::<Vec<_>>();
            let (label, end) = match version {
                "" => (("error_type", "protocol_version"), "refused"),
                version => (("tls_protocol_version", version), "answered"),
            };
            let count = metrics.count(name, &with(label));
            let all: u64 = asked.iter().filter(|(key, _)| key.split(' ').next() == Some(kind)).map(|(_, n)| n).sum();
            assert_eq!(count, all, "{kind} by the {reporter}: {asked:?}");
            live.insert(format!("{sni} {version} {end}"), count);
        }
        assert_eq!(live, replayed, "by the {reporter}");
    }
    Ok(())
}
