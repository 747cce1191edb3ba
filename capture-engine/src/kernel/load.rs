//! Loads the kernel programs and their maps.

use super::node::Node;
use super::overrides::Overrides;
use super::ring::RingReader;
use super::sample::Sampler;
use super::stats::{Place, Stub, Stubs};
use super::stub::{self, Programs, StubError};
use super::sys::{self, ControlPage, Map};
use crate::event::FlowKey;
use aya::maps::{MapData, ProgramArray, RingBuf};
use aya::programs::{ProgramError, ProgramFd, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use capture_wire as wire;
use flow_model::{Direction, Slot};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use zerocopy::{FromZeros, IntoBytes};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PILOTFISH_BPF_OBJECT"));

/// Sizes and filters that are fixed at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Size of the ring: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Flows in the table; each takes 512 bytes when it exists, and 16 when it does not.
    pub flows: u32,
    /// Bytes of each message's head that are copied.
    pub head_bytes: u32,
    /// Datagrams copied per direction of a UDP flow that is not DNS.
    pub udp_datagrams: u32,
    /// When not empty: only flows with one of these ports at either end are copied. All are counted.
    pub include_ports: Vec<RangeInclusive<u16>>,
    /// Flows with one of these ports at either end are counted only.
    pub exclude_ports: Vec<RangeInclusive<u16>>,
    /// Look at packets of the node's own sockets that have an address of the loopback, too.
    pub loopback: bool,
}

impl Default for KernelConfig {
    fn default() -> Self {
        KernelConfig {
            ring_bytes: 8 << 20,
            flows: 1 << 16,
            head_bytes: 4096,
            udp_datagrams: 2,
            include_ports: Vec::new(),
            exclude_ports: Vec::new(),
            loopback: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("ring_bytes = {0} is not a power of two of at least one page (4096)")]
    RingSize(u32),
    #[error("flows = 0: the flow table needs room")]
    NoFlows,
    #[error(
        "the kernel refused to load the programs for lack of privileges: run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Privileges(#[source] Box<EbpfError>),
    #[error(
        "load the kernel programs (Linux 6.1 or newer with CONFIG_DEBUG_INFO_BTF is needed; on kernels before 5.11 also a large RLIMIT_MEMLOCK)"
    )]
    Load(#[source] Box<EbpfError>),
    #[error("this program was built without the kernel programs (PILOTFISH_NO_BPF was set): build it without that")]
    NotBuilt,
    #[error("the object of the kernel programs has no {0}")]
    Missing(&'static str),
    #[error("{act}")]
    Setup {
        act: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The loaded programs. When it is dropped, stubs that are still attached do nothing.
pub struct Kernel {
    pub(super) shared: Arc<Shared>,
    ring: Mutex<Option<RingBuf<MapData>>>,
    ring_fd: OwnedFd,
    pub(super) program: ProgramFd,
    /// Holds the shared program for the stubs; with its last descriptor it goes.
    programs: OwnedFd,
    pub(super) node: Node,
    pub(super) stubs: Mutex<Stubs>,
}

/// What the parts of the door have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub flows: Map,
    pub overrides: Map,
    pub overridden: Mutex<HashSet<FlowKey, foldhash::fast::RandomState>>,
    pub stats: Map,
    pub cpus: usize,
    control_map: Map,
    pub control: ControlPage,
    pub malformed: AtomicU64,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("stubs", &self.stubs).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads what goes onto interfaces; nothing is attached yet. Takes some 20 ms of CPU, most of them the verifier's. The program for the node's own sockets is
    /// loaded when it is needed first.
    ///
    /// # Errors
    /// See [`LoadError`]; each says what to do.
    pub fn load(config: &KernelConfig) -> Result<Kernel, LoadError> {
        if !config.ring_bytes.is_power_of_two() || config.ring_bytes < 4096 {
            return Err(LoadError::RingSize(config.ring_bytes));
        }
        if config.flows == 0 {
            return Err(LoadError::NoFlows);
        }
        if cfg!(no_bpf) {
            return Err(LoadError::NotBuilt);
        }
        // No kernel structure is read, so the kernel's own BTF (25 ms, 30 MB) is not needed.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .map_max_entries("pilotfish_events", config.ring_bytes)
            .map_max_entries("pilotfish_flows", config.flows)
            .map_max_entries("pilotfish_override", config.flows)
            .load(OBJECT)
            .map_err(refused)?;
        let program = program(&mut ebpf)?;
        let programs = take(&mut ebpf, "pilotfish_progs")?;
        let programs_fd = clone(&programs)?;
        let mut programs = ProgramArray::try_from(aya::maps::Map::ProgramArray(programs)).map_err(refused)?;
        programs.set(0, &program, 0).map_err(refused)?;
        let ring = take(&mut ebpf, "pilotfish_events")?;
        let ring_fd = clone(&ring)?;
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(ring)).map_err(refused)?;
        let mut maps = Vec::new();
        let mut map = |name| {
            let map = take(&mut ebpf, name)?;
            let fd = clone(&map)?;
            maps.push(map);
            Ok(fd)
        };
        let shared = Arc::new(Shared::new(&mut map)?);
        shared.configure(config, map("pilotfish_ports")?)?;
        let node = Node::new(ebpf, maps)?;
        Ok(Kernel {
            shared,
            ring: Mutex::new(Some(ring)),
            ring_fd,
            program,
            programs: programs_fd,
            node,
            stubs: Mutex::default(),
        })
    }

    /// The ring's reader. There is one: `None` when it was taken before.
    ///
    /// # Errors
    /// When no epoll instance can be made.
    pub fn reader(&self) -> io::Result<Option<RingReader>> {
        self.ring.lock().take().map(|ring| RingReader::new(ring, Arc::clone(&self.shared))).transpose()
    }

    /// Tells builds of the kernel programs apart: FNV-1a (64 bits) of the object that is embedded.
    #[must_use]
    pub fn object_hash() -> u64 {
        OBJECT
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    #[must_use]
    pub fn sampler(&self) -> Sampler {
        Sampler::new(Arc::clone(&self.shared))
    }

    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides::new(Arc::clone(&self.shared))
    }

    pub(super) fn remember(&self, stub: &OwnedFd, place: Place) -> io::Result<()> {
        let id = sys::run_stats(stub.as_fd())?.id;
        self.stubs.lock().live.push(Stub { id, place });
        Ok(())
    }

    pub(super) fn map_fds(&self) -> [(&'static str, BorrowedFd<'_>); 5] {
        [
            ("pilotfish_flows", self.shared.flows.fd()),
            ("pilotfish_override", self.shared.overrides.fd()),
            ("pilotfish_events", self.ring_fd.as_fd()),
            ("pilotfish_stats", self.shared.stats.fd()),
            ("pilotfish_control", self.shared.control_map.fd()),
        ]
    }
}

impl Programs for Kernel {
    fn stub(&self, slot: Slot, dir: Direction) -> Result<OwnedFd, StubError> {
        let fd = stub::load(slot, dir, self.programs.as_fd())?;
        self.remember(&fd, Place::Interface(dir)).map_err(|source| StubError { slot, dir, source })?;
        Ok(fd)
    }
}

impl Shared {
    /// `map` gives out the descriptor of a map of the object.
    fn new(map: &mut impl FnMut(&'static str) -> Result<OwnedFd, LoadError>) -> Result<Shared, LoadError> {
        let cpus =
            aya::util::nr_cpus().map_err(|(_, error)| LoadError::Setup { act: "count the CPUs", source: error })?;
        let control_map = Map::new(map("pilotfish_control")?, 4, size_of::<wire::Control>());
        let control = ControlPage::map(&control_map).map_err(setup("map pilotfish_control"))?;
        Ok(Shared {
            flows: Map::new(map("pilotfish_flows")?, size_of::<wire::Key>(), size_of::<wire::Flow>()),
            overrides: Map::new(map("pilotfish_override")?, size_of::<wire::Key>(), 4),
            overridden: Mutex::default(),
            stats: Map::new(map("pilotfish_stats")?, 4, wire::CPU_BYTES * cpus),
            cpus,
            control_map,
            control,
            malformed: AtomicU64::new(0),
        })
    }

    fn configure(&self, config: &KernelConfig, ports: OwnedFd) -> Result<(), LoadError> {
        let mut control = wire::Control::new_zeroed();
        control.head_bytes = config.head_bytes;
        control.udp_datagrams = config.udp_datagrams;
        control.wake_bytes = config.ring_bytes / 2;
        control.loopback = u32::from(config.loopback);
        let zero = 0u32.to_ne_bytes();
        self.control_map.update(&zero, control.as_bytes()).map_err(setup("write pilotfish_control"))?;
        let ports = Map::new(ports, 4, wire::PORTS);
        ports.update(&zero, &port_marks(config)).map_err(setup("write pilotfish_ports"))
    }
}

fn port_marks(config: &KernelConfig) -> Vec<u8> {
    let unlisted = if config.include_ports.is_empty() { wire::PORT_INCLUDED } else { 0 };
    let mut marks = vec![unlisted; wire::PORTS];
    let lists = [(&config.include_ports, wire::PORT_INCLUDED), (&config.exclude_ports, wire::PORT_EXCLUDED)];
    for (ranges, mark) in lists {
        for range in ranges {
            let bytes = usize::from(*range.start())..=usize::from(*range.end());
            marks.get_mut(bytes).unwrap_or_default().iter_mut().for_each(|byte| *byte |= mark);
        }
    }
    marks
}

fn program(ebpf: &mut Ebpf) -> Result<ProgramFd, LoadError> {
    const NAME: &str = "pilotfish_netns";
    let program: &mut SchedClassifier =
        ebpf.program_mut(NAME).and_then(|program| program.try_into().ok()).ok_or(LoadError::Missing(NAME))?;
    verified(|| program.load())?;
    program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(refused)
}

/// Lets the verifier look at a program of the object. `load` is asked again where it was interrupted.
pub(super) fn verified(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), LoadError> {
    fn cause(error: &ProgramError) -> Option<&io::Error> {
        match error {
            ProgramError::LoadError { io_error, .. } => Some(io_error),
            _ => None,
        }
    }
    sys::unless_interrupted(load, cause).map_err(refused)
}

pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, LoadError> {
    use aya::maps::Map as Loaded;
    match ebpf.take_map(name) {
        Some(
            Loaded::HashMap(map)
            | Loaded::Array(map)
            | Loaded::PerCpuArray(map)
            | Loaded::RingBuf(map)
            | Loaded::ProgramArray(map),
        ) => Ok(map),
        _ => Err(LoadError::Missing(name)),
    }
}

pub(super) fn clone(map: &MapData) -> Result<OwnedFd, LoadError> {
    map.fd().as_fd().try_clone_to_owned().map_err(setup("duplicate a descriptor"))
}

fn setup(act: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| LoadError::Setup { act, source }
}

/// `EPERM` is a missing capability; the verifier's refusal is `EACCES`.
pub(super) fn refused(error: impl Into<EbpfError>) -> LoadError {
    let error = Box::new(error.into());
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.raw_os_error() == Some(libc::EPERM)) {
            break;
        }
        cause = error.source();
    }
    if cause.is_some() { LoadError::Privileges(error) } else { LoadError::Load(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_the_kernel_would_refuse_is_named() {
        for ring_bytes in [0, 100, 5000, 12288] {
            let error = Kernel::load(&KernelConfig { ring_bytes, ..Default::default() }).err();
            assert!(matches!(error, Some(LoadError::RingSize(bytes)) if bytes == ring_bytes));
        }
    }

    #[test]
    fn without_a_list_of_ports_all_are_included() {
        let marks = port_marks(&KernelConfig { exclude_ports: vec![22..=22], ..Default::default() });
        assert_eq!((marks[80], marks[22]), (wire::PORT_INCLUDED, wire::PORT_INCLUDED | wire::PORT_EXCLUDED));
    }

    #[test]
    fn a_list_of_ports_leaves_the_others_out() {
        let marks = port_marks(&KernelConfig { include_ports: vec![80..=81, 65535..=65535], ..Default::default() });
        assert_eq!([79, 80, 81, 82, 65535].map(|port: usize| marks[port]), [0, 2, 2, 0, 2]);
    }
}
