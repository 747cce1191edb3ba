//! Formats of files of `/proc` and of a cgroup. Pure: bytes in, figures out, None for what is not
//! there.

use crate::decide::PortRange;
use std::time::Duration;

/// A counter of `net/netstat` or `net/snmp`: a line of names and a line of values, both beginning
/// with the same word.
pub fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|word| word == name)?;
    values.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// A counter of `net/snmp6` or of a cgroup's events: a name and its value on a line.
pub fn named(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(|c: char| c.is_ascii_whitespace())?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

/// Connections in TIME_WAIT, of `net/sockstat`: names and values by turns behind `TCP:`.
pub fn time_wait(text: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_ascii_whitespace();
    words.find(|word| *word == "tw")?;
    words.next()?.parse().ok()
}

/// How many files a process may have open, of `/proc/<pid>/limits`: the soft limit; within, None where
/// there is none.
pub fn open_files(limits: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        soft => soft.parse().ok().map(Some),
    }
}

/// Open files of the node and how many there may be, of `file-nr`: taken, free among them, at most.
pub fn file_table(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
    let (taken, free, most) = (fields.next()??, fields.next()??, fields.next()??);
    Some((taken.saturating_sub(free), most))
}

/// What is used of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// In user and system mode, all threads.
    pub used: Duration,
    /// Since the machine started.
    pub started: Duration,
}

/// `ticks` is how many make a second (`sysconf(_SC_CLK_TCK)`).
pub fn stat(text: &str, ticks: u64) -> Option<Stat> {
    // The name of a process may hold anything, a closing parenthesis too: the last one ends it.
    let after = text.rsplit_once(')')?.1;
    let mut fields = after.split_ascii_whitespace();
    let mut field = |skip| fields.nth(skip)?.parse::<u64>().ok();
    // proc(5): field 3 is the first here; 14 utime, 15 stime, 22 starttime.
    let (user, system, started) = (field(11)?, field(0)?, field(6)?);
    let time = |count: u64| Duration::from_millis(count.saturating_mul(1000) / ticks.max(1));
    Some(Stat { used: time(user.saturating_add(system)), started: time(started) })
}

/// Since the machine started: the first figure of `/proc/uptime`.
pub fn uptime(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// `ip_local_port_range` and `ip_local_reserved_ports`.
pub fn port_range(range: &str, reserved: &str) -> Option<PortRange> {
    let mut ends = range.split_ascii_whitespace();
    let (first, last) = (ends.next()?.parse().ok()?, ends.next()?.parse().ok()?);
    let span = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    Some(PortRange { first, last, reserved: reserved.split(',').filter_map(span).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 70 71\n\
                           IpExt: InNoRoutes\nIpExt: 3\n";

    #[test]
    fn a_counter_is_found_by_its_group_and_its_name() {
        assert_eq!(counter(NETSTAT, "TcpExt", "ListenOverflows"), Some(70));
        assert_eq!(counter(NETSTAT, "IpExt", "InNoRoutes"), Some(3));
        assert_eq!(counter(NETSTAT, "TcpExt", "InNoRoutes"), None);
        assert_eq!(counter("TcpExt: A B\nTcpExt: 1\n", "TcpExt", "B"), None);
        let snmp = "Udp: InDatagrams RcvbufErrors\nUdp: 9 4\nUdpLite: InDatagrams RcvbufErrors\nUdpLite: 0 0\n";
        assert_eq!(counter(snmp, "Udp", "RcvbufErrors"), Some(4));
        assert_eq!(named("Udp6InErrors   \t1\nUdp6RcvbufErrors                \t2\n", "Udp6RcvbufErrors"), Some(2));
        let sockstat = "sockets: used 9\nTCP: inuse 4 orphan 0 tw 17 alloc 9 mem 3\nUDP: inuse 1 mem 0\n";
        assert_eq!((time_wait(sockstat), time_wait("TCP: inuse 4")), (Some(17), None));
        assert_eq!(named("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", "oom_kill"), Some(5));
    }

    #[test]
    fn a_process_may_be_called_anything() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 1 0 90000 0 0\n";
        let stat = stat(text, 100).expect("a stat");
        assert_eq!((stat.used, stat.started), (Duration::from_secs(4), Duration::from_secs(900)));
        assert_eq!(super::stat("7 (a) S 1", 100), None);
        assert_eq!(uptime("901.50 1700.00\n"), Some(Duration::from_millis(901_500)));
    }

    #[test]
    fn limits_of_files_are_read_of_a_process_and_of_the_node() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             unlimited            unlimited            processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(Some(1024)));
        assert_eq!(open_files(&limits.replace("1024  ", "unlimited")), Some(None));
        assert_eq!([open_files("Max open files"), open_files("")], [None; 2]);
        assert_eq!(file_table("458\t0\t2466183\n"), Some((458, 2_466_183)));
        assert_eq!(file_table("500 42 9223372036854775807"), Some((458, u64::MAX / 2)));
        assert_eq!([file_table("458 0"), file_table("")], [None; 2]);
    }

    #[test]
    fn a_port_range_has_ends_and_reserved_spans() {
        let range = port_range("32768\t60999\n", "8080,9000-9100\n").expect("a range");
        assert_eq!((range.first, range.last, range.reserved), (32768, 60999, vec![(8080, 8080), (9000, 9100)]));
        assert_eq!(port_range("1 9", "\n").map(|range| range.reserved), Some(vec![]));
        assert_eq!(port_range("", ""), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(Udp|[ :(),0-9a-fA-F./-]|\\n|TcpExt|\\PC){0,200}") {
            let _ = (counter(&text, "Udp", "1"), named(&text, "1"), stat(&text, 0));
            let _ = (uptime(&text), port_range(&text, &text).map(|range| range.size()));
            let _ = (time_wait(&text), open_files(&text), file_table(&text));
        }
    }
}
