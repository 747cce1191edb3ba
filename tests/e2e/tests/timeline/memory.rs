//! A server that runs out of memory under load, again and again: what that cut is what its clients lost, to the
//! request, by their own report and at their own interface.
//! A hundred times: `cargo test -p e2e --test timeline -- --ignored --nocapture a_hundred`; with `PILOTFISH_OOMS` so
//! many times, and with `PILOTFISH_SEED` from that seed on.

use super::{events, exit_of};
use anyhow::{Context, Result, ensure};
use e2e::askers::{Askers, Said, cut_by_client};
use e2e::{PATIENCE, alone};
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed, scene, until};

const CLIENTS: [&str; 2] = ["web", "mobile"];
/// An exit is settled after 3 s; the next ones go on meanwhile.
const BEHIND: usize = 3;

/// A server that is gone, and what each client says of it.
struct Gone {
    server: String,
    clients: Vec<Said>,
}

/// Starts a server, asks it, and has the kernel kill it for memory meanwhile.
fn run_out(bed: &mut Testbed, agent: &Agent, clients: &[Container; 2], number: u64, seed: u64) -> Result<Gone> {
    let name = format!("api{number}");
    let server = bed.run(ContainerSpec::new(&name, &["/bin/api"]).with_memory(32 << 20))?;
    scene::wait_listening(&server, 8080)?;
    // The kernel is to choose the server, not who eats.
    fs::write(format!("/proc/{}/oom_score_adj", server.pid), "1000")?;
    agent.wait_attached_to(&name, PATIENCE)?;
    let asks = |at: usize, client: &Container| {
        let log = bed.log_file(&format!("{}-{name}", client.name));
        let python = client.netns.command(Path::new("python3"));
        let connections = 2 + (seed + 3 * at as u64) % 7;
        Askers::start(python, log, &format!("{}:8080", server.address), connections, seed * 2 + at as u64)
    };
    let all: Vec<Askers> = clients.iter().enumerate().map(|(at, client)| asks(at, client)).collect::<Result<_>>()?;
    all.iter().try_for_each(|askers| askers.wait_begun(PATIENCE))?;
    bed.exec(&server, &["/bin/sh", "-c", "x=$(/bin/busybox yes 0123456789012345678901234567890123456789)"]).ok();
    let clients = all.into_iter().map(|askers| askers.end(PATIENCE)).collect::<Result<_>>()?;
    bed.stop(server, Duration::from_secs(1))?;
    Ok(Gone { server: name, clients })
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
    for (client, said) in CLIENTS.into_iter().zip(clients) {
        // By their own report.
        let (cut, broken_off) = cut_by_client(&exit, client);
        ensure!(cut == said.lost(), "{client} lost {:?}, and {cut:?} were cut: {}", said.lost(), told());
        ensure!(broken_off == said.broken_off(), "{client}, broken off: {}", told());
        // At their own interface: what was broken off has a status there.
        let count = |error: &[(&str, &str)]| {
            let edge = [("client_workload", client), ("server_workload", server.as_str()), ("reporter", "client")];
            let labels = [&edge[..], error].concat();
            agent.metrics().map_or(0, |all| all.count("http_client_request_duration_seconds_count", &labels))
        };
        let mut seen = [0; 2];
        until(&format!("{client}'s interface has all requests to {server}"), PATIENCE, || {
            seen = [count(&[]), count(&[("error_type", "unanswered")])];
            seen[0] == said.sent()
        })
        .with_context(|| format!("{seen:?}: {}", told()))?;
        ensure!(seen[1] == said.unanswered(), "{client}'s interface saw {seen:?}: {}", told());
    }
    let all = clients.iter().map(|said| [said.unanswered(), said.broken_off()]);
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
            sent += one.clients.iter().map(Said::sent).sum::<u64>();
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
#[ignore = "measures: takes minutes"]
fn a_hundred_times_out_of_memory_under_load() -> Result<()> {
    again_and_again(given("PILOTFISH_OOMS").unwrap_or(100), seed())
}
