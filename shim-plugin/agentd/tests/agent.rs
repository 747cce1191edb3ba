//! The binary as a supervisor and an administrator meet it. Most of it needs root.
#![forbid(unsafe_code)]

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// For whatever is waited for; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn pilotfish() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
    // What the developer's shell has set is no part of the tests.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PILOTFISH_")) {
        command.env_remove(name);
    }
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A directory with a configuration of its own and the place where systemd would listen.
struct Place {
    dir: tempfile::TempDir,
    systemd: UnixDatagram,
}

struct Agent {
    child: Child,
    ended: bool,
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Agent {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill starts").success());
    }

    fn wait(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("ends");
        self.ended = true;
        let mut text = String::new();
        if let Some(mut log) = self.child.stderr.take() {
            log.read_to_string(&mut text).expect("log");
        }
        (status.code(), text)
    }
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("pfg").tempdir().expect("temporary directory");
        let systemd = UnixDatagram::bind(dir.path().join("notify")).expect("bind");
        systemd.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let place = Place { dir, systemd };
        place.configure("127.0.0.1:0", "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, listen: &str, more: &str) {
        let text = format!(
            "[containerd]\nsockets = [{:?}]\n[admin]\nlisten = {listen:?}\nsocket = {:?}\n{more}",
            self.path("containerd.sock"),
            self.path("agent.sock"),
        );
        fs::write(self.path("pilotfish.toml"), text).expect("write");
    }

    fn agent(&self, program: &mut Command) -> Agent {
        program.args(["agent", "--log-format", "text", "--config"]).arg(self.path("pilotfish.toml"));
        program.env("NOTIFY_SOCKET", self.path("notify")).env("WATCHDOG_USEC", "1000000");
        let child = program.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
        Agent { child, ended: false }
    }

    /// Waits until systemd was told something that begins like this; returns the rest.
    fn told(&self, beginning: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = match self.systemd.recv(&mut message) {
                // A wait with a timeout ends so when the machine was suspended in between: signal(7), SO_RCVTIMEO.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                told => told.unwrap_or_else(|e| panic!("systemd was not told {beginning}: {e}")),
            };
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if let Some(rest) = text.lines().find_map(|line| line.strip_prefix(beginning)) {
                return rest.to_owned();
            }
        }
    }

    fn ask(&self, command: &[&str]) -> Output {
        pilotfish().args(command).arg("--socket").arg(self.path("agent.sock")).output().expect("runs")
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

/// An address that was free a moment ago. None that the kernel gives to connections or to who asks
/// for any port (ip_local_port_range, from 32,768 on): the other tests take those in between.
fn free_address() -> String {
    let any = || format!("127.0.0.1:{}", 10_000 + RandomState::new().hash_one(0) % 22_000);
    let is_free = |address: &String| TcpListener::bind(address).is_ok();
    std::iter::repeat_with(any).take(100).find(is_free).expect("one of a hundred ports is free")
}

#[test]
fn without_containerd_the_agent_is_ready_says_what_it_waits_for_and_leaves_nothing_behind() {
    let place = Place::new();
    let address = free_address();
    place.configure(&address, "");
    let mut agent = place.agent(&mut pilotfish());
    place.told("READY=1");
    let status = place.told("STATUS=");
    assert!(status.contains("0 namespaces attached") && status.contains("waiting for containerd"), "{status}");
    place.told("WATCHDOG=1");

    let ready = get(&address, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.0 200") && ready.contains("containerd") && ready.contains("none of its sockets"),
        "{ready}"
    );
    assert!(get(&address, "/livez").starts_with("HTTP/1.0 200"));
    let metrics = get(&address, "/metrics");
    for family in ["pilotfish_build_info{", "pilotfish_netns{", "pilotfish_lost_total{", "process_open_fds "] {
        assert!(metrics.contains(family), "{family}: {metrics}");
    }
    let status = place.ask(&["status"]);
    assert!(
        status.status.success() && said(&status).contains("ready: containerd: none of its sockets"),
        "{}",
        said(&status)
    );
    let edges = place.ask(&["edges", "-o", "json"]);
    assert_eq!((edges.status.code(), said(&edges).trim()), (Some(0), "[]"));
    let stat = place.ask(&["stat"]);
    assert!(said(&stat).contains("No traffic was counted yet"), "{}", said(&stat));
    let version = place.ask(&["version", "-o", "json"]);
    assert!(said(&version).contains("\"agent\": {"), "{}", said(&version));

    agent.signal("TERM");
    place.told("STOPPING=1");
    let (code, log) = agent.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(!place.path("agent.sock").exists());
}

#[test]
fn the_agent_takes_the_descriptors_that_the_hard_limit_allows() {
    let place = Place::new();
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=256:3000", env!("CARGO_BIN_EXE_pilotfish")]);
    let mut agent = place.agent(&mut limited);
    place.told("READY=1");
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["3000", "3000"], "{line}");
    agent.signal("TERM");
    assert_eq!(agent.wait().0, Some(0));
}

#[test]
fn the_agent_sees_the_cgroups_of_the_node_from_a_cgroup_namespace_of_its_own() {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/cgroup"));
    // Where the first process is hidden: the kernel's own.
    let of_node = namespace("1").or_else(|_| namespace("2")).expect("the node's");
    let place = Place::new();
    let mut apart = Command::new("unshare");
    let mut agent = place.agent(apart.args(["--cgroup", env!("CARGO_BIN_EXE_pilotfish")]));
    place.told("READY=1");
    assert_eq!(namespace(&agent.child.id().to_string()).expect("the agent's"), of_node);
    agent.signal("TERM");
    assert_eq!(agent.wait().0, Some(0));
}

#[test]
fn a_second_agent_is_refused_and_a_dead_ones_socket_is_replaced() {
    let place = Place::new();
    let mut first = place.agent(&mut pilotfish());
    place.told("READY=1");
    let (code, log) = place.agent(&mut pilotfish()).wait();
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("another agent is answering"), "{log}");

    first.signal("KILL");
    first.wait();
    assert!(place.path("agent.sock").exists(), "nobody was left to remove it");
    let mut second = place.agent(&mut pilotfish());
    place.told("READY=1");
    assert!(place.ask(&["status"]).status.success());
    second.signal("INT");
    assert_eq!(second.wait().0, Some(0));
}

#[test]
fn a_second_agent_on_the_same_containerd_or_state_is_refused_until_the_first_has_ended_however_it_ended() {
    let (place, other) = (Place::new(), Place::new());
    let first = place.agent(pilotfish().env("STATE_DIRECTORY", place.path("")));
    place.told("READY=1");
    let refused = |program: &mut Command, what: &Path| {
        let (code, log) = other.agent(program).wait();
        assert_eq!(code, Some(64), "{log}");
        let named = format!("another agent (pid {}) works with {}", first.child.id(), what.display());
        assert!(log.contains(&named), "{named}: {log}");
        assert!(!other.path("agent.sock").exists());
    };
    // An address and a socket of its own, and the same containerd by another path.
    std::os::unix::fs::symlink(place.dir.path(), other.path("also")).expect("link");
    let elsewhere = |sockets: &str| {
        let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = {:?}\n", other.path("agent.sock"));
        fs::write(other.path("pilotfish.toml"), format!("[containerd]\nsockets = [{sockets}]\n{admin}"))
            .expect("write");
    };
    let also = other.path("also/containerd.sock");
    elsewhere(&format!("\"/nonexistent/a.sock\", {also:?}"));
    refused(&mut pilotfish(), &other.path("also"));
    elsewhere("\"/nonexistent/a.sock\"");
    refused(pilotfish().env("STATE_DIRECTORY", place.path("")), &place.path(""));
    let mut check = pilotfish();
    let check = check.args(["check", "--config"]).arg(place.path("pilotfish.toml")).output().expect("runs");
    assert_eq!(check.status.code(), Some(0), "who only looks is not refused: {}", said(&check));

    let mut first = first;
    first.signal("KILL");
    first.wait();
    elsewhere(&format!("{also:?}"));
    let mut second = other.agent(&mut pilotfish());
    other.told("READY=1");
    second.signal("TERM");
    assert_eq!(second.wait().0, Some(0));
}

#[test]
fn a_taken_port_is_a_fault_of_the_configuration() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    place.configure(&taken.local_addr().expect("bound").to_string(), "");
    let (code, log) = place.agent(&mut pilotfish()).wait();
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("is in use by another process"), "{log}");
    assert!(!place.path("agent.sock").exists());
}

#[test]
fn an_address_that_another_agent_has_is_told_as_that_agent() {
    let (place, other) = (Place::new(), Place::new());
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("bind").to_string();
    place.configure(&address, "");
    let first = place.agent(&mut pilotfish());
    place.told("READY=1");
    let admin = format!("[admin]\nlisten = {address:?}\nsocket = {:?}\n", other.path("agent.sock"));
    let text = format!("[containerd]\nsockets = [{:?}]\n{admin}", place.path("containerd.sock"));
    fs::write(other.path("pilotfish.toml"), text).expect("write");
    let (code, log) = other.agent(&mut pilotfish()).wait();
    assert_eq!(code, Some(64), "{log}");
    let named = format!("another agent (pid {}) works with {}", first.child.id(), place.path("").display());
    assert!(log.contains(named.trim_end_matches('/')), "{named}: {log}");
}

#[test]
fn faults_are_told_together_before_anything_is_touched() {
    let place = Place::new();
    place.configure("127.0.0.1:0", "[atach]\nmode = \"tcx\"\n[capture]\nring_byte = 1\n");
    let mut program = pilotfish();
    program.env("PILOTFISH_LOG_LEVEL", "loud=very=much");
    let (code, log) = place.agent(&mut program).wait();
    assert_eq!(code, Some(64), "{log}");
    for fault in [
        "3 faults",
        "pilotfish.toml:6: atach: no such section; write [attach]",
        "write ring_bytes",
        "PILOTFISH_LOG_LEVEL",
    ] {
        assert!(log.contains(fault), "{fault}: {log}");
    }
}

/// The binary where another user can run it.
fn for_anybody(place: &Place) -> PathBuf {
    let copy = place.path("pilotfish");
    // By another process: what a thread of this one forks meanwhile would hold the copy open for writing, and nobody
    // could run it.
    let mut install = Command::new("install");
    let copied = install.args(["-m", "755", env!("CARGO_BIN_EXE_pilotfish")]).arg(&copy).status();
    assert!(copied.expect("install").success());
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    copy
}

fn setpriv(arguments: &[&str], program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(arguments).arg("--").arg(program);
    command
}

#[test]
fn without_privileges_the_agent_ends_with_77_and_names_them() {
    let place = Place::new();
    let program = for_anybody(&place);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let (code, log) = place.agent(&mut setpriv(&nobody, &program)).wait();
    assert_eq!(code, Some(77), "{log}");
    assert!(log.contains("CAP_NET_ADMIN (attach to interfaces)") && log.contains("CAP_SYS_PTRACE"), "{log}");

    let some = ["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"];
    let (code, log) = place.agent(&mut setpriv(&some, &program)).wait();
    assert_eq!(code, Some(77), "{log}");
    assert!(log.contains("CAP_BPF") && log.contains("CAP_SYS_ADMIN") && !log.contains("CAP_NET_ADMIN"), "{log}");

    let mut check = setpriv(&nobody, &program);
    let check =
        check.args(["check", "-o", "json", "--config"]).arg(place.path("pilotfish.toml")).output().expect("runs");
    assert_eq!(check.status.code(), Some(77), "{}", said(&check));
    assert!(said(&check).contains("\"can_run\": false"), "{}", said(&check));
}

#[test]
fn check_tries_both_ways_of_attaching() {
    let place = Place::new();
    let mut check = pilotfish();
    let check = check.args(["check", "--config"]).arg(place.path("pilotfish.toml")).output().expect("runs");
    let page = said(&check);
    assert_eq!(check.status.code(), Some(0), "{page}");
    assert!(page.contains("The agent can run here."), "{page}");
    let line = |name: &str| page.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("clsact").contains("ok") && line("kernel programs").contains("ok"), "{page}");
    assert!(line("containerd").contains("waits"), "{page}");
}

#[test]
fn commands_without_an_agent_end_with_69_and_say_what_to_do() {
    let place = Place::new();
    for command in [["status"], ["stat"], ["edges"]] {
        let output = place.ask(&command);
        assert_eq!(output.status.code(), Some(69), "{}", said(&output));
        assert!(
            said(&output).contains("no agent answers on") && said(&output).contains("start it"),
            "{}",
            said(&output)
        );
    }
    let version = place.ask(&["version"]);
    assert!(version.status.success() && said(&version).starts_with("pilotfish "), "{}", said(&version));
}

#[test]
fn help_has_the_exit_codes_and_pages_are_made_from_it() {
    let help = pilotfish().arg("--help").output().expect("runs");
    assert!(said(&help).contains("Exit codes:") && said(&help).contains("77  root"), "{}", said(&help));
    let unknown = pilotfish().arg("--nonsense").output().expect("runs");
    assert_eq!(unknown.status.code(), Some(64));
    let script = pilotfish().args(["completions", "bash"]).output().expect("runs");
    assert!(said(&script).contains("_pilotfish()"), "{}", said(&script));
    let place = Place::new();
    let pages = pilotfish().arg("man").arg(place.path("man")).output().expect("runs");
    assert!(pages.status.success(), "{}", said(&pages));
    assert!(place.path("man/pilotfish-agent.1").exists());
    let default = pilotfish().args(["config", "--print-default"]).output().expect("runs");
    fs::write(place.path("default.toml"), &default.stdout).expect("write");
    let valid = pilotfish().args(["config", "--config"]).arg(place.path("default.toml")).output().expect("runs");
    assert!(valid.status.success(), "{}", said(&valid));
}
