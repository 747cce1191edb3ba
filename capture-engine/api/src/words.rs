//! What the agent answers, as JSON. Written by the agent, read by its command line and by scripts:
//! fields are added, never renamed.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    /// Of the source; empty when the build did not know.
    pub commit: String,
    /// Fingerprint of the kernel programs; empty when unknown.
    pub kernel_object: String,
}

/// A part of the agent that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub part: String,
    /// Work is done without it; else it keeps the agent from being ready.
    pub degraded_only: bool,
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub reasons: Vec<Reason>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containerd {
    pub connected: bool,
    /// Path of the socket that answers, or that was tried last.
    pub socket: String,
    pub version: String,
    pub reconnects: u64,
    /// Why it is not connected.
    pub detail: String,
}

/// How the agent stands with the Kubernetes API, and what it watches there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// off, none (nothing says where an API server is), connecting, connected, unreachable
    pub link: String,
    /// Why it is not connected.
    pub detail: String,
    /// URL of the API server, and where that was found.
    pub server: String,
    pub source: String,
    /// cluster or node, and why it is not the one that was asked for.
    pub scope: String,
    pub scope_reason: String,
    /// Why names of the cluster may be missing or old; empty when they are whole and fresh.
    pub stale: String,
    pub watches: Vec<Watch>,
    /// Requests since the start, and those that had to wait for their turn.
    pub requests: u64,
    pub throttled: u64,
    /// Why the names could not be kept for the next start.
    pub snapshot_error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// pods, services, endpointslices, nodes, jobs
    pub resource: String,
    /// waiting, listing, watching, retrying
    pub state: String,
    pub objects: u64,
    /// Since a list, an event or a bookmark came.
    pub age_s: f64,
    /// Listed as a whole since the start.
    pub complete: bool,
    /// Streams after the first.
    pub restarts: u64,
    pub lists: u64,
    /// Lists that were needed because the server no longer had the version.
    pub relists: u64,
    pub failures: u64,
    /// Objects that were not understood.
    pub skipped: u64,
    /// The last failure; it stays after things went well again.
    pub last_error: String,
}

/// What is known of an address now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub ip: String,
    pub port: Option<u16>,
    /// Whether anybody says who that is.
    pub known: bool,
    /// As an edge to it would be labelled now, where the pod that asks learnt nothing by DNS.
    pub shown: Party,
    /// Service by which clients reach it.
    pub service: String,
    /// By whom it is known and how, the better one first.
    pub facts: Vec<Fact>,
    /// Why facts may be missing.
    pub missing: Vec<String>,
}

/// One thing that one source says of an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// kubernetes, containerd (and the node's own addresses), dns, class
    pub source: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub pod: String,
    pub node: String,
    pub service: String,
    /// The one that it holds for; None: all.
    pub port: Option<u16>,
    /// For so long; None where that is not known.
    pub since_s: Option<u64>,
    /// It ended so long ago; None: it holds.
    pub ended_s: Option<u64>,
    /// Not confirmed by the source since it was lost.
    pub stale: bool,
    /// What says so: the pod that asked for the name.
    pub by: String,
}

/// One network namespace that containers live in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// 0 while it has none.
    pub slot: u32,
    /// "dev:inode"; empty while it is not open.
    pub netns: String,
    /// discovered, attaching, attached, failed, leaving
    pub state: String,
    /// tcx or clsact where attached.
    pub mode: String,
    /// Why it failed.
    pub reason: String,
    /// Namespace and name of its workload.
    pub namespace: String,
    pub workload: String,
    pub addresses: Vec<String>,
    pub interfaces: Vec<String>,
    /// From the news of the container to the programs on its interfaces, milliseconds.
    pub attach_ms: Option<f64>,
}

/// How the namespace that the agent runs in is observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub observed: bool,
    /// Why it is not, or not all of it.
    pub detail: String,
    /// Of containers and services that live in it.
    pub cgroups: Vec<Cgroup>,
}

/// A cgroup whose sockets are observed, or should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    pub slot: u32,
    /// Empty while it is not known.
    pub path: String,
    /// attaching, attached, failed, unobserved (there is nothing to attach to)
    pub state: String,
    /// Why it is not attached.
    pub reason: String,
    /// Namespace (empty for a service) and name of its workload.
    pub namespace: String,
    pub workload: String,
    pub attach_ms: Option<f64>,
}

/// The search for connections that are older than the agent, in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Namespaces looked into, of those that are to be.
    pub done: u64,
    pub total: u64,
    pub failed: u64,
    /// Connections found.
    pub seeds: u64,
    /// bpf_iterator, sock_diag or procfs; empty before the first.
    pub source: String,
    /// Whether the iterator was tried and is not allowed here.
    pub iterator_refused: bool,
    /// Files of /proc whose last read did not end in time.
    pub stale: Vec<String>,
    /// Such reads since the start, by kind of file.
    pub late_reads: BTreeMap<String, u64>,
}

/// A place that can drop something, and what it dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRow {
    pub stage: Cow<'static, str>,
    pub reason: Cow<'static, str>,
    /// What one count means, in the plural ("message heads").
    pub unit: Cow<'static, str>,
    #[serde(rename = "count")]
    pub total: u64,
}

/// Exchanges since the start, as one end saw them: what took place is `counted + lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanges {
    /// client or server
    pub reporter: String,
    pub counted: u64,
    pub lost: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// Interfaces that hand over to it.
    pub attached: u64,
    pub runs: u64,
    pub run_time_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: Version,
    pub pid: u32,
    pub uptime_s: u64,
    pub readiness: Readiness,
    pub containerd: Containerd,
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// Number of namespaces by state.
    pub states: BTreeMap<String, u64>,
    pub namespaces: Vec<Namespace>,
    #[serde(default)]
    #[serde(rename = "host")]
    pub node: Node,
    #[serde(default)]
    pub scan: Scan,
    pub exchanges: Vec<Exchanges>,
    pub losses: Vec<LossRow>,
    pub programs: Vec<Program>,
    pub ring_bytes: u64,
    /// Seen by the kernel programs, and put into the ring by them.
    pub packets: u64,
    pub events: u64,
    pub flows: u64,
    pub process: Process,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub rss_bytes: u64,
    pub cpu_seconds: f64,
    pub threads: u64,
    pub descriptors: u64,
}

/// Golden metrics. Latencies are of what was answered: seconds here, whole nanoseconds in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// Since the agent started, or since the series came back after it had been idle for `metrics.expiry`.
    pub requests: u64,
    pub failures: u64,
    /// Per second, over the last half minute; so are the values below, or over everything where that was silent.
    pub rps: f64,
    /// Share that did not fail; `None` where nothing was counted.
    pub success: Option<f64>,
    #[serde(rename = "p50_ns", with = "nanoseconds", default)]
    pub p50: Option<f64>,
    #[serde(rename = "p95_ns", with = "nanoseconds", default)]
    pub p95: Option<f64>,
    #[serde(rename = "p99_ns", with = "nanoseconds", default)]
    pub p99: Option<f64>,
    /// Open now.
    pub tcp_connections: u64,
    /// IP bytes, both ways. Not in the agent's answers; `pilotfish replay` shows it.
    #[serde(skip)]
    pub bytes: u64,
}

/// Seconds in memory, nanoseconds in JSON. What is no time is told as none.
mod nanoseconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(seconds: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        let is_time = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
        seconds.filter(is_time).map(|seconds| (seconds * 1e9).round() as u64).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(|nanos| nanos as f64 / 1e9))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Party {
    pub name: String,
    pub namespace: String,
    pub kind: String,
}

/// What a workload did as a server: Linkerd's `stat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRow {
    pub workload: Party,
    #[serde(flatten)]
    pub golden: Golden,
}

/// One edge, one protocol, seen from one end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Who asks, and who is asked.
    pub src: Party,
    pub dst: Party,
    /// Kubernetes' Service by which clients reach `dst`; empty where none is known.
    #[serde(default)]
    pub service: String,
    /// http, dns, or tcp and udp where nothing of the content was recognised.
    pub protocol: String,
    /// client or server: at whose interface this was seen. capture: in a file, where that is not
    /// known.
    pub reporter: String,
    #[serde(flatten)]
    pub golden: Golden,
}
