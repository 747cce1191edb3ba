//! The companion as a process: what it says of faults, what it takes over while it runs, and how it
//! ends.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use join::{Client, Feed, Link, Me, Ticket};
use parking_lot::Mutex;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tempfile::TempDir;
use testbed::until;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pilotfish-companion");
const PATIENCE: Duration = Duration::from_secs(60);

/// Files of a companion, as `secrets` prints them.
struct Files {
    dir: TempDir,
    join: String,
}

fn companion() -> Command {
    let mut command = Command::new(PROGRAM);
    // What the developer's shell says of a cluster is no part of a test.
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Files {
    fn new() -> Result<Files> {
        let mut files = Files { dir: tempfile::tempdir()?, join: String::new() };
        files.renew(&[])?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Another certificate and token; of another CA where none is given.
    fn renew(&mut self, arguments: &[&str]) -> Result<()> {
        let output = companion().args(["secrets", "--address", "127.0.0.1:1"]).args(arguments).output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout)?;
        let data = |item: usize, name: &str| -> Result<Vec<u8>> {
            Ok(STANDARD.decode(list["items"][item]["data"][name].as_str().context("data")?)?)
        };
        // The whole set at once, as the kubelet does it, is not what is tested here.
        for (file, item, name) in [
            ("ca.crt", 0, "tls.crt"),
            ("ca.key", 0, "tls.key"),
            ("token", 2, "token"),
            ("tls.key", 1, "tls.key"),
            ("tls.crt", 1, "tls.crt"),
        ] {
            let next = self.path("next");
            fs::write(&next, data(item, name)?)?;
            fs::rename(next, self.path(file))?;
        }
        self.join = text(&data(2, "join.toml")?);
        Ok(())
    }

    fn config(&self, more: &str) -> Result<String> {
        let path = self.path("companion.toml");
        let listen = |part: &str| format!("[{part}]\nlisten = \"127.0.0.1:0\"\n");
        let (certificate, key, token) = (self.path("tls.crt"), self.path("tls.key"), self.path("token"));
        let files = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n[join]\ntoken = {token:?}\n");
        let parts: String = ["push", "api", "metrics", "map"]
            .into_iter()
            .filter(|part| !more.contains(&format!("[{part}]")))
            .map(listen)
            .collect();
        fs::write(&path, format!("{parts}{files}[limits]\nperiod_s = 1\n[kubernetes]\nmode = \"off\"\n{more}"))?;
        Ok(path)
    }

    fn ticket(&self, push: SocketAddr) -> Result<Ticket> {
        Ok(Ticket::read(&self.join.replace("127.0.0.1:1\"", &format!("{push}\"")))?)
    }
}

/// A companion that serves.
struct Running {
    child: Child,
    push: SocketAddr,
    metrics: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(config: &str) -> Result<Running> {
        let mut child = companion().args(["serve", "--config", config]).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
        let Some(line) = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("the companion serves")))
        else {
            bail!("it ended: {:?}", child.wait()?);
        };
        let line = line?;
        let at = |key: &str| -> Result<SocketAddr> {
            let rest = line.split(&format!("{key}=")).nth(1).with_context(|| line.clone())?;
            Ok(rest.split_whitespace().next().context("an address")?.trim_matches('"').parse()?)
        };
        let running = Running { push: at("push")?, metrics: at("metrics")?, child };
        // Somebody reads on, or the companion's log finds its pipe full.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(running)
    }

    fn page(&self) -> Result<String> {
        let mut tcp = TcpStream::connect(self.metrics)?;
        tcp.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        tcp.read_to_string(&mut page)?;
        Ok(page)
    }

    /// Of a metric without labels.
    fn value(&self, name: &str) -> u64 {
        let page = self.page().unwrap_or_default();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or_default()
    }

    fn wait(&self, line: &str) -> Result<()> {
        until(line, PATIENCE, || self.page().is_ok_and(|page| page.lines().any(|found| found == line)))
            .with_context(|| self.page().unwrap_or_default())
    }

    fn terminate(mut self) -> Result<Option<i32>> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill");
        Ok(self.child.wait()?.code())
    }
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

/// An agent of a node, until the runtime ends.
fn join(runtime: &Runtime, node: &str, ticket: Ticket) -> Arc<Mutex<Link>> {
    let instance = INSTANCES.fetch_add(1, Relaxed);
    let link = Arc::new(Mutex::new(Link::new(Me::new("0.2.0", instance), node, instance)));
    let feed = Arc::new(Mutex::new(Feed::new(|_| {})));
    runtime.spawn(Client::new(ticket, link.clone(), feed).run(CancellationToken::new(), Arc::default()));
    link
}

fn why(link: &Mutex<Link>) -> String {
    link.lock().why().map(ToString::to_string).unwrap_or_default()
}

fn fails(config: &str) -> Result<(Option<i32>, String)> {
    let Output { status, stderr, .. } = companion().args(["serve", "--config", config]).output()?;
    Ok((status.code(), text(&stderr)))
}

#[test]
fn faults_are_told_with_their_place_and_end_it_with_64() -> Result<()> {
    let mut files = Files::new()?;
    let (code, told) = fails("/nowhere/companion.toml")?;
    ensure!((code, told.contains("read /nowhere/companion.toml: ")) == (Some(64), true), "{told}");
    for (more, part) in [
        ("[other]", "unknown field `other`"),
        ("[metrics]\nlisten = \"here\"", "invalid socket address"),
        ("[log]\nlevel = \"a=b=c\"", "log.level = \"a=b=c\""),
    ] {
        let (code, told) = fails(&files.config(more)?)?;
        ensure!(code == Some(64) && told.contains(part), "{part}: {code:?} {told}");
    }
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let (code, told) = fails(&files.config(&format!("[push]\nlisten = \"{address}\""))?)?;
    ensure!(code == Some(64) && told.contains(&format!("push.listen: listen on {address}: ")), "{told}");

    let config = files.config("")?;
    for (file, content, part) in [
        ("token", "short", "join.token: "),
        ("tls.crt", "no PEM", "tls.certificate, tls.key: "),
        ("tls.key", "no PEM", "tls.certificate, tls.key: "),
    ] {
        fs::write(files.path(file), content)?;
        let (code, told) = fails(&config)?;
        ensure!(code == Some(64) && told.contains(part) && !told.contains("short\n"), "{file}: {told}");
        files.renew(&[])?;
    }
    // Another key than the certificate's.
    let other = Files::new()?;
    fs::copy(other.path("tls.key"), files.path("tls.key"))?;
    let (code, told) = fails(&config)?;
    ensure!(code == Some(64) && told.contains("tls.certificate, tls.key: "), "{told}");
    fs::remove_file(files.path("token"))?;
    let (code, told) = fails(&config)?;
    ensure!(code == Some(64) && told.contains("join.token: "), "{told}");
    let nothing = companion().output()?;
    ensure!(nothing.status.code() == Some(64), "{}", text(&nothing.stderr));
    Ok(())
}

#[test]
fn files_that_change_are_taken_over_and_a_signal_ends_it_with_0() -> Result<()> {
    let (mut files, runtime) = (Files::new()?, Runtime::new()?);
    let running = Running::start(&files.config("")?)?;
    let old = files.ticket(running.push)?;
    join(&runtime, "n1", old.clone());
    running.wait("pilotfish_companion_agents{state=\"live\"} 1")?;
    ensure!(running.page()?.contains("pilotfish_companion_build_info{version="), "{}", running.page()?);

    // The same CA, another certificate, another token.
    let (ca, key) = (files.path("ca.crt"), files.path("ca.key"));
    let (ca, key): (&Path, &Path) = (ca.as_ref(), key.as_ref());
    let kept = (files.path("kept.crt"), files.path("kept.key"));
    fs::copy(ca, &kept.0)?;
    fs::copy(key, &kept.1)?;
    files.renew(&["--ca", &kept.0, "--ca-key", &kept.1])?;
    until("they are read", PATIENCE, || running.value("pilotfish_companion_files_read_total") > 0)?;
    let late = join(&runtime, "n2", files.ticket(running.push)?);
    until("the new token is taken", PATIENCE, || late.lock().held().is_some_and(|held| held > 0))
        .with_context(|| why(&late))?;
    let refused = join(&runtime, "n3", old);
    until("the old token is not", PATIENCE, || why(&refused).contains("was changed"))?;
    running.wait("pilotfish_companion_agents{state=\"live\"} 2")?;

    // What cannot be used is counted and changes nothing.
    let refused = || running.value("pilotfish_companion_files_refused_total");
    let before = refused();
    fs::write(files.path("token"), "short")?;
    until("it is refused", PATIENCE, || refused() > before)?;
    running.wait("pilotfish_companion_agents{state=\"live\"} 2")?;
    ensure!(running.terminate()? == Some(0));
    Ok(())
}

/// The CA is changed while nodes push: each trusts both before the certificate is another one's.
#[test]
fn another_ca_costs_no_node_its_stream() -> Result<()> {
    let (mut files, runtime) = (Files::new()?, Runtime::new()?);
    let running = Running::start(&files.config("")?)?;
    join(&runtime, "n1", files.ticket(running.push)?);
    running.wait("pilotfish_companion_agents{state=\"live\"} 1")?;
    // Read anew, as by another process: who has been there resumes its session, and asks for no certificate.
    let old = files.ticket(running.push)?;
    let (ca, token) = (files.path("old.crt"), files.path("old.token"));
    fs::copy(files.path("ca.crt"), &ca)?;
    fs::copy(files.path("token"), &token)?;
    files.renew(&["--token", &token, "--trust", &ca])?;
    let both = files.ticket(running.push)?;
    // Whichever certificate is shown by now.
    let early = join(&runtime, "n2", both.clone());
    let holds = |link: &Mutex<Link>| link.lock().held().is_some_and(|held| held > 0);
    until("who trusts both joins", PATIENCE, || holds(&early)).with_context(|| why(&early))?;
    until("the new one is read", PATIENCE, || running.value("pilotfish_companion_files_read_total") > 0)?;
    let late = join(&runtime, "n3", both);
    until("and joins again", PATIENCE, || holds(&late)).with_context(|| why(&late))?;
    let left_behind = join(&runtime, "n4", old);
    until("who trusts the old one alone is told", PATIENCE, || why(&left_behind).contains("not signed by the CA in"))?;
    // No stream that was open was cut.
    running.wait("pilotfish_companion_agents{state=\"live\"} 3")?;
    ensure!(early.lock().why().is_none(), "{}", why(&early));
    ensure!(running.terminate()? == Some(0));
    Ok(())
}

#[test]
fn join_says_what_is_wrong_before_it_asks_anybody() -> Result<()> {
    let files = Files::new()?;
    let (ticket, cut) = (files.path("join.toml"), files.path("cut.toml"));
    fs::write(&ticket, &files.join)?;
    fs::write(&cut, "address = 5\ntoken = \"a-token-of-this-test\"\n")?;
    let nowhere = ["--kubeconfig", "/nowhere/kubeconfig"];
    for (arguments, code, part) in [
        (&[][..], 64, "--reset"),
        (&["--reset", "n1", "--node", "n1"], 64, "cannot be used with"),
        (&["--reset", "N 1"], 64, "--reset: \"N 1\" is no name of a node"),
        (&["--node", "n1\u{1b}[2J"], 64, "is no name of a node"),
        (&["--node", "n1", "--ticket", "/nowhere/join.toml"], 64, "--ticket: /nowhere/join.toml: "),
        (&["--node", "n1", "--ticket", &cut], 64, "cut.toml: invalid type"),
        (&["--node", "n1", "--ticket", &ticket], 70, "Secret pilotfish/pilotfish-nodes: "),
        (&["--reset", "n1"], 70, "Secret pilotfish/pilotfish-nodes: "),
    ] {
        let Output { status, stderr, stdout } = companion().arg("join").args(arguments).args(nowhere).output()?;
        let told = text(&stderr);
        ensure!(status.code() == Some(code) && told.contains(part), "{arguments:?}: {status} {told}");
        ensure!(stdout.is_empty() && !told.contains('\u{1b}') && !told.contains("a-token-of"), "{told}");
    }
    Ok(())
}
