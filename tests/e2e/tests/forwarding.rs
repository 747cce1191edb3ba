//! Pods that pass on what is not theirs: routers, Docker in a pod, virtual machines. Each exchange
//! is counted at its two ends and nowhere in between, and a guest keeps its pod's name.
#![forbid(unsafe_code)]

use agent_api::{EdgeRow, Status};
use anyhow::{Context, Result, ensure};
use e2e::guest::Monitor;
use e2e::{PATIENCE, alone, api, generator, losses, run_to_end};
use std::path::Path;
use testbed::{
    Agent, AgentOptions, Container, ContainerSpec, Netns, Testbed, address_of, built_binary, installed, until,
};

fn idle(bed: &mut Testbed, name: &str) -> Result<Container> {
    bed.run(ContainerSpec::new(name, &["/bin/sleep", "10000"]))
}

fn within(netns: &Netns, script: &str) -> Result<String> {
    let output = netns.command(Path::new("sh")).args(["-euc", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes a namespace pass packets on. What it passes on leaves by the interface that it came by, too.
fn forwards(netns: &Netns) -> Result<()> {
    let all = "/proc/sys/net/ipv4/conf/all";
    within(
        netns,
        &format!("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > {all}/rp_filter; echo 0 > {all}/send_redirects"),
    )?;
    Ok(())
}

/// `SRC -> DST reporter requests`, for all edges that have requests.
fn edges(agent: &Agent) -> Result<Vec<String>> {
    let rows: Vec<EdgeRow> = serde_json::from_str(&agent.cli(&["edges", "-o", "json"])?).context("edges -o json")?;
    let told = |row: &EdgeRow| format!("{} -> {} {} {}", row.src.name, row.dst.name, row.reporter, row.golden.requests);
    let mut told: Vec<String> = rows.iter().filter(|row| row.golden.requests > 0).map(told).collect();
    told.sort();
    Ok(told)
}

fn wait_edges(agent: &Agent, expected: &[&str]) -> Result<()> {
    until(&format!("there are {expected:?}"), PATIENCE, || edges(agent).is_ok_and(|edges| edges == expected))
        .with_context(|| format!("last seen: {:#?}\n{}", edges(agent).unwrap_or_default(), losses(agent)))?;
    // No connection is left that could bring one more.
    until("all connections have ended", PATIENCE, || {
        agent.metrics().is_ok_and(|now| now.sum("pilotfish_tcp_open_connections", &[]) == 0.0)
    })?;
    ensure!(edges(agent)? == expected, "{:#?}", edges(agent)?);
    Ok(())
}

fn forwarded(agent: &Agent) -> u64 {
    agent.metrics().map_or(0, |metrics| metrics.count("pilotfish_forwarded_flows_total", &[]))
}

/// What `status` says that this workload forwarded.
fn forwarded_by(agent: &Agent, workload: &str) -> Result<u64> {
    let status: Status = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?)?;
    let row = status.namespaces.iter().find(|row| row.workload == workload).context("no such namespace")?;
    Ok(row.forwarded)
}

/// A second link of `from` to `router`, and a way over it to `to` and back.
fn way_over(from: &Container, router: &Container, to: &Container) -> Result<()> {
    let peer = router.netns.name();
    from.netns.ip(&["link", "add", "net1", "type", "veth", "peer", "name", "net1", "netns", peer])?;
    within(&router.netns, "ip addr add 10.200.0.1/30 dev net1; ip link set net1 up")?;
    let to_there = format!("ip route add {} via 10.200.0.1", to.address);
    within(&from.netns, &format!("ip addr add 10.200.0.2/30 dev net1; ip link set net1 up; {to_there}"))?;
    within(&to.netns, &format!("ip route add 10.200.0.0/30 via {}", router.address))?;
    forwards(&router.netns)
}

fn masquerade(netns: &Netns, out: &str) -> Result<()> {
    let nft = installed("nft")?;
    let hook = "type nat hook postrouting priority 100;";
    within(
        netns,
        &format!(
            "{0} 'add table ip t; add chain ip t c {{ {hook} }}; add rule ip t c oifname \"{out}\" masquerade'",
            nft.display()
        ),
    )?;
    Ok(())
}

#[test]
fn a_router_is_no_end_of_what_it_passes_on() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let (server, router) = (api(&mut bed, "server")?, idle(&mut bed, "router")?);
    let client = generator(&mut bed, "client", &server, &["--count", "50"])?;
    way_over(&client, &router, &server)?;
    // One leg alone, as an egress gateway has it: in by the interface that it leaves by.
    let beside = generator(&mut bed, "beside", &server, &["--count", "20"])?;
    within(&beside.netns, &format!("ip route add {} via {}", server.address, router.address))?;
    within(&server.netns, &format!("ip route add {} via {}", beside.address, router.address))?;
    agent.wait_attached(4, PATIENCE)?;
    run_to_end(&bed, &client)?;
    run_to_end(&bed, &beside)?;
    let ends = ["beside -> server client 20", "beside -> server server 20"];
    wait_edges(&agent, &[&ends[..], &["client -> server client 50", "client -> server server 50"]].concat())?;
    // Each connection goes in and out of it.
    until("what it forwards is counted", PATIENCE, || forwarded(&agent) == 4)?;
    until("and shown", PATIENCE, || forwarded_by(&agent, "router").is_ok_and(|flows| flows == 4))?;
    ensure!(forwarded_by(&agent, "server")? == 0);
    ensure!(agent.cli(&["status"])?.contains("passed on"));
    Ok(())
}

#[test]
fn who_masquerades_is_the_client_that_the_server_sees_and_never_a_server() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let (server, router) = (api(&mut bed, "server")?, idle(&mut bed, "router")?);
    let client = generator(&mut bed, "client", &server, &["--count", "50"])?;
    way_over(&client, &router, &server)?;
    masquerade(&router.netns, "eth0")?;
    agent.wait_attached(3, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edges(&agent, &["client -> server client 50", "router -> server client 50", "router -> server server 50"])?;
    until("what came in is counted as forwarded", PATIENCE, || forwarded(&agent) == 1)
}

#[test]
fn containers_in_a_pod_are_counted_once_and_under_its_name() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let (server, pod) = (api(&mut bed, "server")?, idle(&mut bed, "pod")?);
    let (inner, _) = bed.new_pod_netns("inner")?;
    within(
        &pod.netns,
        "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up",
    )?;
    within(
        &inner,
        &format!("ip link del eth0; ip link add eth0 type veth peer name inside netns {}", pod.netns.name()),
    )?;
    within(&pod.netns, "ip link set inside master docker0 up")?;
    within(&inner, "ip addr add 172.17.0.2/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1")?;
    forwards(&pod.netns)?;
    masquerade(&pod.netns, "eth0")?;
    agent.wait_attached(2, PATIENCE)?;
    until("its inner interfaces are attached", PATIENCE, || {
        testbed::filters_in(&pod.netns.path()).is_ok_and(|all| all.iter().any(|filter| filter.starts_with("inside ")))
    })?;
    load(&inner, &server, 25)?;
    wait_edges(&agent, &["pod -> server client 25", "pod -> server server 25"])
}

/// Requests from a namespace that is no container's.
fn load(from: &Netns, to: &Container, count: u64) -> Result<()> {
    let mut command = from.command(&built_binary("loadgen")?);
    let output = command.args(["--target", &format!("{}:8080", to.address), "--count", &count.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn an_address_on_loopback_and_one_that_comes_later_are_ends() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "server")?;
    let [on_lo, later] = [address_of(51_000), address_of(51_001)];
    let to = |address| {
        let mut named_else = server.clone();
        named_else.address = address;
        named_else
    };
    let vip = generator(&mut bed, "vip", &to(on_lo), &["--count", "30"])?;
    let soon = generator(&mut bed, "soon", &to(later), &["--count", "30", "--connections", "1"])?;
    for (client, address) in [(&vip, on_lo), (&soon, later)] {
        within(&client.netns, &format!("ip route add {address} via {}", server.address))?;
    }
    agent.wait_attached(3, PATIENCE)?;
    within(&server.netns, &format!("ip addr add {on_lo}/32 dev lo"))?;
    run_to_end(&bed, &vip)?;
    // Asked for before anybody can have heard of it.
    testbed::scene::open_gate(&bed, &soon)?;
    within(&server.netns, &format!("ip addr add {later}/32 dev eth0"))?;
    run_to_end(&bed, &soon)?;
    let mut seen = (0, 0);
    until("each request is counted or lost at the server", PATIENCE, || {
        seen = agent.counted_and_lost("server").unwrap_or_default();
        seen.0 + seen.1 == 60
    })
    .with_context(|| format!("{seen:?}\n{}", losses(&agent)))?;
    ensure!(seen.0 >= 30, "{seen:?}");
    Ok(())
}

#[test]
fn a_guest_on_its_pods_wire_is_counted_under_its_name() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let (server, pod) = (api(&mut bed, "server")?, idle(&mut bed, "pod")?);
    let (guest, _) = bed.new_pod_netns("guest")?;
    // A network of the pod's own, so that it is known what its addresses are.
    bed.plug(&pod, "net1")?;
    within(&guest, "ip link del eth0")?;
    let _monitor = Monitor::start(&pod.netns, &guest)?;
    // As KubeVirt binds it: the guest has the pod's address, and the pod has none there any more.
    within(&pod.netns, "ip addr flush dev eth0; ip link add k6t-eth0 type bridge; ip link set k6t-eth0 up")?;
    within(&pod.netns, "ip link set eth0 master k6t-eth0; ip link set tap0 master k6t-eth0 up")?;
    within(&guest, &format!("ip addr add {}/16 dev eth0; ip link set eth0 up", pod.address))?;
    agent.wait_attached(2, PATIENCE)?;
    until("its links were looked at", PATIENCE, || {
        let all = testbed::filters_in(&pod.netns.path()).unwrap_or_default();
        !all.is_empty() && all.iter().all(|filter| filter.starts_with("eth0 ") || filter.starts_with("net1 "))
    })?;
    load(&guest, &server, 20)?;
    let of_pod = |reporter| {
        let labels = [("client_workload", "pod"), ("server_workload", "server"), ("reporter", reporter)];
        agent.metrics().map_or(0, |metrics| metrics.count("http_client_request_duration_seconds_count", &labels))
    };
    until("the pod is the client", PATIENCE, || of_pod("client") == 20)
        .with_context(|| format!("{:?}", edges(&agent).unwrap_or_default()))?;
    ensure!(forwarded(&agent) == 0);
    Ok(())
}

#[test]
fn a_guest_behind_its_pods_address_is_counted_once_and_under_its_name() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let (server, pod) = (api(&mut bed, "server")?, idle(&mut bed, "pod")?);
    let (guest, _) = bed.new_pod_netns("guest")?;
    within(&guest, "ip link del eth0")?;
    let _monitor = Monitor::start(&pod.netns, &guest)?;
    within(&pod.netns, "ip addr add 10.0.2.1/24 dev tap0; ip link set tap0 up")?;
    within(&guest, "ip addr add 10.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.1")?;
    forwards(&pod.netns)?;
    masquerade(&pod.netns, "eth0")?;
    agent.wait_attached(2, PATIENCE)?;
    until("its tap is attached", PATIENCE, || {
        testbed::filters_in(&pod.netns.path()).is_ok_and(|all| all.iter().any(|filter| filter.starts_with("tap0 ")))
    })?;
    load(&guest, &server, 20)?;
    wait_edges(&agent, &["pod -> server client 20", "pod -> server server 20"])?;
    until("what passed its tap is counted as forwarded", PATIENCE, || forwarded(&agent) == 1)
}
