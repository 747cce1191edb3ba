//! `pilotfish timeline` beside a real containerd: what an exit cut is exactly what its clients saw
//! unanswered, by their own report and at their own interface; who ends in peace cut nothing.
#![forbid(unsafe_code)]

mod memory;

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, api};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, built_binary, scene, until};

/// Connections of one container, each with a request that is answered and one that waits. What came
/// of the second is a line of `log`.
struct Client {
    container: Container,
    log: PathBuf,
    shells: Vec<std::process::Child>,
}

impl Client {
    fn start(bed: &mut Testbed, name: &str) -> Result<Client> {
        let container = bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]))?;
        let log = bed.log_file(&format!("{name}-clients"));
        fs::write(&log, "")?;
        Ok(Client { container, log, shells: Vec::new() })
    }

    /// Opens `count` connections to `server` whose second request is this one.
    fn ask(&mut self, server: &Container, count: usize, method: &str, query: &str) -> Result<()> {
        // Some close their end at once, some never.
        let end = if method == "POST" { "exec 3>&-; " } else { "" };
        let head = "HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n";
        let script = format!(
            "exec 3<>/dev/tcp/{}/8080 || exit 1; printf '{method} /items?size=7 {head}' >&3
             while IFS= read -r line <&3 && [ \"$line\" != $'\\r' ]; do :; done; read -r -N 7 body <&3; echo first
             printf '{method} /items?{query} {head}' >&3; echo asked
             IFS= read -r line <&3; echo \"got:${{line:0:8}}\"; {end}exec sleep 10000",
            server.address
        );
        for _ in 0..count {
            let out = fs::OpenOptions::new().append(true).open(&self.log)?;
            let mut shell = self.container.netns.command(Path::new("bash"));
            shell.args(["-c", &script]).stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
            self.shells.push(shell.spawn().context("bash")?);
        }
        Ok(())
    }

    fn said(&self, word: &str) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().lines().filter(|line| *line == word).count()
    }

    fn wait(&self, word: &str, count: usize) -> Result<()> {
        until(&format!("{count} clients say {word:?}"), PATIENCE, || self.said(word) == count)
            .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Client {
    /// Closes what it has open.
    fn end(&mut self) {
        for mut shell in self.shells.drain(..) {
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// The exit code and what was said.
fn timeline(agent: &Agent, args: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    let output = command.arg("timeline").args(args).arg("--socket").arg(&agent.socket).output()?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok((output.status.code().context("it ends by itself")?, said))
}

fn events(agent: &Agent, args: &[&str]) -> Result<Vec<Value>> {
    let (code, said) = timeline(agent, &[args, &["-o", "json"]].concat())?;
    ensure!(code == 0, "{code}: {said}");
    let document: Value = serde_json::from_str(&said)?;
    ensure!(document["schema"] == "pilotfish.timeline/1", "{said}");
    Ok(document["events"].as_array().context("events")?.clone())
}

/// The one exit of this workload, once nothing more is expected of it.
fn exit_of(agent: &Agent, workload: &str) -> Result<Value> {
    let exit = || -> Result<Option<Value>> {
        let all = events(agent, &[workload])?;
        Ok(all.into_iter().find(|event| event["event"] == "exit" && event["settled"] == true))
    };
    let mut found = None;
    until(&format!("the exit of {workload} is told"), PATIENCE, || {
        found = exit().ok().flatten();
        found.is_some()
    })
    .with_context(|| agent.log_text())?;
    found.context("an exit")
}

fn kill(bed: &Testbed, container: &Container, signal: &str) -> Result<()> {
    bed.containerd().ctr(&container.namespace, &["task", "kill", "--signal", signal, &container.name]).map(drop)
}

/// What `doctor` makes of it: its exit code, and whom the finding hurt.
fn doctor(agent: &Agent) -> Result<(i32, Vec<String>)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    command.args(["doctor", "--id", "cut-by-exit", "-n", "testbed", "-o", "json", "--socket"]).arg(&agent.socket);
    let output = command.output()?;
    let document: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let hurt = document["findings"].as_array().into_iter().flatten().filter_map(|found| found["hurt"].as_array());
    let row = |row: &Value| format!("{} {}", row["client"], row["requests"]).replace('"', "");
    Ok((output.status.code().context("it ends by itself")?, hurt.flatten().map(row).collect()))
}

/// Requests of this client that its own interface saw unanswered.
fn unanswered(agent: &Agent, client: &str) -> u64 {
    let labels = [("client_workload", client), ("error_type", "unanswered"), ("reporter", "client")];
    agent.metrics().map_or(0, |all| all.count("http_client_request_duration_seconds_count", &labels))
}

/// Client and method of each row, with its requests.
fn rows(exit: &Value) -> Vec<String> {
    let row = |row: &Value| format!("{} {} {}", row["client"], row["what"], row["requests"]).replace('"', "");
    let mut rows: Vec<String> = exit["cut"].as_array().into_iter().flatten().map(row).collect();
    rows.sort();
    rows
}

fn waits_for_ever(agent: &Agent, bed: &mut Testbed, server: &Container) -> Result<[Client; 2]> {
    let (mut web, mut mobile) = (Client::start(bed, "web")?, Client::start(bed, "mobile")?);
    for name in ["web", "mobile", &server.name] {
        agent.wait_attached_to(name, PATIENCE)?;
    }
    web.ask(server, 3, "GET", "delay_ms=1000000")?;
    mobile.ask(server, 2, "POST", "delay_ms=1000000")?;
    web.wait("asked", 3)?;
    mobile.wait("asked", 2)?;
    Ok([web, mobile])
}

#[test]
fn a_kill_under_load_is_told_with_exactly_what_its_clients_lost_and_kept_over_a_restart() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let state = tempfile::tempdir()?;
    let options = AgentOptions { state: Some(state.path().to_owned()), ..AgentOptions::default() };
    let mut agent = Agent::start(&bed, &options)?;
    let server = api(&mut bed, "api")?;
    let [mut web, mobile] = waits_for_ever(&agent, &mut bed, &server)?;
    // One that is answered, and one whose answer is whole when the server ends.
    let mut patient = Client::start(&mut bed, "patient")?;
    agent.wait_attached_to("patient", PATIENCE)?;
    patient.ask(&server, 2, "GET", "size=20")?;
    patient.wait("got:HTTP/1.1", 2)?;

    kill(&bed, &server, "SIGKILL")?;
    web.wait("got:", 3)?;
    mobile.wait("got:", 2)?;
    let exit = exit_of(&agent, "api")?;
    ensure!(exit["code"] == 137 && exit["cause"] == "exit" && exit["oom_ms"].is_null(), "{exit:#}");
    ensure!(exit["cut_requests"] == 5 && rows(&exit) == ["mobile POST 2", "web GET 3"], "{exit:#}");
    ensure!(exit["likely"] == false, "{exit:#}");
    // Who never closed does so now: until then its own interface has seen no end.
    web.end();
    for (client, count) in [("web", 3), ("mobile", 2), ("patient", 0)] {
        until(&format!("{client} lost {count} at its own interface"), PATIENCE, || {
            unanswered(&agent, client) == count
        })?;
    }
    let labels = [("cause", "exit"), ("server_workload", "api")];
    ensure!(agent.metrics()?.count("pilotfish_cut_exchanges_total", &labels) == 5);
    ensure!(doctor(&agent)? == (1, vec!["testbed/mobile 2".to_owned(), "testbed/web 3".to_owned()]));
    let (code, page) = timeline(&agent, &["testbed/api"])?;
    ensure!(
        code == 0 && page.contains("5 requests unanswered: ") && page.contains("3 x GET from testbed/web"),
        "{page}"
    );
    ensure!(page.contains("start  testbed/api") && page.contains("code 137 (SIGKILL)"), "{page}");

    // The next agent knows it, too.
    ensure!(agent.stop() == Some(0));
    let (code, said) = timeline(&agent, &[])?;
    ensure!(code == 69 && said.contains("no agent answers"), "{code}: {said}");
    agent.start_again(&bed)?;
    let again = exit_of(&agent, "api")?;
    ensure!(rows(&again) == rows(&exit) && again["seq"] == exit["seq"], "{again:#}");
    ensure!(agent.metrics()?.count("pilotfish_cut_exchanges_total", &labels) == 5);
    let (_, page) = timeline(&agent, &[])?;
    ensure!(page.contains("nobody looked from "), "{page}");
    drop((web, mobile, patient));
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

#[test]
fn who_ends_in_peace_cut_nothing() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "api")?;
    let mut client = Client::start(&mut bed, "web")?;
    agent.wait_attached_to("web", PATIENCE)?;
    agent.wait_attached_to("api", PATIENCE)?;
    client.ask(&server, 3, "GET", "size=20")?;
    // Its connections stay open.
    client.wait("got:HTTP/1.1", 3)?;
    kill(&bed, &server, "SIGTERM")?;
    let exit = exit_of(&agent, "api")?;
    ensure!(exit["code"] == 0 && exit["cut_requests"] == 0 && exit["streams"] == 0, "{exit:#}");
    let none = agent.metrics()?.count("pilotfish_cut_exchanges_total", &[]);
    ensure!(none == 0, "{none}");
    ensure!(doctor(&agent)? == (0, Vec::new()));
    let (_, page) = timeline(&agent, &["-n", "testbed", "api"])?;
    ensure!(!page.contains("unanswered"), "{page}");
    drop(client);
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

#[test]
fn a_server_that_runs_out_of_memory_is_told_with_what_that_cut() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = bed.run(ContainerSpec::new("api", &["/bin/api"]).with_memory(32 << 20))?;
    scene::wait_listening(&server, 8080)?;
    // The kernel is to choose the server, not who eats.
    fs::write(format!("/proc/{}/oom_score_adj", server.pid), "1000")?;
    let [web, mobile] = waits_for_ever(&agent, &mut bed, &server)?;
    bed.exec(&server, &["/bin/sh", "-c", "x=$(/bin/busybox yes 0123456789012345678901234567890123456789)"]).ok();
    web.wait("got:", 3)?;
    mobile.wait("got:", 2)?;
    let exit = exit_of(&agent, "api")?;
    ensure!(exit["code"] == 137 && exit["cause"] == "oom" && exit["oom_ms"].is_number(), "{exit:#}");
    ensure!(exit["cut_requests"] == 5 && rows(&exit) == ["mobile POST 2", "web GET 3"], "{exit:#}");
    ensure!(doctor(&agent)? == (2, vec!["testbed/mobile 2".to_owned(), "testbed/web 3".to_owned()]));
    ensure!(events(&agent, &["api"])?.iter().any(|event| event["event"] == "oom"), "{exit:#}");
    let labels = [("cause", "oom"), ("server_workload", "api")];
    ensure!(agent.metrics()?.count("pilotfish_cut_exchanges_total", &labels) == 5);
    drop((web, mobile));
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

#[test]
fn what_is_followed_is_told_as_it_happens_and_bad_words_are_refused() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let mut follow = Command::new(built_binary("pilotfish")?);
    let log = bed.log_file("follow");
    follow.args(["timeline", "-f", "--socket"]).arg(&agent.socket).stdout(fs::File::create(&log)?);
    let mut follow = follow.spawn()?;
    let told = |word: &str| {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        until(&format!("{word:?} is told"), PATIENCE, || said().contains(word)).with_context(said)
    };
    let short = bed.run(ContainerSpec::new("short", &["/bin/sleep", "10000"]))?;
    told("start  testbed/short")?;
    bed.stop(short, Duration::from_millis(1))?;
    told("code 137 (SIGKILL)")?;
    follow.kill()?;
    follow.wait()?;
    for (args, code, word) in [
        (&["--since", "yesterday"][..], 64, "write seconds or a text like"),
        (&["-o", "xml"], 64, "possible values"),
        (&["a", "b"], 64, "unexpected argument"),
        (&["nobody"], 0, "nothing happened"),
    ] {
        let (ended, said) = timeline(&agent, args)?;
        ensure!(ended == code && said.contains(word), "{args:?}: {ended}: {said}");
    }
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}
