//! What the agent answers of the past: when containers began and ended, and what each end cut.

use serde::{Deserialize, Serialize};

/// What `/v1/timeline` answers. Moments are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// When it was answered, by the node's clock.
    pub now_ms: u64,
    /// Everything since then is here: the agent's first start, or the oldest event that there was
    /// room for.
    pub from_ms: u64,
    /// Times within the above in which no agent looked: from, to.
    pub blind_ms: Vec<(u64, u64)>,
    /// Oldest first.
    pub events: Vec<TimelineEvent>,
    /// Clients that look names up with suffixes that do not exist, in the last window; None from an
    /// agent that does not look.
    pub searches: Option<Vec<LookupRow>>,
    /// Probes of the kubelet that fail or are slow, of the last minutes; None where nobody tells what
    /// the kubelet asks for.
    pub probes: Option<Vec<ProbeRow>>,
    /// Clients that had to ask for names again, in the last window; None from an agent that does not
    /// look.
    pub retries: Option<Vec<RetryRow>>,
    /// Edges on which requests failed, beside what is usual there, in the last window; None from an
    /// agent that does not look.
    pub storms: Option<Vec<StormRow>>,
    /// Clients that open connections to the API server, in the last windows; None from an agent that
    /// does not look.
    pub api: Option<Vec<ApiRow>>,
}

/// A probe of a container by plain HTTP, and what was seen of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeRow {
    /// Namespace of the workload.
    pub namespace: String,
    /// The workload whose pod it is.
    pub workload: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container in its pod.
    pub container: String,
    /// readiness, liveness, startup
    pub probe: String,
    /// As the pod's spec has it.
    pub path: String,
    /// As the pod's spec has it.
    pub port: u16,
    /// How long the kubelet waits for an answer.
    pub timeout_ms: u64,
    /// Failures in a row that have a consequence.
    pub failure_threshold: u32,
    /// How long the container may take to end once it is told to.
    pub grace_ms: u64,
    /// Probes that ask for the same, and cannot be told apart: more than one, and nothing is certain.
    pub asked_by: u32,
    /// Of late, where the container's CPU is limited.
    pub throttled: Option<Throttled>,
    /// Oldest first.
    pub seen: Vec<ProbedRow>,
}

/// One probe as it was seen at the container's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbedRow {
    /// When its request began.
    pub at_ms: u64,
    /// Until the whole answer; None where none came.
    pub took_us: Option<u64>,
    /// The answer's status was from 200 to 399.
    pub good: bool,
}

/// Periods of a cgroup's CPU limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttled {
    /// In which it ran.
    pub periods: u64,
    /// Of them, those in which it was stopped because it had used up its share.
    pub throttled: u64,
}

/// Lookups of one client in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupRow {
    /// Namespace of the client's workload.
    pub namespace: String,
    /// Name of the client's workload.
    pub client: String,
    /// All that were answered.
    pub lookups: u64,
    /// Of a name with a search suffix that does not exist, for a name that was asked for without it
    /// afterwards.
    pub searched: u64,
    /// Length of the window.
    pub window_ms: u64,
}

/// Lookups of one client in a window that it had to make again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryRow {
    /// Namespace of the client's workload.
    pub namespace: String,
    /// Name of the client's workload.
    pub client: String,
    /// All, those without an answer included.
    pub lookups: u64,
    /// Answered after they were asked again.
    pub late: u64,
    /// Asked again, and never answered where they were asked first.
    pub unanswered: u64,
    /// What the latest of them waited for its answer.
    pub longest_ms: u64,
    /// Length of the window.
    pub window_ms: u64,
}

/// Requests of one edge in a window, as its client's interface saw them. Usual is as many as there
/// would have been in a window as long as this one, by windows before in which few failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StormRow {
    /// Namespace of the client's workload.
    pub namespace: String,
    /// Name of the client's workload.
    pub client: String,
    /// Namespace and name of the server's workload.
    pub server: String,
    /// All requests.
    pub requests: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// What is usual on this edge.
    pub usual: u64,
    /// Requests that the client itself was asked.
    pub own: u64,
    /// What is usual of those.
    pub own_usual: u64,
    /// Length of the window.
    pub window_ms: u64,
}

/// Connections that one client opened to the API server, of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiRow {
    /// Namespace of the client's workload.
    pub namespace: String,
    /// Name of the client's workload.
    pub client: String,
    /// By their handshakes.
    pub connections: u64,
    /// Within this time.
    pub window_ms: u64,
}

/// Something that happened to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimelineEvent {
    /// Grows with each event, over restarts of the agent too.
    pub seq: u64,
    /// When it happened.
    pub at_ms: u64,
    /// start, oom, exit
    pub event: String,
    /// Kubernetes' or containerd's.
    pub namespace: String,
    /// Of the container; its id while nothing else is known.
    pub workload: String,
    /// Kind of the workload (Deployment, Pod, Container, ...).
    pub kind: String,
    /// Empty where there is no pod.
    pub pod: String,
    /// Name of the container in its pod; empty for a pod's sandbox and outside of pods.
    pub container: String,
    /// As containerd names it.
    pub container_id: String,
    /// It is a pod's sandbox.
    pub sandbox: bool,
    /// Of its first process; 0 where that is not known.
    pub pid: u32,
    /// Of a start: since the last run of the same container ended.
    pub down_ms: Option<u64>,
    /// Of an OOM: how many of this container there were in ten minutes, this one among them.
    pub times: u64,
    /// Of an exit: what the runtime told, 128 and the signal's number where a signal ended it. None
    /// where nobody told.
    pub code: Option<u32>,
    /// Of an exit: how long before it the kernel killed a process of the container for memory.
    pub oom_ms: Option<u64>,
    /// Of an exit: when the pod was to be gone, its grace period included.
    pub deleted_by_ms: Option<u64>,
    /// Of an exit: oom, probe, term or exit.
    pub cause: String,
    /// Of an exit that the kubelet caused: the probe that failed too often.
    pub probe: Option<Box<ProbeRow>>,
    /// Of an exit: requests to the container that had begun and got no whole answer.
    pub cut_requests: u64,
    /// Of those: by whom and what they asked. What is beyond its bound is in `cut_requests` alone.
    pub cut: Vec<CutRow>,
    /// Two-way channels (WebSockets and the like) that ended with it.
    pub streams: u64,
    /// Several containers share the network that this was seen in: it may have been another's.
    pub likely: bool,
    /// No more is expected to be told of it.
    pub settled: bool,
}

/// Requests of one client that one exit cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CutRow {
    /// Namespace of the client's workload.
    pub client_namespace: String,
    /// Name of the client's workload, as on its edge.
    pub client: String,
    /// Kind of the client's workload.
    pub client_kind: String,
    /// HTTP's method, or the protocol: of a closed set.
    pub what: String,
    /// How many.
    pub requests: u64,
    /// Of them, those whose answer had begun.
    pub broken_off: u64,
    /// How long they had waited, the longest first; the first few.
    pub waited_ms: Vec<u64>,
}
