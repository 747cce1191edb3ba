//! The readers: files of `/proc` and of cgroups, and sockets by netlink. Thin, each with a deadline
//! and a bound; what they read is decoded by the pure files beside this one.

pub mod diag;
pub mod inotify;
pub mod text;
pub mod who;

use crate::Subject;
use crate::cgroup::{cpu_file, oom_file, periods};
use crate::decide::{InotifyRoom, PortRange};
use crate::history::Periods;
use crate::node::{self, NodeFile};
use crate::sample::{Connection, Conntrack, Counter, CpuTime, ListenQueue, OomKills, UdpSocket};
use diag::Bounded;
use flow_model::Ts;
use netns::{EnterError, InNetns, NetlinkError, Netns, OpenError};
use netns_scanner::clock::TimeOfDay;
use netns_scanner::deadline::{Deadlines, Late};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A second of it is `USER_HZ`: 100 on every architecture that is built for.
const TICKS: u64 = 100;
/// Bytes of one file; `net/netstat` has 4 KiB.
const FILE: u64 = 1 << 20;
/// Processes of a cgroup among which the oldest is looked for; the first is told first.
const OLDEST_OF: usize = 64;
/// `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
const PROC: &str = "/proc";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The process, or the cgroup, is no more: nobody misses a figure of it.
    #[error("gone")]
    Gone,
    #[error(transparent)]
    Late(#[from] Late),
    #[error("the time for all reads is over")]
    TimeIsOver,
    #[error("{what} is longer than {FILE} bytes")]
    TooLong { what: String },
    #[error("{what} has no such figure on this kernel")]
    Missing { what: String },
    #[error("read {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("open the network namespace: {0}")]
    Open(#[from] OpenError),
    #[error("enter the network namespace: {0}")]
    Enter(#[from] EnterError),
    #[error("ask for sockets by sock_diag: {0}")]
    Netlink(#[from] NetlinkError),
    #[error("its sockets are held by processes outside of it alone")]
    HeldFromOutside,
    #[error("there is no memory controller")]
    NoMemoryController,
    #[error("kernel before {since}: it does not tell {what}")]
    OldKernel { since: &'static str, what: &'static str },
    #[error("{0}")]
    Drops(String),
    #[error("ask how the clock is kept: {0}")]
    Clock(nix::errno::Errno),
}

/// Counters of one namespace at one moment.
#[derive(Clone, Copy, Debug)]
pub struct NetReading {
    pub overflows: Counter,
    pub udp_drops: Counter,
    /// Packets that came by another interface than the way back to their sender.
    pub rp_filtered: Counter,
    /// Connections that wait in TIME_WAIT.
    pub time_wait: u64,
    /// None where nothing is followed.
    pub conntrack: Option<Conntrack>,
}

/// Files of a process's cgroup, None in the root or outside of what is mounted here.
#[derive(Debug)]
pub struct CgroupFiles {
    /// Counts kills for memory.
    pub kills: Option<PathBuf>,
    /// Counts periods of the CPU limit.
    pub periods: Option<PathBuf>,
}

/// Connections of one namespace at one moment, and the ports that its clients may have.
#[derive(Debug)]
pub struct NetConnections {
    pub at: Ts,
    pub connections: Bounded<Connection>,
    pub range: Result<PortRange, Unread>,
}

/// Reads with one time by which all are over.
#[derive(Debug)]
pub struct Readers {
    deadlines: Deadlines,
    over_at: Ts,
    patience: Duration,
}

/// Now, by the monotonic clock.
#[must_use]
pub fn now() -> Ts {
    clock(ClockId::CLOCK_MONOTONIC)
}

/// Processor time that this process has used.
#[must_use]
pub fn cpu_of_this_process() -> Duration {
    Duration::from_nanos(clock(ClockId::CLOCK_PROCESS_CPUTIME_ID).0)
}

fn clock(id: ClockId) -> Ts {
    // Both clocks exist on every Linux, and the pointer is ours: it does not fail.
    let time = clock_gettime(id).map(Duration::from).unwrap_or_default();
    Ts(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Readers {
    /// A read may take `patience`, and none is begun later than `all` from now.
    #[must_use]
    pub fn new(patience: Duration, all: Duration) -> Readers {
        Readers { deadlines: Deadlines::default(), over_at: now().plus(all), patience }
    }

    /// What is left of the time for all reads.
    pub fn left(&self) -> Duration {
        self.over_at.since(now())
    }

    /// Reads on a thread of its own.
    pub fn read<T: Send + 'static>(
        &self,
        what: &str,
        read: impl FnOnce() -> Result<T, Unread> + Send + 'static,
    ) -> Result<T, Unread> {
        let left = self.left();
        if left.is_zero() {
            return Err(Unread::TimeIsOver);
        }
        self.deadlines.read("doctor", what, self.patience.min(left), read)?
    }

    /// Inode of the node's own network namespace: that of its first process, or ours where that
    /// one is closed to us.
    pub fn node(&self) -> Option<u64> {
        self.read("/proc/1/ns/net", || Ok(Netns::open_pid(1).or_else(|_| Netns::current())?.id().ino)).ok()
    }

    /// Whether the kernel's iterators show us every process: they do in its first pid namespace.
    pub fn sees_all_processes(&self) -> bool {
        let link = self.read("/proc/self/ns/pid", || Ok(std::fs::read_link("/proc/self/ns/pid").ok()));
        link.ok().flatten().is_some_and(|link| link.to_string_lossy() == FIRST_PID_NAMESPACE)
    }

    /// The first of these processes that lives in the namespace.
    pub fn inside(&self, ino: u64, pids: &Arc<[u32]>) -> Result<u32, Unread> {
        let pids = Arc::clone(pids);
        self.read(&format!("{PROC}/*/ns/net of {ino}"), move || Ok(opened(ino, &pids)?.1))
    }

    /// The counters of the namespace, by one of these processes that lives in it. `most` is how many
    /// connections may be followed, as its file has it.
    pub fn counters(&self, ino: u64, pids: &Arc<[u32]>, most: Option<String>) -> Result<NetReading, Unread> {
        let pids = Arc::clone(pids);
        self.read(&format!("{PROC}/*/net of {ino}"), move || {
            let (_open, pid) = opened(ino, &pids)?;
            let at = now();
            let net = |name: &str| file(&Path::new(PROC).join(pid.to_string()).join("net").join(name));
            let netstat = net("netstat")?;
            let of_tcp = |name: &str| {
                let missing = || Unread::Missing { what: "net/netstat".to_owned() };
                text::counter(&netstat, "TcpExt", name).ok_or_else(missing)
            };
            let (overflows, rp_filtered) = (of_tcp("ListenOverflows")?, of_tcp("IPReversePathFilter")?);
            let v4 = text::counter(&net("snmp")?, "Udp", "RcvbufErrors")
                .ok_or_else(|| Unread::Missing { what: "net/snmp".to_owned() })?;
            // A kernel without IPv6 has no such file, and drops no datagram of it.
            let v6 = match net("snmp6") {
                Ok(text) => text::named(&text, "Udp6RcvbufErrors").unwrap_or(0),
                Err(Unread::Gone) => 0,
                Err(error) => return Err(error),
            };
            let time_wait = text::time_wait(&net("sockstat")?).unwrap_or(0);
            // A kernel that follows no connections has no such file.
            let conntrack = match net("stat/nf_conntrack") {
                Ok(stat) => node::conntrack(&stat, most.as_deref(), at),
                Err(Unread::Gone) => None,
                Err(error) => return Err(error),
            };
            Ok(NetReading {
                time_wait,
                conntrack,
                overflows: Counter { at, value: overflows },
                rp_filtered: Counter { at, value: rp_filtered },
                udp_drops: Counter { at, value: v4.saturating_add(v6) },
            })
        })
    }

    /// Its UDP sockets that ever dropped a datagram, at most so many.
    pub fn lossy(&self, ino: u64, pids: &Arc<[u32]>, most: usize) -> Result<Bounded<UdpSocket>, Unread> {
        self.within(ino, pids, "UDP sockets", move |inside| Ok(diag::lossy(inside, most)?))
    }

    /// Its connections, at most so many of them.
    pub fn connections(&self, ino: u64, pids: &Arc<[u32]>, most: usize) -> Result<NetConnections, Unread> {
        self.within(ino, pids, "connections", move |inside| {
            let connections = diag::connections(inside, most)?;
            // Of the thread's own namespace, wherever `/proc` was mounted.
            let ipv4 = Path::new(PROC).join("sys/net/ipv4");
            let read = |name: &str| file(&ipv4.join(name));
            let range = read("ip_local_port_range").and_then(|range| {
                let reserved = read("ip_local_reserved_ports")?;
                let missing = || Unread::Missing { what: "ip_local_port_range".to_owned() };
                text::port_range(&range, &reserved).ok_or_else(missing)
            });
            Ok(NetConnections { at: now(), connections, range })
        })
    }

    /// Its listening sockets, at most so many.
    pub fn listening(&self, ino: u64, pids: &Arc<[u32]>, most: usize) -> Result<Bounded<ListenQueue>, Unread> {
        self.within(ino, pids, "listening sockets", move |inside| Ok(diag::listening(inside, most)?))
    }

    fn within<T: Send + 'static>(
        &self,
        ino: u64,
        pids: &Arc<[u32]>,
        what: &str,
        ask: impl FnOnce(&InNetns<'_>) -> Result<T, Unread> + Send + 'static,
    ) -> Result<T, Unread> {
        let pids = Arc::clone(pids);
        self.read(&format!("{what} of the namespace {ino}"), move || opened(ino, &pids)?.0.run(ask)?)
    }

    /// Whose a process is.
    pub fn subject(&self, pid: u32) -> Result<Subject, Unread> {
        self.read(&format!("{PROC}/{pid}/cgroup, comm"), move || {
            let directory = Path::new(PROC).join(pid.to_string());
            Ok(who::subject(&file(&directory.join("cgroup"))?, &file(&directory.join("comm"))?))
        })
    }

    /// Processor time that a process has used.
    pub fn cpu(&self, pid: u32) -> Result<CpuTime, Unread> {
        self.read(&format!("{PROC}/{pid}/stat"), move || {
            let at = now();
            Ok(CpuTime { at, used: stat(pid)?.used })
        })
    }

    /// Where a process's cgroup counts.
    pub fn cgroup_files(&self, pid: u32) -> Result<CgroupFiles, Unread> {
        self.read(&format!("{PROC}/{pid}/cgroup"), move || {
            let cgroup = file(&Path::new(PROC).join(pid.to_string()).join("cgroup"))?;
            let below = |path: String| Path::new(CGROUPS).join(path.trim_start_matches('/'));
            Ok(CgroupFiles { kills: oom_file(&cgroup).map(below), periods: cpu_file(&cgroup).map(below) })
        })
    }

    /// Periods of a CPU limit, and when they were read; None where there is no limit.
    pub fn periods(&self, counted_in: &Path) -> Result<Option<(Ts, Periods)>, Unread> {
        let path = counted_in.to_owned();
        self.read(&path.display().to_string(), move || {
            let at = now();
            Ok(periods(&file(&path)?).map(|periods| (at, periods)))
        })
    }

    /// Open descriptors of a process, and how many it may have; None where there is no limit.
    pub fn descriptors(&self, pid: u32) -> Result<Option<(u64, u64)>, Unread> {
        self.read(&format!("{PROC}/{pid}/fd, limits"), move || {
            let directory = Path::new(PROC).join(pid.to_string());
            let most = text::open_files(&file(&directory.join("limits"))?);
            let most = most.ok_or_else(|| Unread::Missing { what: "limits".to_owned() })?;
            let place = directory.join("fd");
            let open = std::fs::metadata(&place).map_err(|error| unread(&place, error))?.len();
            // Whoever holds a socket has one at least, and may have closed it since.
            if open == 0 && !node::is_from(&node::release(), (6, 2)) {
                return Err(Unread::OldKernel { since: "6.2", what: "how many files a process has open" });
            }
            Ok(most.map(|most| (open, most)))
        })
    }

    /// Open files of the node, and how many there may be.
    pub fn file_table(&self) -> Result<(u64, u64), Unread> {
        self.read("/proc/sys/fs/file-nr", || {
            let path = Path::new(PROC).join("sys/fs/file-nr");
            text::file_table(&file(&path)?).ok_or_else(|| Unread::Missing { what: path.display().to_string() })
        })
    }

    /// Whether there is room for one more watch of files, and the limits of instances and of watches.
    pub fn inotify(&self) -> Result<(InotifyRoom, [Option<u64>; 2]), Unread> {
        self.read("an inotify instance", || {
            // Those of our own user namespace, by which the kernel goes as well.
            let limit = |name: &str| {
                let read = file(&Path::new(PROC).join("sys/user").join(name));
                read.ok().and_then(|text| text.trim().parse().ok())
            };
            let failed = |source| Unread::Io { what: "an inotify instance".to_owned(), source };
            Ok((inotify::room().map_err(failed)?, [limit("max_inotify_instances"), limit("max_inotify_watches")]))
        })
    }

    /// How the clock is kept.
    pub fn time_of_day(&self) -> Result<TimeOfDay, Unread> {
        self.read("how the clock is kept", || TimeOfDay::read().map_err(Unread::Clock))
    }

    /// A file of the node as a whole.
    pub fn node_file(&self, which: NodeFile) -> Result<String, Unread> {
        let path = which.path(Path::new(PROC), Path::new(CGROUPS));
        self.read(&path.display().to_string(), move || file(&path))
    }

    /// How long one read of the root's `memory.stat` takes; None where it is not back in time. By a
    /// process of its own where `helper` starts one: what hangs in the kernel then keeps nothing of ours.
    pub fn memory_stat(
        &self,
        given: Option<&Path>,
        helper: Option<fn() -> Command>,
        limit: Duration,
    ) -> Result<Option<Duration>, Unread> {
        let deadlines = helper.map(Deadlines::with_helper).unwrap_or_default();
        let patience = limit.min(self.left());
        if patience.is_zero() {
            return Err(Unread::TimeIsOver);
        }
        // The process is there before the time is taken.
        let _ = deadlines.text("process", Path::new("/proc/uptime"), patience);
        let usual = [Path::new(CGROUPS).join("memory/memory.stat"), Path::new(CGROUPS).join("memory.stat")];
        for path in given.map(|path| vec![path.to_owned()]).unwrap_or_else(|| usual.into()) {
            let began = Instant::now();
            return match deadlines.text("memory", &path, patience) {
                Ok(Ok(_)) => Ok(Some(began.elapsed())),
                Ok(Err(error)) if error.kind() == ErrorKind::NotFound => continue,
                Ok(Err(source)) => Err(Unread::Io { what: path.display().to_string(), source }),
                Err(Late::Deadline { .. }) if patience == limit => Ok(None),
                Err(late) => Err(late.into()),
            };
        }
        Err(Unread::NoMemoryController)
    }

    /// Kills in a cgroup whose first process lives.
    pub fn oom_kills(&self, counted_in: &Path) -> Result<OomKills, Unread> {
        let path = counted_in.to_owned();
        self.read(&path.display().to_string(), move || {
            let at = now();
            let kills = text::named(&file(&path)?, "oom_kill")
                .ok_or_else(|| Unread::Missing { what: path.display().to_string() })?;
            let processes = file(&path.with_file_name("cgroup.procs"))?;
            let pids = processes.lines().filter_map(|line| line.parse().ok()).take(OLDEST_OF);
            let began = pids.filter_map(|pid| stat(pid).ok()).map(|stat| stat.started).min();
            let began = began.ok_or(Unread::Gone)?;
            let up = text::uptime(&file(&Path::new(PROC).join("uptime"))?).unwrap_or_default();
            Ok(OomKills { kills: Counter { at, value: kills }, age: up.saturating_sub(began) })
        })
    }
}

/// The namespace by the first of these processes that lives in it. A process may have ended since
/// it was seen, and its pid may be another's by now.
fn opened(ino: u64, pids: &[u32]) -> Result<(Netns, u32), Unread> {
    let mut elsewhere = false;
    for pid in pids {
        match Netns::open_pid(*pid) {
            Ok(netns) if netns.id().ino == ino => return Ok((netns, *pid)),
            Ok(_) => elsewhere = true,
            Err(OpenError::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(if elsewhere { Unread::HeldFromOutside } else { Unread::Gone })
}

fn stat(pid: u32) -> Result<text::Stat, Unread> {
    let path = Path::new(PROC).join(pid.to_string()).join("stat");
    text::stat(&file(&path)?, TICKS).ok_or_else(|| Unread::Missing { what: path.display().to_string() })
}

/// A whole file of bounded length. Foreign bytes that are no text are replaced.
fn file(path: &Path) -> Result<String, Unread> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > FILE => Err(Unread::TooLong { what: path.display().to_string() }),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(unread(path, error)),
    }
}

fn unread(path: &Path, error: io::Error) -> Unread {
    let is_gone = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32);
    if is_gone { Unread::Gone } else { Unread::Io { what: path.display().to_string(), source: error } }
}
