//! Programs on a cgroup (version 2): what sockets of its processes send and receive, wherever it
//! goes. Links are descriptors: they vanish with the process, and the kernel takes them off a
//! cgroup that is removed, with its last socket.

#![forbid(unsafe_code)]

use super::sys;
use crate::kernel::{NodePrograms, Sockets, StubError};
use flow_model::{Direction, Slot};
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a cgroup carries no programs of ours. None is left on it.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Its directory cannot be opened, or not be looked at.
    #[error("open the cgroup {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// ENOENT when the cgroup is gone.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the program itself.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// The kernel refused to make the link (`BPF_LINK_CREATE`).
    #[error("attach to the cgroup {path} ({dir:?})")]
    Attach {
        /// The cgroup's directory.
        path: PathBuf,
        /// Which of the two programs.
        dir: Direction,
        /// EBADF for a directory that is no cgroup of version 2.
        #[source]
        source: Errno,
    },
}

/// Our programs on one cgroup, as long as this lives. Both making and dropping it take the kernel's
/// lock of all cgroups, which others may hold for long.
#[derive(Debug)]
pub struct CgroupLinks {
    id: u64,
    path: PathBuf,
    links: [sys::Link; 2],
}

impl CgroupLinks {
    /// Attaches to the cgroup whose directory is `path`: sockets made by processes in it, not in
    /// those below it, that belong to the namespace with `netns_cookie` (where the kernel's
    /// programs can ask for that). Some 50 us.
    ///
    /// # Errors
    /// No such cgroup (ENOENT), not one of version 2 (EBADF), or the kernel refuses the programs.
    pub fn attach(
        programs: &dyn NodePrograms,
        slot: Slot,
        path: &Path,
        netns_cookie: Option<u64>,
    ) -> Result<CgroupLinks, CgroupError> {
        let open = |source| CgroupError::Open { path: path.to_owned(), source };
        let directory = File::open(path).map_err(open)?;
        // The kernel's number of a cgroup is the inode of its directory.
        let id = directory.metadata().map_err(open)?.ino();
        let link = |dir| -> Result<sys::Link, CgroupError> {
            let stub = programs.node_stub(slot, dir, Sockets { cgroup: id, netns_cookie })?;
            sys::cgroup_link(stub.as_fd(), directory.as_fd(), dir).map_err(|source| CgroupError::Attach {
                path: path.to_owned(),
                dir,
                source,
            })
        };
        Ok(CgroupLinks { id, path: path.to_owned(), links: [link(Direction::Ingress)?, link(Direction::Egress)?] })
    }

    /// Whether both programs are still there: whoever may can take a link off its cgroup, and its
    /// descriptor stays. One that the kernel does not tell of is believed. Takes the kernel's lock
    /// of all cgroups, too.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.links.iter().all(|link| sys::cgroup_of(link).map_or(true, |at| at == self.id))
    }

    /// Whether its directory is gone. Its sockets may still be there, and the programs with them.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |there| there.ino() != self.id)
    }

    /// The kernel's number of the cgroup, which sockets carry.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}
