//! The programs of a cluster, and the releases that the tests are written against.

/// The release that the tests are written against. Names the cache, together with everything in it:
/// a new etcd comes with a new release.
pub const KUBERNETES: &str = "1.36.3";
/// Older ones cannot serve bookmarks (RequestWatchProgress).
pub const ETCD: &str = "3.6.8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    Kubectl,
    ControllerManager,
    Scheduler,
    Kubelet,
    KubeProxy,
}

impl Program {
    /// In the order in which they are built: what most tests need comes first.
    pub const ALL: [Program; 7] = [
        Program::Etcd,
        Program::ApiServer,
        Program::Kubectl,
        Program::ControllerManager,
        Program::Scheduler,
        Program::Kubelet,
        Program::KubeProxy,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::ApiServer => "kube-apiserver",
            Program::Kubectl => "kubectl",
            Program::ControllerManager => "kube-controller-manager",
            Program::Scheduler => "kube-scheduler",
            Program::Kubelet => "kubelet",
            Program::KubeProxy => "kube-proxy",
        }
    }

    pub(super) fn package(self) -> String {
        match self {
            Program::Etcd => "go.etcd.io/etcd/server/v3".into(),
            other => format!("k8s.io/kubernetes/cmd/{}", other.name()),
        }
    }

    pub(super) fn version_arguments(self) -> &'static [&'static str] {
        if self == Program::Kubectl { &["version", "--client"] } else { &["--version"] }
    }

    /// A patch release more or less changes nothing here; another minor release may.
    pub(super) fn wanted_version(self) -> String {
        let full = if self == Program::Etcd { ETCD } else { KUBERNETES };
        full.rsplit_once('.').map_or(full, |(minor, _)| minor).to_owned() + "."
    }
}
