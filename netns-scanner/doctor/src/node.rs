//! Files of the node as a whole, which a cheap look may read every half a minute: eight, each at a fixed
//! place. Pure: texts in, findings out.

use crate::decide::{MemoryCgroups, conntrack_full, listen_overflow, memcg_dying, udp_drop};
use crate::read::text::{counter, named};
use crate::sample::{Conntrack, Counter, Delta};
use crate::{CheckId, Finding, Subject, Thresholds};
use flow_model::Ts;
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
    /// Release of the kernel.
    Release,
}

impl NodeFile {
    /// All that are read.
    pub const ALL: [NodeFile; 8] = [
        NodeFile::Conntrack,
        NodeFile::ConntrackMax,
        NodeFile::Cgroups,
        NodeFile::CgroupStat,
        NodeFile::Netstat,
        NodeFile::Snmp,
        NodeFile::Snmp6,
        NodeFile::Release,
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
            NodeFile::Release => proc.join("sys/kernel/osrelease"),
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
    let mut lines = stat.lines();
    let names: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    // A line for each processor, in hexadecimal.
    let rows: Vec<Vec<u64>> = lines
        .map(|line| line.split_ascii_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect())
        .collect();
    let column = |name: &str| names.iter().position(|other| *other == name);
    let sum = |name: &str| {
        let column = column(name)?;
        Some(Counter { at, value: rows.iter().filter_map(|row| row.get(column)).sum() })
    };
    // The number of entries is the same on every line.
    let entries = *rows.first()?.get(column("entries")?)?;
    Some(Conntrack {
        entries,
        most: most.and_then(|most| most.trim().parse().ok()).unwrap_or(0),
        drops: sum("drop")?,
        pushed_out: sum("early_drop")?,
        insert_failed: sum("insert_failed")?,
    })
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

fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
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
}

impl NodeWatch {
    /// One more look.
    pub fn look(&mut self, texts: &NodeTexts, at: Ts, thresholds: &Thresholds) -> NodeLook {
        let mut look = NodeLook::default();
        let text = |file: NodeFile| match texts.get(&file) {
            Some(NodeText::There(text)) => Some(text.as_str()),
            Some(NodeText::Absent | NodeText::Unread) | None => None,
        };
        let mut can = |check: CheckId, files: &[NodeFile]| {
            let blind = files.iter().any(|file| matches!(texts.get(file), Some(NodeText::Unread) | None));
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
        if can(CheckId::MemcgDying, &[NodeFile::Cgroups, NodeFile::CgroupStat, NodeFile::Release]) {
            let release = text(NodeFile::Release).unwrap_or_default();
            let cgroups =
                memory_cgroups(text(NodeFile::Cgroups).unwrap_or_default(), text(NodeFile::CgroupStat), release);
            found.extend(cgroups.and_then(|cgroups| memcg_dying(&Subject::node(), cgroups, thresholds)));
        }
        look.found = found;
        look
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
    use proptest::prelude::*;

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
        let alone = "memory\t4\t20021\t1\n";
        assert_eq!([count(alone, None, "5.4"), count("", None, "5.4"), count(V1, None, "linux")], [None; 3]);
    }

    fn texts(stat: &str, overflows: u64, udp: u64) -> NodeTexts {
        let netstat = format!("TcpExt: ListenOverflows\nTcpExt: {overflows}\n");
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
            there(NodeFile::Release, "6.18.44\n"),
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
        let first = watch.look(&texts(STAT, 5, 100), at(0), &thresholds);
        assert_eq!((ids(&first), &first.not_made), (vec![dying], &vec![]), "counters since the start say nothing");
        let fuller = STAT.replace("00000384", "000003e8").replace("00000010", "00000020");
        let second = watch.look(&texts(&fuller, 6, 111), at(30), &thresholds);
        assert_eq!(
            ids(&second),
            [
                (CheckId::ConntrackFull, Severity::Error),
                (CheckId::ListenOverflow, Severity::Warning),
                (CheckId::UdpDrop, Severity::Warning),
                dying
            ]
        );
        let third = watch.look(&texts(STAT, 6, 111), at(60), &thresholds);
        assert_eq!(ids(&third), [(CheckId::ConntrackFull, Severity::Error), dying], "its counters began anew");
    }

    #[test]
    fn a_file_that_is_not_there_is_fine_and_one_that_cannot_be_read_leaves_its_check_unmade() {
        let (mut watch, thresholds) = (NodeWatch::default(), Thresholds::default());
        let mut some = texts(STAT, 0, 0);
        some.insert(NodeFile::Conntrack, NodeText::Absent);
        some.insert(NodeFile::Snmp, NodeText::Unread);
        some.remove(&NodeFile::Release);
        let look = watch.look(&some, at(0), &thresholds);
        assert_eq!((ids(&look), look.not_made), (vec![], vec![CheckId::UdpDrop, CheckId::MemcgDying]));
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
        }
    }
}
