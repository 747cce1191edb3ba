//! Loads the kernel programs and their maps.

use super::maps::{KernelConfig, Shared};
use super::node::Node;
use super::object::{LoadError, clone, refused, setup, take, verified};
use super::overrides::Overrides;
use super::ring::RingReader;
use super::sample::Sampler;
use super::stub::{self, Hook, NodePrograms, Programs, SharedStubs, Sockets, Stub, StubError, Stubs};
use super::sys;
use aya::maps::{MapData, ProgramArray, RingBuf};
use aya::programs::{ProgramFd, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use flow_model::{Direction, Slot};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PILOTFISH_BPF_OBJECT"));

/// The loaded programs. When it is dropped, stubs that are still attached do nothing.
pub struct Kernel {
    pub(super) shared: Arc<Shared>,
    ring: Mutex<Option<RingBuf<MapData>>>,
    ring_fd: OwnedFd,
    ring_bytes: u32,
    pub(super) program: ProgramFd,
    /// Holds the shared program for the stubs; with its last descriptor it goes.
    programs: OwnedFd,
    /// Each interface that has them holds them, too.
    pub(super) shared_stubs: Arc<SharedStubs>,
    pub(super) node: Node,
    pub(super) stubs: Mutex<Stubs>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("stubs", &self.stubs).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads what goes onto interfaces; nothing is attached yet. Takes some 50 ms of CPU, most of
    /// them the verifier's. The program for the node's own sockets, which takes as long, is loaded
    /// when it is needed first, or by [`Kernel::load_node`].
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
            .map_max_entries("pilotfish_walks", config.flows)
            .map_max_entries("pilotfish_aside", config.aside.max(1))
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
        let shared = Arc::new(Shared::new(&mut |name| take(&mut ebpf, name))?);
        shared.configure(config)?;
        let stubs = SharedStubs::load(programs_fd.as_fd()).map_err(setup("load the program pilotfish_stub"))?;
        let node = Node::new(ebpf, Arc::clone(&shared))?;
        Ok(Kernel {
            shared,
            ring: Mutex::new(Some(ring)),
            ring_fd,
            ring_bytes: config.ring_bytes,
            program,
            programs: programs_fd,
            shared_stubs: Arc::new(stubs),
            node,
            stubs: Mutex::default(),
        })
    }

    /// Loads the program for the node's own sockets now, for who knows that it will be needed.
    ///
    /// # Errors
    /// As the first stub for such a socket would have.
    pub fn load_node(&self) -> io::Result<()> {
        self.node.ensure_loaded()
    }

    /// The ring's reader. There is one: `None` when it was taken before.
    ///
    /// # Errors
    /// When no epoll instance can be made.
    pub fn reader(&self) -> io::Result<Option<RingReader>> {
        let ring = self.ring.lock().take();
        ring.map(|ring| RingReader::new(ring, self.ring_bytes, Arc::clone(&self.shared))).transpose()
    }

    /// Tells builds of the kernel programs apart: FNV-1a (64 bits) of the object that is embedded.
    #[must_use]
    pub fn object_hash() -> u64 {
        OBJECT
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// A reader of the flow table. Each one goes its own rounds.
    #[must_use]
    pub fn sampler(&self) -> Sampler {
        Sampler::new(Arc::clone(&self.shared))
    }

    /// A handle on the table of overrides; all of them share it.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides::new(Arc::clone(&self.shared))
    }

    /// Whether the stubs of cgroups also look at the namespace of a socket; known once there is one.
    #[must_use]
    pub fn node_checks_namespace(&self) -> Option<bool> {
        self.node.checks_namespace()
    }

    fn remember(&self, stub: &OwnedFd, hook: Hook) -> io::Result<()> {
        let id = sys::run_stats(stub.as_fd())?.id;
        self.stubs.lock().live.push(Stub { id, hook });
        Ok(())
    }

    pub(super) fn map_fds(&self) -> [(&'static str, BorrowedFd<'_>); 10] {
        [
            ("pilotfish_flows", self.shared.flows.fd()),
            ("pilotfish_override", self.shared.overrides.fd()),
            ("pilotfish_walks", self.shared.walks.fd()),
            ("pilotfish_frames", self.shared.frames.fd()),
            ("pilotfish_events", self.ring_fd.as_fd()),
            ("pilotfish_stats", self.shared.stats.fd()),
            ("pilotfish_seen", self.shared.seen.fd()),
            ("pilotfish_aside", self.shared.aside.fd()),
            ("pilotfish_answers", self.shared.answers.fd().as_fd()),
            ("pilotfish_control", self.shared.control_map.fd()),
        ]
    }
}

impl Programs for Kernel {
    fn stub(&self, slot: Slot, dir: Direction) -> Result<OwnedFd, StubError> {
        let fd = stub::load(slot, dir, self.programs.as_fd())?;
        self.remember(&fd, Hook::Interface(dir)).map_err(|source| StubError { slot, dir, source })?;
        Ok(fd)
    }

    fn shared(&self) -> Option<Arc<SharedStubs>> {
        Some(Arc::clone(&self.shared_stubs))
    }

    fn seen(&self, slot: Slot) -> Option<u64> {
        self.shared.seen(slot)
    }
}

impl NodePrograms for Kernel {
    fn node_stub(&self, slot: Slot, dir: Direction, of: Sockets) -> Result<OwnedFd, StubError> {
        let stub = self.node.stub(slot, dir, of)?;
        self.remember(&stub, Hook::Cgroup(dir)).map_err(|source| StubError { slot, dir, source })?;
        Ok(stub)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<ProgramFd, LoadError> {
    const NAME: &str = "pilotfish_netns";
    let program: &mut SchedClassifier =
        ebpf.program_mut(NAME).and_then(|program| program.try_into().ok()).ok_or(LoadError::Missing(NAME))?;
    verified(|| program.load())?;
    program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(refused)
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
}
