//! A server that runs out of memory under load, again and again: what that cut is what its clients lost, to the
//! request, by their own report and at their own interface.
//! A hundred times: `cargo test -p e2e --test timeline -- --ignored --nocapture a_hundred`; with `PILOTFISH_OOMS` so
//! many times, and with `PILOTFISH_SEED` from that seed on.

use super::{events, exit_of};
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, scene, until};

/// Connections that ask one thing after the other until the server is gone: quick ones, slow ones, long answers, and
/// some that are never answered. Says when each of them was answered once, and at the end what became of all.
const CLIENT: &str = r"
import http.client, json, random, sys, threading, time
address, connections, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lock, said, begun = threading.Lock(), {}, threading.Semaphore(0)
lost = (OSError, http.client.HTTPException)

def count(what, method):
    with lock:
        of = said.setdefault(what, {})
        of[method] = of.get(method, 0) + 1

def ask(one, own, turn, waits):
    method = own.choice(['GET', 'POST', 'PUT', 'DELETE'])
    query = own.choice(['size=7', 'size=300', 'size=300&delay_ms=3', 'size=40000&chunked=1', 'size=200000'])
    if waits and turn > 3:
        query = 'size=7&delay_ms=1000000'
    try:
        one.request(method, '/items?' + query)
    except lost:
        return False  # It never left.
    count('sent', method)
    try:
        answer = one.getresponse()
    except lost:
        count('unanswered', method)
        return False
    try:
        answer.read()
    except lost:
        count('broken_off', method)
        return False
    count('answered', method)
    return True

def work(own):
    one = http.client.HTTPConnection(address, 8080)
    one.connect()
    one.auto_open = 0
    turn, waits = 0, own.random() < 0.3
    while ask(one, own, turn, waits):
        turn += 1
        if turn == 3:
            begun.release()
        if own.random() < 0.5:
            time.sleep(own.random() / 200)

threads = [threading.Thread(target=work, args=(random.Random(seed * 1000 + n),)) for n in range(connections)]
for thread in threads:
    thread.start()
for _ in threads:
    begun.acquire()
print('begun', flush=True)
for thread in threads:
    thread.join()
print(json.dumps(said), flush=True)
";
const CLIENTS: [&str; 2] = ["web", "mobile"];
/// An exit is settled after 3 s; the next ones go on meanwhile.
const BEHIND: usize = 3;

/// By method.
type Counts = BTreeMap<String, u64>;

struct Load {
    process: Child,
    log: PathBuf,
}

impl Load {
    fn start(bed: &Testbed, client: &Container, server: &Container, connections: u64, seed: u64) -> Result<Load> {
        let log = bed.log_file(&format!("{}-{}", client.name, server.name));
        let mut command: Command = client.netns.command(Path::new("python3"));
        let words = [server.address.to_string(), connections.to_string(), seed.to_string()];
        command.args(["-c", CLIENT]).args(words).stdin(Stdio::null());
        command.stdout(fs::File::create(&log)?).stderr(fs::File::create(log.with_extension("err"))?);
        Ok(Load { process: command.spawn().context("python3")?, log })
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_begun(&self) -> Result<()> {
        until("each connection was answered", PATIENCE, || self.said().contains("begun")).with_context(|| {
            fs::read_to_string(self.log.with_extension("err")).unwrap_or_default()
        })
    }

    /// Its report, once its last connection has ended.
    fn end(mut self) -> Result<BTreeMap<String, Counts>> {
        until("the clients are done", PATIENCE, || self.process.try_wait().is_ok_and(|ended| ended.is_some()))?;
        let said = self.said();
        serde_json::from_str(said.lines().last().unwrap_or_default()).with_context(|| said.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that is gone, and what each client says of it.
struct Gone {
    server: String,
    clients: Vec<BTreeMap<String, Counts>>,
}

/// Starts a server, asks it, and has the kernel kill it for memory meanwhile.
fn run_out(bed: &mut Testbed, agent: &Agent, clients: &[Container; 2], number: u64, seed: u64) -> Result<Gone> {
    let name = format!("api{number}");
    let server = bed.run(ContainerSpec::new(&name, &["/bin/api"]).with_memory(32 << 20))?;
    scene::wait_listening(&server, 8080)?;
    // The kernel is to choose the server, not who eats.
    fs::write(format!("/proc/{}/oom_score_adj", server.pid), "1000")?;
    agent.wait_attached_to(&name, PATIENCE)?;
    let load = |at: usize, client: &Container| {
        let connections = 2 + (seed + 3 * at as u64) % 7;
        Load::start(bed, client, &server, connections, seed * 2 + at as u64)
    };
    let loads: Vec<Load> = clients.iter().enumerate().map(|(at, client)| load(at, client)).collect::<Result<_>>()?;
    loads.iter().try_for_each(Load::wait_begun)?;
    bed.exec(&server, &["/bin/sh", "-c", "x=$(/bin/busybox yes 0123456789012345678901234567890123456789)"]).ok();
    let clients = loads.into_iter().map(Load::end).collect::<Result<_>>()?;
    bed.stop(server, Duration::from_secs(1))?;
    Ok(Gone { server: name, clients })
}

fn sum(said: &BTreeMap<String, Counts>, what: &str) -> u64 {
    said.get(what).into_iter().flat_map(Counts::values).sum()
}

/// Returns the requests that were cut, and how many of them amid their answers.
fn check(agent: &Agent, gone: &Gone) -> Result<[u64; 2]> {
    let Gone { server, clients } = gone;
    let exit = exit_of(agent, server)?;
    let told = || {
        let all = events(agent, &[server]).unwrap_or_default();
        format!("{clients:?}\n{exit:#}\n{all:?}\n{}", e2e::losses(agent))
    };
    ensure!(exit["code"] == 137 && exit["cause"] == "oom" && exit["oom_ms"].is_number(), "{}", told());
    ensure!(exit["likely"] == false, "{}", told());
    let rows: Vec<&Value> = exit["cut"].as_array().into_iter().flatten().collect();
    for (client, said) in CLIENTS.into_iter().zip(clients) {
        // By their own report.
        let mut lost = said.get("unanswered").cloned().unwrap_or_default();
        said.get("broken_off").into_iter().flatten().for_each(|(method, n)| *lost.entry(method.clone()).or_default() += n);
        let of_client = rows.iter().filter(|row| row["client"] == client);
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let cut: Counts = of_client
            .clone()
            .map(|row| (row["what"].as_str().unwrap_or_default().to_owned(), number(&row["requests"])))
            .collect();
        ensure!(cut == lost, "{client} lost {lost:?}, and {cut:?} were cut: {}", told());
        let broken_off: u64 = of_client.map(|row| number(&row["broken_off"])).sum();
        ensure!(broken_off == sum(said, "broken_off"), "{client}, broken off: {}", told());
        // At their own interface: what was broken off has a status there.
        let count = |error: &[(&str, &str)]| {
            let edge = [("client_workload", client), ("server_workload", server.as_str()), ("reporter", "client")];
            let labels = [&edge[..], error].concat();
            agent.metrics().map_or(0, |all| all.count("http_client_request_duration_seconds_count", &labels))
        };
        let mut seen = [0; 2];
        until(&format!("{client}'s interface has all requests to {server}"), PATIENCE, || {
            seen = [count(&[]), count(&[("error_type", "unanswered")])];
            seen[0] == sum(said, "sent")
        })
        .with_context(|| format!("{seen:?}: {}", told()))?;
        ensure!(seen[1] == sum(said, "unanswered"), "{client}'s interface saw {seen:?}: {}", told());
    }
    let all = clients.iter().map(|said| [sum(said, "unanswered"), sum(said, "broken_off")]);
    let [unanswered, broken_off] = all.fold([0; 2], |all, one| [all[0] + one[0], all[1] + one[1]]);
    let labels = [("cause", "oom"), ("server_workload", server.as_str())];
    let counted = agent.metrics()?.count("pilotfish_cut_exchanges_total", &labels);
    ensure!(counted == unanswered + broken_off && exit["cut_requests"] == counted, "{counted}: {}", told());
    Ok([counted, broken_off])
}

fn again_and_again(times: u64, seed: u64) -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let idle = |bed: &mut Testbed, name: &str| bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]));
    let clients = [idle(&mut bed, CLIENTS[0])?, idle(&mut bed, CLIENTS[1])?];
    for name in CLIENTS {
        agent.wait_attached_to(name, PATIENCE)?;
    }
    let (began, mut gone, mut all, mut sent) = (Instant::now(), VecDeque::new(), [0; 2], 0);
    for number in 0..times + BEHIND as u64 {
        if number < times {
            let one = run_out(&mut bed, &agent, &clients, number, seed + number)
                .with_context(|| format!("seed {}", seed + number))?;
            sent += one.clients.iter().map(|said| sum(said, "sent")).sum::<u64>();
            gone.push_back(one);
        }
        if gone.len() > BEHIND || number >= times {
            let Some(one) = gone.pop_front() else { continue };
            let [cut, broken_off] = check(&agent, &one).with_context(|| format!("seed {seed}, {}", one.server))?;
            all = [all[0] + cut, all[1] + broken_off];
        }
    }
    eprintln!(
        "{times} times out of memory, seeds from {seed}: {} of {sent} requests cut, {} of them amid their answers, each told; {:.0} s",
        all[0],
        all[1],
        began.elapsed().as_secs_f64()
    );
    ensure!(bed.take_down()?.is_empty());
    Ok(())
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// Another one each time, and told where it fails.
fn seed() -> u64 {
    given("PILOTFISH_SEED").unwrap_or_else(|| u64::from(std::process::id()))
}

#[test]
fn what_runs_out_of_memory_under_load_cut_what_its_clients_lost() -> Result<()> {
    again_and_again(2, seed())
}

#[test]
#[ignore = "by command: takes minutes"]
fn a_hundred_times_out_of_memory_under_load() -> Result<()> {
    again_and_again(given("PILOTFISH_OOMS").unwrap_or(100), seed())
}
