//! The program for packets of the node's own sockets. It is loaded when the first cgroup is
//! attached to: the agent is ready before, and stays so where a kernel refuses it.

use super::maps::Shared;
use super::object::{LoadError, clone, refused, take, verified};
use super::stub::{self, Sockets, StubError};
use aya::maps::{MapData, ProgramArray};
use aya::programs::{CgroupSkb, ProgramFd};
use aya::{Ebpf, EbpfError};
use flow_model::{Direction, Slot, in_full};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NAME: &str = "pilotfish_host";

pub(super) struct Node {
    /// Holds the program for the stubs; with its last descriptor it goes.
    programs: OwnedFd,
    state: Mutex<State>,
    /// The kernel's `cgroup_skb` programs cannot ask for a socket's namespace.
    no_cookie: AtomicBool,
}

enum State {
    Unloaded(Box<Unloaded>),
    Loaded(ProgramFd),
    Refused(String),
}

struct Unloaded {
    ebpf: Ebpf,
    programs: MapData,
    /// The program names the others by the numbers of these descriptors. (That of the ring belongs
    /// to its reader, which lives as long as the agent.)
    _maps: Arc<Shared>,
}

impl Node {
    pub fn new(mut ebpf: Ebpf, maps: Arc<Shared>) -> Result<Node, LoadError> {
        let programs = take(&mut ebpf, "pilotfish_hosts")?;
        Ok(Node {
            programs: clone(&programs)?,
            state: Mutex::new(State::Unloaded(Box::new(Unloaded { ebpf, programs, _maps: maps }))),
            no_cookie: AtomicBool::new(false),
        })
    }

    /// See [`NodePrograms::node_stub`](super::stub::NodePrograms::node_stub).
    pub fn stub(&self, slot: Slot, dir: Direction, of: Sockets) -> Result<OwnedFd, StubError> {
        self.ensure_loaded().map_err(|source| StubError { slot, dir, source })?;
        let programs = self.programs.as_fd();
        let without = Sockets { netns_cookie: None, ..of };
        let first = if self.no_cookie.load(Ordering::Relaxed) { without } else { of };
        match stub::load_node(slot, dir, programs, first) {
            // An unknown helper is EINVAL, one that this kind of program may not call EINVAL or EACCES.
            Err(error)
                if first != without
                    && matches!(error.source.raw_os_error(), Some(libc::EINVAL | libc::EACCES | libc::EPERM)) =>
            {
                let stub = stub::load_node(slot, dir, programs, without)?;
                self.no_cookie.store(true, Ordering::Relaxed);
                Ok(stub)
            }
            other => other,
        }
    }

    /// Some once a cgroup was attached to.
    pub fn program(&self) -> Option<ProgramFd> {
        match &*self.state.lock() {
            State::Loaded(program) => program.try_clone().ok(),
            State::Unloaded(_) | State::Refused(_) => None,
        }
    }

    /// Whether the stubs also look at the namespace of a socket; known once there is one.
    pub fn checks_namespace(&self) -> Option<bool> {
        match &*self.state.lock() {
            State::Loaded(_) => Some(!self.no_cookie.load(Ordering::Relaxed)),
            State::Unloaded(_) | State::Refused(_) => None,
        }
    }

    /// What was refused once is not tried again.
    pub fn ensure_loaded(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if let State::Unloaded(_) = *state {
            let State::Unloaded(parts) = std::mem::replace(&mut *state, State::Refused(String::new())) else {
                return Ok(());
            };
            *state = match load(*parts) {
                Ok(program) => State::Loaded(program),
                Err(error) => State::Refused(refusal(&error)),
            };
        }
        match &*state {
            State::Refused(reason) => Err(io::Error::other(reason.clone())),
            State::Unloaded(_) | State::Loaded(_) => Ok(()),
        }
    }
}

fn load(parts: Unloaded) -> Result<ProgramFd, LoadError> {
    let Unloaded { mut ebpf, programs, _maps } = parts;
    let program: &mut CgroupSkb =
        ebpf.program_mut(NAME).and_then(|program| program.try_into().ok()).ok_or(LoadError::Missing(NAME))?;
    verified(|| program.load())?;
    let program = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| refused(EbpfError::from(error)))?;
    let mut programs = ProgramArray::try_from(aya::maps::Map::ProgramArray(programs)).map_err(refused)?;
    programs.set(0, &program, 0).map_err(refused)?;
    Ok(program)
}

/// Without the verifier's log, which is long and the last of the causes.
fn refusal(error: &LoadError) -> String {
    in_full(error).lines().next().unwrap_or_default().to_owned()
}
