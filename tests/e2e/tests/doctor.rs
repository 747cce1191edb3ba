//! `pilotfish doctor` as a person meets it: a workload that suffers is named with what to do, a
//! healthy one is not, and without an agent it does what it can.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testbed::scene::{self, Scene};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, built_binary, until};

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
    ensure!(ids(&healthy["fine"]).len() == 17, "{healthy:#}");
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
    ensure!(ids(&ill["fine"]).len() == 16 && ids(&ill["not_made"]).is_empty(), "{ill:#}");

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
    ensure!(code == 3 && ids(&nowhere["fine"]).is_empty() && ids(&nowhere["not_made"]).len() == 21, "{nowhere:#}");
    scene::final_line(&bed, &load, PATIENCE)?;
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

/// An agent whose findings have windows of this length.
fn quick_agent(bed: &Testbed, window: &str) -> Result<Agent> {
    let more = format!("\n[debug]\nwindow = {window:?}\n");
    Agent::start(bed, &AgentOptions { more, ..AgentOptions::default() })
}

/// The findings of one check once there are some: who, and how bad.
fn found(agent: &Agent, id: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    until(&format!("{id} is found"), PATIENCE, || {
        let document = doctor(&agent.socket, &["--id", id]).map(|(_, document)| document).unwrap_or_default();
        found = document["findings"].as_array().cloned().unwrap_or_default();
        !found.is_empty()
    })
    .with_context(|| agent.log_text())?;
    Ok(found)
}

/// A DNS server that knows one name, and that nothing else of the cluster exists.
fn resolver(bed: &mut Testbed) -> Result<Container> {
    let conf = "no-daemon\nno-resolv\nno-hosts\nuser=root\ncache-size=0\nlocal=/cluster.local/\n\
                host-record=api.demo.test,10.1.2.3\n";
    let command = ["/bin/dnsmasq", "--conf-file=/conf/dnsmasq.conf"];
    let dns = bed.run(ContainerSpec::new("dns", &command).file("dnsmasq.conf", conf))?;
    scene::wait_listening(&dns, 53)?;
    Ok(dns)
}

/// Looks names up in turn, 40 a second, until it is ended.
fn looks_up(bed: &mut Testbed, name: &str, dns: &Container, names: &[&str]) -> Result<Container> {
    let (server, names) = (format!("{}:53", dns.address), names.join(","));
    let command = ["/bin/loadgen", "--dns", &server, "--dns-rate", "40", "--dns-names", &names];
    bed.run(ContainerSpec::new(name, &command))
}

/// Shells in a container's network, ended when dropped.
struct Shells(Vec<Child>);

impl Shells {
    fn start(container: &Container, count: usize, script: &str) -> Result<Shells> {
        let mut shells = Shells(Vec::new());
        for _ in 0..count {
            let mut shell = container.netns.command(Path::new("bash"));
            shell.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            shells.0.push(shell.spawn().context("bash")?);
        }
        Ok(shells)
    }
}

impl Drop for Shells {
    fn drop(&mut self) {
        for shell in &mut self.0 {
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

fn nft(container: &Container, words: &str) -> Result<()> {
    let done = container.netns.command(Path::new("nft")).args(words.split(' ')).status()?;
    ensure!(done.success(), "nft {words}");
    Ok(())
}

/// Packets that the one rule of table `t` dropped.
fn dropped(container: &Container) -> Result<u64> {
    let output = container.netns.command(Path::new("nft")).args(["-j", "list", "table", "ip", "t"]).output()?;
    let listed: Value = serde_json::from_slice(&output.stdout)?;
    let rules = listed["nftables"].as_array().into_iter().flatten().filter_map(|one| one["rule"]["expr"].as_array());
    let packets = rules.flatten().filter_map(|part| part["counter"]["packets"].as_u64()).next();
    packets.context("a rule that counts")
}

#[test]
fn lookups_in_vain_and_lookups_that_are_made_again_are_found_and_plain_ones_are_fine() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = quick_agent(&bed, "2s")?;
    let dns = resolver(&mut bed)?;
    let name = "api.demo.test";
    let with = ["testbed.svc.cluster.local", "svc.cluster.local", "cluster.local"].map(|all| format!("{name}.{all}"));
    let names = [with[0].as_str(), &with[1], &with[2], name];
    looks_up(&mut bed, "searches", &dns, &names)?;
    looks_up(&mut bed, "tidy", &dns, &[name])?;
    let patient = bed.run(ContainerSpec::new("patient", &["/bin/sleep", "10000"]))?;
    for name in ["searches", "tidy", "patient", "dns"] {
        agent.wait_attached_to(name, PATIENCE)?;
    }
    let all = found(&agent, "dns-search")?;
    ensure!(all.len() == 1 && all[0]["subject"]["name"] == "searches", "{all:#?}");
    ensure!(all[0]["evidence"]["share"].as_f64().is_some_and(|share| (0.7..0.8).contains(&share)), "{all:#?}");
    let (code, none) = doctor(&agent.socket, &["--id", "dns-retry"])?;
    ensure!(code == 0 && ids(&none["fine"]) == ["dns-retry"], "{none:#}");

    // Eight resolvers ask, nobody hears them, and they ask again from the same port.
    let question = r"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x04demo\x04test\x00\x00\x01\x00\x01";
    let script = format!(
        "exec 3<>/dev/udp/{}/53; printf '{question}' >&3; sleep 2.3; printf '{question}' >&3; exec sleep 10000",
        dns.address
    );
    nft(&dns, "add table ip t")?;
    nft(&dns, "add chain ip t i { type filter hook prerouting priority 0 ; }")?;
    nft(&dns, &format!("add rule ip t i ip saddr {} counter drop", patient.address))?;
    let shells = Shells::start(&patient, 8, &script)?;
    // The second question of whoever asked early may be lost, too, where the others are long in coming.
    until("all have asked once", PATIENCE, || dropped(&dns).is_ok_and(|packets| packets >= 8))?;
    nft(&dns, "delete table ip t")?;
    let all = found(&agent, "dns-retry")?;
    ensure!(all.len() == 1 && all[0]["subject"]["name"] == "patient", "{all:#?}");
    ensure!(all[0]["severity"] == "error" && all[0]["hurt"][0]["client"] == "testbed/patient", "{all:#?}");
    ensure!(all[0]["evidence"]["longest_s"].as_f64().is_some_and(|longest| longest >= 2.3), "{all:#?}");
    // The agent shows what goes on, and only that.
    let gauge = [("id", "dns-search"), ("severity", "warning"), ("namespace", "testbed"), ("workload", "searches")];
    until("the gauge rises", PATIENCE, || {
        agent.metrics().is_ok_and(|all| all.count("pilotfish_finding", &gauge) == 1)
    })?;
    ensure!(agent.metrics()?.count("pilotfish_finding", &[("workload", "tidy")]) == 0);
    // What is of the node it watches, too: whether somebody keeps this machine's clock right it says as doctor.
    let (_, of_clock) = doctor(&agent.socket, &["--id", "clock"])?;
    let (clock, is_found) = ([("id", "clock"), ("workload", "the node")], ids(&of_clock["findings"]) == ["clock"]);
    until("the agent knows of the clock what doctor does", PATIENCE, || {
        agent.metrics().is_ok_and(|all| (all.count("pilotfish_finding", &clock) == 1) == is_found)
    })?;
    drop(shells);
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

#[test]
fn packets_that_a_policy_drops_are_found_and_watched_and_those_that_pass_are_fine() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let more = "\n[capture]\ndrops = true\n[debug]\nwindow = \"1s\"\n".to_owned();
    let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    let mut sleeps = |name: &str| bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]));
    let (closed, open, client) = (sleeps("closed")?, sleeps("open")?, sleeps("client")?);
    for (container, does) in [(&closed, "drop"), (&open, "accept")] {
        nft(container, "add table ip t")?;
        nft(container, "add chain ip t i { type filter hook input priority 0 ; }")?;
        nft(container, &format!("add rule ip t i udp dport 9 counter {does}"))?;
    }
    for name in ["closed", "open", "client"] {
        agent.wait_attached_to(name, PATIENCE)?;
    }
    let to = |container: &Container| format!("echo x > /dev/udp/{}/9", container.address);
    let script = format!("while :; do {}; {}; sleep 0.01; done", to(&closed), to(&open));
    let shells = Shells::start(&client, 1, &script)?;
    let all = found(&agent, "drops")?;
    let policy = |one: &&Value| one["evidence"]["reason"] == "NETFILTER_DROP" && one["subject"]["name"] == "closed";
    ensure!(all.iter().any(|one| policy(&one)), "{all:#?}");
    ensure!(all.iter().all(|one| one["subject"]["name"] != "open" && one["subject"]["name"] != "client"), "{all:#?}");
    let gauge = |name: &'static str| [("id", "drops"), ("namespace", "testbed"), ("workload", name)];
    until("the gauge rises", PATIENCE, || {
        agent.metrics().is_ok_and(|all| all.count("pilotfish_finding", &gauge("closed")) == 1)
    })?;
    ensure!(agent.metrics()?.count("pilotfish_finding", &gauge("open")) == 0);
    drop(shells);
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

/// A client whose requests follow the words of a file: their status, and the pause between two.
struct Client {
    words: PathBuf,
    _shells: Shells,
}

impl Client {
    fn start(bed: &mut Testbed, name: &str, server: &Container) -> Result<Client> {
        let container = bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]))?;
        let words = bed.log_file(&format!("{name}-words"));
        fs::write(&words, "200 0.1\n")?;
        let script = format!(
            "exec 3<>/dev/tcp/{}/8080 || exit 1
             while read -r status pause < {}; do
               printf 'GET /items?size=7&status=%s HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' \"$status\" >&3
               while IFS= read -r line <&3 && [ \"$line\" != $'\\r' ]; do :; done; read -r -N 7 body <&3; sleep \"$pause\"
             done",
            server.address,
            words.display()
        );
        let _shells = Shells::start(&container, 1, &script)?;
        Ok(Client { words, _shells })
    }

    fn does(&self, words: &str) -> Result<()> {
        // Whoever reads it never finds half of it.
        let next = self.words.with_extension("next");
        fs::write(&next, format!("{words}\n"))?;
        fs::rename(next, &self.words).context("tell the client")
    }
}

#[test]
fn a_client_that_asks_more_while_it_fails_is_found_and_one_that_only_asks_more_is_fine() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = quick_agent(&bed, "1s")?;
    let server = e2e::api(&mut bed, "api")?;
    agent.wait_attached_to("api", PATIENCE)?;
    let (storms, grows) = (Client::start(&mut bed, "storms", &server)?, Client::start(&mut bed, "grows", &server)?);
    // What is usual is known after four windows.
    std::thread::sleep(Duration::from_secs(7));
    let (code, calm) = doctor(&agent.socket, &["--id", "retry-storm"])?;
    ensure!(code == 0 && ids(&calm["fine"]) == ["retry-storm"], "{calm:#}");
    storms.does("503 0.01")?;
    grows.does("200 0.01")?;
    let all = found(&agent, "retry-storm")?;
    ensure!(all.len() == 1 && all[0]["subject"]["name"] == "storms", "{all:#?}");
    ensure!(all[0]["evidence"]["server"] == "testbed/api" && all[0]["certainty"] == "likely", "{all:#?}");
    let [rate, usual] = ["rate", "usual_rate"].map(|name| all[0]["evidence"][name].as_f64().unwrap_or_default());
    ensure!(usual > 1.0 && rate >= 2.0 * usual, "{all:#?}");
    let hurt = &all[0]["hurt"][0];
    ensure!(hurt["client"] == "testbed/storms" && hurt["requests"].as_u64().is_some_and(|count| count > 0), "{all:#?}");
    drop((storms, grows));
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

#[test]
fn a_memory_stat_that_does_not_come_back_is_an_error_and_holds_nothing_up() -> Result<()> {
    let _alone = alone();
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("nobody");
    let (code, fine) = doctor(&socket, &["--id", "memcg-dying"])?;
    ensure!(code == 0 && ids(&fine["fine"]) == ["memcg-dying"] && fine["agent"] == "absent", "{fine:#}");
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let stat = ["/sys/fs/cgroup/memory/memory.stat", "/sys/fs/cgroup/memory.stat"];
    let stat = stat.into_iter().find(|path| Path::new(path).exists()).context("a memory controller")?;
    // Over the real one, for this look alone.
    let script = format!("mount --bind {} {stat} && exec \"$0\" \"$@\"", fifo.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(built_binary("pilotfish")?);
    command.args(["doctor", "--id", "slow-read", "-n", "any", "-o", "json", "--socket"]).arg(&socket);
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    let document: Value =
        serde_json::from_str(&said).with_context(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    ensure!(output.status.code() == Some(2) && ids(&document["findings"]) == ["slow-read"], "{document:#}");
    ensure!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
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
