//! Every key there is: its default, its documentation and where it goes. The file, the environment,
//! the printed default and the error texts are all made from this one table.

use super::sections::{Config, KubernetesMode, LogFormat};
use super::value::Given;
use capture_engine::attach::Mode;
use golden_metrics::Histograms;
use k8s_sync::watch::Scope;
use l7::Wire;
use netns_scanner::Source;
use std::time::Duration;

#[derive(Debug)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    /// Names that it had in this section. They are still read, with a warning.
    pub was: &'static [&'static str],
    /// As TOML.
    pub default: &'static str,
    pub doc: &'static str,
    pub apply: fn(&mut Config, &Given<'_>) -> Result<(), String>,
}

impl Key {
    #[must_use]
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets this key.
    #[must_use]
    pub fn env(&self) -> String {
        self.env_as(self.name)
    }

    fn env_as(&self, name: &str) -> String {
        format!("PILOTFISH_{}_{}", self.section.to_uppercase(), name.to_uppercase())
    }

    /// The key that this section and name are of.
    #[must_use]
    pub fn find(section: &str, name: &str) -> Option<Called> {
        KEYS.iter().filter(|key| key.section == section).find_map(|key| key.called(|known| known == name))
    }

    /// The key that this variable sets.
    #[must_use]
    pub fn find_env(variable: &str) -> Option<Called> {
        KEYS.iter().find_map(|key| key.called(|known| key.env_as(known) == variable))
    }

    fn called(&'static self, is_it: impl Fn(&str) -> bool) -> Option<Called> {
        if is_it(self.name) {
            return Some(Called { key: self, old: None });
        }
        self.was.iter().find(|old| is_it(old)).map(|old| Called { key: self, old: Some(*old) })
    }
}

/// A key by the name that somebody gave it.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    pub key: &'static Key,
    /// The name that it no longer has.
    pub old: Option<&'static str>,
}

impl Called {
    /// How it was called, with its section.
    #[must_use]
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.key.section, self.old.unwrap_or(self.key.name))
    }

    /// What is said of an old name.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.old.map(|_| format!("{} is now {}", self.dotted(), self.key.dotted()))
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Sections in the order in which they are printed, each with what it is about.
pub const SECTIONS: [(&str, &str); 11] = [
    ("containerd", "Where the agent learns which containers live."),
    (
        "kubernetes",
        "Where the agent learns the names of pods, Services and their owners in the whole cluster. It only reads.",
    ),
    ("companion", "Where the agent pushes what it counts, so that one place shows the whole cluster."),
    ("attach", "How the kernel programs get into a container's network namespace."),
    ("scan", "How connections are found that are older than the agent."),
    ("capture", "How much of the traffic is copied out of the kernel."),
    ("l7", "What is read of it."),
    ("metrics", "How many time series are kept, and for how long."),
    ("admin", "Where the agent answers."),
    ("log", "What the agent says about itself."),
    ("debug", "For tests of the agent itself."),
];

pub const KEYS: &[Key] = &[
    Key {
        section: "containerd",
        name: "sockets",
        was: &[],
        default: "[]",
        doc: "Sockets of the node's containerds, 16 at most; each is followed for itself. Empty: those of containerd, k3s and dockerd at their usual places.",
        apply: |c, v| {
            let sockets = v.list()?;
            if sockets.len() > 16 {
                return Err(format!("{} sockets are more than the 16 that are followed", sockets.len()));
            }
            c.containerd.sockets = sockets.into_iter().map(Into::into).collect();
            Ok(())
        },
    },
    Key {
        section: "containerd",
        name: "namespaces",
        was: &[],
        default: "[]",
        doc: "containerd namespaces to watch, like [\"k8s.io\"]. Empty: all.",
        apply: |c, v| v.list().map(|v| c.containerd.namespaces = v),
    },
    Key {
        section: "kubernetes",
        name: "mode",
        was: &[],
        default: "\"auto\"",
        doc: "auto, on or off. auto watches the API where one is found; on also says so where none is; off never asks.",
        apply: |c, v| {
            v.one_of(&["auto", "on", "off"]).map(|v| {
                c.kubernetes.mode = match v {
                    "on" => KubernetesMode::On,
                    "off" => KubernetesMode::Off,
                    _ => KubernetesMode::Auto,
                }
            })
        },
    },
    Key {
        section: "kubernetes",
        name: "kubeconfig",
        was: &[],
        default: "\"\"",
        doc: "Path of a kubeconfig. Empty: $KUBECONFIG, a pod's service account, then k3s at its usual place.",
        apply: |c, v| {
            c.kubernetes.kubeconfig = if v.text()?.is_empty() { None } else { Some(v.path()?.into()) };
            Ok(())
        },
    },
    Key {
        section: "kubernetes",
        name: "node",
        was: &[],
        default: "\"\"",
        doc: "Name of this node in Kubernetes. Empty: $NODE_NAME, else the host's name.",
        apply: |c, v| {
            let name = v.text()?;
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
            if !is_name {
                return Err(format!("{name:?} is no name of a node; write one as `kubectl get nodes` shows it"));
            }
            c.kubernetes.node = (!name.is_empty()).then_some(name);
            Ok(())
        },
    },
    Key {
        section: "kubernetes",
        name: "scope",
        was: &[],
        default: "\"cluster\"",
        doc: "cluster or node. cluster names every peer; node keeps the pods of this node only and costs the API server less.",
        apply: |c, v| {
            v.one_of(&["cluster", "node"])
                .map(|v| c.kubernetes.scope = if v == "node" { Scope::Node } else { Scope::Cluster })
        },
    },
    Key {
        section: "kubernetes",
        name: "max_pods",
        was: &[],
        default: "150000",
        doc: "Most pods whose names are kept, 100 to 1000000; some 250 bytes each. In a larger cluster the scope becomes node.",
        apply: |c, v| v.integer(100, 1_000_000).map(|v| c.kubernetes.max_pods = v as usize),
    },
    Key {
        section: "companion",
        name: "join",
        was: &[],
        default: "\"\"",
        doc: "Path of the cluster's join.toml, like \"/etc/pilotfish/join.toml\": address, CA and token of the companion. Empty: none is joined.",
        apply: |c, v| {
            c.companion.join = if v.text()?.is_empty() { None } else { Some(v.path()?.into()) };
            Ok(())
        },
    },
    Key {
        section: "companion",
        name: "names",
        was: &[],
        default: "true",
        doc: "Take names of the cluster from the companion: without an API server at once, with one after 10 minutes, and then the agent's own watches end until the companion is away for as long.",
        apply: |c, v| v.boolean().map(|v| c.companion.names = v),
    },
    Key {
        section: "attach",
        name: "mode",
        was: &[],
        default: "\"auto\"",
        doc: "auto, tcx (Linux 6.6 and later) or clsact. auto takes the faster of what the kernel has and falls back to the other.",
        apply: |c, v| {
            v.one_of(&["auto", "tcx", "clsact"]).map(|v| {
                c.attach.mode = match v {
                    "tcx" => Mode::Tcx,
                    "clsact" => Mode::Clsact,
                    _ => Mode::Auto,
                }
            })
        },
    },
    Key {
        section: "attach",
        name: "loopback",
        was: &[],
        default: "false",
        doc: "Also attach to lo: traffic between containers of one pod. Each exchange is then seen twice.",
        apply: |c, v| v.boolean().map(|v| c.attach.loopback = v),
    },
    Key {
        section: "attach",
        name: "early",
        was: &[],
        default: "true",
        doc: "Hear of new containers from the kernel (tracepoints of fork and exec), before containerd tells of them.",
        apply: |c, v| v.boolean().map(|v| c.attach.early = v),
    },
    Key {
        section: "attach",
        name: "node",
        was: &["host"],
        default: "true",
        doc: "Also observe hostNetwork containers and the node's services, by their cgroups (version 2). `pilotfish check` says whether that is possible.",
        apply: |c, v| v.boolean().map(|v| c.attach.node = v),
    },
    Key {
        section: "scan",
        name: "source",
        was: &[],
        default: "\"auto\"",
        doc: "auto, iterator (Linux 5.11 and later), sock_diag or procfs. auto takes the cheapest that works; `pilotfish check` says which.",
        apply: |c, v| {
            v.one_of(&["auto", "iterator", "sock_diag", "procfs"]).map(|v| {
                c.scan.source = match v {
                    "iterator" => Some(Source::Iterator),
                    "sock_diag" => Some(Source::SockDiag),
                    "procfs" => Some(Source::Procfs),
                    _ => None,
                }
            })
        },
    },
    Key {
        section: "capture",
        name: "ring_bytes",
        was: &[],
        default: "\"8MiB\"",
        doc: "Size of the ring between kernel and agent: a power of two from 64KiB to 1GiB. What does not fit is counted as lost.",
        apply: |c, v| {
            let bytes = v.bytes(64 << 10, 1 << 30)?;
            if !bytes.is_power_of_two() {
                return Err(format!("{bytes} is not a power of two; write {}", bytes.next_power_of_two()));
            }
            c.capture.ring_bytes = bytes as u32;
            Ok(())
        },
    },
    Key {
        section: "capture",
        name: "head_bytes",
        was: &[],
        default: "\"4KiB\"",
        doc: "Bytes copied of each message, 64 to 16KiB. What follows is counted, not copied.",
        apply: |c, v| v.bytes(64, 16 << 10).map(|v| c.capture.head_bytes = v as u32),
    },
    Key {
        section: "capture",
        name: "flows",
        was: &[],
        default: "65536",
        doc: "Flows that the kernel's table holds, 1024 to 4194304; 512 bytes each while it lasts. What does not fit is counted.",
        apply: |c, v| v.integer(1024, 4 << 20).map(|v| c.capture.flows = v as u32),
    },
    Key {
        section: "capture",
        name: "ports",
        was: &[],
        default: "[]",
        doc: "Ports whose messages are copied and read, as [80, \"8000-8100\"], at either end of a flow. Empty: all. Packets and bytes are counted of every flow.",
        apply: |c, v| v.ports().map(|v| c.capture.ports = v),
    },
    Key {
        section: "capture",
        name: "exclude_ports",
        was: &[],
        default: "[]",
        doc: "Ports whose messages are never copied. Goes before ports.",
        apply: |c, v| v.ports().map(|v| c.capture.exclude_ports = v),
    },
    Key {
        section: "capture",
        name: "exclude_namespaces",
        was: &[],
        default: "[]",
        doc: "Namespaces whose pods are left out, like [\"kube-system\"]: nobody attaches to them. Read again on reload. A pod says so of itself with the label pilotfish.io/observe: \"false\", or \"tcp\".",
        apply: |c, v| {
            let names = v.list()?;
            let is_name = |name: &str| {
                let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !name.is_empty() && name.len() <= 253 && name.bytes().all(inside)
            };
            if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
                return Err(format!(
                    "{wrong:?} is no name of a namespace; write it as `kubectl get namespaces` shows it"
                ));
            }
            c.capture.exclude_namespaces = names;
            Ok(())
        },
    },
    Key {
        section: "capture",
        name: "drops",
        was: &[],
        default: "false",
        doc: "Count all the time which packets the kernel drops, and why (a tracepoint, some 0.1 us a packet that is dropped), so that pilotfish_finding shows `drops`. `pilotfish doctor` counts them by itself while it looks.",
        apply: |c, v| v.boolean().map(|v| c.capture.drops = v),
    },
    Key {
        section: "l7",
        name: "protocols",
        was: &[],
        default: "[]",
        doc: "Protocols that are read: http1, http2 (with gRPC), tls, postgresql, mysql, dns, redis, kafka, websocket. Empty: all. Of others packets, bytes and connections are counted. Read again on reload, for connections that begin then.",
        apply: |c, v| {
            let named = |name: String| {
                let found = Wire::ALL.iter().find(|wire| wire.as_str() == name);
                found.copied().ok_or_else(|| {
                    let all: Vec<&str> = Wire::ALL.iter().map(|wire| wire.as_str()).collect();
                    format!("{name:?} is no protocol that can be read; write one of {}", all.join(", "))
                })
            };
            v.list()?.into_iter().map(named).collect::<Result<_, _>>().map(|v| c.l7.protocols = v)
        },
    },
    Key {
        section: "metrics",
        name: "max_series",
        was: &[],
        default: "10000",
        doc: "Series kept per metric family, 100 to 1000000. The rest is added up in one series named \"_overflow\".",
        apply: |c, v| v.integer(100, 1_000_000).map(|v| c.metrics.max_series = v as usize),
    },
    Key {
        section: "metrics",
        name: "expiry",
        was: &[],
        default: "\"10m\"",
        doc: "Series that were not touched for this long are dropped, 10s to 24h.",
        apply: |c, v| v.duration(10 * SECOND, DAY).map(|v| c.metrics.expiry = v),
    },
    Key {
        section: "metrics",
        name: "histograms",
        was: &[],
        default: "\"both\"",
        doc: "both, native or classic: the buckets on /metrics. Only protobuf has native ones; with native a text keeps `_count`, `_sum` and `le=\"+Inf\"`.",
        apply: |c, v| {
            v.one_of(&["both", "native", "classic"]).map(|v| {
                c.metrics.histograms = match v {
                    "native" => Histograms::Native,
                    "classic" => Histograms::Classic,
                    _ => Histograms::Both,
                }
            })
        },
    },
    Key {
        section: "metrics",
        name: "route",
        was: &[],
        default: "true",
        doc: "Whether series of HTTP have the label http_route: the path with {id} for what differs from request to request. At most 200 of a server, then /*.",
        apply: |c, v| v.boolean().map(|v| c.metrics.route = v),
    },
    Key {
        section: "admin",
        name: "listen",
        was: &[],
        default: "\"127.0.0.1:9464\"",
        doc: "Address of /metrics, /livez and /readyz. Port 0 takes a free one, which the log names.",
        apply: |c, v| v.address().map(|v| c.admin.listen = v),
    },
    Key {
        section: "admin",
        name: "socket",
        was: &[],
        default: "\"/run/pilotfish/pilotfish.sock\"",
        doc: "Unix socket of the command line (mode 0660).",
        apply: |c, v| v.path().map(|v| c.admin.socket = v.into()),
    },
    Key {
        section: "admin",
        name: "connections",
        was: &[],
        default: "64",
        doc: "Connections served at once on the address and on the socket each, 4 to 4096. When one more comes, the oldest makes room.",
        apply: |c, v| v.integer(4, 4096).map(|v| c.admin.connections = v as usize),
    },
    Key {
        section: "admin",
        name: "grace",
        was: &[],
        default: "\"10s\"",
        doc: "Longest time between a signal to stop and the end, 1s to 5m.",
        apply: |c, v| v.duration(SECOND, 300 * SECOND).map(|v| c.admin.grace = v),
    },
    Key {
        section: "log",
        name: "level",
        was: &[],
        default: "\"info\"",
        doc: "error, warn, info, debug or trace; or a filter of tracing-subscriber, like \"info,capture_engine=debug\".",
        apply: |c, v| {
            let filter = v.text()?;
            match tracing_subscriber::EnvFilter::builder().parse(&filter) {
                Ok(_) => {
                    c.log.level = filter;
                    Ok(())
                }
                Err(error) => Err(format!("{filter:?} is not a level or a filter ({error}); write \"info\"")),
            }
        },
    },
    Key {
        section: "log",
        name: "format",
        was: &[],
        default: "\"auto\"",
        doc: "text, json, journald, or auto: journald when systemd connected standard error to it, else text.",
        apply: |c, v| {
            v.one_of(&["auto", "text", "json", "journald"]).map(|v| {
                c.log.format = match v {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    "journald" => LogFormat::Journald,
                    _ => LogFormat::Auto,
                }
            })
        },
    },
    Key {
        section: "debug",
        name: "enabled",
        was: &[],
        default: "false",
        doc: "Allow POST /debug/pause?ms=N on the unix socket: the ring's reader sleeps N ms. Loses events; for tests only.",
        apply: |c, v| v.boolean().map(|v| c.debug.enabled = v),
    },
    Key {
        section: "debug",
        name: "proc",
        was: &[],
        default: "\"/proc\"",
        doc: "Where to read what /proc tells of processes: for tests of files that hang.",
        apply: |c, v| v.path().map(|v| c.debug.proc = v.into()),
    },
    Key {
        section: "debug",
        name: "window",
        was: &[],
        default: "\"30s\"",
        doc: "How long a window of the agent's own findings is: for tests of their rise and fall.",
        apply: |c, v| v.duration(SECOND, 300 * SECOND).map(|v| c.debug.window = v),
    },
];
