use super::config;
use super::image::IMAGE;
use super::network::{Management, netns_path};
use crate::cluster::binaries::{Program, find};
use crate::cluster::control::ControlPlane;
use crate::cluster::kubeconfig::User;
use crate::network::{Netns, ip, run};
use crate::process::Process;
use crate::programs::installed;
use crate::wait::until;
use anyhow::{Context, Result, bail, ensure};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One node: network and mount namespaces of its own, a containerd with CRI, a kubelet, a kube-proxy.
///
/// Its mount namespace has an empty `/run`, `/var/lib`, `/var/log` and `/opt` in memory: what the
/// programs of a node leave there, mounts of pods' namespaces (`/run/netns/cni-*`) included, is the
/// node's own and ends with its last process. The node's directory is also its `/run/containerd`, where
/// manifests look for containerd's socket; shared, as systemd has it.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order.
    dns: Option<Process>,
    proxy: Option<Process>,
    kubelet: Option<Process>,
    containerd: Process,
    /// Keeps the mount namespace.
    holder: Process,
    netns: Netns,
    /// The namespace of the bridge, where the node's link is called as the node.
    bridge: String,
    name: String,
    dir: PathBuf,
    address: Ipv4Addr,
}

/// What a node is made with.
pub(super) struct NodeConfig<'a> {
    pub netns: Netns,
    pub number: u8,
    /// The last byte of the last address that pods get; the first one's is 2.
    pub last_pod: u8,
    pub image: &'a Path,
}

/// What becomes of the private directories: mounts that come and go on the machine are seen, the
/// node's own stay here. Named namespaces of others are let go, so that they can end.
const FURNISH: &str = "for name in /run/netns/*; do umount \"$name\" 2>/dev/null || true; done
    for place in /run /var/lib /var/log /opt; do mount -t tmpfs pilotfish \"$place\" || exit 1; done
    mkdir -p /run/netns /run/containerd /run/lock /var/lib/cni
    mount --bind \"$1\" /run/containerd && mount --make-shared /run/containerd || exit 1
    echo 1 > /proc/sys/net/ipv4/ip_forward || exit 1
    : > \"$0\"
    exec sleep 2147483647";

impl Node {
    /// Starts everything but waits for nothing that takes the API server: see [`super::Cluster::wait_nodes_ready`].
    pub(super) fn start(plane: &ControlPlane, network: &Management, config: NodeConfig) -> Result<Node> {
        let NodeConfig { netns, number: n, last_pod, image } = config;
        let (name, place) = (format!("n{n}"), &plane.place);
        let dir = place.dir().join(&name);
        std::fs::create_dir_all(dir.join("cni"))?;
        let ready = dir.join("furnished");
        let mut command = netns.command(Path::new("unshare"));
        command.args(["--mount", "--propagation", "slave", "sh", "-c", FURNISH]).arg(&ready).arg(&dir);
        let holder = place.start(&format!("{name}-holder"), &mut command)?;
        until("the node has its directories", Duration::from_secs(10), || ready.exists())
            .with_context(|| place.log_tail(&format!("{name}-holder")))?;
        std::fs::write(dir.join("containerd.toml"), config::containerd(&dir))?;
        std::fs::write(dir.join("cni/10-pods.conflist"), config::cni(&dir, n, last_pod).to_string())?;
        let (address, bridge) = (network.address_of(n), network.bridge().to_owned());
        let client_authority = place.pki("client-ca.pem");
        std::fs::write(dir.join("kubelet.json"), config::kubelet(&dir, &name, address, &client_authority).to_string())?;
        let mut command = enter(netns.name(), holder.pid(), &installed("containerd")?);
        command.arg("-c").arg(dir.join("containerd.toml"));
        let containerd = place.start(&format!("{name}-containerd"), &mut command)?;
        write_enter(&dir.join("enter"), netns.name(), holder.pid())?;
        let mut node =
            Node { dns: None, proxy: None, kubelet: None, containerd, holder, netns, bridge, name, dir, address };
        node.import(plane, image)?;
        node.dns = Some(node.start_dns(plane)?);
        node.start_kubelet(plane)?;
        node.start_proxy(plane)?;
        Ok(node)
    }

    fn import(&mut self, plane: &ControlPlane, image: &Path) -> Result<()> {
        let answers = || self.ctr(&["version"]).is_ok();
        until("containerd answers", Duration::from_secs(30), answers)
            .with_context(|| plane.place.log_tail(&format!("{}-containerd", self.name)))?;
        self.ctr(&["images", "import", &image.display().to_string()])?;
        ensure!(
            self.ctr(&["images", "ls", "-q"])?.contains(IMAGE),
            "containerd does not have the image that it imported"
        );
        Ok(())
    }

    /// Also after [`Node::stop_kubelet`].
    pub fn start_kubelet(&mut self, plane: &ControlPlane) -> Result<()> {
        let mut command = self.command(&find(Program::Kubelet)?);
        command
            .arg("--config")
            .arg(self.dir.join("kubelet.json"))
            .arg("--kubeconfig")
            .arg(plane.kubeconfig(User::Node)?);
        command.arg(format!("--root-dir={}", self.dir.join("kubelet").display()));
        command.arg(format!("--cert-dir={}", self.dir.join("kubelet-pki").display()));
        command.args([format!("--hostname-override={}", self.name), format!("--node-ip={}", self.address)]);
        self.kubelet = Some(plane.place.start(&format!("{}-kubelet", self.name), &mut command)?);
        Ok(())
    }

    pub fn stop_kubelet(&mut self) {
        self.kubelet = None;
    }

    fn start_proxy(&mut self, plane: &ControlPlane) -> Result<()> {
        let mut command = self.command(&find(Program::KubeProxy)?);
        command.arg("--kubeconfig").arg(plane.kubeconfig(User::Node)?);
        command.args(["--proxy-mode=nftables", &format!("--hostname-override={}", self.name)]);
        // Limits of conntrack belong to the machine.
        command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]);
        command.args(["--conntrack-tcp-timeout-close-wait=0", "--metrics-bind-address=127.0.0.1:10249"]);
        command.arg("--healthz-bind-address=127.0.0.1:10256");
        self.proxy = Some(plane.place.start(&format!("{}-kube-proxy", self.name), &mut command)?);
        Ok(())
    }

    /// As Kubernetes knows it: n1, n2, ...
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Everything of the node that is a file.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    #[must_use]
    pub fn containerd_pid(&self) -> u32 {
        self.containerd.pid()
    }

    pub(super) fn dns_pid(&self) -> Option<u32> {
        self.dns.as_ref().map(Process::pid)
    }

    /// A program on the node: in its network namespace, with its `/run` and `/var/lib`. The process
    /// that is started becomes the program.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        enter(self.netns.name(), self.holder.pid(), program)
    }

    /// `ctr` against the node's containerd, in Kubernetes' namespace there.
    pub fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(installed("ctr")?);
        run(command.arg("-a").arg(self.containerd_socket()).args(["-n", "k8s.io"]).args(args))
    }

    /// Takes the node off the network, or puts it back; its processes live on, and pods of one node
    /// still reach each other. What a broken cable is to everybody else.
    pub fn set_connected(&self, connected: bool) -> Result<()> {
        // The far end: the node's own routes stay.
        let state = if connected { "up" } else { "down" };
        ip(&["-n", &self.bridge, "link", "set", &self.name, state]).map(drop)
    }

    /// Fails when one of its programs has ended, with its last words.
    pub(super) fn check(&mut self, plane: &ControlPlane) -> Result<()> {
        let name = &self.name;
        let programs = [("containerd", Some(&mut self.containerd)), ("kubelet", self.kubelet.as_mut())];
        let more = [("kube-proxy", self.proxy.as_mut()), ("dnsmasq", self.dns.as_mut())];
        for (program, process) in programs.into_iter().chain(more) {
            if process.is_some_and(|process| !process.is_running()) {
                bail!("{program} of {name} ended:\n{}", plane.place.log_tail(&format!("{name}-{program}")));
            }
        }
        Ok(())
    }
}

/// For people: runs a program on the node.
fn write_enter(path: &Path, netns: &str, holder: u32) -> Result<()> {
    let netns = netns_path(netns);
    let text = format!("#!/bin/sh\nexec nsenter --net={} --mount=/proc/{holder}/ns/mnt -- \"$@\"\n", netns.display());
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).context("make it executable")
}

fn enter(netns: &str, holder: u32, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns_path(netns).display())).arg(format!("--mount=/proc/{holder}/ns/mnt"));
    command.arg("--").arg(program);
    command
}
