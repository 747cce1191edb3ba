//! Files of the node as a whole, which a cheap look may read every half a minute: twelve, each at a fixed
//! place. Pure: texts in, findings out.

use crate::decide::{
    MemoryCgroups, Neighbours, Softnet, clock, conntrack_full, dropped_between, drops, listen_overflow, memcg_dying,
    neighbours_full, rp_filter, softnet, udp_drop, untold,
};
use crate::drops::Drops;
use crate::read::text::{counter, named};
use crate::sample::{Conntrack, Counter, Delta};
use crate::{CheckId, Finding, Subject, Thresholds};
use flow_model::Ts;
use netns_scanner::clock::TimeOfDay;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeFile {
    /// Connections that are followed in the node's own network.
    Conntrack,
    /// How many may be.
    ConntrackMax,
    /// Cgroups of each controller of version 1.
    Cgroups,
    /// Cgroups below the root of version 2.
    CgroupStat,
    /// TCP of the node's own network.
    Netstat,
    /// UDP of it.
    Snmp,
    /// UDP over IPv6 of it.
    Snmp6,
    /// Neighbours by IPv4: of all namespaces, told in the node's own alone.
    ArpCache,
    /// Neighbours by IPv6.
    NdiscCache,
    /// How many there may be by IPv4.
    ArpMax,
    /// How many there may be by IPv6.
    NdiscMax,
    /// What each processor took in, for all namespaces.
    Softnet,
}

impl NodeFile {
    /// All that are read.
    pub const ALL: [NodeFile; 12] = [
        NodeFile::Conntrack,
        NodeFile::ConntrackMax,
        NodeFile::Cgroups,
        NodeFile::CgroupStat,
        NodeFile::Netstat,
        NodeFile::Snmp,
        NodeFile::Snmp6,
        NodeFile::ArpCache,
        NodeFile::NdiscCache,
        NodeFile::ArpMax,
        NodeFile::NdiscMax,
        NodeFile::Softnet,
    ];

    /// Where it is, below where `/proc` and the cgroups are mounted.
    #[must_use]
    pub fn path(self, proc: &Path, cgroups: &Path) -> PathBuf {
        match self {
            NodeFile::Conntrack => proc.join("1/net/stat/nf_conntrack"),
            // The limit is the node's, wherever it is read (read-only in other namespaces).
            NodeFile::ConntrackMax => proc.join("sys/net/netfilter/nf_conntrack_max"),
            NodeFile::Cgroups => proc.join("cgroups"),
            NodeFile::CgroupStat => cgroups.join("cgroup.stat"),
            NodeFile::Netstat => proc.join("1/net/netstat"),
            NodeFile::Snmp => proc.join("1/net/snmp"),
            NodeFile::Snmp6 => proc.join("1/net/snmp6"),
            NodeFile::ArpCache => proc.join("1/net/stat/arp_cache"),
            NodeFile::NdiscCache => proc.join("1/net/stat/ndisc_cache"),
            NodeFile::ArpMax => proc.join("sys/net/ipv4/neigh/default/gc_thresh3"),
            NodeFile::NdiscMax => proc.join("sys/net/ipv6/neigh/default/gc_thresh3"),
            NodeFile::Softnet => proc.join("1/net/softnet_stat"),
        }
    }
}

/// What became of reading one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeText {
    /// What is in it.
    There(String),
    /// This kernel has no such file, or nothing uses what it tells of.
    Absent,
    /// It could not be read, or not in time.
    Unread,
}

/// What became of all of them, at one moment.
pub type NodeTexts = BTreeMap<NodeFile, NodeText>;

/// A table by its two files; `stat` is of its namespace. None where nothing is followed there.
#[must_use]
pub fn conntrack(stat: &str, most: Option<&str>, at: Ts) -> Option<Conntrack> {
    let table = Columns::of(stat)?;
    Some(Conntrack {
        entries: table.entries()?,
        most: limit(most),
        drops: table.sum("drop", at)?,
        pushed_out: table.sum("early_drop", at)?,
        insert_failed: table.sum("insert_failed", at)?,
    })
}

/// A table of neighbours by its two files.
#[must_use]
pub fn neighbours(stat: &str, most: Option<&str>, at: Ts) -> Option<Neighbours> {
    let table = Columns::of(stat)?;
    Some(Neighbours { entries: table.entries()?, most: limit(most), fulls: table.sum("table_fulls", at)? })
}

/// Of `net/softnet_stat`, which has no names: dropped is the second column, squeezed the third
/// (`softnet_seq_show` of net/core/net-procfs.c).
#[must_use]
pub fn softnet_stat(text: &str, at: Ts) -> Option<Softnet> {
    let rows = rows(text.lines());
    let sum = |column: usize| {
        let values = rows.iter().map(|row| row.get(column).copied()).collect::<Option<Vec<u64>>>()?;
        Some(Counter { at, value: values.into_iter().fold(0, u64::saturating_add) })
    };
    (!rows.is_empty()).then_some(())?;
    Some(Softnet { dropped: sum(1)?, squeezed: sum(2)? })
}

fn limit(text: Option<&str>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A line for each processor, in hexadecimal.
fn rows<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<u64>> {
    let row =
        |line: &str| line.split_ascii_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
    lines.map(row).collect()
}

/// A file of `net/stat`: names of columns, and the counts of each processor.
struct Columns<'a> {
    names: Vec<&'a str>,
    rows: Vec<Vec<u64>>,
}

impl<'a> Columns<'a> {
    fn of(text: &'a str) -> Option<Columns<'a>> {
        let mut lines = text.lines();
        let names = lines.next()?.split_ascii_whitespace().collect();
        Some(Columns { names, rows: rows(lines) })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| *other == name)
    }

    fn sum(&self, name: &str, at: Ts) -> Option<Counter> {
        let column = self.column(name)?;
        let values = self.rows.iter().filter_map(|row| row.get(column));
        Some(Counter { at, value: values.fold(0, |sum, value| sum.saturating_add(*value)) })
    }

    /// The same on every line.
    fn entries(&self) -> Option<u64> {
        self.rows.first()?.get(self.column("entries")?).copied()
    }
}

/// Memory cgroups, by `/proc/cgroups` where the controller is of version 1, else by `cgroup.stat` of
/// the root. None where neither tells.
#[must_use]
pub fn memory_cgroups(cgroups: &str, stat: Option<&str>, release: &str) -> Option<MemoryCgroups> {
    let kernel = kernel(release)?;
    let v1 = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (name, hierarchy, count) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((name.to_owned(), hierarchy, count))
    };
    let all: Vec<(String, u64, u64)> = cgroups.lines().filter(|line| !line.starts_with('#')).filter_map(v1).collect();
    let memory = all.iter().find(|(name, hierarchy, _)| name == "memory" && *hierarchy != 0);
    if let Some((_, memory, count)) = memory {
        // Every container has one in each hierarchy, and only memory's outlive them.
        let others = all.iter().filter(|(_, hierarchy, _)| hierarchy != memory && *hierarchy != 0);
        let living = others.map(|(_, _, count)| *count).max()?;
        return Some(MemoryCgroups { dying: count.saturating_sub(living), living, kernel });
    }
    let stat = stat?;
    // Those of the controller, where the kernel counts them (6.13 and later).
    let dying = named(stat, "nr_dying_subsys_memory").or_else(|| named(stat, "nr_dying_descendants"))?;
    let living = named(stat, "nr_subsys_memory").or_else(|| named(stat, "nr_descendants"))?;
    Some(MemoryCgroups { dying, living, kernel })
}

/// Whether a kernel of this release is as new as that.
#[must_use]
pub fn is_from(release: &str, since: (u32, u32)) -> bool {
    kernel(release).is_some_and(|kernel| kernel >= since)
}

fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Release of the kernel that runs.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a cheap look goes by.
#[derive(Clone, Debug, Default)]
pub struct NodeReading {
    /// The files.
    pub texts: NodeTexts,
    /// [`release`] of the kernel.
    pub release: String,
    /// How the clock is kept; None where the kernel does not say.
    pub clock: Option<TimeOfDay>,
    /// Packets that the kernel dropped; None where nobody is to count them.
    pub drops: Option<DropsReading>,
}

/// What the kernel counted of the packets that it drops, and whose the namespaces are.
#[derive(Clone, Debug, Default)]
pub struct DropsReading {
    /// Since somebody counts; None where it could not be read.
    pub drops: Option<Drops>,
    /// Inode of the node's own network namespace.
    pub node: Option<u64>,
    /// What the workloads are called, by inode.
    pub names: BTreeMap<u64, Subject>,
}

impl DropsReading {
    fn subject(&self, netns: Option<u64>) -> (Subject, bool) {
        match netns {
            None => (Subject::node(), true),
            Some(_) if netns == self.node => (network(), true),
            Some(ino) => (self.names.get(&ino).cloned().unwrap_or_else(|| Subject::network(ino)), false),
        }
    }
}

impl NodeReading {
    /// With what needs no file.
    #[must_use]
    pub fn of(texts: NodeTexts) -> NodeReading {
        NodeReading { texts, release: release(), clock: TimeOfDay::read().ok(), drops: None }
    }
}

/// What a look found, and the checks that it could not make.
#[derive(Debug, Default)]
pub struct NodeLook {
    /// All of the node.
    pub found: Vec<Finding>,
    /// For want of a file.
    pub not_made: Vec<CheckId>,
}

/// Looks at the files again and again: what counts is what came since the last time.
#[derive(Debug, Default)]
pub struct NodeWatch {
    conntrack: Option<Conntrack>,
    overflows: Option<Counter>,
    udp_drops: Option<Counter>,
    rp_filtered: Option<Counter>,
    neighbours: [Option<Neighbours>; 2],
    softnet: Option<Softnet>,
    drops: Option<(Drops, Ts)>,
}

/// Tables of neighbours, and what they are called.
const NEIGHBOURS: [(&str, NodeFile, NodeFile); 2] =
    [("IPv4", NodeFile::ArpCache, NodeFile::ArpMax), ("IPv6", NodeFile::NdiscCache, NodeFile::NdiscMax)];

impl NodeWatch {
    /// One more look.
    pub fn look(&mut self, reading: &NodeReading, at: Ts, thresholds: &Thresholds) -> NodeLook {
        let NodeReading { texts, release, clock: time, drops } = reading;
        let mut look = NodeLook::default();
        let text = |file: NodeFile| match texts.get(&file) {
            Some(NodeText::There(text)) => Some(text.as_str()),
            Some(NodeText::Absent | NodeText::Unread) | None => None,
        };
        let mut can = |check: CheckId, files: &[NodeFile]| {
            // These are there on every kernel, in the node's own network; who does not see them looks elsewhere.
            let always = [NodeFile::ArpCache, NodeFile::Softnet];
            let blind = files.iter().any(|file| match texts.get(file) {
                Some(NodeText::There(_)) => false,
                Some(NodeText::Absent) => always.contains(file),
                Some(NodeText::Unread) | None => true,
            });
            if blind {
                look.not_made.push(check);
            }
            !blind
        };
        let mut found = Vec::new();
        if can(CheckId::ConntrackFull, &[NodeFile::Conntrack, NodeFile::ConntrackMax]) {
            let now = text(NodeFile::Conntrack).and_then(|stat| conntrack(stat, text(NodeFile::ConntrackMax), at));
            let both = self.conntrack.zip(now);
            found.extend(both.and_then(|(before, now)| conntrack_full(&network(), &before, &now, thresholds)));
            self.conntrack = now;
        }
        if can(CheckId::ListenOverflow, &[NodeFile::Netstat]) {
            let value = text(NodeFile::Netstat).and_then(|text| counter(text, "TcpExt", "ListenOverflows"));
            let delta = rise(&mut self.overflows, value, at);
            found.extend(delta.and_then(|delta| listen_overflow(&network(), delta, &[], thresholds)));
        }
        if can(CheckId::UdpDrop, &[NodeFile::Snmp, NodeFile::Snmp6]) {
            let v4 = text(NodeFile::Snmp).and_then(|text| counter(text, "Udp", "RcvbufErrors"));
            let v6 = text(NodeFile::Snmp6).and_then(|text| named(text, "Udp6RcvbufErrors"));
            let delta = rise(&mut self.udp_drops, v4.map(|v4| v4.saturating_add(v6.unwrap_or(0))), at);
            found.extend(delta.and_then(|delta| udp_drop(&network(), delta, &[], thresholds)));
        }
        if can(CheckId::RpFilter, &[NodeFile::Netstat]) {
            let value = text(NodeFile::Netstat).and_then(|text| counter(text, "TcpExt", "IPReversePathFilter"));
            let delta = rise(&mut self.rp_filtered, value, at);
            let delta = delta.filter(|delta| delta.count > thresholds.strays);
            found.extend(delta.and_then(|delta| rp_filter(&network(), delta, true)));
        }
        if can(CheckId::NeighboursFull, &NEIGHBOURS.map(|(_, table, _)| table)) {
            for ((family, table, most), before) in NEIGHBOURS.into_iter().zip(&mut self.neighbours) {
                let now = text(table).and_then(|stat| neighbours(stat, text(most), at));
                let both = before.zip(now);
                let full = |(before, now): (Neighbours, Neighbours)| {
                    neighbours_full(&Subject::node(), family, &before, &now, thresholds)
                };
                found.extend(both.and_then(full));
                *before = now;
            }
        }
        if can(CheckId::Softnet, &[NodeFile::Softnet]) {
            let now = text(NodeFile::Softnet).and_then(|text| softnet_stat(text, at));
            let both = self.softnet.zip(now);
            found.extend(both.and_then(|(before, now)| softnet(&Subject::node(), &before, &now, thresholds)));
            self.softnet = now;
        }
        if can(CheckId::MemcgDying, &[NodeFile::Cgroups, NodeFile::CgroupStat]) {
            let cgroups =
                memory_cgroups(text(NodeFile::Cgroups).unwrap_or_default(), text(NodeFile::CgroupStat), release);
            found.extend(cgroups.and_then(|cgroups| memcg_dying(&Subject::node(), cgroups, thresholds)));
        }
        match time {
            Some(time) => found.extend(clock(&Subject::node(), *time, thresholds)),
            None => look.not_made.push(CheckId::Clock),
        }
        if let Some(reading) = drops {
            match &reading.drops {
                Some(now) => found.extend(self.dropped(reading, now, &found, at, thresholds)),
                None => look.not_made.push(CheckId::Drops),
            }
        }
        look.found = found;
        look
    }
}

impl NodeWatch {
    fn dropped(
        &mut self,
        reading: &DropsReading,
        now: &Drops,
        others: &[Finding],
        at: Ts,
        thresholds: &Thresholds,
    ) -> Vec<Finding> {
        let Some((before, since)) = self.drops.replace((now.clone(), at)) else { return Vec::new() };
        let by_namespace = dropped_between((&before, since), (now, at)).into_iter();
        let found = by_namespace.filter_map(|(netns, dropped)| {
            let (subject, is_node) = reading.subject(netns);
            drops(&subject, &untold(dropped, &subject, others), is_node, thresholds)
        });
        found.collect()
    }
}

fn network() -> Subject {
    Subject::network_of_node()
}

/// What a counter counted since the last time that it was read.
fn rise(before: &mut Option<Counter>, value: Option<u64>, at: Ts) -> Option<Delta> {
    let now = value.map(|value| Counter { at, value });
    let delta = before.zip(now).and_then(|(before, now)| Delta::between(before, now));
    *before = now;
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;
    use crate::drops::Dropped;
    use proptest::prelude::*;
    use std::time::Duration;

    /// Of Linux 6.18 with two processors, and of an older one that had other columns.
    const STAT: &str = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n\
        00000384  00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000010 00000002 00000000  00000000 00000000 00000000 00000000\n\
        00000384  00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000002 0000000a 00000000  00000000 00000000 00000000 00000000\n";
    const OLDER: &str = "entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop\n\
        0000000a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000\n";
    const V1: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t7\t1\nmemory\t4\t20021\t1\ndevices\t5\t6\t1\n\
        net_cls\t0\t90\t1\n";

    fn at(second: u64) -> Ts {
        Ts(second * 1_000_000_000)
    }

    #[test]
    fn a_table_is_read_by_the_names_of_its_columns() {
        let table = conntrack(STAT, Some("1000\n"), at(1)).expect("a table");
        let Conntrack { entries, most, drops, pushed_out, insert_failed } = table;
        assert_eq!((entries, most), (900, 1000), "the same on each line");
        assert_eq!((drops.value, pushed_out.value, insert_failed.value), (18, 12, 3), "a sum over the lines");
        let older = conntrack(OLDER, None, at(1)).expect("a table");
        assert_eq!((older.entries, older.most, older.drops.value), (10, 0, 1));
        assert_eq!((conntrack("", None, at(1)), conntrack("entries drop\n", None, at(1))), (None, None));
    }

    #[test]
    fn memory_cgroups_are_counted_by_whichever_version_has_the_controller() {
        let count =
            |cgroups, stat, release| memory_cgroups(cgroups, stat, release).map(|of| (of.dying, of.living, of.kernel));
        assert_eq!(count(V1, None, "4.18.0-80.el8.x86_64\n"), Some((20_014, 7, (4, 18))));
        let v2 = "nr_descendants 60\nnr_dying_descendants 3000\n";
        assert_eq!(count("#subsys_name\n", Some(v2), "6.1.0-17-amd64"), Some((3000, 60, (6, 1))));
        let newer = "nr_descendants 60\nnr_subsys_memory 50\nnr_dying_descendants 3000\nnr_dying_subsys_memory 2900\n";
        assert_eq!(count("memory\t0\t55\t1\n", Some(newer), "6.18.44"), Some((2900, 50, (6, 18))));
        assert!(is_from("6.2.0-1", (6, 2)) && is_from("7.0", (6, 2)));
        assert!(!is_from("6.1.0-17-amd64", (6, 2)) && !is_from("", (6, 2)));
        let alone = "memory\t4\t20021\t1\n";
        assert_eq!([count(alone, None, "5.4"), count("", None, "5.4"), count(V1, None, "linux")], [None; 3]);
    }

    /// Of Linux 6.18 with two processors; columns that are not read are left out but for some.
    const ARP: &str = "entries  allocs   destroys res_failed unresolved_discards table_fulls\n\
        00000002 00002776 00002a4f 00000167 00000000            00000001\n\
        00000002 000027d4 000024f9 00000261 00000000            0000000f\n";
    const SOFTNET: &str = "\
        04ef03a7 00000014 0000001f 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n\
        04b748e5 00000001 00000058 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001\n";

    const KEPT: TimeOfDay =
        TimeOfDay { synchronised: true, max_error: Duration::from_millis(5), offset: Duration::ZERO };

    fn reading(texts: NodeTexts) -> NodeReading {
        NodeReading { texts, release: "6.18.44".to_owned(), clock: Some(KEPT), drops: None }
    }

    #[test]
    fn neighbours_and_processors_are_read_by_their_columns() {
        let table = neighbours(ARP, Some("1024\n"), at(1)).expect("a table");
        assert_eq!((table.entries, table.most, table.fulls.value), (2, 1024, 16));
        let counts = softnet_stat(SOFTNET, at(1)).expect("counts");
        assert_eq!((counts.dropped.value, counts.squeezed.value), (21, 0x1f + 0x58));
        let older = softnet_stat("0000000a 00000002 00000003 0 0 0 0 0 0\n", at(1)).expect("counts");
        assert_eq!((older.dropped.value, older.squeezed.value), (2, 3));
        assert_eq!(
            (softnet_stat("", at(1)), softnet_stat("0a\n", at(1)), neighbours("", None, at(1))),
            (None, None, None)
        );
    }

    fn texts(stat: &str, overflows: u64, udp: u64) -> NodeTexts {
        let netstat = format!("TcpExt: ListenOverflows IPReversePathFilter\nTcpExt: {overflows} {}\n", overflows * 11);
        let snmp = format!("Udp: RcvbufErrors\nUdp: {udp}\n");
        let there = |file, text: &str| (file, NodeText::There(text.to_owned()));
        [
            there(NodeFile::Conntrack, stat),
            there(NodeFile::ConntrackMax, "1000\n"),
            there(NodeFile::Cgroups, V1),
            (NodeFile::CgroupStat, NodeText::Absent),
            there(NodeFile::Netstat, &netstat),
            there(NodeFile::Snmp, &snmp),
            there(NodeFile::Snmp6, "Udp6RcvbufErrors 1\n"),
            there(NodeFile::ArpCache, ARP),
            (NodeFile::NdiscCache, NodeText::Absent),
            there(NodeFile::ArpMax, "1024\n"),
            (NodeFile::NdiscMax, NodeText::Absent),
            there(NodeFile::Softnet, SOFTNET),
        ]
        .into()
    }

    fn ids(look: &NodeLook) -> Vec<(CheckId, Severity)> {
        look.found.iter().map(|found| (found.id, found.severity)).collect()
    }

    #[test]
    fn what_counts_is_what_came_since_the_last_look() {
        let (mut watch, thresholds) = (NodeWatch::default(), Thresholds::default());
        let dying = (CheckId::MemcgDying, Severity::Info);
        let first = watch.look(&reading(texts(STAT, 5, 100)), at(0), &thresholds);
        assert_eq!((ids(&first), &first.not_made), (vec![dying], &vec![]), "counters since the start say nothing");
        let fuller = STAT.replace("00000384", "000003e8").replace("00000010", "00000020");
        let mut changed = texts(&fuller, 6, 111);
        changed.insert(NodeFile::ArpCache, NodeText::There(ARP.replace("0000000f", "00000010")));
        changed.insert(NodeFile::Softnet, NodeText::There(SOFTNET.replace("00000014", "00000020")));
        let second = watch.look(&NodeReading { clock: None, ..reading(changed) }, at(30), &thresholds);
        assert_eq!(
            ids(&second),
            [
                (CheckId::ConntrackFull, Severity::Error),
                (CheckId::ListenOverflow, Severity::Warning),
                (CheckId::UdpDrop, Severity::Warning),
                (CheckId::RpFilter, Severity::Warning),
                (CheckId::NeighboursFull, Severity::Error),
                (CheckId::Softnet, Severity::Warning),
                dying
            ]
        );
        assert_eq!(second.not_made, [CheckId::Clock]);
        let mut same = texts(STAT, 6, 111);
        same.insert(NodeFile::Softnet, NodeText::There(SOFTNET.replace("00000014", "00000020")));
        same.insert(NodeFile::ArpCache, NodeText::There(ARP.replace("0000000f", "00000010")));
        let third = watch.look(&reading(same), at(60), &thresholds);
        assert_eq!(ids(&third), [(CheckId::ConntrackFull, Severity::Error), dying], "its counters began anew");
        let wrong = TimeOfDay { synchronised: false, max_error: Duration::from_secs(16), ..KEPT };
        let fourth = watch.look(&NodeReading { clock: Some(wrong), ..reading(NodeTexts::new()) }, at(90), &thresholds);
        assert_eq!((ids(&fourth), fourth.not_made.len()), (vec![(CheckId::Clock, Severity::Info)], 7));
    }

    #[test]
    fn packets_that_are_dropped_are_told_of_the_workload_that_the_namespace_is_of() {
        let (mut watch, thresholds) = (NodeWatch::default(), Thresholds::default());
        let name = Subject { namespace: "shop".into(), kind: "Workload".into(), name: "api".into() };
        let counted = |each: u64| {
            let one = |netns| Dropped { netns, reason: 0, count: each };
            let dropped = [Some(7), Some(8), Some(1), None].into_iter().map(one).collect();
            let names = [(7, name.clone())].into();
            let drops = Some(Drops { dropped, missed: 0 });
            let drops = Some(DropsReading { drops, node: Some(1), names });
            NodeReading { drops, ..reading(texts(STAT, 0, 0)) }
        };
        let mut look = |reading: &NodeReading, second| {
            let NodeLook { found, not_made } = watch.look(reading, at(second), &thresholds);
            let found = found.into_iter().filter(|finding| finding.id == CheckId::Drops);
            (found.map(|finding| finding.subject.name).collect::<Vec<_>>(), not_made)
        };
        assert_eq!(look(&counted(10_000), 0), (vec![], vec![]), "since when is not known");
        let all = ["the node", "the node's own network", "api", "namespace 8"].map(str::to_owned).to_vec();
        assert_eq!(look(&counted(10_301), 30), (all, vec![]));
        assert_eq!(look(&counted(10_601), 60), (vec![], vec![]), "ten a second");
        let blind = NodeReading { drops: Some(DropsReading::default()), ..reading(texts(STAT, 0, 0)) };
        assert_eq!(look(&blind, 90), (vec![], vec![CheckId::Drops]));
    }

    #[test]
    fn a_file_that_is_not_there_is_fine_and_one_that_cannot_be_read_leaves_its_check_unmade() {
        let (mut watch, thresholds) = (NodeWatch::default(), Thresholds::default());
        let mut some = texts(STAT, 0, 0);
        some.insert(NodeFile::Conntrack, NodeText::Absent);
        some.insert(NodeFile::Snmp, NodeText::Unread);
        some.remove(&NodeFile::Cgroups);
        some.insert(NodeFile::ArpCache, NodeText::Absent);
        let look = watch.look(&reading(some), at(0), &thresholds);
        let blind = vec![CheckId::UdpDrop, CheckId::NeighboursFull, CheckId::MemcgDying];
        assert_eq!((ids(&look), look.not_made), (vec![], blind));
    }

    #[test]
    fn there_are_at_most_twelve_files_and_each_is_somewhere_else() {
        let (proc, cgroups) = (Path::new("/proc"), Path::new("/sys/fs/cgroup"));
        let paths: std::collections::BTreeSet<_> = NodeFile::ALL.iter().map(|file| file.path(proc, cgroups)).collect();
        assert!(paths.len() == NodeFile::ALL.len() && paths.len() <= 12);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(entries|drop|memory|nr_|[ \\t0-9a-f.]|\\n|\\PC){0,200}") {
            let _ = (conntrack(&text, Some(&text), at(1)), memory_cgroups(&text, Some(&text), &text));
            let _ = (neighbours(&text, Some(&text), at(1)), softnet_stat(&text, at(1)));
        }
    }
}
