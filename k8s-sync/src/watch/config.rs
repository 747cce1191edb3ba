//! What can be chosen.

use super::gate::Backoff;
use crate::access::{OwnAddresses, Sources};
use std::path::PathBuf;
use std::time::Duration;

/// Whose pods are watched. Everything else is watched for the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All pods: remote peers have names.
    #[default]
    Cluster,
    /// Those with `spec.nodeName` of this agent's node.
    Node,
}

impl Scope {
    /// The value of `kubernetes.scope`, also shown by `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Cluster => "cluster",
            Scope::Node => "node",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    /// Of this process, and no other.
    pub instance: String,
    /// `pilotfish/0.1.0`: the API server's audit log and its metrics show it.
    pub user_agent: String,
    /// Where this agent itself listens.
    pub own: OwnAddresses,
}

/// What `start` needs; the defaults are those of the agent's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to look for the API server, at the start and after a refusal.
    pub sources: Sources,
    /// How requests are marked, and which addresses they must not go to.
    pub agent: Agent,
    /// Name of this node's Node object.
    pub node: Option<String>,
    /// What is wanted; `Report::scope` has what became of it.
    pub scope: Scope,
    /// With more pods than this the scope becomes `Node`, where the node has a name.
    pub most_pods: u32,
    /// One of as many as there are nodes, which list in turn. Who watches once for all of them waits
    /// for nobody.
    pub in_turn: bool,
    /// There are at least so many agents, whatever the list of nodes says: for the turn to list.
    pub at_least_agents: u32,
    /// Lists as streams (`sendInitialEvents`) where the server has them.
    pub streaming_lists: bool,
    /// `timeoutSeconds` of watches; None leaves it to the server, which is kinder to it.
    pub watch_timeout_s: Option<u32>,
    /// The token bucket.
    pub burst: u32,
    /// In the long run; `burst` may be sent at once.
    pub requests_per_second: f64,
    /// Where the table is kept between runs.
    pub snapshot: Option<PathBuf>,
    /// Time-outs, waits and intervals.
    pub timing: Timing,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            sources: Sources::default(),
            agent: Agent::default(),
            node: None,
            scope: Scope::Cluster,
            // The largest cluster that Kubernetes supports has 150,000; the table is bounded by its own limits, too.
            most_pods: 150_000,
            in_turn: true,
            at_least_agents: 0,
            streaming_lists: true,
            watch_timeout_s: None,
            // Five watches, lists of them in a few pages, and a probe at once; a list of 100,000
            // pods in pages takes 40 s.
            burst: 20,
            requests_per_second: 5.0,
            snapshot: None,
            timing: Timing::default(),
        }
    }
}

/// Times, each with what it is for. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Name and TCP connection.
    pub connect: Duration,
    /// TLS, and the head of an answer.
    pub answer: Duration,
    /// A page of a list; the longest silence within a list that is streamed.
    pub page: Duration,
    /// A stream with bookmarks (the server sends one a minute) is dead after this and up to a fifth more.
    pub silence: Duration,
    /// The same where the server never sent a bookmark: silence is then no sign of death.
    pub unmarked_silence: Duration,
    /// Of the connection, by HTTP/2 or by TCP.
    pub ping_every: Duration,
    /// Without an answer to a ping within this the connection is given up.
    pub ping_answer: Duration,
    /// Between probes while the server as a whole fails.
    pub backoff: Backoff,
    /// The very first list, when nothing is known of the cluster, waits up to this.
    pub first_spread: Duration,
    /// The others wait up to this where the nodes cannot be counted.
    pub blind_spread: Duration,
    /// Between snapshots, if something changed.
    pub save_every: Duration,
    /// Where no API server was found: looked for again.
    pub look_again: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        let s = Duration::from_secs;
        Timing {
            connect: s(5),
            answer: s(10),
            page: s(30),
            silence: s(90),
            unmarked_silence: s(600),
            ping_every: s(20),
            ping_answer: s(10),
            backoff: Backoff::default(),
            first_spread: s(1),
            blind_spread: s(15),
            save_every: s(180),
            look_again: s(60),
        }
    }
}
