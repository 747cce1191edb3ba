//! Paths of what the agent answers. Served in `agentd`, asked for by [`crate::Client`].

pub const METRICS: &str = "/metrics";
pub const LIVEZ: &str = "/livez";
pub const READYZ: &str = "/readyz";

/// These are answered on the unix socket only.
pub const VERSION: &str = "/v1/version";
pub const STATUS: &str = "/v1/status";
pub const EDGES: &str = "/v1/edges";
pub const WORKLOADS: &str = "/v1/workloads";
/// Asked for with `?ip=ADDRESS` and, where that matters, `&port=PORT`.
pub const IDENTITY: &str = "/v1/identity";
/// Only with `debug.enabled`; asked for with `?ms=MILLISECONDS`.
pub const PAUSE: &str = "/debug/pause";
