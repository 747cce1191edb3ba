//! The join with Kubernetes: starts the watches of `k8s-sync` once the agent is ready, and hands their names to whoever names traffic.
//!
//! Nothing waits for it. Without a cluster, and while its API is away, containerd names the pods of this node as before.

mod identity;
mod join;
mod report;

pub use identity::Lookup;
pub use join::Join;
pub use report::{metrics, shown};

use crate::clock;
use crate::config::{Config, Kubernetes, KubernetesMode, Scope};
use k8s_sync::access::{OwnAddresses, Sources};
use k8s_sync::cluster::{Limits, Moment};
use k8s_sync::watch::{self, Agent, Handle, Link, Report};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// File of the state directory that the cluster's names are kept in from one run to the next.
pub const SNAPSHOT: &str = "cluster-names";

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

/// How the watches stand, as the pages and metrics show it.
pub struct Watches {
    report: Box<dyn Fn(Instant) -> Report + Send + Sync>,
    /// The operator said that there is an API server.
    is_expected: bool,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("is_expected", &self.is_expected).finish_non_exhaustive()
    }
}

impl Watches {
    #[must_use]
    pub fn new(report: impl Fn(Instant) -> Report + Send + Sync + 'static, config: &Kubernetes) -> Watches {
        let is_expected = config.mode == KubernetesMode::On || config.kubeconfig.is_some();
        Watches { report: Box::new(report), is_expected }
    }

    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        (self.report)(now)
    }

    /// Why names of the cluster are missing or old, where there should be some.
    #[must_use]
    pub fn degraded(&self, now: Instant) -> Option<String> {
        let report = self.report(now);
        match &report.link {
            Link::None { reason } => self.is_expected.then(|| reason.clone()),
            _ => report.is_fresh().err(),
        }
    }
}

/// Both clocks, read one after the other.
fn moment() -> Moment {
    Moment { mono: clock::now(), wall: SystemTime::now() }
}

/// Kubernetes' name of this node: as configured, else as the pod's manifest passes it on, else the host's.
#[must_use]
pub fn node_name(config: &Kubernetes) -> Option<String> {
    let passed_on = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    config.node.clone().or_else(passed_on).or_else(host)
}

#[must_use]
pub fn watch_config(config: &Kubernetes, who: &Who) -> watch::Config {
    let Who { instance, listening, state } = who;
    watch::Config {
        sources: Sources::of_this_process(config.kubeconfig.clone()),
        agent: Agent {
            instance: instance.clone(),
            user_agent: concat!("pilotfish/", env!("CARGO_PKG_VERSION")).to_owned(),
            own: OwnAddresses::new([*listening]),
        },
        node: node_name(config),
        scope: match config.scope {
            Scope::Cluster => watch::Scope::Cluster,
            Scope::Node => watch::Scope::Node,
        },
        most_pods: u32::try_from(config.max_pods).unwrap_or(u32::MAX),
        snapshot: state.as_ref().map(|directory| directory.join(SNAPSHOT)),
        ..watch::Config::default()
    }
}

/// Starts the watches. Reads the snapshot, so not for a thread that others wait for. None where the configuration says so.
///
/// # Errors
/// No thread, or no descriptors.
pub fn start(config: &Config, who: &Who, stop: CancellationToken) -> io::Result<Option<Handle>> {
    let kubernetes = &config.kubernetes;
    if kubernetes.mode == KubernetesMode::Off {
        tracing::info!("kubernetes.mode is off: names come from containerd only");
        return Ok(None);
    }
    // Those that are gone take room for a while, too.
    let limits = Limits { pods: kubernetes.max_pods.saturating_mul(4) / 3, ..Limits::default() };
    watch::start(watch_config(kubernetes, who), limits, moment, stop).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches(report: Report, mode: KubernetesMode) -> Watches {
        Watches::new(move |_| report.clone(), &Kubernetes { mode, ..Kubernetes::default() })
    }

    #[test]
    fn no_cluster_is_a_reason_only_where_one_is_expected() {
        let none = Report { link: Link::None { reason: "no API server found".to_owned() }, ..Report::default() };
        let now = Instant::now();
        assert_eq!(watches(none.clone(), KubernetesMode::Auto).degraded(now), None);
        assert_eq!(watches(none, KubernetesMode::On).degraded(now).as_deref(), Some("no API server found"));
        let connecting = Report { link: Link::Connecting, ..Report::default() };
        assert!(watches(connecting, KubernetesMode::Auto).degraded(now).is_some());
    }

    #[test]
    fn a_node_is_called_as_configured() {
        let config = Kubernetes { node: Some("n1".to_owned()), ..Kubernetes::default() };
        assert_eq!(node_name(&config).as_deref(), Some("n1"));
        assert!(node_name(&Kubernetes::default()).is_some(), "a host has a name");
    }
}
