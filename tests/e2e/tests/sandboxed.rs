//! Pods whose processes do not use the pod's network namespace themselves: a virtual machine as
//! Kata has it, and gVisor's network stack. Both stand for the real ones, which need what this
//! machine lacks. Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::guest::Monitor;
use e2e::{PATIENCE, alone, losses, wait_edge, wait_equation};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Netns, Testbed, built_binary, until};

const REQUESTS: u64 = 50;

fn within(netns: &Netns, script: &str) -> Result<String> {
    let output = netns.command(Path::new("sh")).args(["-euc", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn load(from: &Netns, to: &Container) -> Result<()> {
    let target = format!("{}:8080", to.address);
    let mut command = from.command(&built_binary("loadgen")?);
    let status = command
        .args(["--target", &target, "--rate", "500", "--count", &REQUESTS.to_string()])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "the load ends with {status}");
    Ok(())
}

/// A server in a guest, ended when dropped.
struct Served(Child);

impl Served {
    fn start(guest: &Netns) -> Result<Served> {
        let mut command = guest.command(&built_binary("api")?);
        let served = Served(command.stdout(Stdio::null()).spawn()?);
        until("it listens", PATIENCE, || within(guest, "ss -Hltn").is_ok_and(|all| all.contains(":8080")))?;
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A pod's namespace without a container, and a guest in which its address and MAC address are.
fn pod_and_guest(bed: &mut Testbed) -> Result<(Arc<Netns>, Ipv4Addr, Arc<Netns>)> {
    let (pod, address) = bed.new_pod_netns("pod")?;
    let (guest, _) = bed.new_pod_netns("guest")?;
    within(&guest, "ip link del eth0")?;
    Ok((pod, address, guest))
}

fn moves_in(guest: &Netns, pod: &Netns, address: Ipv4Addr) -> Result<()> {
    let link: serde_json::Value = serde_json::from_str(&within(pod, "ip -j link show eth0")?)?;
    let mac = link[0]["address"].as_str().context("a MAC address")?;
    within(guest, &format!("ip link set eth0 address {mac}; ip addr add {address}/16 dev eth0; ip link set eth0 up"))?;
    Ok(())
}

/// Kata's default, `tcfilter`: whatever comes in at one of the pod's `eth0` and the machine's tap is
/// sent out of the other, by ingress qdiscs of Kata's own. The address stays on `eth0`.
#[test]
fn a_machine_behind_a_tap_that_is_redirected_to_is_counted_once() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = e2e::api(&mut bed, "server")?;
    let (netns, address, guest) = pod_and_guest(&mut bed)?;
    let _monitor = Monitor::start(&netns, &guest)?;
    within(
        &netns,
        "ip link set tap0 up; redirect='protocol all u32 match u8 0 0 action mirred egress redirect dev'
         for way in 'eth0 tap0' 'tap0 eth0'; do set -- $way; tc qdisc add dev $1 ingress
         tc filter add dev $1 parent ffff: $redirect $2; done",
    )?;
    moves_in(&guest, &netns, address)?;
    // The machine's monitor, which is started when its network stands.
    let pod = bed.run(ContainerSpec::new("pod", &["/bin/sleep", "10000"]).inside(netns, address))?;
    agent.wait_attached(2, PATIENCE)?;
    load(&guest, &server)?;
    wait_edge(&agent, "pod", "server", "http", REQUESTS).with_context(|| {
        format!("{}\n{:?}", agent.cli(&["status"]).unwrap_or_default(), testbed::filters_in(&pod.netns.path()))
    })?;
    // And as a server.
    let _served = Served::start(&guest)?;
    load(&server.netns, &pod)?;
    wait_edge(&agent, "server", "pod", "http", REQUESTS)?;
    // An interface that the pod gets while it runs: the machine's monitor redirects there, too.
    bed.plug(&pod, "net1")?;
    let attached =
        || testbed::filters_in(&pod.netns.path()).is_ok_and(|all| all.iter().any(|it| it.starts_with("net1 ")));
    until("the new interface is attached", PATIENCE, attached)?;
    within(&pod.netns, "tc qdisc add dev net1 ingress").context("we are in nobody's way")?;
    ensure!(attached(), "and stay attached");
    Ok(())
}

/// gVisor's own stack: it takes the addresses off the pod's interface when the container starts, and
/// speaks there by a packet socket.
#[test]
fn a_network_stack_of_its_own_is_counted_under_its_pods_name() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = e2e::api(&mut bed, "server")?;
    let (netns, address, guest) = pod_and_guest(&mut bed)?;
    let pod = bed.run(ContainerSpec::new("pod", &["/bin/sleep", "10000"]).inside(netns, address))?;
    agent.wait_attached(2, PATIENCE)?;
    let _stack = Monitor::by_packets(&pod.netns, &guest)?;
    within(&pod.netns, "ip addr flush dev eth0")?;
    moves_in(&guest, &pod.netns, address)?;
    load(&guest, &server)?;
    let _served = Served::start(&guest)?;
    load(&server.netns, &pod)?;
    let own = || {
        let labels = |client, server, reporter| {
            [("client_workload", client), ("server_workload", server), ("reporter", reporter)]
        };
        let count = |client, server, reporter| {
            let name = format!("http_{reporter}_request_duration_seconds_count");
            agent.metrics().map_or(0, |all| all.count(&name, &labels(client, server, reporter)))
        };
        [count("pod", "server", "client"), count("server", "pod", "server")]
    };
    until("it has its name at its own ends", PATIENCE, || own() == [REQUESTS; 2])
        .with_context(|| agent.cli(&["edges", "-o", "wide"]).unwrap_or_default())?;
    // At the other ends it is an address, which nobody here has: an API server would know it.
    ensure!(wait_equation(&agent, 2 * REQUESTS)? == [0, 0], "{}", losses(&agent));
    Ok(())
}
