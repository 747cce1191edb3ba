//! Hears of the network namespaces of new containers from the kernel itself: `bpf/alarm.c` tells of
//! the first process in each, before the container's own program runs there.

use super::object::{LoadError, refused, setup, take, verified};
use super::sys;
use aya::maps::{Array, HashMap, Map, MapData, RingBuf};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader};
use btf::{Btf, Member};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, KnownLayout};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PILOTFISH_ALARM_OBJECT"));

/// The programs, by their names and those of the tracepoints that they are attached to.
const PROGRAMS: [(&str, &str); 2] =
    [("pilotfish_fork", "sched_process_fork"), ("pilotfish_exec", "sched_process_exec")];

/// The kernel's description of itself.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// What the programs read, by the constant that holds its offset. The last is in a struct that is
/// itself a member.
const FIELDS: [(&str, &[Member]); 7] = [
    ("pf_task_nsproxy", &[("task_struct", "nsproxy")]),
    ("pf_task_parent", &[("task_struct", "real_parent")]),
    ("pf_task_tgid", &[("task_struct", "tgid")]),
    ("pf_task_comm", &[("task_struct", "comm")]),
    ("pf_nsproxy_net", &[("nsproxy", "net_ns")]),
    ("pf_net_cookie", &[("net", "net_cookie")]),
    ("pf_net_inum", &[("net", "ns"), ("ns_common", "inum")]),
];
const STRUCTS: [&str; 4] = ["task_struct", "nsproxy", "net", "ns_common"];

/// A namespace in which a container is being made. As `struct pf_alarm` of `bpf/alarm.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Alarmed {
    /// The kernel's own number of the namespace, as `SO_NETNS_COOKIE`; never given twice.
    pub cookie: u64,
    /// Its inode.
    pub inode: u32,
    /// A process that is in it, as the node counts pids; it may have ended by now.
    pub pid: u32,
    /// The shim of containerd that it descends from.
    pub shim: u32,
    pad: u32,
}

/// What the programs counted since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmCounts {
    /// Namespaces that were told of.
    pub told: u64,
    /// Processes whose namespace was not told of: too many a second, or the reader lags behind.
    /// Each further process there is another occasion.
    pub crowded: u64,
}

/// As `struct pf_alarm_counts` of `bpf/alarm.c`.
type RawCounts = [u64; 4];

/// The programs at their tracepoints, until it is dropped.
pub struct Alarm {
    ring: RingBuf<MapData>,
    epoll: Epoll,
    known: HashMap<MapData, u64, u32>,
    counts: Array<MapData, RawCounts>,
    _programs: Ebpf,
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Alarm {
    /// Loads and attaches them. `node` is the cookie of the namespace that is nobody's container.
    /// Takes some 30 ms, most of it in the library (see below).
    ///
    /// # Errors
    /// The kernel has no BTF or refuses the programs; then containerd alone tells of containers.
    pub fn load(node: u64) -> Result<Alarm, LoadError> {
        if cfg!(no_bpf) {
            return Err(LoadError::NotBuilt);
        }
        let offsets = offsets()?;
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global("pf_node_cookie", &node, true);
        for ((name, _), offset) in FIELDS.iter().zip(&offsets) {
            loader.override_global(name, offset, true);
        }
        let mut ebpf = loader.load(OBJECT).map_err(refused)?;
        // Each new loader reads all of the kernel's BTF into 30 MB of small pieces, wanted or not.
        drop(loader);
        sys::give_back_memory();
        let ring = RingBuf::try_from(Map::RingBuf(take(&mut ebpf, "pilotfish_alarms")?)).map_err(refused)?;
        let known = ebpf.take_map("pilotfish_known").ok_or(LoadError::Missing("pilotfish_known"))?;
        let known = HashMap::try_from(known).map_err(refused)?;
        let counts = Array::try_from(Map::Array(take(&mut ebpf, "pilotfish_alarmed")?)).map_err(refused)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let epoll = epoll.map_err(|errno| setup("wait for alarms")(errno.into()))?;
        let added = epoll.add(ring.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0));
        added.map_err(|errno| setup("wait for alarms")(errno.into()))?;
        for (name, tracepoint) in PROGRAMS {
            let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
            let program: &mut RawTracePoint = program.ok_or(LoadError::Missing(name))?;
            verified(|| program.load())?;
            program.attach(tracepoint).map_err(refused)?;
        }
        Ok(Alarm { ring, epoll, known, counts, _programs: ebpf })
    }

    /// Returns when there may be an alarm, or after `longest`.
    ///
    /// # Errors
    /// When `epoll_wait(2)` fails; an interruption by a signal is no error.
    pub fn wait(&mut self, longest: Duration) -> io::Result<()> {
        let longest = EpollTimeout::try_from(longest).unwrap_or(EpollTimeout::MAX);
        match self.epoll.wait(&mut [EpollEvent::empty()], longest) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next one, oldest first.
    #[must_use]
    pub fn next_alarm(&mut self) -> Option<Alarmed> {
        loop {
            // One that makes no sense is not of this build's programs, and there are no others.
            if let Ok(alarm) = Alarmed::read_from_bytes(&self.ring.next()?) {
                return Some(alarm);
            }
        }
    }

    /// Has the kernel tell of this namespace again, at the next process there.
    pub fn forget(&mut self, cookie: u64) {
        // It may have been forgotten already, for want of room.
        let _ = self.known.remove(&cookie);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> AlarmCounts {
        let [told, crowded, _, _] = self.counts.get(&0, 0).unwrap_or_default();
        AlarmCounts { told, crowded }
    }
}

/// Of `FIELDS`, in the running kernel.
fn offsets() -> Result<[u32; FIELDS.len()], LoadError> {
    let read = setup("read the kernel's BTF");
    let blob = std::fs::read(BTF).map_err(read)?;
    let lacks = |what: &str| setup("find what the programs read")(io::Error::other(format!("no {what} in {BTF}")));
    let btf = Btf::index(&blob, &STRUCTS, &[]).ok_or_else(|| lacks("types"))?;
    let mut offsets = [0; FIELDS.len()];
    for (offset, (name, path)) in offsets.iter_mut().zip(FIELDS) {
        let places = path.iter().map(|member| btf.offset(*member));
        *offset = places.sum::<Option<u32>>().ok_or_else(|| lacks(name))?;
    }
    Ok(offsets)
}
