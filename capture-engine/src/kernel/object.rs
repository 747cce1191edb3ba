//! Takes programs and maps out of the object that was compiled in, and says what the kernel had against them.

use super::sys;
use aya::maps::MapData;
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Why the kernel programs are not there. Nothing stays loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Holds `KernelConfig::ring_bytes`.
    #[error("ring_bytes = {0} is not a power of two of at least 4096")]
    RingSize(u32),
    /// `KernelConfig::flows` is 0.
    #[error("flows = 0: the flow table needs room")]
    NoFlows,
    /// The kernel answered EPERM.
    #[error(
        "the kernel refused to load the programs for lack of privileges: run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Privileges(#[source] Box<EbpfError>),
    /// Any other refusal of a map or program, the verifier's among them.
    #[error(
        "load the kernel programs (Linux 6.1 or newer with CONFIG_DEBUG_INFO_BTF is needed; on kernels before 5.11 also a large RLIMIT_MEMLOCK)"
    )]
    Load(#[source] Box<EbpfError>),
    /// There is no object in this build.
    #[error("this program was built without the kernel programs (PILOTFISH_NO_BPF was set): build it without that")]
    NotBuilt,
    /// The name of a program or map: object and loader are not of one version.
    #[error("the object of the kernel programs has no {0}")]
    Missing(&'static str),
    /// The programs are loaded, and a step after that failed.
    #[error("{act}")]
    Setup {
        /// The step, as a verb and its object.
        act: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
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
            | Loaded::Queue(map)
            | Loaded::ProgramArray(map),
        ) => Ok(map),
        _ => Err(LoadError::Missing(name)),
    }
}

pub(super) fn clone(map: &MapData) -> Result<OwnedFd, LoadError> {
    map.fd().as_fd().try_clone_to_owned().map_err(setup("duplicate a descriptor"))
}

pub(super) fn setup(act: &'static str) -> impl FnOnce(io::Error) -> LoadError {
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
