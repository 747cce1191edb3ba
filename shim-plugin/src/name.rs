use crate::container::ContainerRef;
use crate::observe::{OBSERVE, Observe};
use flow_model::{Workload, WorkloadKind};
use std::collections::HashMap;
use std::sync::Arc;

/// Kubernetes names have at most 253 bytes; a longer value is not a name and is cut.
const NAME_BYTES: usize = 253;

const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const CRI_KIND: &str = "io.cri-containerd.kind";
const NERDCTL_NAME: &str = "nerdctl/name";
/// No label: what Docker's own file says stands under it.
const DOCKER_NAME: &str = "docker ps";
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Of an Argo Rollout, which stands in for a Deployment.
const ROLLOUT_HASH: &str = "rollouts-pod-template-hash";
/// OpenKruise's CloneSet stands in for a Deployment, and gives each pod a name of its own.
const CLONE: &str = "apps.kruise.io/cloneset-instance-id";
const STATEFULSET_POD: &str = "statefulset.kubernetes.io/pod-name";
const TEMPLATE_GENERATION: &str = "pod-template-generation";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const JOB_NAME_OLD: &str = "job-name";

const KEPT: [&str; 16] = [
    POD_NAMESPACE,
    POD_NAME,
    POD_UID,
    CONTAINER_NAME,
    CRI_KIND,
    NERDCTL_NAME,
    COMPOSE_PROJECT,
    COMPOSE_SERVICE,
    TEMPLATE_HASH,
    ROLLOUT_HASH,
    CLONE,
    STATEFULSET_POD,
    TEMPLATE_GENERATION,
    JOB_NAME,
    JOB_NAME_OLD,
    OBSERVE,
];

/// The labels of a container that names are made of. Others are dropped where they arrive: labels are foreign input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(&'static str, Box<str>)>);

impl Labels {
    /// Keeps the known keys of `all`, each value cut to 253 bytes; empty values count as absent.
    #[must_use]
    pub fn pick(all: &HashMap<String, String>) -> Labels {
        Labels(
            KEPT.iter()
                .filter_map(|key| {
                    let value = all.get(*key).filter(|value| !value.is_empty())?;
                    Some((*key, cut(value)?))
                })
                .collect(),
        )
    }

    /// What Docker says of a container: its name, and the labels that are known, but for those that
    /// only other runtimes give.
    pub(crate) fn of_docker(name: &str, all: &HashMap<String, String>) -> Labels {
        let Labels(mut labels) = Labels::pick(all);
        labels.retain(|(key, _)| ![NERDCTL_NAME, CRI_KIND].contains(key));
        labels.extend(cut(name).filter(|name| !name.is_empty()).map(|name| (DOCKER_NAME, name)));
        Labels(labels)
    }

    /// These, and what `others` say instead and besides.
    pub(crate) fn overlaid(&self, others: &Labels) -> Labels {
        let kept = self.0.iter().filter(|(key, _)| others.get(key).is_none());
        Labels(kept.chain(&others.0).cloned().collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, value)| &**value)
    }
}

fn cut(value: &str) -> Option<Box<str>> {
    value.get(..value.floor_char_boundary(NAME_BYTES)).map(Into::into)
}

/// Where a name comes from, best first: a pod's name is taken from its sandbox, then from any of its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameSource {
    /// The pod's sandbox: its labels `io.kubernetes.pod.*`.
    Sandbox,
    /// The same labels on an application container of the pod.
    PodContainer,
    /// `com.docker.compose.project` and `.service`, joined by a dash.
    Compose,
    /// `nerdctl/name`.
    Nerdctl,
    /// The file that Docker keeps of the container: what `docker ps` calls it.
    Docker,
    /// The first digits of the id, as every container CLI prints them, or the id that somebody chose.
    ContainerId,
}

/// What containerd knows of who lives in a namespace. Exact, and there without any API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName {
    /// Who lives there. Without a pod its kind is `Container`, and its namespace is containerd's.
    pub workload: Arc<Workload>,
    /// Empty where there is no pod. Joins with what the API server says of the pod.
    pub pod_uid: Arc<str>,
    /// `io.kubernetes.container.name`: which container of the pod; empty for a sandbox and elsewhere.
    pub container: Arc<str>,
    /// Which labels it was made of.
    pub source: NameSource,
    /// How it wants to be observed.
    pub observe: Observe,
}

impl LocalName {
    /// The best name that `labels` give; without any it is the id, cut to 12 digits where it has
    /// 64.
    #[must_use]
    pub fn of(container: &ContainerRef, labels: &Labels) -> LocalName {
        pod(labels).unwrap_or_else(|| plain(container, labels))
    }

    /// Whether it says the same of who lives there, wherever it comes from.
    pub(crate) fn is_of_same(&self, other: &LocalName) -> bool {
        self.workload == other.workload && self.pod_uid == other.pod_uid
    }
}

fn pod(labels: &Labels) -> Option<LocalName> {
    let (namespace, pod) = (labels.get(POD_NAMESPACE)?, labels.get(POD_NAME)?);
    let (kind, name) = owner(pod, labels).unwrap_or((WorkloadKind::Pod, pod));
    let workload = Workload { namespace: namespace.into(), name: name.into(), kind, pod: pod.into() };
    // Only the kubelet's container name tells an application container of a CRI that does not write its kind.
    let sandbox = match labels.get(CRI_KIND) {
        Some(kind) => kind == "sandbox",
        None => labels.get(CONTAINER_NAME).is_none(),
    };
    let source = if sandbox { NameSource::Sandbox } else { NameSource::PodContainer };
    let pod_uid = labels.get(POD_UID).unwrap_or("").into();
    let container = labels.get(CONTAINER_NAME).unwrap_or("").into();
    Some(LocalName { workload: Arc::new(workload), pod_uid, container, source, observe: observe(labels) })
}

/// The controller that made this pod, from the labels it puts on its pods and the way it names them. A CronJob's pod is
/// its Job's here: nothing on the pod tells the two apart.
fn owner<'a>(pod: &'a str, labels: &'a Labels) -> Option<(WorkloadKind, &'a str)> {
    if let Some(job) = labels.get(JOB_NAME).or_else(|| labels.get(JOB_NAME_OLD)) {
        return Some((WorkloadKind::Job, job));
    }
    let (generated, last) = pod.rsplit_once('-')?;
    // <deployment>-<hash>-<5 random>; a long name is cut before the random part and then does not fit.
    let above = |hash: &str| {
        let name = generated.strip_suffix(hash)?.strip_suffix('-')?;
        (!name.is_empty()).then_some(name)
    };
    if let Some(rollout) = labels.get(ROLLOUT_HASH).and_then(above) {
        return Some((WorkloadKind::Rollout, rollout));
    }
    if let Some(hash) = labels.get(TEMPLATE_HASH) {
        return Some((WorkloadKind::Deployment, above(hash)?));
    }
    if labels.get(CLONE) == Some(last) && !generated.is_empty() {
        return Some((WorkloadKind::CloneSet, generated));
    }
    if labels.get(STATEFULSET_POD) == Some(pod) && last.bytes().all(|digit| digit.is_ascii_digit()) {
        return Some((WorkloadKind::StatefulSet, generated));
    }
    (labels.get(TEMPLATE_GENERATION).is_some() && !generated.is_empty()).then_some((WorkloadKind::DaemonSet, generated))
}

fn plain(container: &ContainerRef, labels: &Labels) -> LocalName {
    let compose = labels.get(COMPOSE_PROJECT).zip(labels.get(COMPOSE_SERVICE));
    let (source, name): (_, Arc<str>) = if let Some((project, service)) = compose {
        (NameSource::Compose, format!("{project}-{service}").into())
    } else if let Some(name) = labels.get(NERDCTL_NAME) {
        (NameSource::Nerdctl, name.into())
    } else if let Some(name) = labels.get(DOCKER_NAME) {
        (NameSource::Docker, name.into())
    } else {
        (NameSource::ContainerId, short_id(&container.id))
    };
    let workload =
        Workload { namespace: container.namespace.clone(), name, kind: WorkloadKind::Container, pod: "".into() };
    LocalName {
        workload: Arc::new(workload),
        pod_uid: "".into(),
        container: "".into(),
        source,
        observe: observe(labels),
    }
}

fn observe(labels: &Labels) -> Observe {
    Observe::read(labels.get(OBSERVE))
}

/// The first 12 digits of a 64-digit id, as every container CLI prints it; any other id whole.
fn short_id(id: &Arc<str>) -> Arc<str> {
    let generated = id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    match id.get(..12) {
        Some(short) if generated => short.into(),
        _ => id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::LinkId;
    use expect_test::{Expect, expect};

    fn check(id: &str, labels: &[(&str, &str)], expected: Expect) {
        let all = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let LocalName { workload, pod_uid, source, .. } =
            LocalName::of(&ContainerRef::new(LinkId(0), "ns", id), &Labels::pick(&all));
        let Workload { namespace, name, kind, pod } = &*workload;
        expected.assert_eq(&format!("{} {namespace}/{name} pod={pod} uid={pod_uid} from {source:?}", kind.as_str()));
    }

    const POD: [(&str, &str); 2] = [("io.kubernetes.pod.namespace", "shop"), ("io.kubernetes.pod.uid", "u1")];

    fn check_pod(pod: &str, more: &[(&str, &str)], expected: Expect) {
        let labels: Vec<_> = POD.iter().chain(&[("io.kubernetes.pod.name", pod)]).chain(more).copied().collect();
        check("c", &labels, expected);
    }

    #[test]
    fn a_pod_is_named_by_its_sandbox_and_by_its_containers() {
        check_pod("web", &[("io.cri-containerd.kind", "sandbox")], expect!["Pod shop/web pod=web uid=u1 from Sandbox"]);
        check_pod(
            "web",
            &[("io.cri-containerd.kind", "container"), ("io.kubernetes.container.name", "app")],
            expect!["Pod shop/web pod=web uid=u1 from PodContainer"],
        );
    }

    #[test]
    fn the_controllers_own_labels_tell_the_workload() {
        check_pod(
            "web-6d4cf56db6-abcde",
            &[("pod-template-hash", "6d4cf56db6")],
            expect!["Deployment shop/web pod=web-6d4cf56db6-abcde uid=u1 from Sandbox"],
        );
        check_pod(
            "db-0",
            &[("statefulset.kubernetes.io/pod-name", "db-0")],
            expect!["StatefulSet shop/db pod=db-0 uid=u1 from Sandbox"],
        );
        check_pod(
            "log-x7k2p",
            &[("pod-template-generation", "1")],
            expect!["DaemonSet shop/log pod=log-x7k2p uid=u1 from Sandbox"],
        );
        check_pod(
            "backup-29-q",
            &[("batch.kubernetes.io/job-name", "backup-29")],
            expect!["Job shop/backup-29 pod=backup-29-q uid=u1 from Sandbox"],
        );
        check_pod(
            "web-6d4cf56db6-abcde",
            &[("rollouts-pod-template-hash", "6d4cf56db6")],
            expect!["Rollout shop/web pod=web-6d4cf56db6-abcde uid=u1 from Sandbox"],
        );
        check_pod(
            "cart-x7k2p",
            &[("apps.kruise.io/cloneset-instance-id", "x7k2p")],
            expect!["CloneSet shop/cart pod=cart-x7k2p uid=u1 from Sandbox"],
        );
    }

    #[test]
    fn labels_that_do_not_fit_the_name_leave_the_pod_as_it_is() {
        check_pod("web", &[("pod-template-hash", "web")], expect!["Pod shop/web pod=web uid=u1 from Sandbox"]);
        check_pod("-h-x", &[("pod-template-hash", "h")], expect!["Pod shop/-h-x pod=-h-x uid=u1 from Sandbox"]);
        check_pod(
            "-h-x",
            &[("rollouts-pod-template-hash", "h")],
            expect!["Pod shop/-h-x pod=-h-x uid=u1 from Sandbox"],
        );
        check_pod(
            "cart-x",
            &[("apps.kruise.io/cloneset-instance-id", "y")],
            expect!["Pod shop/cart-x pod=cart-x uid=u1 from Sandbox"],
        );
        check_pod(
            "db-x",
            &[("statefulset.kubernetes.io/pod-name", "db-x")],
            expect!["Pod shop/db-x pod=db-x uid=u1 from Sandbox"],
        );
    }

    #[test]
    fn plain_containers_are_named_by_compose_nerdctl_or_their_id() {
        check("c", &[("nerdctl/name", "web")], expect!["Container ns/web pod= uid= from Nerdctl"]);
        check(
            "c",
            &[
                ("nerdctl/name", "shop-web-1"),
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", "web"),
            ],
            expect!["Container ns/shop-web pod= uid= from Compose"],
        );
        check(&"0123456789abcdef".repeat(4), &[], expect!["Container ns/0123456789ab pod= uid= from ContainerId"]);
        check("redis", &[("other", "x")], expect!["Container ns/redis pod= uid= from ContainerId"]);
    }

    #[test]
    fn long_and_empty_values_are_cut_and_dropped() {
        let long = "é".repeat(500);
        let all = HashMap::from([(NERDCTL_NAME.to_owned(), long), (POD_NAME.to_owned(), String::new())]);
        let labels = Labels::pick(&all);
        assert_eq!(labels.get(NERDCTL_NAME).map(str::len), Some(252));
        assert_eq!(labels.get(POD_NAME), None);
    }
}
