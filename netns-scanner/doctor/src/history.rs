//! What an agent's own history hands to the decisions: exits, closes, probes and lookups, with the
//! times at which they were seen. An agent keeps them in rings of its own; nothing here is kept.

use crate::Subject;
use flow_model::Ts;
use std::time::Duration;

/// A container's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exited {
    /// When its first process ended.
    pub at: Ts,
    /// As the runtime tells it: 128 and the signal's number, where a signal ended it.
    pub code: u32,
    /// When the kernel first killed one of its processes for memory, in the seconds before.
    pub oom: Option<Ts>,
    /// By when the pod was to be gone: its deletionTimestamp, which has the grace period in it.
    pub deleted_by: Option<Ts>,
}

impl Exited {
    /// Of SIGKILL.
    pub const KILLED: u32 = 137;
    /// Of SIGTERM.
    pub const TERMINATED: u32 = 143;
    /// No code: nobody told how it ended.
    pub const UNTOLD: u32 = u32::MAX;
}

/// A connection of a container that closed with something under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// When it closed.
    pub at: Ts,
    /// Who was on its other end.
    pub client: Subject,
    /// What was under way.
    pub what: UnderWay,
}

/// What a close can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// A request without a complete response.
    Request {
        /// Its method: of a closed set.
        method: String,
        /// When it began.
        began: Ts,
    },
    /// A watch, a WebSocket, a gRPC stream: it ended, and nobody lost an answer.
    Stream,
}

/// Which probe of the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Its failures take the pod out of its Services.
    Readiness,
    /// Its failures end the container.
    Liveness,
    /// The same while it starts.
    Startup,
}

impl ProbeKind {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Readiness => "readiness",
            ProbeKind::Liveness => "liveness",
            ProbeKind::Startup => "startup",
        }
    }
}

/// A probe as the pod's spec has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Which.
    pub kind: ProbeKind,
    /// What it asks for.
    pub path: String,
    /// How long the kubelet waits for an answer.
    pub timeout: Duration,
    /// Failures in a row that have a consequence.
    pub failure_threshold: u32,
    /// Probes of the pod that ask for this path and port at the same time. More than one cannot be
    /// told apart: what is found of each is only likely.
    pub asked_by: u32,
}

/// One probe as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// When it began.
    pub at: Ts,
    /// Until the whole answer; None where none came before the kubelet closed.
    pub took: Option<Duration>,
    /// The answer's status was from 200 to 399.
    pub good: bool,
}

impl Probed {
    /// Whether the kubelet takes it for a failure.
    #[must_use]
    pub fn failed(&self, spec: &ProbeSpec) -> bool {
        !self.good || self.took.is_none_or(|took| took >= spec.timeout)
    }
}

/// Periods of a cgroup's CPU limit, of late or since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Periods {
    /// In which it ran.
    pub all: u64,
    /// Of them, those in which it was stopped because it had used up its share.
    pub throttled: u64,
}

impl Periods {
    /// What was added since `before`; None where none was, or where it began anew.
    #[must_use]
    pub fn since(self, before: Periods) -> Option<Periods> {
        let (all, throttled) = (self.all.checked_sub(before.all)?, self.throttled.checked_sub(before.throttled)?);
        (all > 0).then_some(Periods { all, throttled })
    }
}

/// Lookups of one client within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// All.
    pub all: u64,
    /// Those of a name with a search suffix that does not exist, for a name that was asked for
    /// without it afterwards.
    pub searched: u64,
    /// The window.
    pub window: Duration,
}

/// Lookups of one client within a window, and those whose first question got no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// All, those without an answer included.
    pub all: u64,
    /// Answered after they were asked again.
    pub late: u64,
    /// Asked again, and never answered where they were asked first.
    pub unanswered: u64,
    /// What the latest of them waited for its answer.
    pub longest: Duration,
    /// The window.
    pub window: Duration,
}

/// Connections that one client opened to the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// So many.
    pub connections: u64,
    /// Within this time.
    pub window: Duration,
}

/// Requests of one edge within a window, beside what is usual there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EdgeLoad {
    /// All.
    pub requests: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// The window.
    pub window: Duration,
    /// Requests in a second before, in windows in which few failed; None where nobody has seen it
    /// for long enough.
    pub usual: Option<f64>,
    /// Requests in a second that the client itself is asked; 0 where nobody was seen to ask it.
    pub own: f64,
    /// The same in the windows in which it did what is usual.
    pub own_usual: f64,
}
