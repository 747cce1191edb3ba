//! What the agent answers, as JSON. Written by the agent, read by its command line and by scripts:
//! fields are added, never renamed.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What program answers, and with which kernel programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Of the package, without a leading "v" ("0.1.0").
    pub version: String,
    /// Of the source; empty when the build did not know.
    pub commit: String,
    /// Fingerprint of the kernel programs; empty when unknown.
    pub kernel_object: String,
}

/// A part of the agent that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// agent, kernel, pipeline, containerd, ...: what is not as it should be.
    pub part: String,
    /// Work is done without it; else it keeps the agent from being ready.
    pub degraded_only: bool,
    /// What is wrong, for a person.
    pub detail: String,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// No reason keeps the agent from its work.
    pub ready: bool,
    /// Everything that is not as it should be; may hold degradations while `ready`.
    pub reasons: Vec<Reason>,
}

/// How the agent stands with the node's containerds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Containerd {
    /// Subscribed to the events of all that are to be there, and in step with their containers.
    pub connected: bool,
    /// Path of the first socket that answers.
    pub socket: String,
    /// As containerd tells it ("1.6.20"); empty before it was asked.
    pub version: String,
    /// Since the start; the first connection is none.
    pub reconnects: u64,
    /// Why it is not connected.
    pub detail: String,
    /// One for each socket that was looked for.
    #[serde(default)]
    pub links: Vec<ContainerdLink>,
}

/// How the agent stands with one containerd. Counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerdLink {
    /// Path of its socket.
    pub socket: String,
    /// absent, syncing, live, down, or same (as an earlier one, by another path)
    pub state: String,
    /// As it tells it; empty while it does not answer.
    pub version: String,
    /// Its containers that are followed. Those of one that is away stay until their processes end.
    pub containers: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Events of its containers.
    pub events: u64,
    /// Lists of its containers that were compared with what was known.
    pub reconciles: u64,
    /// Attempts to connect, to subscribe or to list that failed.
    pub failures: u64,
    /// Since the last list; none before the first.
    pub list_age_s: Option<f64>,
    /// What is not as it should be; empty where nothing is missed.
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
    /// What says that the API server is there; empty when nothing does.
    pub source: String,
    /// cluster or node, and why it is not the one that was asked for.
    pub scope: String,
    /// Why `scope` is not the one that was asked for; empty when it is.
    pub scope_reason: String,
    /// Why names of the cluster may be missing or old; empty when they are whole and fresh.
    pub stale: String,
    /// One for each resource that is watched.
    pub watches: Vec<Watch>,
    /// Requests since the start, and those that had to wait for their turn.
    pub requests: u64,
    /// How many of `requests` had to wait for their turn.
    pub throttled: u64,
    /// Why the names could not be kept for the next start.
    pub snapshot_error: String,
}

/// How one resource of the Kubernetes API is watched. Counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// pods, services, endpointslices, nodes, jobs
    pub resource: String,
    /// waiting, listing, watching, retrying
    pub state: String,
    /// How many are known now.
    pub objects: u64,
    /// Since a list, an event or a bookmark came.
    pub age_s: f64,
    /// Listed as a whole since the start.
    pub complete: bool,
    /// Streams after the first.
    pub restarts: u64,
    /// Lists begun as a whole, the first included.
    pub lists: u64,
    /// Lists that were needed because the server no longer had the version.
    pub relists: u64,
    /// Attempts and streams that failed.
    pub failures: u64,
    /// Objects that were not understood.
    pub skipped: u64,
    /// The last failure; it stays after things went well again.
    pub last_error: String,
}

/// What is known of an address now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The address that was asked for; a v4-mapped one as IPv4.
    pub ip: String,
    /// The port that was asked for; None when the question named none.
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
    /// Kind of what `name` names (Deployment, Pod, Service, Node, External, ...).
    pub kind: String,
    /// Kubernetes namespace, or containerd's for a plain container; empty for what has none.
    pub namespace: String,
    /// Name of the workload; a DNS name from dns, an address class from class.
    pub name: String,
    /// Name of the pod; empty where there is none.
    pub pod: String,
    /// Name of the node that it runs on; empty where that is not known.
    pub node: String,
    /// Name of the Service that leads to it; empty where none is known.
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
    /// Why it failed; where it is attached, why a packet may be counted at more than one interface.
    pub reason: String,
    /// Namespace and name of its workload.
    pub namespace: String,
    /// Namespace of its workload; of containerd while it has no name.
    pub workload: String,
    /// Name of its workload; the container's id while it has no name.
    pub addresses: Vec<String>,
    /// IP addresses that its containers are known by.
    pub interfaces: Vec<String>,
    /// From the news of the container to the programs on its interfaces, milliseconds.
    pub attach_ms: Option<f64>,
    /// Flows that passed through it and are counted at no end of theirs; 0 from an agent that does
    /// not tell.
    #[serde(default)]
    pub forwarded: u64,
}

/// How the namespace that the agent runs in is observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Whether `attach.node` is on.
    pub observed: bool,
    /// Why it is not, or not all of it.
    pub detail: String,
    /// Of containers and services that live in it.
    pub cgroups: Vec<Cgroup>,
}

/// A cgroup whose sockets are observed, or should be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Carried by what is seen there; at least 2^31, unlike a network namespace's.
    pub slot: u32,
    /// Empty while it is not known.
    pub path: String,
    /// attaching, attached, failed, unobserved (there is nothing to attach to)
    pub state: String,
    /// Why it is not attached.
    pub reason: String,
    /// Namespace (empty for a service) and name of its workload.
    pub namespace: String,
    /// Namespace of its workload; empty for a service, and while it has no name.
    pub workload: String,
    /// Name of its workload, or of the service; empty while it has none.
    pub attach_ms: Option<f64>,
}

/// The search for connections that are older than the agent, in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Namespaces looked into, of those that are to be.
    pub done: u64,
    /// Namespaces that are done with: looked into, or given up.
    pub total: u64,
    /// Namespaces that were asked for since the start, done or not.
    pub failed: u64,
    /// Connections found.
    pub seeds: u64,
    /// Of them, those whose end here is taken for the server by its port alone: nothing listens there
    /// any more, and the source does not tell more.
    #[serde(default)]
    pub guessed: u64,
    /// Of them, those that closed without another byte: noticed by looking again.
    #[serde(default)]
    pub ended: u64,
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
    /// Part of the agent that drops (kernel, metrics, scan, ...): a label value.
    pub stage: Cow<'static, str>,
    /// Why it drops (ring_full, queue_full, ...): a label value.
    pub reason: Cow<'static, str>,
    /// What one count means, in the plural ("message heads").
    pub unit: Cow<'static, str>,
    /// Since the start, a predecessor's included. Named "count" in JSON.
    #[serde(rename = "count")]
    pub total: u64,
}

/// Exchanges since the start, as one end saw them: what took place is `counted + lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanges {
    /// client or server
    pub reporter: String,
    /// Exchanges that are in the metrics.
    pub counted: u64,
    /// Exchanges that took place and are not in the metrics.
    pub lost: u64,
}

/// A kernel program that is loaded. Its runs are counted by the kernel, if
/// `kernel.bpf_stats_enabled` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// As in the kernel object ("pilotfish_in").
    pub name: String,
    /// Interfaces that hand over to it.
    pub attached: u64,
    /// Since it was loaded; 0 while the kernel does not count.
    pub runs: u64,
    /// Of all `runs` together, nanoseconds.
    pub run_time_ns: u64,
}

/// How the agent stands with the companion of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// joined, waiting; empty where none is to be joined.
    pub state: String,
    /// Why it is not joined.
    pub detail: String,
    /// Path of the file that says which.
    pub join: String,
    /// Where it is; empty as long as the file does not say.
    pub address: String,
    /// Of the companion that answered last.
    pub version: String,
    /// Series that are pushed.
    pub series: u64,
    /// Pushes that arrived in full since the start.
    pub pushes: u64,
    /// Pushes whose stream was cut; what they told went with the next.
    pub cut: u64,
    /// Replicas of it that take pushes.
    #[serde(default)]
    pub replicas: u64,
    /// The node joins by a credential of its own, not by the cluster's join token.
    #[serde(default)]
    pub credential: bool,
}

/// What `/v1/status` answers: the whole agent at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the agent that answers.
    pub version: Version,
    /// Of the agent's process, in its own PID namespace.
    pub pid: u32,
    /// Since the agent started, seconds.
    pub uptime_s: u64,
    /// As `/readyz` answers it.
    pub readiness: Readiness,
    /// Where the containers come from.
    pub containerd: Containerd,
    /// Where the cluster's names come from; the default from an agent that does not tell.
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// The default from an agent that does not tell.
    #[serde(default)]
    pub companion: Companion,
    /// Number of namespaces by state.
    pub states: BTreeMap<String, u64>,
    /// Those with a slot, then containers that have none.
    pub namespaces: Vec<Namespace>,
    /// The node's own sockets. Named "host" in JSON.
    #[serde(default)]
    #[serde(rename = "host")]
    pub node: Node,
    /// The default from an agent that does not tell.
    #[serde(default)]
    pub scan: Scan,
    /// One for each reporter, client first.
    pub exchanges: Vec<Exchanges>,
    /// Every place that can drop something, at zero too; by stage and reason.
    pub losses: Vec<LossRow>,
    /// Programs that are loaded; empty while they load.
    pub programs: Vec<Program>,
    /// Size of the ring buffer between kernel and agent, bytes.
    pub ring_bytes: u64,
    /// Seen by the kernel programs, and put into the ring by them.
    pub packets: u64,
    /// Events put into the ring since the programs were loaded.
    pub events: u64,
    /// Flows in the pipeline's table now.
    pub flows: u64,
    /// What passed through namespaces that are no end of it; zeros from an agent that does not tell.
    #[serde(default)]
    pub forwarded: Forwarded,
    /// What the agent itself uses.
    pub process: Process,
}

/// What namespaces passed on. It is in no exchange and no edge of theirs. A packet is counted where
/// it comes in and where it goes out, unless its address was changed in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Connections and UDP conversations.
    pub flows: u64,
    /// As the interfaces hand them over: one GSO packet is one.
    pub packets: u64,
    /// IP bytes, headers and payload.
    pub bytes: u64,
}

/// What a process uses. 0 is what could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Resident memory, bytes (`VmRSS`).
    pub rss_bytes: u64,
    /// User and system time since it started.
    pub cpu_seconds: f64,
    /// Threads now.
    pub threads: u64,
    /// Open file descriptors now.
    pub descriptors: u64,
    /// What the tightest CPU quota of its cgroups lets it have, in processors: 0.1 are 10 ms of
    /// each 100. None without one, and from an agent that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<f64>,
}

/// Golden metrics. Latencies are of what was answered: seconds here, whole nanoseconds in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// Since the agent started, or since the series came back after it had been idle for `metrics.expiry`.
    pub requests: u64,
    /// How many of `requests` failed: an error as answer, or no answer.
    pub failures: u64,
    /// Per second, over the last half minute; so are the values below, or over everything where that was silent.
    pub rps: f64,
    /// Share that did not fail; `None` where nothing was counted.
    pub success: Option<f64>,
    /// Median latency, seconds; `None` where nothing was answered.
    #[serde(rename = "p50_ns", with = "nanoseconds", default)]
    pub p50: Option<f64>,
    /// 95th percentile of the latency, seconds; `None` as above.
    #[serde(rename = "p95_ns", with = "nanoseconds", default)]
    pub p95: Option<f64>,
    /// 99th percentile of the latency, seconds; `None` as above.
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

/// One end of an edge, as its label values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Party {
    /// Of the workload; "_unknown" without a name, "_overflow" past the cap on series.
    pub name: String,
    /// Kubernetes namespace, or containerd's; empty for what has none.
    pub namespace: String,
    /// Kind of the workload (Deployment, Pod, External, ...); why there is none where it is
    /// unknown.
    pub kind: String,
}

/// What a workload did as a server: Linkerd's `stat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRow {
    /// Who was asked.
    pub workload: Party,
    /// Of what all clients asked of it; by its own report where there is one, else by theirs.
    #[serde(flatten)]
    pub golden: Golden,
}

/// What the parts of a workload are by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `http.route`: HTTP alone has them.
    Route,
    /// What was asked for: method and route, service and method, command and table.
    Operation,
    /// What was answered: a status, a code of an error, `ok`, or `unanswered`.
    Status,
}

impl By {
    /// The word for it, in questions and titles.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            By::Route => "route",
            By::Operation => "operation",
            By::Status => "status",
        }
    }
}

/// Parts of all workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// The time that rates, success and latencies are of; `None` when nobody had asked lately: they
    /// are of everything since the start then, and there are no rates.
    pub span_ms: Option<u64>,
    /// By workload, protocol and value.
    pub rows: Vec<PartRow>,
}

/// A part of what a workload did as a server: as [`WorkloadRow`], of one route, operation or status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartRow {
    /// Who was asked.
    pub workload: Party,
    /// http, rpc, db, dns, ...
    pub protocol: String,
    /// The route, operation or status; "-" where it is not known.
    pub value: String,
    /// Of this part alone.
    #[serde(flatten)]
    pub golden: Golden,
}

/// One edge, one protocol, seen from one end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Who asks, and who is asked.
    pub src: Party,
    /// Who is asked: the server of the exchanges.
    pub dst: Party,
    /// Kubernetes' Service by which clients reach `dst`; empty where none is known.
    #[serde(default)]
    pub service: String,
    /// http, dns, or tcp and udp where nothing of the content was recognised.
    pub protocol: String,
    /// client or server: at whose interface this was seen. capture: in a file, where that is not
    /// known.
    pub reporter: String,
    /// Of this edge, protocol and reporter alone.
    #[serde(flatten)]
    pub golden: Golden,
}
