//! `pilotfish replay` on captures of real servers and clients, beside tshark's fields of the same
//! file; then the same captures with packets dropped, repeated, out of order, and begun in the
//! middle: nothing wrong may be said of them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use testbed::{Process, built_binary, installed, until};

const CONNECTIONS: usize = 4;
const REQUESTS: usize = 500;
/// dnsmasq takes 100 over one TCP connection.
const QUESTIONS: usize = 96;

/// Two namespaces with a link between them; removed with the value.
struct Pair {
    client: String,
    server: String,
}

impl Pair {
    const SERVER: &str = "10.99.71.2";

    fn new() -> Result<Pair> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let pair = Pair { client: format!("pfr-c{id}"), server: format!("pfr-s{id}") };
        let Pair { client, server } = &pair;
        ip(&["netns", "add", client])?;
        ip(&["netns", "add", server])?;
        ip(&["link", "add", "eth0", "netns", client, "type", "veth", "peer", "name", "eth0", "netns", server])?;
        for (name, address) in [(client, "10.99.71.1/24"), (server, "10.99.71.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
        }
        Ok(pair)
    }

    fn inside(netns: &str, program: &str) -> Result<Command> {
        let mut command = Command::new(installed("ip")?);
        command.args(["netns", "exec", netns]).arg(installed(program)?);
        Ok(command)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [&self.client, &self.server] {
            // Gone already is as good.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new(installed("ip")?).args(args).output()?;
    ensure!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {} {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

const NGINX: &str = "
daemon off; master_process off; pid DIR/nginx.pid; error_log DIR/error.log;
events { worker_connections 256; }
http {
  access_log off; client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fcgi;
  uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi; keepalive_requests 1000000; root DIR;
  server {
    listen 80;
    location /ok { return 200 'fine'; }
    location /file { try_files /big.txt =404; }
    location /none { return 204; }
    location /moved { return 302 /ok; }
    location /missing { return 404 'no such thing'; }
    location /broken { return 503; }
  }
}";

/// Target and what the server above says to it.
fn request(number: usize) -> (String, u16) {
    let (path, status) =
        [("ok", 200), ("missing", 404), ("file", 200), ("none", 204), ("broken", 503), ("moved", 302)][number % 6];
    (format!("/{path}?i={number}"), status)
}

/// Captures what `traffic` does, from the first packet to the last. On a busy machine tcpdump
/// itself may lose packets: then once more.
fn capture(pair: &Pair, dir: &Path, filter: &str, traffic: impl Fn() -> Result<()>) -> Result<PathBuf> {
    for _ in 0..4 {
        if let Some(file) = capture_once(pair, dir, filter, &traffic)? {
            return Ok(file);
        }
    }
    bail!("tcpdump lost packets four times in a row; this machine is too busy for the comparison")
}

/// `None` when tcpdump lost packets.
fn capture_once(pair: &Pair, dir: &Path, filter: &str, traffic: impl Fn() -> Result<()>) -> Result<Option<PathBuf>> {
    let file = dir.join("capture.pcap");
    let mut command = Pair::inside(&pair.server, "tcpdump")?;
    command.args(["-i", "eth0", "-U", "--immediate-mode", "-B", "65536", "--time-stamp-precision=nano", "-w"]);
    command.arg(&file).arg(filter);
    let log = dir.join("tcpdump.log");
    let mut tcpdump = Process::start("tcpdump", &mut command, &log)?;
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    until("tcpdump to listen", Duration::from_secs(10), || text().contains("listening on"))?;
    traffic()?;
    // What was sent is in the file once nothing is added any more.
    let mut size = 0;
    until("the capture to be complete", Duration::from_secs(10), || {
        let now = std::fs::metadata(&file).map_or(0, |meta| meta.len());
        std::mem::replace(&mut size, now) == now && now > 24
    })?;
    tcpdump.stop(Duration::from_secs(10));
    let text = text();
    ensure!(text.contains("packets dropped by kernel"), "{text}");
    // The line before it ends with a newline: 10 packets are not 0.
    Ok(text.contains("\n0 packets dropped by kernel").then_some(file))
}

fn http_capture(dir: &Path) -> Result<PathBuf> {
    let pair = Pair::new()?;
    std::fs::write(dir.join("big.txt"), "0123456789abcdef".repeat(5000))?;
    let config = dir.join("nginx.conf");
    std::fs::write(&config, NGINX.replace("DIR", &dir.display().to_string()))?;
    let mut command = Pair::inside(&pair.server, "nginx")?;
    command.arg("-p").arg(dir).arg("-c").arg(&config).args(["-g", "user root;"]);
    let _nginx = Process::start("nginx", &mut command, &dir.join("nginx.log"))?;
    let curl = || Pair::inside(&pair.client, "curl");
    until("nginx to answer", Duration::from_secs(10), || {
        let url = format!("http://{}/ok", Pair::SERVER);
        curl().and_then(|mut curl| run(curl.args(["-s", &url]))).is_ok_and(|text| text == "fine")
    })?;
    capture(&pair, dir, "tcp", || {
        let mut clients = Vec::new();
        for connection in 0..CONNECTIONS {
            let mut urls = String::new();
            for number in 0..REQUESTS {
                let (target, _) = request(connection * REQUESTS + number);
                writeln!(urls, "url = \"http://{}{target}\"\noutput = /dev/null", Pair::SERVER)?;
            }
            let list = dir.join(format!("urls.{connection}"));
            std::fs::write(&list, urls)?;
            clients.push(curl()?.arg("-s").arg("--config").arg(&list).spawn()?);
        }
        for mut client in clients {
            ensure!(client.wait()?.success(), "curl failed");
        }
        Ok(())
    })
}

fn dns_capture(dir: &Path) -> Result<PathBuf> {
    let pair = Pair::new()?;
    let mut command = Pair::inside(&pair.server, "dnsmasq")?;
    let flags = "--keep-in-foreground --no-resolv --no-hosts --port=53 --user=root --pid-file= --conf-file=/dev/null \
                 --local=/test/ --address=/a.test/10.1.2.3 --address=/a.test/fd00::1 --txt-record=t.test,hello";
    command.args(flags.split_whitespace());
    let _dnsmasq = Process::start("dnsmasq", &mut command, &dir.join("dnsmasq.log"))?;
    let server = format!("@{}", Pair::SERVER);
    let dig = |args: &[&str]| {
        let mut dig = Pair::inside(&pair.client, "dig")?;
        run(dig.arg(&server).args(["+time=2", "+tries=1"]).args(args))
    };
    until("dnsmasq to answer", Duration::from_secs(10), || dig(&["+short", "a.test"]).is_ok())?;
    capture(&pair, dir, "port 53", || {
        let mut list = String::new();
        for number in 0..QUESTIONS {
            let kind = ["A", "AAAA", "TXT", "MX"][number % 4];
            let name = ["a.test", "t.test", "missing.test", "elsewhere.example"][number / 4 % 4];
            writeln!(list, "n{number}.{name} {kind}")?;
        }
        let file = dir.join("questions");
        std::fs::write(&file, list)?;
        let file = file.display().to_string();
        dig(&["-f", &file])?;
        dig(&["+tcp", "+keepopen", "-f", &file])?;
        Ok(())
    })
}

/// Exchanges of a file as replay tells them.
fn replay(file: &Path) -> Result<Vec<Value>> {
    let output = Command::new(built_binary("pilotfish")?)
        .arg("replay")
        .arg(file)
        .args(["-o", "json", "--records"])
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    let mut records = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if record["type"] == "l7" {
            records.push(record);
        }
    }
    Ok(records)
}

/// One row of tshark's fields for each packet that the filter takes; fields that a packet has
/// several times are joined by `;`.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new(installed("tshark")?);
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-E", "aggregator=;"]);
    for field in fields {
        command.args(["-e", field]);
    }
    command.stderr(Stdio::null());
    let text = run(&mut command)?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

fn target(record: &Value) -> String {
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    match text("url.query") {
        "" => text("url.path").to_owned(),
        query => format!("{}?{query}", text("url.path")),
    }
}

fn close_to(ours: &Value, theirs: &str) -> bool {
    let (Some(ours), Ok(theirs)) = (ours.as_f64(), theirs.parse::<f64>()) else { return false };
    (ours - theirs).abs() < 2e-6
}

#[test]
fn http_exchanges_are_those_of_tshark() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = http_capture(dir.path())?;
    let fields = [
        "frame.number",
        "http.request.method",
        "http.request.uri",
        "http.response.code",
        "http.request_in",
        "http.time",
    ];
    let rows = tshark(&file, "http", &fields)?;
    let mut requests = BTreeMap::new();
    let mut theirs = BTreeMap::new();
    for row in &rows {
        let [frame, method, uri, code, request_in, time] = row.as_slice() else { bail!("{row:?}") };
        if method.is_empty() {
            let (method, uri): &(String, String) = requests.get(request_in).context("a response's request")?;
            theirs.insert(uri.clone(), (method.clone(), code.clone(), time.clone()));
        } else {
            requests.insert(frame.clone(), (method.clone(), uri.clone()));
        }
    }
    let records = replay(&file)?;
    assert_eq!((records.len(), theirs.len()), (CONNECTIONS * REQUESTS, CONNECTIONS * REQUESTS));
    for record in &records {
        let target = target(record);
        let (method, code, time) = theirs.get(&target).with_context(|| target.clone())?;
        assert_eq!(record["http.request.method"], method.as_str(), "{target}");
        assert_eq!(record["http.response.status_code"].to_string(), *code, "{target}");
        assert_eq!(record["notes"], Value::Array(vec![]), "{target}");
        // tshark's time ends with the response's last segment, as ours does.
        assert!(close_to(&record["duration_s"], time), "{target}: {} and {time}", record["duration_s"]);
    }
    Ok(())
}

#[test]
fn dns_exchanges_are_those_of_tshark() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dns_capture(dir.path())?;
    let fields =
        ["dns.flags.response", "dns.id", "dns.qry.name", "dns.qry.type", "dns.flags.rcode", "dns.time", "tcp.stream"];
    let mut theirs = BTreeMap::new();
    for row in tshark(&file, "dns.flags.response == 1", &fields)? {
        let [_, ids, names, kinds, rcodes, times, stream] = row.as_slice() else { bail!("{row:?}") };
        let transport = if stream.is_empty() { "udp" } else { "tcp" };
        let [ids, names, kinds, rcodes, times] =
            [ids, names, kinds, rcodes, times].map(|several| several.split(';').collect::<Vec<_>>());
        // Over TCP a segment may hold several responses.
        for (number, id) in ids.iter().enumerate() {
            let id = u16::from_str_radix(id.trim_start_matches("0x"), 16)?;
            let key = (transport.to_owned(), id, names[number].to_owned(), kinds[number].to_owned());
            theirs.insert(key, (rcodes[number].to_owned(), times[number].to_owned()));
        }
    }
    let records = replay(&file)?;
    assert_eq!((records.len(), theirs.len()), (2 * QUESTIONS, 2 * QUESTIONS));
    for record in &records {
        let kind = match record["dns.question.type"].as_str() {
            Some("A") => "1",
            Some("AAAA") => "28",
            Some("TXT") => "16",
            Some("MX") => "15",
            other => bail!("type {other:?}"),
        };
        let rcode = match record["dns.response.code"].as_str() {
            Some("NOERROR") => "0",
            Some("NXDOMAIN") => "3",
            Some("REFUSED") => "5",
            other => bail!("code {other:?}"),
        };
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let id = u16::try_from(record["dns.id"].as_u64().context("id")?)?;
        let key = (text("network.transport"), id, text("dns.question.name"), kind.to_owned());
        let (code, time) = theirs.get(&key).with_context(|| format!("{key:?}"))?;
        assert_eq!(code, rcode, "{key:?}");
        assert!(close_to(&record["duration_s"], time), "{key:?}: {} and {time}", record["duration_s"]);
    }
    Ok(())
}

/// A small generator of numbers that are the same in every run (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The packets of a little-endian pcap file, their headers included.
fn packets(file: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    let mut rest = &file[24..];
    while let Some(header) = rest.first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize + 16;
        packets.push(&rest[..length]);
        rest = &rest[length..];
    }
    packets
}

/// The capture with one packet in a hundred mistreated.
fn mutate(file: &[u8], how: &str, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut all = packets(file);
    let one_percent = |random: &mut Random| random.below(100) == 0;
    match how {
        "dropped" => all.retain(|_| !one_percent(&mut random)),
        "repeated" => {
            all = all.iter().flat_map(|&packet| vec![packet; 1 + usize::from(one_percent(&mut random))]).collect()
        }
        "reordered" => {
            for at in 0..all.len().saturating_sub(4) {
                if one_percent(&mut random) {
                    all.swap(at, at + 1 + random.below(3) as usize);
                }
            }
        }
        _ => {
            let start = random.below(all.len() as u64) as usize;
            all.drain(..start);
        }
    }
    [&file[..24], &all.concat()].concat()
}

#[test]
fn mistreated_captures_give_no_wrong_http_record() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = std::fs::read(http_capture(dir.path())?)?;
    for how in ["dropped", "repeated", "reordered", "begun in the middle"] {
        for seed in 1..=5 {
            let mutated = dir.path().join("mutated.pcap");
            std::fs::write(&mutated, mutate(&file, how, seed))?;
            let records = replay(&mutated)?;
            let mut seen = BTreeSet::new();
            let mut right = 0;
            for record in &records {
                let target = target(record);
                let Some(number) = target.split_once("?i=").and_then(|(_, number)| number.parse().ok()) else {
                    // Without its request: it says no more than a status.
                    ensure!(target.is_empty(), "{how} {seed}: a target that nobody asked for: {record}");
                    continue;
                };
                let (asked, status) = request(number);
                assert_eq!(target, asked, "{how} {seed}: {record}");
                assert!(seen.insert(number), "{how} {seed}: twice: {record}");
                if let Some(seen_status) = record["http.response.status_code"].as_u64() {
                    assert_eq!(seen_status, u64::from(status), "{how} {seed}: {record}");
                    right += 1;
                }
            }
            let whole = CONNECTIONS * REQUESTS;
            let least = match how {
                "dropped" => whole * 9 / 10,
                // A response before the first packet of its connection, or the like, is not paired.
                "reordered" => whole * 99 / 100,
                "begun in the middle" => 0,
                _ => whole,
            };
            assert!(right >= least, "{how} {seed}: {right} of {whole}");
        }
    }
    Ok(())
}

#[test]
fn mistreated_captures_give_no_wrong_dns_record() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = std::fs::read(dns_capture(dir.path())?)?;
    let mutated = dir.path().join("mutated.pcap");
    let key = |record: &Value| {
        ["network.transport", "dns.id", "dns.question.name", "dns.question.type"].map(|name| record[name].to_string())
    };
    std::fs::write(&mutated, &file)?;
    let truth: BTreeMap<_, _> =
        replay(&mutated)?.iter().map(|record| (key(record), record["dns.response.code"].clone())).collect();
    for how in ["dropped", "repeated", "reordered", "begun in the middle"] {
        for seed in 1..=5 {
            std::fs::write(&mutated, mutate(&file, how, seed))?;
            for record in replay(&mutated)? {
                let code = truth.get(&key(&record)).with_context(|| format!("{how} {seed}: {record}"))?;
                let said = &record["dns.response.code"];
                assert!(said.is_null() || said == code, "{how} {seed}: {record}");
            }
        }
    }
    Ok(())
}
