//! Which workload a pod belongs to, by its controller. The rules for pods of this node, of which
//! only containerd's labels are known, are those of `shim_plugin::LocalName`; both give the same
//! name where both can tell.

use crate::cluster::object::{Controller, Pod};
use flow_model::WorkloadKind;

/// Kind and name of the workload; an empty name stands for the pod's own.
///
/// - A ReplicaSet with the label `pod-template-hash` is a Deployment's, which names it
///   `<deployment>-<hash>`; with `rollouts-pod-template-hash` it is an Argo Rollout's, which does
///   the same. Any other stands for itself.
/// - A Job stands for itself here; that a CronJob made it is told by the Job.
/// - The mirror of a static pod is controlled by its Node, and is a pod by itself.
/// - A ReplicationController is what ReplicaSets came from.
/// - Controllers that stand in for those of Kubernetes (OpenKruise's CloneSet; its StatefulSet and
///   DaemonSet are called like those) have their own kind, by what the pod's reference says.
/// - Other controllers that Kubernetes does not bring (StrimziPodSet, TaskRun, ...): kind Pod under
///   the controller's name. That keeps the pods of one application together, and the names as few
///   as there are applications; anybody may write any kind into a reference, and kinds are labels.
pub(super) fn of<'a>(
    controller: Option<&'a Controller>,
    template_hash: Option<&str>,
    rollout_hash: Option<&str>,
) -> (WorkloadKind, &'a str) {
    let Some(Controller { kind, name }) = controller else { return (WorkloadKind::Pod, "") };
    let above = |hash: Option<&str>| {
        let name = name.strip_suffix(hash?)?.strip_suffix('-')?;
        (!name.is_empty()).then_some(name)
    };
    match kind.as_str() {
        "ReplicaSet" => match (above(rollout_hash), above(template_hash)) {
            (Some(rollout), _) => (WorkloadKind::Rollout, rollout),
            (None, Some(deployment)) => (WorkloadKind::Deployment, deployment),
            (None, None) => (WorkloadKind::ReplicaSet, name),
        },
        "CloneSet" => (WorkloadKind::CloneSet, name),
        "ReplicationController" => (WorkloadKind::ReplicaSet, name),
        "StatefulSet" => (WorkloadKind::StatefulSet, name),
        "DaemonSet" => (WorkloadKind::DaemonSet, name),
        "Job" => (WorkloadKind::Job, name),
        "Node" => (WorkloadKind::Pod, ""),
        _ => (WorkloadKind::Pod, name),
    }
}

impl Pod {
    /// What its traffic is counted for: kind and name.
    #[must_use]
    pub fn workload(&self) -> (WorkloadKind, &str) {
        let Pod { controller, template_hash, rollout_hash, name, .. } = self;
        match of(controller.as_ref(), template_hash.as_deref(), rollout_hash.as_deref()) {
            (kind, "") => (kind, name),
            known => known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_belongs_to_what_its_controller_stands_for() {
        let check = |kind: &str, name: &str, hash, expected| {
            let controller = Controller { kind: kind.to_owned(), name: name.to_owned() };
            let (kind, name) = of(Some(&controller), hash, None);
            assert_eq!(format!("{} {name}", kind.as_str()), expected);
        };
        check("ReplicaSet", "web-6d4cf56db6", Some("6d4cf56db6"), "Deployment web");
        check("ReplicaSet", "web-6d4cf56db6", None, "ReplicaSet web-6d4cf56db6");
        check("ReplicaSet", "web", Some("6d4cf56db6"), "ReplicaSet web");
        check("ReplicaSet", "-h", Some("h"), "ReplicaSet -h");
        check("ReplicationController", "old", None, "ReplicaSet old");
        check("StatefulSet", "db", None, "StatefulSet db");
        check("DaemonSet", "log", None, "DaemonSet log");
        check("Job", "backup-29", None, "Job backup-29");
        check("Node", "n1", None, "Pod ");
        check("CloneSet", "web", None, "CloneSet web");
        check("StrimziPodSet", "kafka", None, "Pod kafka");
        assert_eq!(of(None, Some("h"), Some("h")), (WorkloadKind::Pod, ""));
    }

    #[test]
    fn a_replica_set_of_a_rollout_is_the_rollouts() {
        let check = |name: &str, template, rollout, expected| {
            let controller = Controller { kind: "ReplicaSet".to_owned(), name: name.to_owned() };
            let (kind, name) = of(Some(&controller), template, rollout);
            assert_eq!(format!("{} {name}", kind.as_str()), expected);
        };
        check("web-6d4cf", None, Some("6d4cf"), "Rollout web");
        // A label that says nothing of this ReplicaSet.
        check("web-6d4cf", Some("6d4cf"), Some("other"), "Deployment web");
        check("web-6d4cf", None, Some("other"), "ReplicaSet web-6d4cf");
        check("-h", None, Some("h"), "ReplicaSet -h");
    }
}
