use crate::programs::{built_binary, installed};
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the bridge inside a testbed's node namespace.
pub const BRIDGE: &str = "br0";

/// Where iproute2 keeps named namespaces.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// A named network namespace, removed when dropped. Made before any container uses it, as a CNI
/// runtime does: the interface is there when the container's first process starts.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn create(name: &str) -> Result<Netns> {
        ip(&["netns", "add", name])?;
        let netns = Netns { name: name.to_owned() };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// `ip -n NAME ...`
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(args);
        ip(&all)
    }

    /// A command that will run in this namespace, with the rest of the machine as it is (`ip netns
    /// exec` would hide `/sys`).
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]).ok();
    }
}

/// Address number `host` of a testbed: 100.71.0.0/16, inside the shared range of RFC 6598. The
/// bridge has number 1. Nothing of it is reachable from outside the node's namespace, so that
/// testbeds side by side may use the same addresses.
#[must_use]
pub fn address_of(host: u16) -> Ipv4Addr {
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(100, 71, high, low)
}

/// The node's namespace with its bridge.
pub(crate) fn create_node(name: &str) -> Result<Netns> {
    let node = Netns::create(name)?;
    node.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    node.ip(&["addr", "add", &format!("{}/16", address_of(1)), "dev", BRIDGE])?;
    node.ip(&["link", "set", BRIDGE, "up"])?;
    Ok(node)
}

/// A pod's namespace: `eth0` with address number `host`, its other end on the node's bridge.
pub(crate) fn create_pod(node: &Netns, name: &str, host: u16) -> Result<Netns> {
    let pod = Netns::create(name)?;
    plug(node, &pod, "eth0", host)?;
    pod.ip(&["route", "add", "default", "via", &address_of(1).to_string()])?;
    Ok(pod)
}

/// Takes the pod off the node's bridge; its address stays on the interface. The number is free.
pub(crate) fn unplug(node: &Netns, host: u16) -> Result<()> {
    let outer = format!("v{host}");
    node.ip(&["link", "set", &outer, "down"])?;
    node.ip(&["link", "set", &outer, "nomaster", "name", &format!("old{host}")])?;
    Ok(())
}

/// Adds one more interface to a pod.
pub(crate) fn plug(node: &Netns, pod: &Netns, interface: &str, host: u16) -> Result<()> {
    let outer = format!("v{host}");
    node.ip(&["link", "add", &outer, "type", "veth", "peer", "name", interface, "netns", &pod.name])?;
    node.ip(&["link", "set", &outer, "master", BRIDGE, "up"])?;
    // noprefixroute on a second interface would leave its replies without a way; one prefix, the first interface wins.
    pod.ip(&["addr", "add", &format!("{}/16", address_of(host)), "dev", interface])?;
    pod.ip(&["link", "set", interface, "up"])?;
    Ok(())
}

pub(crate) fn ip(args: &[&str]) -> Result<String> {
    run(Command::new("ip").args(args))
}

/// Runs a short command and returns its output; a failure carries what it said. A Ctrl-C on the
/// terminal does not reach it: half of a step is harder to take back than a whole one.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .process_group(0)
        .output()
        .with_context(|| format!("run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} {:?}: {}",
        command.get_program(),
        command.get_args().collect::<Vec<_>>(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Names of the BPF programs attached to interfaces of a namespace (TCX and clsact alike), as
/// `interface direction program`, sorted. Told by bpftool and the kernel, not by the agent.
pub fn filters_in(netns: &Path) -> Result<Vec<String>> {
    let inside = |program: &Path| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", netns.display())).arg(program);
        command
    };
    let bpftool = installed("bpftool")?;
    let text = run(inside(&bpftool).args(["-j", "net", "show"]))?;
    let json: serde_json::Value = serde_json::from_str(&text).context("bpftool net show")?;
    let mut found = Vec::new();
    for filter in json[0]["tc"].as_array().into_iter().flatten() {
        let text = |key: &str| filter[key].as_str().unwrap_or_default().to_owned();
        let kind = text("kind");
        // clsact/ingress here; a bpftool that knows TCX says tcx/ingress, which is asked for below
        // for those that do not.
        if let Some(direction) = kind.strip_prefix("clsact/") {
            found.push(format!("{} {direction} {}", text("devname"), text("name")));
        }
    }
    // As `interface direction program-id`.
    let attached = run(&mut inside(&built_binary("tcx")?))?;
    for line in attached.lines() {
        let (place, id) = line.rsplit_once(' ').context("what tcx prints")?;
        let text = run(Command::new(&bpftool).args(["-j", "prog", "show", "id", id])).unwrap_or_default();
        let program: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        found.push(format!("{place} {}", program["name"].as_str().unwrap_or(id)));
    }
    found.sort();
    Ok(found)
}
