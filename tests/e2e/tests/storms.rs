//! Many at once, and one again and again for long: by command, since each takes minutes.
//! `cargo test -p e2e --features storms --test storms -- --nocapture`. Needs root.
#![forbid(unsafe_code)]

use agent_api::Client;
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone, api, generator, losses, run_to_end, wait_edge, wait_equation};
use std::path::Path;
use std::time::{Duration, Instant};
use testbed::{Agent, AgentOptions, Container, ContainerSpec, PodLabels, Stat, Testbed, until};

/// For 500 namespaces on two busy processors.
const LONG: Duration = Duration::from_secs(120);

fn idle(bed: &mut Testbed, name: &str) -> Result<Container> {
    bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]))
}

/// One more customer is counted to the last request.
fn counts(bed: &mut Testbed, agent: &Agent, server: &Container, name: &str) -> Result<()> {
    let customer = generator(bed, name, server, &["--rate", "500", "--count", "200"])?;
    agent.wait_attached_to(name, PATIENCE)?;
    run_to_end(bed, &customer)?;
    wait_edge(agent, name, &server.name, "http", 200)
}

fn tell(what: &str, stat: Stat, since: Instant) {
    eprintln!(
        "{what}: {:.1} s; {} MiB resident, {} descriptors, {} threads, {:.1} s of CPU",
        since.elapsed().as_secs_f64(),
        stat.rss_bytes >> 20,
        stat.descriptors,
        stat.threads,
        stat.cpu_ns as f64 / 1e9
    );
}

/// Seven more interfaces that lead to the node's namespace.
fn interfaces(bed: &Testbed, pod: &Container, number: usize) -> Result<()> {
    let node = bed.node().name();
    let script = format!(
        "for i in 1 2 3 4 5 6 7; do echo link add net$i type veth peer name n{number}x$i netns {node}; echo link set net$i up; done | ip -batch -"
    );
    let status = pod.netns.command(Path::new("sh")).args(["-euc", &script]).status()?;
    ensure!(status.success(), "interfaces of {}", pod.name);
    Ok(())
}

#[test]
fn five_hundred_namespaces_with_eight_interfaces_each() -> Result<()> {
    const PODS: usize = 500;
    const INTERFACES: usize = 8;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let server = api(&mut bed, "shop")?;
    for number in 1..PODS {
        let pod = idle(&mut bed, &format!("pod{number}"))?;
        interfaces(&bed, &pod, number)?;
    }
    interfaces(&bed, &server, 0)?;
    let began = Instant::now();
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    tell("ready", agent.stat()?, began);
    agent.wait_attached(PODS as u64, LONG)?;
    tell("all are attached", agent.stat()?, began);
    let status = Client::new(&agent.socket).status()?;
    let whole = status.namespaces.iter().filter(|row| row.interfaces.len() == INTERFACES).count();
    ensure!(whole == PODS, "{whole} namespaces have their eight interfaces attached");
    let filters = testbed::filters_in(&server.netns.path())?;
    ensure!(filters.len() == 2 * INTERFACES, "{filters:?}");
    counts(&mut bed, &agent, &server, "customer")?;
    ensure!(wait_equation(&agent, 200)? == [0, 0], "{}", losses(&agent));
    tell("one more counted", agent.stat()?, began);
    ensure!(agent.stat()?.rss_bytes < 512 << 20);
    Ok(())
}

/// As the kubelet has it: the pod stays, each try is a container of its own with the same name.
#[test]
fn a_pod_in_crash_loop_back_off_leaves_nothing_behind() -> Result<()> {
    const TRIES: u64 = 300;
    const SETTLED: u64 = 60;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let labels = PodLabels { namespace: "shop".into(), name: "cart-0".into(), uid: "uid-cart".into() };
    let pause = bed.run(ContainerSpec::new("pause", &["/bin/sleep", "10000"]).sandbox_of(&labels))?;
    agent.wait_attached(2, PATIENCE)?;
    let script = format!("/bin/loadgen --target {}:8080 --count 1; exit 1", server.address);
    let (began, mut settled, mut series) = (Instant::now(), None, 0);
    let all_series = || -> Result<usize> { Ok(agent.metrics()?.samples.len()) };
    for number in 0..TRIES {
        let spec = ContainerSpec::new(&format!("try{number}"), &["/bin/sh", "-c", &script]);
        let tried = bed.run(spec.sharing(&pause).part_of(&labels, "app"))?;
        until("it has ended", PATIENCE, || !Path::new(&format!("/proc/{}", tried.pid)).exists())?;
        bed.stop(tried, Duration::from_secs(1))?;
        if number == SETTLED {
            (settled, series) = (Some(agent.stat()?), all_series()?);
            tell("after 60 tries", agent.stat()?, began);
        }
    }
    wait_edge(&agent, "cart-0", "shop", "http", TRIES)?;
    ensure!(wait_equation(&agent, TRIES)? == [0, 0], "{}", losses(&agent));
    let (before, after) = (settled.context("it settled")?, agent.stat()?);
    tell("after 300 tries", agent.stat()?, began);
    ensure!(agent.attached()? == 2);
    ensure!(
        after.descriptors <= before.descriptors + 2,
        "{} descriptors, then {}",
        before.descriptors,
        after.descriptors
    );
    ensure!(after.rss_bytes <= before.rss_bytes + (8 << 20), "{} bytes, then {}", before.rss_bytes, after.rss_bytes);
    ensure!(all_series()? <= series + 4, "{series} series, then {}", all_series()?);
    Ok(())
}

#[test]
fn a_hundred_containers_as_quick_as_the_machine_starts_them() -> Result<()> {
    const THREADS: usize = 4;
    const EACH: usize = 25;
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let (runc, rootfs) = (bed.dir().join("runc").display().to_string(), bed.dir().join("rootfs").display().to_string());
    let start = |thread: usize| -> Result<()> {
        for number in 0..EACH {
            let name = format!("quick{thread}-{number}");
            let cgroup = format!("/{}/{name}", bed.id());
            let run = ["run", "--detach", "--null-io", "--rootfs", "--runc-root", &runc, "--cgroup", &cgroup];
            bed.containerd().ctr("default", &[&run[..], &[&rootfs, &name, "/bin/sleep", "10000"]].concat())?;
        }
        Ok(())
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let start = &start;
        let all: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || start(thread))).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    tell("all were started", agent.stat()?, began);
    agent.wait_attached(1 + (THREADS * EACH) as u64, PATIENCE)?;
    tell("all are attached", agent.stat()?, began);
    counts(&mut bed, &agent, &server, "customer")?;
    ensure!(wait_equation(&agent, 200)? == [0, 0], "{}", losses(&agent));
    Ok(())
}
