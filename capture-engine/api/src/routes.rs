//! Paths of what the agent answers. Served in `agentd`, asked for by [`crate::Client`].

/// OpenMetrics or Prometheus text or protobuf, as the scraper accepts.
pub const METRICS: &str = "/metrics";
/// 200 while the pipeline's heart beats, else 503.
pub const LIVEZ: &str = "/livez";
/// [`Readiness`](crate::Readiness): 200 when ready, else 503.
pub const READYZ: &str = "/readyz";

/// These are answered on the unix socket only.
pub const VERSION: &str = "/v1/version";
/// [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";
/// A list of [`EdgeRow`](crate::EdgeRow)s.
pub const EDGES: &str = "/v1/edges";
/// A list of [`WorkloadRow`](crate::WorkloadRow)s.
pub const WORKLOADS: &str = "/v1/workloads";
/// [`Parts`](crate::Parts). Asked for with `?by=route`, `operation` or `status`.
pub const PARTS: &str = "/v1/parts";
/// Asked for with `?ip=ADDRESS` and, where that matters, `&port=PORT`.
pub const IDENTITY: &str = "/v1/identity";
/// [`Timeline`](crate::Timeline). Asked for with `?since_ms=MILLISECONDS`: what is younger than that.
pub const TIMELINE: &str = "/v1/timeline";
/// A [`TapLine`](crate::TapLine) a line, for as long as somebody reads. Parameters: see the agent's
/// answer to one that is none.
pub const TAP: &str = "/v1/tap";
/// Only with `debug.enabled`; asked for with `?ms=MILLISECONDS`.
pub const PAUSE: &str = "/debug/pause";
