//! The words of the page's JSON. The page and the companion are one program, so they change together.

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Map<'a> {
    pub(super) version: &'a str,
    /// In which figures were counted.
    pub(super) window_s: f64,
    /// From push to push.
    pub(super) period_ms: u64,
    pub(super) agents: Agents,
    pub(super) losses: Vec<Loss<'a>>,
    pub(super) workloads: Vec<Workload>,
    pub(super) edges: Vec<Edge>,
    pub(super) left_out: LeftOut,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Agents {
    pub(super) live: usize,
    pub(super) silent: usize,
    pub(super) ended: usize,
    pub(super) absent: usize,
    /// Those that do not push.
    pub(super) trouble: Vec<Trouble>,
    /// Of those, how many are not listed.
    pub(super) more: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Trouble {
    pub(super) node: String,
    pub(super) state: &'static str,
    pub(super) why: String,
    pub(super) version: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Loss<'a> {
    pub(super) stage: &'a str,
    pub(super) reason: &'a str,
    pub(super) unit: &'a str,
    /// In the window.
    pub(super) lately: u64,
}

/// Requests a second, share of success, p95 in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) r: f64,
    pub(super) ok: Option<f64>,
    pub(super) p95: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Workload {
    pub(super) id: String,
    pub(super) ns: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) live: u32,
    pub(super) all: u32,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

#[derive(Debug, Serialize)]
pub(super) struct Edge {
    pub(super) id: String,
    /// Places of client and server among the workloads.
    pub(super) c: usize,
    pub(super) s: usize,
    pub(super) live: u32,
    pub(super) all: u32,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// TCP connections.
    pub(super) open: u64,
    pub(super) lost: u64,
    pub(super) by: Vec<Part>,
}

#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) p: &'static str,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct LeftOut {
    pub(super) workloads: usize,
    pub(super) edges: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Detail {
    pub(super) seconds: f64,
    pub(super) protocols: Vec<Protocol>,
    pub(super) transports: Vec<Transport>,
}

#[derive(Debug, Serialize)]
pub(super) struct Protocol {
    pub(super) protocol: &'static str,
    pub(super) systems: Vec<String>,
    pub(super) service: String,
    pub(super) reporter: &'static str,
    #[serde(flatten)]
    pub(super) figures: Figures,
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) buckets: Vec<(Option<i32>, u64)>,
    pub(super) codes: Vec<Code>,
}

#[derive(Debug, Serialize)]
pub(super) struct Code {
    pub(super) status: String,
    pub(super) count: u64,
    pub(super) failed: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Transport {
    pub(super) transport: &'static str,
    pub(super) reporter: &'static str,
    pub(super) seconds: f64,
    pub(super) open: u64,
    pub(super) opened: u64,
    pub(super) closed: [u64; 3],
    pub(super) retransmits: [u64; 2],
    pub(super) zero_windows: [u64; 2],
    pub(super) bytes: [u64; 2],
    pub(super) handshakes: u64,
    pub(super) handshake_p95: Option<f64>,
    pub(super) lost: u64,
}
