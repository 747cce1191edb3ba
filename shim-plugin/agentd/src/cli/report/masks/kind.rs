//! What is masked as what, and which words are no names.

/// What a name is the name of: the first word of its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Namespace,
    Workload,
    Pod,
    Container,
    Node,
    /// Hexadecimal ids: of containers, pods, sandboxes.
    Id,
    Address,
    Host,
    Cgroup,
    User,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Namespace => "namespace",
            Kind::Workload => "workload",
            Kind::Pod => "pod",
            Kind::Container => "container",
            Kind::Node => "node",
            Kind::Id => "id",
            Kind::Address => "address",
            Kind::Host => "host",
            Kind::Cgroup => "cgroup",
            Kind::User => "user",
        }
    }
}

/// Names that every cluster has, and our own: they tell nothing, and a report without them says
/// less.
pub const PLAIN: [&str; 16] = [
    "containerd",
    "default",
    "docker",
    "k3s",
    "k8s.gcr.io",
    "k8s.io",
    "kube-node-lease",
    "kube-public",
    "kube-system",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.io",
    "localhost",
    "moby",
    "pilotfish",
    "pilotfish-companion",
];

/// Words are what names are made of, with dashes and dots between them.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric()
}
