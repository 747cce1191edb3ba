//! The cluster's DNS: a dnsmasq on each node, which its pods ask, over one hosts file that a
//! process beside the control plane keeps.

use super::node::Node;
use crate::cluster::control::ControlPlane;
use crate::cluster::kubeconfig::User;
use crate::process::Process;
use crate::programs::{built_binary, installed};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

fn hosts(plane: &ControlPlane) -> PathBuf {
    plane.dir().join("conf/hosts")
}

impl Node {
    /// On the node's own address, port 53.
    pub(super) fn start_dns(&self, plane: &ControlPlane) -> Result<Process> {
        let mut command = self.command(&installed("dnsmasq")?);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--log-facility=-",
        ]);
        command.args(["--no-resolv", "--no-hosts", "--cache-size=0", "--local=/cluster.local/", "--bind-interfaces"]);
        command.arg(format!("--listen-address={}", self.address()));
        command.arg(format!("--addn-hosts={}", hosts(plane).display()));
        plane.place.start(&format!("{}-dnsmasq", self.name()), &mut command)
    }
}

/// Keeps the hosts file for all of them.
pub(super) fn start(plane: &ControlPlane, nodes: &[Node]) -> Result<Process> {
    let mut command = Command::new(built_binary("names")?);
    command.arg(plane.kubeconfig(User::Node)?).arg(hosts(plane));
    command.args(nodes.iter().filter_map(Node::dns_pid).map(|pid| pid.to_string()));
    plane.place.start("names", &mut command)
}
