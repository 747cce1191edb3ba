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
    /// The agent of a node.
    NodeAgent,
    /// What the agent of a node holds for wrong there.
    Finding,
}

impl Kind {
    /// Each once.
    pub const ALL: [Kind; 4] = [Kind::WorkloadTraffic, Kind::Edge, Kind::NodeAgent, Kind::Finding];

    /// Whether its objects are in namespaces, and the right to read them with it.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        self != Kind::NodeAgent
    }

    /// The word in paths.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Kind::WorkloadTraffic => "workloadtraffic",
            Kind::Edge => "edges",
            // `agents` is a word of others, too.
            Kind::NodeAgent => "nodeagents",
            Kind::Finding => "findings",
        }
    }

    /// The word in objects.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::WorkloadTraffic => "WorkloadTraffic",
            Kind::Edge => "Edge",
            Kind::NodeAgent => "NodeAgent",
            Kind::Finding => "Finding",
        }
    }

    pub(super) fn list(self) -> &'static str {
        match self {
            Kind::WorkloadTraffic => "WorkloadTrafficList",
            Kind::Edge => "EdgeList",
            Kind::NodeAgent => "NodeAgentList",
            Kind::Finding => "FindingList",
        }
    }
}
