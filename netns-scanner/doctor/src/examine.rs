//! The look itself: a pass over the node's sockets, two samples with a window between them, and
//! what the decisions make of them.

mod api;
mod cgroups;
mod drops;
mod limits;
mod node;

use crate::checks::By;
use crate::decide::{
    asks_itself, closed_watch, conntrack_full, dead_peer, listen_overflow, mtu_hole, outside_holes, ports_gone,
    rp_filter, self_call, udp_drop,
};
use crate::drops::BeginsToCount;
use crate::read::{self, NetConnections, NetReading, Readers, Unread};
use crate::report::Gaps;
use crate::sample::{Connection, CpuTime, Delta, Held};
use crate::server::KnowsApiServer;
use crate::sockets::{self, Sockets};
use crate::{CheckId, Finding, Looked, Report, Subject, Thresholds};
use flow_model::{Transport, Ts, in_full};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How far a look goes. What is beyond is counted, and the checks that miss it say so.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Sockets of the node. Some 100 bytes each are kept.
    pub sockets: usize,
    /// Network namespaces.
    pub namespaces: usize,
    /// Processes whose cgroup is asked for.
    pub processes: usize,
    /// Connections of one namespace, and as many listening sockets.
    pub connections: usize,
    /// Processor time; a namespace is not begun with less than nothing left.
    pub cpu: Duration,
    /// One read.
    pub patience: Duration,
    /// All reads, the window included.
    pub all: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            sockets: 200_000,
            namespaces: 1024,
            processes: 4096,
            connections: 100_000,
            cpu: Duration::from_millis(1500),
            patience: Duration::from_secs(2),
            all: Duration::from_secs(9),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// These checks.
    pub checks: Vec<CheckId>,
    /// How far back a person asks.
    pub since: Duration,
    /// In these namespaces alone, by their inodes; None: everywhere.
    pub only: Option<BTreeSet<u64>>,
    /// What a namespace's workload is called, by its inode.
    pub names: BTreeMap<u64, Subject>,
    /// From where a finding is one.
    pub thresholds: Thresholds,
    /// How far the look goes.
    pub bounds: Bounds,
    /// Starts the process that reads files which may hang ([`netns_scanner::helper::serve`]); None: they
    /// are read on a thread.
    pub helper: Option<fn() -> Command>,
    /// The root's `memory.stat`; None: where it usually is.
    pub memory_stat: Option<PathBuf>,
    /// Begins to count the packets that the kernel drops; None: nobody can.
    pub drops: Option<BeginsToCount>,
    /// Who knows where the API server is, or why nobody does.
    pub api_server: Result<KnowsApiServer, String>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            checks: CheckId::on_demand().collect(),
            since: Duration::from_secs(600),
            only: None,
            names: BTreeMap::new(),
            thresholds: Thresholds::default(),
            bounds: Bounds::default(),
            helper: None,
            memory_stat: None,
            drops: None,
            api_server: Err("nobody says where the API server is".to_owned()),
        }
    }
}

/// Looks, waits for the window, looks again and decides. Blocks for some seconds.
#[must_use]
pub fn examine(asked: &Asked) -> Report {
    let mut look = Look::new(asked);
    let mut found = Vec::new();
    look.decide_node(&mut found);
    let mut node = look.node();
    let of_node_alone = asked.checks.iter().all(|check| check.is_of_node());
    let sockets = if of_node_alone { Err(None) } else { look.pass().map_err(Some) };
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(reason) => {
            if let Some(reason) = reason {
                look.gaps.add(&of_sockets(), &reason);
                look.gaps.add(&[CheckId::Drops], &reason);
            }
            if !node.is_empty() {
                // Else nobody is to wait for a second look.
                look.wait();
                look.decide_node_twice(&mut node, &mut found);
            }
            return look.report(found);
        }
    };
    look.sees(&sockets);
    look.bound_processes(&sockets);
    let places = look.places(&sockets);
    let before = look.counters(&places);
    let connections = look.connections(&places, &before);
    let selves = look.selves(&sockets, &connections);
    let askers = look.askers(&places, &sockets, &connections, &mut found);
    let polling = look.closed(&sockets, &connections);
    let cpu = look.cpu(&polling);
    let cgroups = look.cgroups(&sockets);
    look.decide_files(&sockets, &mut found);
    let counting = look.count_drops();
    look.wait();

    look.decide_node_twice(&mut node, &mut found);
    look.decide_counters(&places, &sockets, &before, &mut found);
    look.decide_drops(counting, &places, &mut found);
    look.decide_connections(&places, &sockets, &connections, &mut found);
    look.decide_selves(&places, &selves, &mut found);
    look.decide_askers(&places, &sockets, &askers, &mut found);
    look.decide_closed(&polling, &cpu, &mut found);
    look.decide_cgroups(&cgroups, &mut found);
    look.report(found)
}

fn made_by(by: By) -> Vec<CheckId> {
    CheckId::made_by(by).collect()
}

/// Checks that look at whoever holds sockets. Drops are counted of everybody.
fn of_sockets() -> Vec<CheckId> {
    CheckId::on_demand().filter(|check| !check.is_of_node() && check.by() != By::Drops).collect()
}

/// A namespace that is looked at.
struct Place {
    /// Processes by which it is entered: those that hold its sockets.
    pids: Arc<[u32]>,
    /// One of them that lives in it.
    pid: u32,
    connected: bool,
}

/// By inode.
type Places = BTreeMap<u64, Place>;
/// Connections of a namespace by process, and when they were read.
type Selves = BTreeMap<u64, (Ts, Vec<Held>)>;
/// Connections of a process.
type OfProcess = BTreeMap<u32, Vec<Connection>>;

struct Look<'a> {
    asked: &'a Asked,
    readers: Readers,
    gaps: Gaps,
    looked: Looked,
    began_cpu: Duration,
    /// The node's own namespace, whose sockets belong to many.
    node: Option<u64>,
    subjects: BTreeMap<u32, Subject>,
    /// How many connections may be followed.
    most_connections: Option<String>,
}

impl<'a> Look<'a> {
    fn new(asked: &'a Asked) -> Look<'a> {
        let readers = Readers::new(asked.bounds.patience, asked.bounds.all);
        Look {
            node: readers.node(),
            asked,
            readers,
            gaps: Gaps::default(),
            looked: Looked::default(),
            began_cpu: read::cpu_of_this_process(),
            subjects: BTreeMap::new(),
            most_connections: None,
        }
    }

    fn report(self, found: Vec<Finding>) -> Report {
        let window = self.asked.thresholds.window.as_secs_f64();
        Report::new(&self.asked.checks, window, found, &self.gaps, self.looked)
    }

    fn wait(&self) {
        std::thread::sleep(self.asked.thresholds.window.min(self.readers.left()));
    }

    fn wants(&self, checks: &[CheckId]) -> bool {
        checks.iter().any(|check| self.asked.checks.contains(check))
    }

    fn left_out(&mut self, bound: &'static str, count: usize, checks: &[CheckId]) {
        if count > 0 {
            *self.looked.left_out.entry(bound).or_default() += count;
            self.gaps.add(checks, &format!("{count} {bound} beyond the bound were not looked at"));
        }
    }

    /// What was read; what is gone is missed by nobody.
    fn seen<T>(&mut self, read: Result<T, Unread>, checks: &[CheckId]) -> Option<T> {
        match read {
            Ok(value) => return Some(value),
            Err(Unread::Gone) => {}
            Err(error) => self.gaps.add(checks, &error.to_string()),
        }
        None
    }

    fn pass(&mut self) -> Result<Sockets, String> {
        let (most, only) = (self.asked.bounds.sockets, self.asked.only.clone());
        let pass = self.readers.read("the sockets of all processes", move || Ok(sockets::pass(most, only.as_ref())));
        let sockets = match pass {
            Ok(Ok(sockets)) => sockets,
            Ok(Err(error)) => return Err(in_full(&error)),
            Err(error) => return Err(error.to_string()),
        };
        (self.looked.sockets, self.looked.processes) = (sockets.seen, sockets.processes.len());
        self.left_out("sockets", sockets.left_out, &of_sockets());
        Ok(sockets)
    }

    /// Whoever sees nobody, or only some of all processes, cannot say that the node is fine.
    fn sees(&mut self, sockets: &Sockets) {
        if sockets.seen == 0 {
            self.gaps.add(&of_sockets(), "no process that holds a TCP or UDP socket was seen");
        } else if self.asked.only.is_none() && !self.readers.sees_all_processes() {
            let reason = "it runs in a pid namespace of its own, and sees no process outside of it";
            self.gaps.add(&of_sockets(), reason);
        }
    }

    fn bound_processes(&mut self, sockets: &Sockets) {
        if self.wants(&made_by(By::Processes)) {
            let most = self.asked.bounds.processes;
            self.left_out("processes", sockets.processes.len().saturating_sub(most), &made_by(By::Processes));
        }
    }

    fn places(&mut self, sockets: &Sockets) -> Places {
        let most = self.asked.bounds.namespaces;
        let checks = [made_by(By::Counters), made_by(By::Connections)].concat();
        self.left_out("namespaces", sockets.places.len().saturating_sub(most), &checks);
        let mut places = Places::new();
        for (ino, place) in sockets.places.iter().take(most) {
            let pids: Arc<[u32]> = place.pids.as_slice().into();
            let inside = self.readers.inside(*ino, &pids);
            if let Some(pid) = self.seen(inside, &checks) {
                places.insert(*ino, Place { pids, pid, connected: place.connected });
            }
        }
        self.looked.namespaces = places.len();
        places
    }

    fn counters(&mut self, places: &Places) -> BTreeMap<u64, NetReading> {
        let mut read = BTreeMap::new();
        // They also tell where connections wait in TIME_WAIT, which no process holds.
        let checks = [made_by(By::Counters), vec![CheckId::PortsGone, CheckId::ApiStorm]].concat();
        if self.wants(&[CheckId::ConntrackFull]) {
            self.most_connections = self.most_connections();
        }
        if self.wants(&checks) {
            for (ino, place) in places {
                let counters = self.readers.counters(*ino, &place.pids, self.most_connections.clone());
                read.extend(self.seen(counters, &checks).map(|counters| (*ino, counters)));
            }
        }
        read
    }

    fn connections(&mut self, places: &Places, counters: &BTreeMap<u64, NetReading>) -> BTreeMap<u64, NetConnections> {
        let mut read = BTreeMap::new();
        let mut unpaid = 0;
        let checks = made_by(By::Connections);
        for (ino, place) in places {
            let waits = counters.get(ino).is_some_and(|counters| counters.time_wait > 0);
            if !(place.connected || waits) || !self.wants(&checks) {
                continue;
            }
            if self.is_spent() {
                unpaid += 1;
                continue;
            }
            let connections = self.readers.connections(*ino, &place.pids, self.asked.bounds.connections);
            let Some(connections) = self.seen(connections, &checks) else { continue };
            self.left_out("connections", connections.connections.left_out, &checks);
            read.insert(*ino, connections);
        }
        self.left_out("namespaces for want of processor time", unpaid, &checks);
        read
    }

    fn is_spent(&self) -> bool {
        read::cpu_of_this_process().saturating_sub(self.began_cpu) > self.asked.bounds.cpu
    }

    /// Whose a namespace's sockets are, `pid` being who holds the one in question where that is known.
    fn subject(&mut self, ino: u64, pid: Option<u32>) -> Subject {
        if let Some(name) = self.asked.names.get(&ino) {
            return name.clone();
        }
        let Some(pid) = pid else { return Subject::network_of_node() };
        if let Some(known) = self.subjects.get(&pid) {
            return known.clone();
        }
        let process = || Subject { kind: "Process".to_owned(), name: format!("pid {pid}"), ..Subject::default() };
        let subject = self.readers.subject(pid).unwrap_or_else(|_| process());
        self.subjects.insert(pid, subject.clone());
        subject
    }

    /// The same where nobody knows who holds it: in a namespace of its own the one that lives there.
    fn subject_of_place(&mut self, ino: u64, places: &Places) -> Subject {
        let pid = places.get(&ino).map(|place| place.pid).filter(|_| self.node != Some(ino));
        self.subject(ino, pid)
    }

    fn decide_counters(
        &mut self,
        places: &Places,
        sockets: &Sockets,
        before: &BTreeMap<u64, NetReading>,
        found: &mut Vec<Finding>,
    ) {
        let checks = made_by(By::Counters);
        let (thresholds, wanted) = (&self.asked.thresholds, self.wants(&checks));
        for (ino, before) in before.iter().filter(|_| wanted) {
            let Some(place) = places.get(ino) else { continue };
            let after = self.readers.counters(*ino, &place.pids, self.most_connections.clone());
            let Some(after) = self.seen(after, &checks) else { continue };
            let tables = before.conntrack.zip(after.conntrack);
            let full =
                tables.and_then(|(before, after)| conntrack_full(&Subject::default(), &before, &after, thresholds));
            if let Some(full) = full {
                let subject = self.subject_of_place(*ino, places);
                found.push(Finding { subject, ..full });
            }
            let filtered = Delta::between(before.rp_filtered, after.rp_filtered);
            let is_node = self.node == Some(*ino);
            if let Some(filtered) = filtered.and_then(|delta| rp_filter(&Subject::default(), delta, is_node)) {
                let subject = self.subject_of_place(*ino, places);
                found.push(Finding { subject, ..filtered });
            }
            let overflows = Delta::between(before.overflows, after.overflows).filter(|delta| delta.count > 0);
            if let Some(overflows) = overflows {
                let queues = self.readers.listening(*ino, &place.pids, self.asked.bounds.connections);
                let queues =
                    self.seen(queues, &[CheckId::ListenOverflow]).map(|queues| queues.found).unwrap_or_default();
                let full = listen_overflow(&Subject::default(), overflows, &queues, thresholds);
                found.extend(full.map(|full| self.owned(full, *ino, Transport::Tcp, places, sockets)));
            }
            let drops = Delta::between(before.udp_drops, after.udp_drops);
            if let Some(drops) = drops.filter(|delta| delta.count > thresholds.udp_drops) {
                let lossy = self.readers.lossy(*ino, &place.pids, self.asked.bounds.connections);
                let lossy = self.seen(lossy, &[CheckId::UdpDrop]).map(|lossy| lossy.found).unwrap_or_default();
                let dropped = udp_drop(&Subject::default(), drops, &lossy, thresholds);
                found.extend(dropped.map(|dropped| self.owned(dropped, *ino, Transport::Udp, places, sockets)));
            }
        }
    }

    /// The finding as one of whoever has the port that its evidence names.
    fn owned(
        &mut self,
        mut finding: Finding,
        ino: u64,
        transport: Transport,
        places: &Places,
        sockets: &Sockets,
    ) -> Finding {
        let owner = finding.port().and_then(|port| sockets.owner(ino, transport, port));
        finding.subject = match owner {
            Some(pid) => self.subject(ino, Some(pid)),
            None => self.subject_of_place(ino, places),
        };
        finding
    }

    fn decide_connections(
        &mut self,
        places: &Places,
        sockets: &Sockets,
        read: &BTreeMap<u64, NetConnections>,
        found: &mut Vec<Finding>,
    ) {
        let thresholds = &self.asked.thresholds;
        for (ino, NetConnections { connections, range, .. }) in read {
            let connections = &connections.found;
            match range {
                Ok(range) => {
                    for mut gone in ports_gone(&Subject::default(), connections, range, thresholds) {
                        let to = gone.evidence.get("to").cloned();
                        let is_to = |one: &&Connection| {
                            to == Some(SocketAddr::new(one.remote.ip, one.remote.port).to_string().into())
                        };
                        let client = connections.iter().filter(is_to);
                        let pid =
                            client.flat_map(|connection| sockets.held(*ino, *connection)).map(|held| held.pid).next();
                        gone.subject = match pid {
                            Some(pid) => self.subject(*ino, Some(pid)),
                            None => self.subject_of_place(*ino, places),
                        };
                        found.push(gone);
                    }
                }
                Err(error) => self.gaps.add(&[CheckId::PortsGone], &error.to_string()),
            }
            let mut by_owner: BTreeMap<Option<u32>, Vec<Connection>> = BTreeMap::new();
            for connection in connections {
                let owner = sockets.held(*ino, *connection).next().map(|held| held.pid);
                by_owner.entry(owner).or_default().push(*connection);
            }
            for (owner, connections) in by_owner {
                let mut silent = mtu_hole(&Subject::default(), &connections, thresholds);
                let others = outside_holes(&connections, thresholds);
                silent.extend(dead_peer(&Subject::default(), &others, thresholds));
                for finding in silent {
                    let subject = match owner {
                        Some(pid) => self.subject(*ino, Some(pid)),
                        None => self.subject_of_place(*ino, places),
                    };
                    found.push(Finding { subject, ..finding });
                }
            }
        }
    }

    /// Namespaces in which a process asks itself: they are counted twice.
    fn selves(&mut self, sockets: &Sockets, read: &BTreeMap<u64, NetConnections>) -> Selves {
        let mut selves = Selves::new();
        for (ino, NetConnections { at, connections, .. }) in read {
            let held: Vec<Held> =
                connections.found.iter().flat_map(|connection| sockets.held(*ino, *connection)).collect();
            if self.wants(&[CheckId::SelfCall]) && asks_itself(&held) {
                selves.insert(*ino, (*at, held));
            }
        }
        selves
    }

    fn decide_selves(&mut self, places: &Places, before: &Selves, found: &mut Vec<Finding>) {
        if before.is_empty() {
            return;
        }
        // Connections that began in between have holders, too.
        let sockets = match self.pass_again() {
            Ok(sockets) => sockets,
            Err(reason) => return self.gaps.add(&[CheckId::SelfCall], &reason),
        };
        for (ino, (at, before)) in before {
            let Some(place) = places.get(ino) else { continue };
            let after = self.readers.connections(*ino, &place.pids, self.asked.bounds.connections);
            let Some(after) = self.seen(after, &[CheckId::SelfCall]) else { continue };
            let window = after.at.since(*at);
            let after: Vec<Held> =
                after.connections.found.iter().flat_map(|connection| sockets.held(*ino, *connection)).collect();
            let processes: BTreeSet<u32> = before.iter().map(|held| held.pid).collect();
            for pid in processes {
                let of = |all: &[Held]| all.iter().filter(|held| held.pid == pid).copied().collect::<Vec<_>>();
                let looped = self_call(&Subject::default(), &of(before), &of(&after), window, &self.asked.thresholds);
                if let Some(mut looped) = looped {
                    looped.subject = self.subject(*ino, Some(pid));
                    found.push(looped);
                }
            }
        }
    }

    fn pass_again(&mut self) -> Result<Sockets, String> {
        let looked = self.looked.clone();
        let sockets = self.pass();
        self.looked = looked;
        sockets
    }

    /// Connections that their peers have closed, by the process that holds them.
    fn closed(&self, sockets: &Sockets, read: &BTreeMap<u64, NetConnections>) -> BTreeMap<u64, OfProcess> {
        let mut closed: BTreeMap<u64, OfProcess> = BTreeMap::new();
        for (ino, NetConnections { connections, .. }) in read {
            let closing = connections.found.iter().filter(|one| one.state == Connection::CLOSE_WAIT);
            for held in closing.flat_map(|connection| sockets.held(*ino, *connection)) {
                closed.entry(*ino).or_default().entry(held.pid).or_default().push(held.connection);
            }
        }
        closed
    }

    fn cpu(&mut self, closed: &BTreeMap<u64, OfProcess>) -> BTreeMap<u32, CpuTime> {
        let mut times = BTreeMap::new();
        for pid in closed.values().flat_map(BTreeMap::keys) {
            let time = self.readers.cpu(*pid);
            times.extend(self.seen(time, &[CheckId::ClosedWatch]).map(|time| (*pid, time)));
        }
        times
    }

    fn decide_closed(
        &mut self,
        closed: &BTreeMap<u64, OfProcess>,
        before: &BTreeMap<u32, CpuTime>,
        found: &mut Vec<Finding>,
    ) {
        let after = self.cpu(closed);
        for (ino, processes) in closed {
            for (pid, connections) in processes {
                let times = before.get(pid).zip(after.get(pid));
                let share = times.and_then(|(before, after)| CpuTime::share(*before, *after));
                let polls = closed_watch(&Subject::default(), connections, share, &self.asked.thresholds);
                if let Some(mut polls) = polls {
                    polls.subject = self.subject(*ino, Some(*pid));
                    found.push(polls.with("pid", u64::from(*pid)));
                }
            }
        }
    }
}
