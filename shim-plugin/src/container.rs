//! Names of what containerd runs: which containerd, a container, and one run of it.

use std::fmt;
use std::sync::Arc;

/// One containerd of the node: the place of its socket in [`Config::sockets`](crate::Config).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

/// A container as a containerd names it: ids repeat across containerds, and across the own
/// namespaces of each (`k8s.io`, `moby`, `default`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerRef {
    /// Who runs it.
    pub link: LinkId,
    /// containerd's own namespace, not the network's and not Kubernetes'.
    pub namespace: Arc<str>,
    /// Unique within `namespace`. For CRI and Docker 64 hexadecimal digits; other clients choose.
    pub id: Arc<str>,
}

impl ContainerRef {
    /// Takes all as they are, unchecked.
    #[must_use]
    pub fn new(link: LinkId, namespace: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> ContainerRef {
        ContainerRef { link, namespace: namespace.into(), id: id.into() }
    }
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}

/// One run of a container. A container id can run again and a pid can be reused; this number is
/// never reused within a process, so a late report about an earlier run finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);
