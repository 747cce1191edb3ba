//! The messages, as protobuf (proto3). A field that a version does not know it passes over, so fields
//! are only added; a new meaning is a new protocol, which `Hello` and `Welcome` agree on.

use bytes::Bytes;

/// From an agent, on its stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromAgent {
    /// `None`: a message of another version.
    #[prost(oneof = "Says", tags = "1, 2, 3, 4, 5")]
    pub says: Option<Says>,
}

/// What an agent says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Says {
    /// First of all.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// A part of a push.
    #[prost(message, tag = "2")]
    Part(Part),
    /// Last of all, where there was time for it.
    #[prost(message, tag = "3")]
    Bye(Bye),
    /// Which names it has; where `Welcome` says that the companion tells names.
    #[prost(message, tag = "4")]
    Wants(Wants),
    /// What it holds for wrong; where `Welcome` says that the companion takes findings.
    #[prost(message, tag = "5")]
    Findings(Findings),
}

/// Who pushes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Protocols that the agent speaks.
    #[prost(uint32, tag = "1")]
    pub oldest: u32,
    /// As `oldest`.
    #[prost(uint32, tag = "2")]
    pub newest: u32,
    /// The agent's, for people.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Name of its Kubernetes node.
    #[prost(string, tag = "4")]
    pub node: String,
    /// Random, another one for each process.
    #[prost(fixed64, tag = "5")]
    pub instance: u64,
    /// 1. Nobody forwards a push; who gets another number refuses it.
    #[prost(uint32, tag = "6")]
    pub hops: u32,
    /// SHA-256 of the credential that the agent has made and would like to join by from now on, 32
    /// bytes. Empty: it has none, or is of a version that knows of none.
    #[prost(bytes = "bytes", tag = "7")]
    pub credential: Bytes,
}

/// Series that changed since a generation. A push is cut into parts so that each message is bounded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Part {
    /// What the receiver has once it has all parts.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// What it had before. 0: nothing is taken for granted, series that no part names are gone.
    #[prost(uint64, tag = "2")]
    pub since: u64,
    /// From 0 on.
    #[prost(uint32, tag = "3")]
    pub number: u32,
    /// No part follows.
    #[prost(bool, tag = "4")]
    pub last: bool,
    /// `Entry` messages, each after its length, deflated (RFC 1951).
    #[prost(bytes = "bytes", tag = "5")]
    pub entries: Bytes,
    /// A `Sees`, as it was when the series were read.
    #[prost(enumeration = "Sees", tag = "6")]
    pub sees: i32,
}

/// What an agent counts from now on, of all that runs on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Sees {
    /// Of a version that does not say.
    Unsaid = 0,
    /// Only a part of it: it has just begun, or does not hear of every container.
    Part = 1,
    /// All of it. It has no names of the cluster yet: a pod may be counted under its own name, and it
    /// is not known by which Service it was asked.
    Nameless = 2,
    /// All of it, under the names of the cluster.
    All = 3,
}

/// A series: what it has counted so far, not what was added. So one that comes twice counts once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// Its number with this agent; never used twice.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name. Empty: the receiver has it.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// What it has counted.
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
    /// It ended: no more of it is counted or shown.
    #[prost(bool, tag = "4")]
    pub gone: bool,
}

/// All that an agent holds for wrong on its node: what was told before and is not here holds no more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Findings {
    /// Milliseconds of the agent's own clock, when this was so. Compares with `since_ms` alone.
    #[prost(uint64, tag = "1")]
    pub now_ms: u64,
    /// `Finding` messages, each after its length, deflated.
    #[prost(bytes = "bytes", tag = "2")]
    pub entries: Bytes,
}

/// One thing that is wrong, in the words of `pilotfish doctor`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Finding {
    /// Of the check.
    #[prost(string, tag = "1")]
    pub id: String,
    /// A `Severity`.
    #[prost(enumeration = "Severity", tag = "2")]
    pub severity: i32,
    /// Whose it is: its namespace, where it has one.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Workload, Node, Process ..
    #[prost(string, tag = "4")]
    pub kind: String,
    /// Of the workload.
    #[prost(string, tag = "5")]
    pub workload: String,
    /// It has held for at least so long; see `Findings::now_ms`.
    #[prost(uint64, tag = "6")]
    pub since_ms: u64,
    /// The figures leave another reading.
    #[prost(bool, tag = "7")]
    pub likely: bool,
    /// The figures as a sentence.
    #[prost(string, tag = "8")]
    pub summary: String,
    /// The figures by name.
    #[prost(message, repeated, tag = "9")]
    pub evidence: Vec<Figure>,
    /// Whom it cost how many requests.
    #[prost(message, repeated, tag = "10")]
    pub hurt: Vec<Hurt>,
    /// What to do.
    #[prost(string, repeated, tag = "11")]
    pub remedy: Vec<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Severity {
    /// Of another version.
    Unsaid = 0,
    /// Evidence, or history.
    Info = 1,
    /// Fails sometimes, or will.
    Warning = 2,
    /// Requests fail now.
    Error = 3,
}

/// A figure of the evidence.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Figure {
    /// What it is.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `None`: of another version.
    #[prost(oneof = "Value", tags = "2, 3, 4")]
    pub value: Option<Value>,
}

/// What a figure says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// So many.
    #[prost(uint64, tag = "2")]
    Count(u64),
    /// A share, a rate or a time in seconds.
    #[prost(double, tag = "3")]
    Number(f64),
    /// An address, a name.
    #[prost(string, tag = "4")]
    Text(String),
}

/// Requests of one client.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hurt {
    /// Its workload.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Those that failed or waited.
    #[prost(uint64, tag = "2")]
    pub requests: u64,
}

/// Why the agent ends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Bye {
    /// Its exit code.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// For people.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// From the companion.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromCompanion {
    /// `None`: a message of another version.
    #[prost(oneof = "Answers", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub answers: Option<Answers>,
}

/// What the companion answers.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answers {
    /// To a greeting.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// To the last part of a push.
    #[prost(message, tag = "2")]
    Ack(Ack),
    /// Everything is to be sent anew: the copy does not fit what comes.
    #[prost(message, tag = "3")]
    Resync(Resync),
    /// From now on.
    #[prost(message, tag = "4")]
    Period(Period),
    /// A shard of the names, where it differs.
    #[prost(message, tag = "5")]
    Shard(ShardPart),
    /// Names that changed.
    #[prost(message, tag = "6")]
    Delta(Delta),
    /// The agent is to say again which names it has.
    #[prost(message, tag = "7")]
    Again(Again),
}

/// The agent may push.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// The one that is spoken from now on.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The companion's, for people.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Random, another one for each process.
    #[prost(fixed64, tag = "3")]
    pub instance: u64,
    /// What the companion has of this process of the agent; 0 for nothing.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// Milliseconds from push to push; 0: as the agent likes.
    #[prost(uint32, tag = "5")]
    pub period_ms: u32,
    /// `address:port` of the other replicas that are ready: the agent pushes to each.
    #[prost(string, repeated, tag = "6")]
    pub replicas: Vec<String>,
    /// The companion tells names to who wants them.
    #[prost(bool, tag = "7")]
    pub names: bool,
    /// The companion keeps the hash of `Hello`: the node joins by its own credential from now on.
    #[prost(bool, tag = "8")]
    pub credential: bool,
    /// The companion takes findings.
    #[prost(bool, tag = "9")]
    pub findings: bool,
}

/// A push has arrived in full.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ack {
    /// The push's.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Series that are not kept for want of room.
    #[prost(uint64, tag = "2")]
    pub refused: u64,
    /// As in `Welcome`, as it is now.
    #[prost(string, repeated, tag = "3")]
    pub replicas: Vec<String>,
}

/// See `Answers::Resync`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Resync {}

/// How often to push.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Period {
    /// Milliseconds from push to push; 0: as the agent likes.
    #[prost(uint32, tag = "1")]
    pub period_ms: u32,
}

/// Which names an agent has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Wants {
    /// Of each shard; 0 for one that is empty. None at all: it has no names.
    #[prost(fixed64, repeated, tag = "1")]
    pub digests: Vec<u64>,
}

/// All names of a shard, cut into parts so that each message is bounded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ShardPart {
    /// The companion's. What it says of this generation and of those before is in it already.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Its number.
    #[prost(uint32, tag = "2")]
    pub shard: u32,
    /// From 0 on.
    #[prost(uint32, tag = "3")]
    pub number: u32,
    /// No part follows: what no part has is gone.
    #[prost(bool, tag = "4")]
    pub last: bool,
    /// Of the whole shard.
    #[prost(fixed64, tag = "5")]
    pub digest: u64,
    /// Names, each after its length, deflated.
    #[prost(bytes = "bytes", tag = "6")]
    pub entries: Bytes,
}

/// Names that changed, or none.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delta {
    /// The companion's.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Names and tombstones, each after its length, deflated.
    #[prost(bytes = "bytes", tag = "2")]
    pub entries: Bytes,
    /// All shards that differed were sent.
    #[prost(bool, tag = "3")]
    pub complete: bool,
    /// So many seconds ago the companion knew that its names are right.
    #[prost(uint32, tag = "4")]
    pub age_s: u32,
    /// Shards that changed.
    #[prost(uint32, repeated, tag = "5")]
    pub shards: Vec<u32>,
    /// Their digests.
    #[prost(fixed64, repeated, tag = "6")]
    pub digests: Vec<u64>,
}

/// See `Answers::Again`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Again {}

impl From<Says> for FromAgent {
    fn from(says: Says) -> FromAgent {
        FromAgent { says: Some(says) }
    }
}

impl From<Answers> for FromCompanion {
    fn from(answers: Answers) -> FromCompanion {
        FromCompanion { answers: Some(answers) }
    }
}
