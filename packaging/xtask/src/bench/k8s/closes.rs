//! The API server ends every watch after 5 to 10 s (`--min-request-timeout=5`), and one pod gets
//! another address every second. Measured: the agent's CPU by the scheduler's count, in windows of
//! a second that begin every quarter of one; its descriptors and threads; lists and ended watches
//! by the audit log; and from the patch's sending until the agent's socket says the new address.
//! Such a question costs the agent CPU, too: what one costs is measured before, and told.

use super::agent::{Agent, Setup};
use super::samples::Samples;
use super::{lists, pods};
use crate::bench::goals::Goals;
use crate::bench::quantile;
use anyhow::{Result, ensure};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, kinds, objects};
use testbed::signals;

const PODS: u32 = 60;
const SECOND: Duration = Duration::from_secs(1);
/// After so long a patch counts as never seen.
const LOST: Duration = Duration::from_secs(30);

pub(super) fn run(length: Duration) -> Result<()> {
    let plane = ControlPlane::start(&ControlPlaneOptions { min_request_timeout: Some(5), ..Default::default() })?;
    let client = plane.client();
    pods::create_node(client)?;
    let named = pods::create(client, "p", 0..PODS)?;
    client.create(&kinds::SERVICE, &objects::service("default", "web", &[("app", "p-0")], 80, false))?;
    let mark = plane.audit().mark();
    let mut idle = Agent::start(&plane, &Setup { name: "off".into(), is_off: true, ..Setup::alone() })?;
    let without = rest(&idle)?;
    idle.stop()?;

    let mut agent = Agent::start(&plane, &Setup::alone())?;
    pods::wait_named(&agent, &named, Duration::from_secs(60))?;
    // What a start leaves to do is over, and each of the runtime's threads was made.
    super::pass(Duration::from_secs(15))?;
    let each_ns = cost_of_a_question(&agent, &named)?;
    let seen = patch_and_look(&plane, &agent, length)?;

    let requests = lists::of_agents(&plane.audit(), mark)?;
    let closed = requests.iter().filter(|request| lists::is_closed_watch(request));
    let closed = lists::by_resource(closed);
    let lists = lists::by_resource(requests.iter().filter(|request| lists::is_list(request)));
    let mut goals = Goals::new("closes");
    let minutes = length.as_secs_f64() / 60.0;
    let least = (6.0 * minutes).floor();
    let total: usize = closed.values().sum();
    let what = format!("watches ended in {minutes:.1} min");
    let measured = format!("{total} ({})", lists::words(&closed));
    goals.check(
        &what,
        &format!(">= {least} of pods"),
        &measured,
        closed.get("pods").is_some_and(|n| *n as f64 >= least),
    );
    goals.at_most("CPU, mean", " % of a core", 1.0, seen.samples.mean(), 2);
    goals.at_most("CPU, worst second", " % of a core", 10.0, seen.samples.worst_second(), 2);
    goals.tell("CPU of an agent without Kubernetes, mean and worst second", &without);
    let asked = seen.questions as f64 * each_ns / length.as_nanos() as f64 * 100.0;
    goals.tell(
        "of which for being asked",
        &format!("{asked:.2} % of a core ({} questions, {:.0} us each)", seen.questions, each_ns / 1e3),
    );
    for (what, figure) in
        [("descriptors", (|stat| stat.descriptors) as fn(&testbed::Stat) -> usize), ("threads", |stat| stat.threads)]
    {
        let (first, least, most) = seen.samples.range(figure);
        let last = seen.samples.last(figure);
        let measured = format!("{first} at first, {last} at last, {least} to {most} between");
        goals.check(what, "first +-2", &measured, first.abs_diff(least).max(first.abs_diff(most)) <= 2);
    }
    for (resource, count) in &lists {
        let gone = agent.relists(resource)?;
        let goal = format!("1 + {gone} (versions that were gone)");
        goals.check(&format!("lists of {resource}"), &goal, &count.to_string(), *count as u64 <= 1 + gone);
    }
    let mutating = requests.iter().filter(|request| request.is_mutating()).count();
    goals.check("mutating requests", "0", &mutating.to_string(), mutating == 0);
    goals.check("patches never seen", "0", &format!("{} of {}", seen.lost, seen.patches), seen.lost == 0);
    goals.at_most("patch to name, p99", " ms", 2000.0, quantile(&seen.took_ms, 0.99), 0);
    let (half, worst) = (quantile(&seen.took_ms, 0.5), quantile(&seen.took_ms, 1.0));
    goals.tell("patch to name, p50 and worst", &format!("{half:.0} ms, {worst:.0} ms"));
    agent.stop()?;
    goals.finish()
}

/// What an agent uses while nothing happens.
fn rest(agent: &Agent) -> Result<String> {
    super::pass(Duration::from_secs(5))?;
    let mut samples = Samples::default();
    for _ in 0..80 {
        samples.add(Instant::now(), agent.stat()?);
        super::pass(Duration::from_millis(250))?;
    }
    Ok(format!("{:.2} %, {:.2} %", samples.mean(), samples.worst_second()))
}

/// Nanoseconds of the agent's CPU.
fn cost_of_a_question(agent: &Agent, named: &[(IpAddr, String)]) -> Result<f64> {
    let before = agent.stat()?.cpu_ns;
    let rounds = 10;
    for _ in 0..rounds {
        ensure!(pods::unnamed(agent, named)? == 0, "names are gone");
    }
    Ok((agent.stat()?.cpu_ns - before) as f64 / f64::from(rounds) / named.len() as f64)
}

#[derive(Debug, Default)]
struct Seen {
    samples: Samples,
    took_ms: Vec<f64>,
    patches: u32,
    lost: u32,
    questions: u64,
}

struct Patch {
    sent: Instant,
    address: IpAddr,
    pod: String,
}

/// One pod after the other gets an address that nobody had.
fn patch_and_look(plane: &ControlPlane, agent: &Agent, length: Duration) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut open: VecDeque<Patch> = VecDeque::new();
    let begun = Instant::now();
    let (mut next, mut pause) = (begun, Duration::ZERO);
    while begun.elapsed() < length || !open.is_empty() {
        ensure!(!signals::interrupted(), "interrupted");
        let now = Instant::now();
        if now >= next && begun.elapsed() < length {
            let (pod, address) = (format!("p-{}", seen.patches % PODS), pods::address(1000 + seen.patches));
            let sent = Instant::now();
            pods::readdress(plane.client(), &pod, address)?;
            open.push_back(Patch { sent, address, pod });
            seen.patches += 1;
            (next, pause) = (next + SECOND, Duration::from_millis(1));
        }
        // A patch that was seen was seen with all before it: the oldest is asked for, until it is known.
        while let Some(patch) = open.front() {
            seen.questions += 1;
            let took = patch.sent.elapsed();
            if agent.pod_at(patch.address)?.as_ref() == Some(&patch.pod) {
                seen.took_ms.push(patch.sent.elapsed().as_secs_f64() * 1e3);
            } else if took > LOST {
                seen.lost += 1;
            } else {
                break;
            }
            open.pop_front();
        }
        let now = Instant::now();
        if begun.elapsed() < length && seen.samples.is_due(now, Duration::from_millis(250)) {
            seen.samples.add(now, agent.stat()?);
        }
        let rest = if open.is_empty() { Duration::from_millis(50) } else { pause };
        thread::sleep(rest.min(next.saturating_duration_since(now).max(Duration::from_millis(1))));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(seen)
}
