//! The configuration as the agent reads it, a struct for each section of the file.

use capture_engine::attach::Mode;
use k8s_sync::watch::Scope;
use l7::Wire;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub containerd: Containerd,
    pub kubernetes: Kubernetes,
    pub companion: Companion,
    pub attach: Attach,
    pub scan: Scan,
    pub capture: Capture,
    pub l7: L7,
    pub metrics: Metrics,
    pub admin: Admin,
    pub log: Log,
    pub debug: Debug,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Containerd {
    /// Empty: the usual places.
    pub sockets: Vec<PathBuf>,
    /// Empty: all.
    pub namespaces: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KubernetesMode {
    /// Where an API server is found.
    #[default]
    Auto,
    /// Also where none is found: that is then told as something that is missing.
    On,
    Off,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kubernetes {
    pub mode: KubernetesMode,
    /// None: the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// None: `NODE_NAME`, else the host's name.
    pub node: Option<String>,
    /// Whose names are kept.
    pub scope: Scope,
    /// Pods kept.
    pub max_pods: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Companion {
    /// None: none is joined.
    pub join: Option<PathBuf>,
    /// Take names of the cluster from it.
    pub names: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Attach {
    pub mode: Mode,
    pub loopback: bool,
    /// Hear of containers from the kernel, before containerd tells of them.
    pub early: bool,
    /// Observe the namespace that the agent runs in.
    pub node: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// None: what is cheapest of what the kernel has.
    pub source: Option<netns_scanner::Source>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    pub ring_bytes: u32,
    pub head_bytes: u32,
    pub flows: u32,
    /// Inclusive ranges.
    pub ports: Vec<(u16, u16)>,
    pub exclude_ports: Vec<(u16, u16)>,
    pub exclude_namespaces: Vec<String>,
    /// Count why the kernel drops packets, all the time.
    pub drops: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct L7 {
    /// Empty: all.
    pub protocols: Vec<Wire>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub max_series: usize,
    pub expiry: Duration,
    pub histograms: golden_metrics::Histograms,
    pub route: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub listen: SocketAddr,
    pub socket: PathBuf,
    pub connections: usize,
    pub grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
    Journald,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Debug {
    pub enabled: bool,
    /// Instead of /proc, for what the agent reads of processes.
    pub proc: PathBuf,
    /// Of the findings that the agent looks for.
    pub window: Duration,
}

impl Config {
    /// Without any default: the table of keys sets them all.
    pub(super) fn blank() -> Config {
        Config {
            containerd: Containerd::default(),
            kubernetes: Kubernetes::default(),
            companion: Companion::default(),
            attach: Attach { mode: Mode::Auto, loopback: false, early: true, node: false },
            scan: Scan::default(),
            capture: Capture {
                ring_bytes: 0,
                head_bytes: 0,
                flows: 0,
                ports: Vec::new(),
                exclude_ports: Vec::new(),
                exclude_namespaces: Vec::new(),
                drops: false,
            },
            l7: L7::default(),
            metrics: Metrics {
                max_series: 0,
                expiry: Duration::ZERO,
                histograms: golden_metrics::Histograms::Classic,
                route: false,
            },
            admin: Admin {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                socket: PathBuf::new(),
                connections: 0,
                grace: Duration::ZERO,
            },
            log: Log { level: String::new(), format: LogFormat::Auto },
            debug: Debug { enabled: false, proc: PathBuf::new(), window: Duration::ZERO },
        }
    }
}
