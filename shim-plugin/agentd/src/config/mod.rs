//! Everything that can be configured. Precedence: flag, environment, file, default. All faults are found in one go.

mod keys;
mod load;
mod value;

pub use keys::{KEYS, Key, SECTIONS};
pub use load::{Flags, Origin, load, read_file};

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Read when it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/pilotfish/agent.toml";

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub containerd: Containerd,
    pub kubernetes: Kubernetes,
    pub attach: Attach,
    pub scan: Scan,
    pub capture: Capture,
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

/// Whose names are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    #[default]
    Cluster,
    /// Pods of this node, and all Services.
    Node,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kubernetes {
    pub mode: KubernetesMode,
    /// None: the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// None: `NODE_NAME`, else the host's name.
    pub node: Option<String>,
    pub scope: Scope,
    /// Pods kept.
    pub max_pods: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    Auto,
    Tcx,
    Clsact,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Attach {
    pub mode: AttachMode,
    pub loopback: bool,
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
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub max_series: usize,
    pub expiry: Duration,
    pub histograms: golden_metrics::Histograms,
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
}

impl Default for Config {
    /// The table's defaults; what is written here is only where they start from, and a test holds that all are overwritten.
    fn default() -> Config {
        let mut config = Config::blank();
        load::apply_defaults(&mut config);
        config
    }
}

impl Config {
    fn blank() -> Config {
        Config {
            containerd: Containerd::default(),
            kubernetes: Kubernetes::default(),
            attach: Attach { mode: AttachMode::Auto, loopback: false, node: false },
            scan: Scan::default(),
            capture: Capture { ring_bytes: 0, head_bytes: 0, flows: 0, ports: Vec::new(), exclude_ports: Vec::new() },
            metrics: Metrics { max_series: 0, expiry: Duration::ZERO, histograms: golden_metrics::Histograms::Classic },
            admin: Admin {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                socket: PathBuf::new(),
                connections: 0,
                grace: Duration::ZERO,
            },
            log: Log { level: String::new(), format: LogFormat::Auto },
            debug: Debug { enabled: false, proc: PathBuf::new() },
        }
    }

    /// The whole configuration as TOML, documented, every key commented out at its default.
    #[must_use]
    pub fn documented_default() -> String {
        let mut text = String::from(
            "# Configuration of `pilotfish agent`. Every key is shown at its default.\n\
             # Each can also be set in the environment, as PILOTFISH_SECTION_KEY.\n",
        );
        for (section, about) in SECTIONS {
            text.push_str(&format!("\n# {about}\n[{section}]\n"));
            for key in KEYS.iter().filter(|key| key.section == section) {
                text.push_str(&format!("# {}\n# {} = {}\n", key.doc, key.name, key.default));
            }
        }
        text
    }
}

/// One thing that is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub origin: Origin,
    /// Dotted; empty where the fault is not a key's.
    pub key: String,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.what),
            key => write!(f, "{}: {key}: {}", self.origin, self.what),
        }
    }
}

/// All that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} fault{} in the configuration:", if count == 1 { "" } else { "s" })?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
