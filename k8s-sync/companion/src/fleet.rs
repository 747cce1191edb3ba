//! The agents that have joined, and what each of them has counted. Told the time.

use crate::counts::FleetCounts;
use crate::findings::Findings;
use crate::loops::Loops;
use crate::names::Names;
use crate::node::{Node, sees};
use crate::ran::Ran;
use crate::strangers::Strangers;
use crate::taking::{Ending, Taking, Uncounted};
use golden_metrics::{Cluster, ClusterView, Served};
use hashbrown::HashMap;
use join::limits::{MISSING, PERIOD, REPLICAS, TEXT};
use join::message::{Bye, Hello, Part, Welcome};
use join::{Applied, Changes, Me, Reason, Refusal, Replica, Was};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A silent node's series end after this; those of a node that comes back go on where they were.
pub const KEPT: Duration = Duration::from_secs(5 * 60);
/// Rates are of a minute and the step under way.
const STEP: Duration = Duration::from_secs(10);
const STEPS: usize = 6;

/// Bounds over all agents.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// From one push of an agent to the next.
    pub period: Duration,
    /// Nodes that may have joined.
    pub agents: usize,
    /// Bytes of the names of all series. 300,000 series of 1,000 nodes have some 30,000 names.
    pub names: usize,
    /// Bytes of what all series have counted, with their places.
    pub values: usize,
    /// Bytes of the findings of all nodes. One is some 1 KiB.
    pub findings: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { period: PERIOD, agents: 5_000, names: 128 << 20, values: 512 << 20, findings: 32 << 20 }
    }
}

impl Config {
    /// After so long without a push an agent is silent, and its next push is taken for its first:
    /// nobody knows when it counted what it says.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.period.max(PERIOD) * MISSING
    }
}

/// All agents.
#[derive(Debug)]
pub struct Fleet {
    me: Me,
    pub(crate) config: Config,
    names: Names,
    pub(crate) nodes: Nodes,
    /// Nodes of the cluster. `None`: nobody has told yet.
    pub(crate) known: Option<BTreeSet<String>>,
    /// Where agents find the other replicas that are ready.
    replicas: Vec<String>,
    tells_names: bool,
    tells_figures: bool,
    /// Of nodes that were deleted, for as long as it is of late.
    pub(crate) departed: Vec<Served>,
    /// Where pods ran; `None`: nobody tells, and a node may tell of whomever it likes.
    pub(crate) ran: Option<Arc<Mutex<Ran>>>,
    streams: u64,
    values: usize,
    /// Bytes of findings.
    pub(crate) findings: usize,
    /// Milliseconds of the wall clock at the time 0 that is told here.
    pub(crate) began_ms: u64,
    pub(crate) counts: FleetCounts,
    pub(crate) cluster: Cluster,
    pub(crate) loops: Loops,
    pub(crate) table: Option<(Duration, Arc<ClusterView>)>,
}

impl Fleet {
    /// Of the companion `me`.
    #[must_use]
    pub fn new(me: Me, config: Config) -> Fleet {
        let names = Names::new(config.names);
        let (nodes, counts) = (HashMap::default(), FleetCounts::default());
        let cluster = Cluster::new(STEP, STEPS);
        Fleet {
            me,
            config,
            names,
            nodes,
            known: None,
            replicas: Vec::new(),
            tells_names: false,
            tells_figures: false,
            departed: Vec::new(),
            ran: None,
            streams: 0,
            values: 0,
            findings: 0,
            began_ms: 0,
            counts,
            cluster,
            loops: Loops::default(),
            table: None,
        }
    }

    /// The nodes that the cluster has. The series of others end: a node that was deleted is not silent.
    pub fn set_nodes(&mut self, known: BTreeSet<String>) {
        let Fleet { nodes, values, findings, departed, .. } = self;
        nodes.retain(|name, node| {
            let stays = known.contains(name);
            if !stays {
                *values -= node.replica.memory();
                *findings -= node.findings.bytes();
                departed.extend(node.served.take());
            }
            stays
        });
        self.names.sweep();
        self.known = Some(known);
        self.table = None;
    }

    /// The other replicas that are ready, as `address:port`: what greets or pushes is told of them.
    pub fn set_replicas(&mut self, mut replicas: Vec<String>) {
        replicas.truncate(REPLICAS);
        self.replicas = replicas;
    }

    /// What the wall clock showed, in milliseconds, at the time 0 that is told here.
    pub fn set_began(&mut self, began_ms: u64) {
        self.began_ms = began_ms;
    }

    /// Names are told to who asks for them.
    pub fn set_tells_names(&mut self) {
        self.tells_names = true;
    }

    /// Figures are kept by node, for whoever scales by them. To be called before anybody joins.
    pub fn set_tells_figures(&mut self) {
        self.tells_figures = true;
    }

    /// From now on a node tells of what has, or had of late, a pod there, by `ran`.
    pub fn set_ran(&mut self, ran: Arc<Mutex<Ran>>) {
        self.ran = Some(ran);
    }

    /// An agent greets. Returns the number of its stream, and the answer. An older stream of the node
    /// may push no more.
    ///
    /// # Errors
    /// When it may not push.
    pub fn open(&mut self, now: Duration, hello: &Hello) -> Result<(u64, Welcome), Refusal> {
        let opened = self.admit(now, hello);
        if let Err(refusal) = &opened {
            self.refused(refusal.reason);
        }
        opened
    }

    /// Whether an agent that greets so may push, before anything is done for it.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let checked = self.may_push(hello);
        if let Err(refusal) = &checked {
            self.refused(refusal.reason);
        }
        checked.map(drop)
    }

    /// The protocol that is spoken.
    fn may_push(&self, hello: &Hello) -> Result<u32, Refusal> {
        let protocol = join::welcome(&self.me, hello)?;
        if self.known.as_ref().is_some_and(|known| !known.contains(&hello.node)) {
            let text = format!("the cluster has no node \"{}\": set kubernetes.node to its name there", hello.node);
            return Err(Refusal::new(Reason::Node, text));
        }
        if !self.nodes.contains_key(&hello.node) && self.nodes.len() >= self.config.agents {
            let text = format!("{} agents have joined, which is all that this companion takes", self.nodes.len());
            return Err(Refusal::new(Reason::Busy, text));
        }
        Ok(protocol)
    }

    fn admit(&mut self, now: Duration, hello: &Hello) -> Result<(u64, Welcome), Refusal> {
        let protocol = self.may_push(hello)?;
        self.streams += 1;
        self.cluster.begin(now);
        let node = self.nodes.entry(hello.node.clone()).or_insert_with(|| Node {
            replica: Replica::new(self.config.silence()),
            stream: 0,
            version: String::new(),
            heard: now,
            ended: None,
            served: self.tells_figures.then(|| Served::new(STEP, STEP * STEPS as u32)),
            strangers: Strangers::default(),
            findings: Findings::default(),
            seen: join::Counted::default(),
        });
        node.stream = self.streams;
        node.version = hello.version.chars().filter(|c| !c.is_control()).take(TEXT).collect();
        let generation = node.replica.begin(hello.instance);
        self.findings -= node.findings.bytes();
        node.findings.begin(hello.instance);
        self.findings += node.findings.bytes();
        let Me { version, instance, .. } = self.me.clone();
        let period_ms = u32::try_from(self.config.period.as_millis()).unwrap_or(u32::MAX);
        Ok((
            self.streams,
            Welcome {
                protocol,
                version,
                instance,
                generation,
                period_ms,
                replicas: self.replicas.clone(),
                names: self.tells_names,
                credential: false,
                findings: true,
            },
        ))
    }

    /// Takes over a part of a push on a stream.
    ///
    /// # Errors
    /// When the stream is to end: it is not the node's newest one, or the part is none.
    pub fn part(&mut self, now: Duration, name: &str, stream: u64, part: &Part) -> Result<Applied, Refusal> {
        let mut applied = self.take(now, name, stream, part);
        match &mut applied {
            Ok(Applied::Complete(ack)) => {
                self.counts.pushes += 1;
                ack.replicas.clone_from(&self.replicas);
            }
            Ok(Applied::More | Applied::Resync) => {}
            Err(refusal) => self.refused(refusal.reason),
        }
        applied
    }

    fn take(&mut self, now: Duration, name: &str, stream: u64, part: &Part) -> Result<Applied, Refusal> {
        let Fleet { nodes, names, values, counts, config, cluster, loops, ran, .. } = self;
        let node = of_stream(nodes, name, stream)?;
        let had = node.replica.memory();
        node.replica.bound(had + config.values.saturating_sub(*values));
        let ran = ran.as_ref().map(|ran| ran.lock());
        let (served, strangers, uncounted) = (node.served.as_mut(), &mut node.strangers, Uncounted::default());
        let mut taking =
            Taking { now, node: name, names, cluster, loops, served, ran: ran.as_deref(), strangers, uncounted };
        let applied = node.replica.part(now, part, &mut taking);
        counts.add(&taking.uncounted);
        if let (Ok(Applied::Complete(_)), Some(served)) = (&applied, &mut node.served) {
            served.pushed(now, node.replica.is_watched(), sees(node.replica.sees()));
        }
        *values = *values - had + node.replica.memory();
        let join::Counted { refused, unnamed, resyncs } = node.replica.counted();
        counts.no_room += refused - node.seen.refused;
        counts.unnamed += unnamed - node.seen.unnamed;
        counts.resyncs += resyncs - node.seen.resyncs;
        node.seen = node.replica.counted();
        node.heard = now;
        node.ended = None;
        applied
    }

    /// The agent says why it ends.
    pub fn bye(&mut self, name: &str, stream: u64, bye: Bye) {
        if let Some(node) = self.nodes.get_mut(name).filter(|node| node.stream == stream) {
            let text = bye.text.chars().filter(|c| !c.is_control()).take(TEXT).collect();
            node.ended = Some((bye.code, text));
        }
    }

    /// A stream ended, for whatever reason.
    pub fn closed(&mut self, name: &str, stream: u64) {
        if let Some(node) = self.nodes.get_mut(name).filter(|node| node.stream == stream) {
            node.stream = 0;
        }
    }

    /// A connection or a stream was refused before it came here.
    pub fn refused(&mut self, reason: Reason) {
        if let Some(count) = self.counts.refused.get_mut(reason.index()) {
            *count += 1;
        }
    }

    /// A connection or a stream said nothing in time.
    pub fn said_nothing(&mut self) {
        self.counts.silent += 1;
    }

    /// Ends the series of nodes that have been silent for long. To be called about once a period.
    pub fn tick(&mut self, now: Duration) {
        let Fleet { nodes, names, values, counts, cluster, loops, departed, ran, .. } = self;
        departed.retain(|served| served.is_of_late(now));
        let ran = ran.as_ref().map(|ran| ran.lock());
        for (name, node) in nodes.iter_mut().filter(|(_, node)| !node.strangers.is_empty()) {
            // A pod may have been heard of.
            let Node { replica, served, strangers, .. } = node;
            let (served, uncounted) = (served.as_mut(), Uncounted::default());
            let held: Vec<_> = replica.series().filter(|(name, _)| strangers.has(name)).collect();
            let mut taking =
                Taking { now, node: name, names, cluster, loops, served, ran: ran.as_deref(), strangers, uncounted };
            held.into_iter().for_each(|(name, value)| taking.changed(name, Was::Value(value), value));
            counts.add(&taking.uncounted);
        }
        drop(ran);
        for node in nodes.values_mut().filter(|node| !node.replica.is_empty()) {
            if now.saturating_sub(node.heard) > KEPT {
                *values -= node.replica.memory();
                counts.stranger += node.strangers.clear();
                node.replica.clear(&mut Ending);
                if let Some(served) = &mut node.served {
                    served.forget();
                }
                counts.expired += 1;
            }
        }
        self.names.sweep();
        self.tick_findings(now);
        self.loops.tick(now);
    }

    /// Agents that have joined.
    #[must_use]
    pub fn joined(&self) -> usize {
        self.nodes.len()
    }

    /// From one push of an agent to the next, unless it is asked for others.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.config.period
    }

    /// Names of series of another version, which are kept and not shown.
    #[must_use]
    pub fn unknown_names(&self) -> usize {
        self.names.unknown()
    }

    /// When the next thing that an agent says is late.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.config.silence()
    }

    /// What was taken and what was not.
    #[must_use]
    pub fn counts(&self) -> FleetCounts {
        FleetCounts { loops_no_room: self.loops.left_out(), ..self.counts }
    }

    /// Bytes of all names, and of all values.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        (self.names.bytes(), self.values)
    }
}

pub(crate) type Nodes = HashMap<String, Node, foldhash::fast::RandomState>;

/// The node, where this stream may speak for it.
pub(crate) fn of_stream<'a>(nodes: &'a mut Nodes, name: &str, stream: u64) -> Result<&'a mut Node, Refusal> {
    let Some(node) = nodes.get_mut(name) else {
        return Err(Refusal::new(Reason::Node, "the node was deleted from the cluster"));
    };
    match node.stream == stream {
        true => Ok(node),
        false => Err(Refusal::new(Reason::Replaced, "a newer stream of this node took over")),
    }
}
