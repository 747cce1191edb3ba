//! What the watches say of themselves, for `status`, `/readyz` and `/metrics`. Reading it costs a
//! copy of some hundred bytes and asks nobody anything.

use super::decode::Bad;
use crate::cluster::object::Resource;
use crate::cluster::{ClusterNames, Standing};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was asked. Never anything else: the agent writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One page of a list.
    List,
    /// A stream of changes from a known version on.
    Watch,
    /// A watch that begins with what exists (`sendInitialEvents`): it costs the server what a list does.
    StreamingList,
    /// The probe.
    Get,
}

/// Of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// A list or a watch of it.
    For(Resource),
    /// `/version`: the probe.
    Version,
}

impl Asked {
    /// The label `resource`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Asked::For(resource) => resource.as_str(),
            Asked::Version => "version",
        }
    }
}

impl Verb {
    /// The label `verb`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::StreamingList => "streaming_list",
            Verb::Get => "get",
        }
    }
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The status code of HTTP; of a stream that of its head.
    Status(u16),
    /// No answer in time.
    TimedOut,
    /// No connection, or none that a request could be sent over.
    NoConnection,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Status(code) => write!(f, "{code}"),
            Code::TimedOut => f.write_str("timeout"),
            Code::NoConnection => f.write_str("no_connection"),
        }
    }
}

/// `pilotfish_k8s_requests_total{verb,resource,code}`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Label `verb`.
    pub verb: Verb,
    /// Label `resource`.
    pub resource: Asked,
    /// Label `code`: a number, `timeout` or `no_connection`.
    pub code: Code,
    /// Since the start of this process.
    pub count: u64,
}

/// What a watch is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchState {
    /// Nothing was listed yet, and it is waited for the turn to.
    #[default]
    Waiting,
    /// Pages or initial events are coming in; what was known before still has names.
    Listing,
    /// Changes come as they happen.
    Watching,
    /// The last attempt failed, or the server does not answer. What was known is kept.
    Retrying,
}

impl WatchState {
    /// As `status` and the metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WatchState::Waiting => "waiting",
            WatchState::Listing => "listing",
            WatchState::Watching => "watching",
            WatchState::Retrying => "retrying",
        }
    }
}

/// How one resource's watch stands. Counts are since the start of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReport {
    /// What is watched; each has one watch.
    pub resource: Resource,
    /// At the moment of the report.
    pub state: WatchState,
    /// As counted from what was told; exact after each list.
    pub objects: u64,
    /// Since the last list ended, event or bookmark came, and before all of them since the start:
    /// `pilotfish_k8s_cache_age_seconds`.
    pub age: Duration,
    /// Whether a list was ever complete since the start.
    pub is_complete: bool,
    /// Streams begun after the first.
    pub restarts: u64,
    /// Complete lists.
    pub lists: u64,
    /// Lists begun because a version was gone or made no sense: `pilotfish_k8s_relists_total`.
    pub relists: u64,
    /// Attempts and streams that failed; the end of a stream in order is none.
    pub failures: u64,
    /// Objects not taken in because their bytes made no sense, had no name, or were too large.
    pub skipped: [u64; 3],
    /// The last failure's reason. It stays after things went well again; `state` says whether it still counts.
    pub last_error: Option<String>,
}

impl WatchReport {
    /// Objects not taken in for this reason.
    #[must_use]
    pub fn skipped(&self, why: Bad) -> u64 {
        self.skipped[why as usize]
    }
}

/// How the agent stands with the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// `kubernetes.mode = "off"`, or nothing was found that says where an API server is: the reason.
    #[default]
    Off,
    /// Nothing says where an API server is; looked for again every `Timing::look_again`.
    None {
        /// What was looked at, or which source is of no use.
        reason: String,
    },
    /// No request was answered yet.
    Connecting,
    /// The last probe was answered.
    Connected,
    /// For so long.
    Unreachable {
        /// Since the first failure in a row.
        age: Duration,
        /// Of the latest failure, on one line.
        reason: String,
    },
    /// A companion watches for this agent.
    Companion {
        /// Since its names were known to be right; `None` before it has told all of them.
        age: Option<Duration>,
    },
}

/// A companion says every 10 s how old its names are.
const OLD: Duration = Duration::from_secs(60);

/// A copy of all that the watches tell, made at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `Unreachable` only after an API server was found.
    pub link: Link,
    /// URL of the API server.
    pub server: Option<String>,
    /// Where that was said: a path, or "service account".
    pub source: Option<String>,
    /// "cluster" or "node", and why it is not the one that was asked for.
    pub scope: &'static str,
    /// None where the scope is the one that was asked for.
    pub scope_reason: Option<String>,
    /// One for each resource; empty before an API server was found.
    pub watches: Vec<WatchReport>,
    /// One for each combination of labels that has occurred, in order.
    pub requests: Vec<Requests>,
    /// Requests that the token bucket made wait: `pilotfish_k8s_throttled_total`.
    pub throttled: u64,
    /// How often addresses, certificates and tokens were read from their files.
    pub credentials_read: u64,
    /// How long the last wait for this agent's turn to list was, and of how many agents it was computed.
    pub last_list_wait: Duration,
    /// The nodes known, or `Config::at_least_agents` where that is more; 0 before either is known.
    pub agents: u32,
    /// Since the start of this process.
    pub snapshots_saved: u64,
    /// Of the last attempt to save; None after one that went well.
    pub snapshot_error: Option<String>,
}

impl Report {
    /// Whether names of the whole scope are known and kept up to date; the reason if not.
    ///
    /// # Errors
    /// Why names may be missing or old: the server does not answer, or a watch is not complete or
    /// fails. With no server configured nothing is missing.
    pub fn is_fresh(&self) -> Result<(), String> {
        match &self.link {
            Link::Off | Link::None { .. } => return Ok(()),
            Link::Connecting => return Err("the API server has not answered yet".to_owned()),
            Link::Unreachable { age, reason } => {
                return Err(format!("the API server has not answered for {} s: {reason}", age.as_secs()));
            }
            Link::Companion { age: None } => return Err("the companion has not told all names yet".to_owned()),
            Link::Companion { age: Some(age) } if *age > OLD => {
                return Err(format!("the companion's names are {} s old", age.as_secs()));
            }
            Link::Companion { .. } => return Ok(()),
            Link::Connected => {}
        }
        for watch in &self.watches {
            if watch.state == WatchState::Retrying || !watch.is_complete {
                let reason = watch.last_error.as_deref().unwrap_or("not listed yet");
                return Err(format!("{}: {}: {reason}", watch.resource.as_str(), watch.state.as_str()));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Watch {
    report: WatchReport,
    alive: Instant,
}

#[derive(Debug)]
struct Inner {
    report: Report,
    unreachable: Option<(Instant, String)>,
    watches: Vec<Watch>,
    requests: BTreeMap<(Verb, Asked, Code), u64>,
    /// A companion tells names instead.
    streaming: bool,
    /// When it did last, and how old they were.
    heard: Option<(Instant, Duration)>,
    now: Instant,
}

impl Inner {
    /// Of the names that a companion has told.
    fn age(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|(heard, age)| age + now.saturating_duration_since(heard))
    }

    fn standing(&self) -> Standing {
        if self.streaming {
            return match self.age(self.now) {
                None => Standing::Coming,
                Some(age) if age > OLD => Standing::Away,
                Some(_) => Standing::Fresh,
            };
        }
        match &self.report.link {
            // Only in copies of the report.
            Link::Companion { .. } => Standing::Coming,
            Link::Off | Link::None { .. } => Standing::Absent,
            _ if self.unreachable.is_some() => Standing::Away,
            Link::Connecting => Standing::Coming,
            Link::Unreachable { .. } => Standing::Away,
            Link::Connected if self.watches.iter().any(|watch| watch.report.state == WatchState::Retrying) => {
                Standing::Away
            }
            Link::Connected if self.watches.iter().all(|watch| watch.report.is_complete) => Standing::Fresh,
            Link::Connected => Standing::Coming,
        }
    }
}

/// The writing side, shared by the watches of one thread with those who read. Whoever names traffic
/// hears how the API stands.
#[derive(Clone, Debug)]
pub(super) struct Board(Arc<Mutex<Inner>>, ClusterNames);

impl Board {
    pub(super) fn new(resources: &[Resource], names: ClusterNames, now: Instant) -> Board {
        let watch = |resource: &Resource| Watch {
            alive: now,
            report: WatchReport {
                resource: *resource,
                state: WatchState::Waiting,
                objects: 0,
                age: Duration::ZERO,
                is_complete: false,
                restarts: 0,
                lists: 0,
                relists: 0,
                failures: 0,
                skipped: [0; 3],
                last_error: None,
            },
        };
        Board(
            Arc::new(Mutex::new(Inner {
                report: Report::default(),
                unreachable: None,
                watches: resources.iter().map(watch).collect(),
                requests: BTreeMap::new(),
                streaming: false,
                heard: None,
                now,
            })),
            names,
        )
    }

    fn put(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.0.lock();
        change(&mut inner);
        self.1.stand(inner.standing());
    }

    pub(super) fn read(&self, now: Instant) -> Report {
        let inner = self.0.lock();
        let mut report = inner.report.clone();
        if inner.streaming {
            report.link = Link::Companion { age: inner.age(now) };
            report.server = None;
        }
        if let (Some((since, reason)), true) = (&inner.unreachable, report.server.is_some()) {
            let age = now.saturating_duration_since(*since);
            report.link = Link::Unreachable { age, reason: reason.clone() };
        }
        if report.server.is_some() {
            let aged =
                |watch: &Watch| WatchReport { age: now.saturating_duration_since(watch.alive), ..watch.report.clone() };
            report.watches = inner.watches.iter().map(aged).collect();
        }
        let requests = inner.requests.iter();
        report.requests = requests
            .map(|((verb, resource, code), count)| Requests {
                verb: *verb,
                resource: *resource,
                code: *code,
                count: *count,
            })
            .collect();
        report
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Report)) {
        self.put(|inner| change(&mut inner.report));
    }

    /// Whether a companion tells names.
    pub(super) fn streaming(&self, is_so: bool) {
        self.put(|inner| {
            inner.streaming = is_so;
            inner.heard = None;
            inner.unreachable = None;
            inner.report.link = Link::Connecting;
        });
    }

    /// A companion has told all names, which were right so long ago.
    pub(super) fn heard(&self, now: Instant, age: Duration) {
        self.put(|inner| (inner.heard, inner.now) = (Some((now, age)), now));
    }

    /// Time passes: what is told grows old.
    pub(super) fn tick(&self, now: Instant) {
        self.put(|inner| inner.now = now);
    }

    pub(super) fn connected(&self) {
        self.put(|inner| {
            inner.report.link = Link::Connected;
            inner.unreachable = None;
        });
    }

    pub(super) fn unreachable(&self, since: Instant, reason: &str) {
        self.put(|inner| inner.unreachable = Some((since, reason.to_owned())));
    }

    /// Codes are a closed set as servers use them; a hostile one could send 900 others, which is still a bound.
    pub(super) fn requested(&self, verb: Verb, resource: Asked, code: Code) {
        *self.0.lock().requests.entry((verb, resource, code)).or_default() += 1;
    }

    pub(super) fn watch(&self, resource: Resource, change: impl FnOnce(&mut WatchReport)) {
        self.put(|inner| {
            if let Some(watch) = inner.watches.iter_mut().find(|watch| watch.report.resource == resource) {
                change(&mut watch.report);
            }
        });
    }

    /// Something came.
    pub(super) fn alive(&self, resource: Resource, now: Instant) {
        if let Some(watch) = self.0.lock().watches.iter_mut().find(|watch| watch.report.resource == resource) {
            watch.alive = now;
        }
    }
}
