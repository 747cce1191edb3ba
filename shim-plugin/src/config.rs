//! What the containerd task is told at its start.

use crate::claim::Claims;
use crate::observe::LeaveOut;
use crate::registry::Limits;
use flow_model::{NetnsId, Pace};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings of the containerd task; they do not change while it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Each leads to a containerd of its own, whether it is there yet or not. Where two lead to the
    /// same, the first is used.
    pub sockets: Vec<PathBuf>,
    /// containerd's namespaces to look at; empty for all.
    pub namespaces: Vec<String>,
    /// The slow reconcile, jittered by a tenth.
    pub reconcile_every: Duration,
    /// The namespace that the agent runs in: it is not attached to.
    pub node: Option<NetnsId>,
    /// Containers in it are attached to by their cgroups.
    pub observe_node: bool,
    /// Who is left out at first.
    pub leave_out: LeaveOut,
    /// Bounds of the registry.
    pub limits: Limits,
    /// What this agent alone may work with.
    pub claims: Claims,
    /// Asked before each record of a list of many.
    pub pace: Option<Arc<dyn Pace>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // The distribution's or Docker's own package; k3s and RKE2; the one that dockerd starts
            // where there is none.
            sockets: vec![
                "/run/containerd/containerd.sock".into(),
                "/run/k3s/containerd/containerd.sock".into(),
                "/run/docker/containerd/containerd.sock".into(),
            ],
            namespaces: Vec::new(),
            reconcile_every: Duration::from_secs(60),
            node: None,
            observe_node: false,
            leave_out: LeaveOut::default(),
            limits: Limits::default(),
            claims: Claims::default(),
            pace: None,
        }
    }
}

impl Config {
    pub(crate) fn wants(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|wanted| wanted == namespace)
    }
}
