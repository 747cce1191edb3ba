//! What each part is told: the configuration as people write it, in the parts' own words.

use crate::config::{Config, Kubernetes, KubernetesMode};
use crate::run::companion::Wanted;
use crate::run::containers;
use capture_engine::attach::AttachConfig;
use capture_engine::kernel::KernelConfig;
use capture_engine::pipeline::PipelineConfig;
use k8s_sync::access::{OwnAddresses, Sources};
use k8s_sync::cluster::Limits;
use k8s_sync::watch::{self, Agent};
use l7::Wires;
use netns::Netns;
use netns_scanner::ScannerConfig;
use shim_plugin::LeaveOut;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// File of the state directory that the cluster's names are kept in from one run to the next.
const SNAPSHOT: &str = "cluster-names";

#[must_use]
pub fn kernel(config: &Config) -> KernelConfig {
    let ranges = |ports: &[(u16, u16)]| -> Vec<RangeInclusive<u16>> { ports.iter().map(|(a, b)| *a..=*b).collect() };
    KernelConfig {
        ring_bytes: config.capture.ring_bytes,
        flows: config.capture.flows,
        head_bytes: config.capture.head_bytes,
        include_ports: ranges(&config.capture.ports),
        exclude_ports: ranges(&config.capture.exclude_ports),
        loopback: config.attach.loopback,
        ..KernelConfig::default()
    }
}

#[must_use]
pub fn attach(config: &Config) -> AttachConfig {
    AttachConfig { mode: config.attach.mode, include_loopback: config.attach.loopback, ..AttachConfig::default() }
}

#[must_use]
pub fn pipeline(config: &Config) -> PipelineConfig {
    let l7 = l7::Limits { wires: wires(config), routes: config.metrics.route, ..l7::Limits::default() };
    PipelineConfig { flows: config.capture.flows as usize, l7, has_aside: true }
}

/// What is read; where nothing is named, all.
#[must_use]
pub fn wires(config: &Config) -> Wires {
    if config.l7.protocols.is_empty() { Wires::ALL } else { Wires::only(&config.l7.protocols) }
}

#[must_use]
pub fn metrics(config: &Config) -> golden_metrics::Config {
    golden_metrics::Config {
        max_series: config.metrics.max_series,
        expiry: config.metrics.expiry,
        ..golden_metrics::Config::default()
    }
}

#[must_use]
pub fn scanner(config: &Config) -> ScannerConfig {
    ScannerConfig { source: config.scan.source, include_loopback: config.attach.loopback, ..ScannerConfig::default() }
}

#[must_use]
pub fn containers(config: &Config) -> containers::Config {
    containers::Config {
        node: node_name(&config.kubernetes).unwrap_or_else(|| "node".to_owned()),
        observe_node: config.attach.node,
        loopback: config.attach.loopback,
    }
}

#[must_use]
pub fn containerd(config: &Config) -> shim_plugin::Config {
    let mut out = shim_plugin::Config { namespaces: config.containerd.namespaces.clone(), ..Default::default() };
    if !config.containerd.sockets.is_empty() {
        out.sockets.clone_from(&config.containerd.sockets);
    }
    out.observe_node = config.attach.node;
    out.leave_out = leave_out(config);
    // "The host's" namespace is the one that the agent runs in. Without /proc nothing would work
    // anyway.
    out.node = Netns::current().ok().map(|netns| netns.id());
    out
}

#[must_use]
pub fn leave_out(config: &Config) -> LeaveOut {
    LeaveOut { namespaces: config.capture.exclude_namespaces.clone() }
}

/// Who this agent is to the API server.
#[derive(Clone, Debug)]
pub struct Who {
    /// Of this process and no other: a request that comes back with it came from here.
    pub instance: String,
    /// Where this agent listens.
    pub listening: SocketAddr,
    /// Where names are kept, if anywhere.
    pub state: Option<PathBuf>,
}

#[must_use]
pub fn watches(config: &Kubernetes, who: &Who) -> watch::Config {
    let Who { instance, listening, state } = who;
    watch::Config {
        sources: Sources::of_this_process(config.kubeconfig.clone()),
        agent: Agent {
            instance: instance.clone(),
            user_agent: concat!("pilotfish/", env!("CARGO_PKG_VERSION")).to_owned(),
            own: OwnAddresses::new([*listening]),
        },
        node: node_name(config),
        scope: config.scope,
        most_pods: u32::try_from(config.max_pods).unwrap_or(u32::MAX),
        snapshot: state.as_ref().map(|directory| directory.join(SNAPSHOT)),
        ..watch::Config::default()
    }
}

/// Of the table of the cluster's names. Those that are gone take room for a while, too.
#[must_use]
pub fn names(config: &Kubernetes) -> Limits {
    Limits { pods: config.max_pods.saturating_mul(4) / 3, ..Limits::default() }
}

/// None where no companion is to be joined.
#[must_use]
pub fn companion(config: &Config) -> Option<Wanted> {
    // A companion refuses a name that is none, and says what to set.
    let node = node_name(&config.kubernetes).unwrap_or_default();
    config.companion.join.clone().map(|file| Wanted { file, node, names: config.companion.names })
}

/// Whether the operator said that there is an API server.
#[must_use]
pub fn expects_cluster(config: &Kubernetes) -> bool {
    config.mode == KubernetesMode::On || config.kubeconfig.is_some()
}

/// Kubernetes' name of this node: as configured, else as the pod's manifest passes it on, else the
/// host's.
fn node_name(config: &Kubernetes) -> Option<String> {
    let passed_on = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    config.node.clone().or_else(passed_on).or_else(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_as_configured() {
        let config = Kubernetes { node: Some("n1".to_owned()), ..Kubernetes::default() };
        assert_eq!(node_name(&config).as_deref(), Some("n1"));
        assert!(node_name(&Kubernetes::default()).is_some(), "a host has a name");
    }

    #[test]
    fn a_cluster_is_expected_where_the_operator_says_so() {
        let expected = |mode, kubeconfig: Option<&str>| {
            expects_cluster(&Kubernetes { mode, kubeconfig: kubeconfig.map(Into::into), ..Kubernetes::default() })
        };
        assert!(!expected(KubernetesMode::Auto, None));
        assert!(expected(KubernetesMode::On, None) && expected(KubernetesMode::Auto, Some("/k")));
    }
}
