//! Which workload a pod belongs to, by its controller. The rules for pods of this node, of which
//! only containerd's labels are known, are those of `shim_plugin::LocalName`; both give the same
//! name where both can tell.

use crate::cluster::object::Controller;
use flow_model::WorkloadKind;

/// Kind and name of the workload; an empty name stands for the pod's own.
///
/// - A ReplicaSet with the label `pod-template-hash` is a Deployment's, which names it
///   `<deployment>-<hash>`; any other stands for itself.
/// - A Job stands for itself here; that a CronJob made it is told by the Job.
/// - The mirror of a static pod is controlled by its Node, and is a pod by itself.
/// - A ReplicationController is what ReplicaSets came from.
/// - Controllers that Kubernetes does not bring (StrimziPodSet, CloneSet, TaskRun, ...): kind Pod
///   under the controller's name. That keeps the pods of one application together, and the names as
///   few as there are applications.
pub(super) fn of<'a>(controller: Option<&'a Controller>, template_hash: Option<&str>) -> (WorkloadKind, &'a str) {
    let Some(Controller { kind, name }) = controller else { return (WorkloadKind::Pod, "") };
    let deployment = || {
        let name = name.strip_suffix(template_hash?)?.strip_suffix('-')?;
        (!name.is_empty()).then_some(name)
    };
    match kind.as_str() {
        "ReplicaSet" => match deployment() {
            Some(deployment) => (WorkloadKind::Deployment, deployment),
            None => (WorkloadKind::ReplicaSet, name),
        },
        "ReplicationController" => (WorkloadKind::ReplicaSet, name),
        "StatefulSet" => (WorkloadKind::StatefulSet, name),
        "DaemonSet" => (WorkloadKind::DaemonSet, name),
        "Job" => (WorkloadKind::Job, name),
        "Node" => (WorkloadKind::Pod, ""),
        _ => (WorkloadKind::Pod, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_belongs_to_what_its_controller_stands_for() {
        let check = |kind: &str, name: &str, hash, expected| {
            let controller = Controller { kind: kind.to_owned(), name: name.to_owned() };
            let (kind, name) = of(Some(&controller), hash);
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
        check("StrimziPodSet", "kafka", None, "Pod kafka");
        assert_eq!(of(None, Some("h")), (WorkloadKind::Pod, ""));
    }
}
