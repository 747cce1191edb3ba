//! Words that labels of all families share, and the ends of an edge. A family's own are in `families`.

use flow_model::{FlowInfo, Identity, Role, Slot, Unknown};
use std::sync::Arc;

/// Value of a closed set for everything outside it (OpenTelemetry's word for methods).
pub const OTHER: &str = "_OTHER";
/// Workload of both ends of the series that take what did not fit under a family's cap.
pub const OVERFLOW: &str = "_overflow";
/// Workload of an end without a name; its kind says why.
pub const UNKNOWN: &str = "_unknown";
/// The label that all exchanges that failed have, and no others.
pub const ERROR_TYPE: &str = "error_type";
/// `error_type` of an exchange that got no response.
pub const UNANSWERED: &str = "unanswered";

/// From where an exchange was seen. Both ends of a flow on one node are two observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reporter {
    /// Seen at the client's interface.
    Client,
    /// Seen at the server's interface.
    Server,
    /// A replayed capture: seen from neither end.
    Capture,
}

impl Reporter {
    /// Each reporter once, at its index in every array that has a cell for each.
    pub const ALL: [Reporter; 3] = [Reporter::Client, Reporter::Server, Reporter::Capture];

    /// The role of the flow's pod. Where it is unknown the ports decide, as in `FlowInfo::client_server`.
    #[must_use]
    pub fn of(flow: &FlowInfo) -> Reporter {
        match flow.role {
            _ if flow.slot == Slot(0) => Reporter::Capture,
            Role::Client => Reporter::Client,
            Role::Server => Reporter::Server,
            Role::Unknown if flow.client_server().0 == flow.tuple.local => Reporter::Client,
            Role::Unknown => Reporter::Server,
        }
    }

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reporter::Client => "client",
            Reporter::Server => "server",
            Reporter::Capture => "capture",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// One end of an edge, as its label values. Pods of one workload are one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Name of the workload; [`UNKNOWN`] without one, [`OVERFLOW`] past the cap on series.
    pub workload: Arc<str>,
    /// Kubernetes namespace, or containerd's; empty for what has none.
    pub namespace: Arc<str>,
    /// Kind of the workload (`WorkloadKind::as_str`); of an unknown one why it is unknown
    /// (NotFound, Pending, Ambiguous); empty past the cap.
    pub kind: &'static str,
}

impl End {
    pub(crate) fn of(identity: &Identity) -> End {
        let unknown = |kind| End { workload: UNKNOWN.into(), namespace: "".into(), kind };
        match identity {
            Identity::Known(w) => {
                End { workload: w.name.clone(), namespace: w.namespace.clone(), kind: w.kind.as_str() }
            }
            Identity::Unknown(Unknown::NotFound) => unknown("NotFound"),
            Identity::Unknown(Unknown::Pending) => unknown("Pending"),
            Identity::Unknown(Unknown::Ambiguous) => unknown("Ambiguous"),
        }
    }

    pub(crate) fn overflow() -> End {
        End { workload: OVERFLOW.into(), namespace: "".into(), kind: "" }
    }
}
