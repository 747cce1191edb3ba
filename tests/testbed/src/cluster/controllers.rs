//! The controller manager, with the controllers that somebody needs.

use super::binaries::{self, Program};
use super::control::ControlPlane;
use super::kubeconfig::User;
use crate::agent::free_port;
use crate::process::Process;
use anyhow::Result;
use std::process::Command;

/// Those that the workloads of a demo and of tests need. `node-lifecycle` takes the taint off a
/// node that has become ready.
pub(super) const OF_WORKLOADS: [&str; 14] = [
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    AUTOSCALER,
    "job-controller",
    NAMESPACES,
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
];

const AUTOSCALER: &str = "horizontal-pod-autoscaler-controller";
const NAMESPACES: &str = "namespace-controller";

pub(super) fn start(plane: &ControlPlane, controllers: &[&str], flags: &[&str]) -> Result<Process> {
    let mut command = Command::new(binaries::find(Program::ControllerManager)?);
    command.arg("--kubeconfig").arg(plane.kubeconfig(User::ControllerManager)?);
    command.args(["--leader-elect=false", "--bind-address=127.0.0.1", &format!("--secure-port={}", free_port()?)]);
    command.arg(format!("--controllers={}", controllers.join(",")));
    command.arg(format!("--cert-dir={}", plane.dir().join("controllers-pki").display())).args(flags);
    plane.start_beside("kube-controller-manager", &mut command)
}

impl ControlPlane {
    /// The HPA's controller and no other: it looks each second, not each 15.
    pub fn start_autoscaler(&self) -> Result<Process> {
        start(self, &[AUTOSCALER], &["--horizontal-pod-autoscaler-sync-period=1s"])
    }

    /// The controller that ends namespaces, and no other.
    pub fn start_namespaces(&self) -> Result<Process> {
        start(self, &[NAMESPACES], &[])
    }
}
