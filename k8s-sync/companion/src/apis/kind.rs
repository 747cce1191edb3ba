//! The API's name, and its kinds.

/// Of the API.
pub const GROUP: &str = "traffic.pilotfish.io";
/// Of the API.
pub const VERSION: &str = "v1alpha1";

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a workload did as a server.
    WorkloadTraffic,
    /// Who asked whom.
    Edge,
}

impl Kind {
    /// Each once.
    pub const ALL: [Kind; 2] = [Kind::WorkloadTraffic, Kind::Edge];

    /// The word in paths.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Kind::WorkloadTraffic => "workloadtraffic",
            Kind::Edge => "edges",
        }
    }

    /// The word in objects.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::WorkloadTraffic => "WorkloadTraffic",
            Kind::Edge => "Edge",
        }
    }

    pub(super) fn list(self) -> &'static str {
        match self {
            Kind::WorkloadTraffic => "WorkloadTrafficList",
            Kind::Edge => "EdgeList",
        }
    }
}
