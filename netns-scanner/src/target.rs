//! What goes into a scan, and what comes out of it.

use crate::Socket;
use flow_model::{FiveTuple, FlowSeed, Slot};
use netns::Netns;
use std::sync::Arc;
use std::time::Instant;

/// A namespace to look into. The handle keeps the namespace alive until its turn has come, or it is forgotten.
#[derive(Debug)]
pub struct Target {
    /// Given back with the outcome; [`Scanner::forget`](crate::Scanner::forget) takes it.
    pub slot: Slot,
    /// Told from others by its inode, so it must be open until the outcome is there.
    pub netns: Arc<Netns>,
    /// A process inside, for the procfs source.
    pub pid: u32,
    /// Connections, or sockets with their owners.
    pub want: Want,
}

impl Target {
    /// Tells it from others that are under way at the same time.
    pub(crate) fn key(&self) -> (Slot, bool) {
        (self.slot, self.want.is_sweep())
    }
}

/// What is wanted of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Its open connections.
    #[default]
    Seeds,
    /// Its sockets with their owners, to name them. Only the iterator knows owners.
    Sockets,
    /// Which of these connections are open no longer. Not counted among the targets: it is asked
    /// again and again, and waits behind all others.
    Ended(Arc<[Silent]>),
}

/// A connection of which nothing was seen, and the slot that it is of (many are looked for in the
/// node's namespace at once).
pub type Silent = (Slot, FiveTuple);

impl Want {
    pub(crate) fn is_sweep(&self) -> bool {
        matches!(self, Want::Ended(_))
    }
}

/// Where sockets are read from. Equal in result, not in price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// One pass of a BPF iterator over the whole node serves all waiting targets.
    Iterator,
    /// A netlink dump inside each namespace.
    SockDiag,
    /// `/proc/<pid>/net`, text.
    Procfs,
}

impl Source {
    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Iterator => "bpf_iterator",
            Source::SockDiag => "sock_diag",
            Source::Procfs => "procfs",
        }
    }
}

/// What came of one target.
#[derive(Debug)]
pub struct Seeded {
    /// That of the target.
    pub slot: Slot,
    /// What was asked for; may be empty.
    pub found: Looked,
    /// Where the sockets were read.
    pub source: Source,
    /// Just before the sockets were read: what happened later is not in them.
    pub read_at: Instant,
}

/// What was found, by what was wanted.
#[derive(Debug)]
pub enum Looked {
    /// To [`Want::Seeds`]: open connections, each once.
    Seeds(Vec<FlowSeed>),
    /// To [`Want::Sockets`]: every socket, once for each process that holds it. From another source
    /// than the iterator their `pid` is 0.
    Sockets(Vec<Socket>),
    /// To [`Want::Ended`]: those that have ended. None where that is not sure.
    Ended(Vec<Silent>),
}
