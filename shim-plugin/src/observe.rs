//! Who is left out: by the operator's word, for a namespace, or by a container's own, for its pod.

/// The label by which a pod says how it is to be observed.
pub const OBSERVE: &str = "pilotfish.io/observe";

/// What a container's label [`OBSERVE`] says of its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observe {
    /// `"true"`, or no label.
    #[default]
    All,
    /// `"tcp"`: packets and connections are counted, and no byte is copied.
    Tcp,
    /// `"false"`.
    Nothing,
    /// Something else, which changes nothing.
    Unclear,
}

impl Observe {
    pub(crate) fn read(value: Option<&str>) -> Observe {
        match value {
            None | Some("true") => Observe::All,
            Some("tcp") => Observe::Tcp,
            Some("false") => Observe::Nothing,
            Some(_) => Observe::Unclear,
        }
    }
}

/// Why a namespace or a container's cgroup is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its namespace is among those of [`LeaveOut`].
    Namespace,
    /// Its label says so.
    Label,
}

/// Whom the operator leaves out: Kubernetes' namespaces, and containerd's for what is no pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveOut {
    /// By name.
    pub namespaces: Vec<String>,
}

impl LeaveOut {
    pub(crate) fn names(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|left_out| left_out == namespace)
    }
}
