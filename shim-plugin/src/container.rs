//! Names of what containerd runs: a container, and one run of it.

use std::fmt;
use std::sync::Arc;

/// A container as containerd names it: ids repeat across containerd's own namespaces (`k8s.io`,
/// `moby`, `default`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerRef {
    pub namespace: Arc<str>,
    pub id: Arc<str>,
}

impl ContainerRef {
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> ContainerRef {
        ContainerRef { namespace: namespace.into(), id: id.into() }
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
