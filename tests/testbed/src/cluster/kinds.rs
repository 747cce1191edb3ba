//! Where the objects of a kind are in the API (Kubernetes API concepts, "Resource URIs").

/// A kind of object: its group and version as a path, and its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub api_version: &'static str,
    pub kind: &'static str,
    /// The plural that paths and the audit log have.
    pub resource: &'static str,
    pub namespaced: bool,
}

const fn namespaced(api_version: &'static str, kind: &'static str, resource: &'static str) -> Kind {
    Kind { api_version, kind, resource, namespaced: true }
}

const fn of_cluster(api_version: &'static str, kind: &'static str, resource: &'static str) -> Kind {
    Kind { api_version, kind, resource, namespaced: false }
}

pub const NAMESPACE: Kind = of_cluster("v1", "Namespace", "namespaces");
pub const NODE: Kind = of_cluster("v1", "Node", "nodes");
pub const POD: Kind = namespaced("v1", "Pod", "pods");
pub const SERVICE: Kind = namespaced("v1", "Service", "services");
pub const SECRET: Kind = namespaced("v1", "Secret", "secrets");
pub const SERVICE_ACCOUNT: Kind = namespaced("v1", "ServiceAccount", "serviceaccounts");
pub const ENDPOINT_SLICE: Kind = namespaced("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
pub const REPLICA_SET: Kind = namespaced("apps/v1", "ReplicaSet", "replicasets");
pub const DEPLOYMENT: Kind = namespaced("apps/v1", "Deployment", "deployments");
pub const STATEFUL_SET: Kind = namespaced("apps/v1", "StatefulSet", "statefulsets");
pub const DAEMON_SET: Kind = namespaced("apps/v1", "DaemonSet", "daemonsets");
pub const JOB: Kind = namespaced("batch/v1", "Job", "jobs");
pub const CRON_JOB: Kind = namespaced("batch/v1", "CronJob", "cronjobs");
pub const CLUSTER_ROLE: Kind = of_cluster("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles");
pub const CLUSTER_ROLE_BINDING: Kind =
    of_cluster("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings");

pub(super) const ALL: [Kind; 15] = [
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    SECRET,
    SERVICE_ACCOUNT,
    ENDPOINT_SLICE,
    REPLICA_SET,
    DEPLOYMENT,
    STATEFUL_SET,
    DAEMON_SET,
    JOB,
    CRON_JOB,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
];

impl Kind {
    /// The core group has no name and a path of its own.
    fn base(&self) -> String {
        if self.api_version == "v1" { "/api/v1".into() } else { format!("/apis/{}", self.api_version) }
    }

    /// Path of the collection: of one namespace, or of all.
    #[must_use]
    pub fn collection(&self, namespace: Option<&str>) -> String {
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", self.base(), self.resource),
            None => format!("{}/{}", self.base(), self.resource),
        }
    }

    /// Path of one object. A namespaced kind without a namespace means `default`.
    #[must_use]
    pub fn object(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace.or(Some("default"))))
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPLOYMENT, NODE, POD};

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(POD.collection(None), "/api/v1/pods");
        assert_eq!(POD.object(Some("shop"), "a"), "/api/v1/namespaces/shop/pods/a");
        assert_eq!(DEPLOYMENT.object(None, "a"), "/apis/apps/v1/namespaces/default/deployments/a");
        assert_eq!(NODE.object(Some("ignored"), "n1"), "/api/v1/nodes/n1");
    }
}
