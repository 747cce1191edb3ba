//! What a request asks for: its path and its selectors.

use super::groups::{CUSTOM, EXTERNAL, Groups};
use crate::apis::kind::{GROUP, Kind};
use crate::apis::request::decoded;
use crate::apis::status::Failure;
use crate::figure::Measure;
use flow_model::WorkloadKind;
use golden_metrics::Answering;

/// What a request to one of the groups is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// For the group itself.
    Group(&'static str),
    /// For the list of what it has.
    Resources(&'static str),
    /// For a figure.
    Figure(Asked),
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub measure: Measure,
    /// Of whom.
    pub answering: Answering,
    pub(super) object: Object,
}

/// As the answer is to name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// Of an object: its kind, the version of its API, and its name.
    Described { kind: &'static str, version: &'static str, resource: String, name: String },
    /// By labels.
    Labelled(Vec<(&'static str, String)>),
}

/// Resource, its group, kind, version of the API, and what the table calls it. What stands in for a kind
/// of Kubernetes is called like it.
const RESOURCES: [(&str, &str, &str, &str, WorkloadKind); 12] = [
    ("deployments", "apps", "Deployment", "apps/v1", WorkloadKind::Deployment),
    ("statefulsets", "apps", "StatefulSet", "apps/v1", WorkloadKind::StatefulSet),
    ("daemonsets", "apps", "DaemonSet", "apps/v1", WorkloadKind::DaemonSet),
    ("replicasets", "apps", "ReplicaSet", "apps/v1", WorkloadKind::ReplicaSet),
    ("replicationcontrollers", "", "ReplicationController", "v1", WorkloadKind::ReplicaSet),
    ("jobs", "batch", "Job", "batch/v1", WorkloadKind::Job),
    ("cronjobs", "batch", "CronJob", "batch/v1", WorkloadKind::CronJob),
    ("pods", "", "Pod", "v1", WorkloadKind::Pod),
    ("rollouts", "argoproj.io", "Rollout", "argoproj.io/v1alpha1", WorkloadKind::Rollout),
    ("clonesets", "apps.kruise.io", "CloneSet", "apps.kruise.io/v1alpha1", WorkloadKind::CloneSet),
    ("statefulsets", "apps.kruise.io", "StatefulSet", "apps.kruise.io/v1beta1", WorkloadKind::StatefulSet),
    ("daemonsets", "apps.kruise.io", "DaemonSet", "apps.kruise.io/v1alpha1", WorkloadKind::DaemonSet),
];

const OF_WHAT: &str = "metrics are of Services and of workloads, as type Object (their pods have none of their own: \
                       divide by averageValue)";

fn not_found(message: impl Into<String>) -> Failure {
    Failure::new(404, "NotFound", message)
}

impl Ask {
    /// `None`: it is for none of these groups.
    ///
    /// # Errors
    /// With the `Status` to answer.
    #[must_use]
    pub fn read(groups: Groups, method: &str, path: &str, query: &str) -> Option<Result<Ask, Failure>> {
        let rest = path.strip_prefix("/apis/")?;
        let (group, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (group, version) = groups.served().find(|(served, _)| *served == group)?;
        Some(within(group, version, method, rest.trim_end_matches('/'), query))
    }
}

fn within(group: &'static str, version: &'static str, method: &str, rest: &str, query: &str) -> Result<Ask, Failure> {
    if method != "GET" {
        return Err(Failure::new(405, "MethodNotAllowed", format!("{method} is not supported: these are figures")));
    }
    let unknown = || not_found("the server could not find the requested resource");
    if rest.is_empty() {
        return Ok(Ask::Group(group));
    }
    // Names come with escapes: `*` does.
    let segments: Option<Vec<String>> = rest.split('/').map(decoded).collect();
    let segments = segments.ok_or_else(unknown)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let asked = match segments.as_slice() {
        [known] if *known == version => return Ok(Ask::Resources(group)),
        [known, "namespaces", namespace, resource, name, metric] if *known == version && group == CUSTOM.0 => {
            of_object(namespace, resource, name, metric, query)
        }
        [known, "namespaces", _, "metrics", _] if *known == version && group == CUSTOM.0 => {
            Err(not_found(format!("a namespace has no metrics here: {OF_WHAT}")))
        }
        [known, "namespaces", namespace, metric] if *known == version && group == EXTERNAL.0 => {
            of_labels(namespace, metric, query)
        }
        _ => Err(unknown()),
    };
    asked.map(Ask::Figure)
}

fn measure(metric: &str) -> Result<Measure, Failure> {
    let known = Measure::ALL.map(Measure::name).join(" and ");
    Measure::named(metric).ok_or_else(|| not_found(format!("no metric {metric} is here: {known} are")))
}

fn of_object(namespace: &str, resource: &str, name: &str, metric: &str, query: &str) -> Result<Asked, Failure> {
    let measure = measure(metric)?;
    let (_, narrowed) = selectors(query)?;
    if !narrowed.is_empty() {
        return Err(Failure::new(400, "BadRequest", "metricLabelSelector: figures of an object have no labels"));
    }
    if name == "*" {
        return Err(not_found(OF_WHAT));
    }
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (namespace, owned) = (namespace.to_owned(), name.to_owned());
    let (kind, version, answering) = if (plural, group) == ("services", "") {
        ("Service", "v1", Answering::Service { namespace, name: owned })
    } else if plural == Kind::WorkloadTraffic.resource() && group == GROUP {
        let (kind, name) = row(name);
        ("WorkloadTraffic", "traffic.pilotfish.io/v1alpha1", Answering::Workload { namespace, kind, name })
    } else {
        let is_it = |one: &&(&str, &str, _, _, _)| one.0 == plural && (group.is_empty() || one.1 == group);
        let Some((.., kind, version, workload)) = RESOURCES.iter().find(is_it) else {
            return Err(not_found(format!("{resource} have no metrics here: {OF_WHAT}")));
        };
        (*kind, *version, Answering::Workload { namespace, kind: workload.as_str(), name: owned })
    };
    let object = Object::Described { kind, version, resource: resource.to_owned(), name: name.to_owned() };
    Ok(Asked { measure, answering, object })
}

/// Kind and name of the workload that a row of `workloadtraffic` is of: what is no Deployment says so.
fn row(name: &str) -> (&'static str, String) {
    let other = name.rsplit_once('.').and_then(|(name, kind)| {
        let kind = WorkloadKind::ALL.into_iter().find(|known| known.as_str().to_lowercase() == kind)?;
        Some((kind.as_str(), name.to_owned()))
    });
    other.unwrap_or_else(|| (WorkloadKind::Deployment.as_str(), name.to_owned()))
}

fn of_labels(namespace: &str, metric: &str, query: &str) -> Result<Asked, Failure> {
    let bad = |what: String| Failure::new(400, "BadRequest", what);
    let help = "select one: service=NAME, or workload=NAME with kind=KIND (Deployment without it)";
    let measure = measure(metric)?;
    let (labels, _) = selectors(query)?;
    let (mut service, mut workload, mut kind) = (None, None, None);
    for (name, value) in labels {
        let place = match name.as_str() {
            "service" => &mut service,
            "workload" => &mut workload,
            "kind" => &mut kind,
            _ => return Err(bad(format!("no label {name} is here: {help}"))),
        };
        if place.replace(value).is_some() {
            return Err(bad(format!("{name} twice: {help}")));
        }
    }
    let namespace = namespace.to_owned();
    let (answering, labels) = match (service, workload, kind) {
        (Some(name), None, None) => {
            let labels = vec![("service", name.clone())];
            (Answering::Service { namespace, name }, labels)
        }
        (None, Some(name), kind) => {
            let kind = kind.as_deref().unwrap_or(WorkloadKind::Deployment.as_str());
            let known = WorkloadKind::ALL.into_iter().map(WorkloadKind::as_str).find(|known| *known == kind);
            let kind = known.ok_or_else(|| bad(format!("no kind {kind} is here: {help}")))?;
            let labels = vec![("workload", name.clone()), ("kind", kind.to_owned())];
            (Answering::Workload { namespace, kind, name }, labels)
        }
        _ => return Err(bad(help.to_owned())),
    };
    Ok(Asked { measure, answering, object: Object::Labelled(labels) })
}

type Labels = Vec<(String, String)>;

/// Those of the objects, and those of the metric. Only `=` is known.
fn selectors(query: &str) -> Result<(Labels, Labels), Failure> {
    let (mut objects, mut metric) = (Labels::new(), Labels::new());
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let to = match name {
            "labelSelector" => &mut objects,
            "metricLabelSelector" => &mut metric,
            _ => continue,
        };
        let bad = || Failure::new(400, "BadRequest", format!("{name}: only NAME=VALUE is known here"));
        let value = decoded(value).ok_or_else(bad)?;
        for one in value.split(',').filter(|one| !one.is_empty()) {
            let (name, value) = one.split_once('=').ok_or_else(bad)?;
            let value = value.strip_prefix('=').unwrap_or(value).trim();
            let is_plain = |text: &str| !text.is_empty() && !text.contains(['!', '(', ')', ' ']);
            if !is_plain(name.trim()) || !is_plain(value) {
                return Err(bad());
            }
            to.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    Ok((objects, metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ON: Groups = Groups { custom: true, external: true };

    fn ask(path: &str) -> Option<Result<Ask, Failure>> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Ask::read(ON, "GET", path, query)
    }

    fn figure(path: &str) -> (Measure, Answering) {
        match ask(path) {
            Some(Ok(Ask::Figure(Asked { measure, answering, .. }))) => (measure, answering),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn code(path: &str) -> u16 {
        ask(path).unwrap_or_else(|| panic!("{path}")).err().map_or(200, |failure| failure.code)
    }

    const OBJECT: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop";
    const LABELS: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop";

    fn workload(kind: &'static str, name: &str) -> Answering {
        Answering::Workload { namespace: "shop".into(), kind, name: name.into() }
    }

    fn service(name: &str) -> Answering {
        Answering::Service { namespace: "shop".into(), name: name.into() }
    }

    #[test]
    fn objects_are_workloads_of_any_kind_and_services() {
        for (object, answering) in [
            ("services/api", service("api")),
            ("deployments.apps/api", workload("Deployment", "api")),
            ("deployments/api", workload("Deployment", "api")),
            ("statefulsets.apps/db", workload("StatefulSet", "db")),
            ("statefulsets.apps.kruise.io/db", workload("StatefulSet", "db")),
            ("rollouts.argoproj.io/api", workload("Rollout", "api")),
            ("replicationcontrollers/old", workload("ReplicaSet", "old")),
            ("pods/alone", workload("Pod", "alone")),
            ("workloadtraffic.traffic.pilotfish.io/api", workload("Deployment", "api")),
            ("workloadtraffic.traffic.pilotfish.io/db.statefulset", workload("StatefulSet", "db")),
            ("workloadtraffic.traffic.pilotfish.io/a.b", workload("Deployment", "a.b")),
        ] {
            let (rate, p95) = (Measure::Rate.name(), Measure::P95.name());
            assert_eq!(figure(&format!("{OBJECT}/{object}/{rate}")), (Measure::Rate, answering.clone()));
            assert_eq!(figure(&format!("{OBJECT}/{object}/{p95}?labelSelector=")), (Measure::P95, answering));
        }
    }

    #[test]
    fn labels_select_one() {
        let path = |selector: &str| format!("{LABELS}/http_requests_per_second?labelSelector={selector}");
        for (selector, answering) in [
            ("service%3Dcart", service("cart")),
            ("service==cart", service("cart")),
            ("workload=cart", workload("Deployment", "cart")),
            ("kind%3DStatefulSet%2Cworkload%3Ddb", workload("StatefulSet", "db")),
        ] {
            assert_eq!(figure(&path(selector)).1, answering, "{selector}");
        }
        for selector in [
            "",
            "service",
            "!service",
            "service!=a",
            "service+in+(a)",
            "service%20in%20(a,b)",
            "service=a,workload=b",
            "kind=Deployment",
            "workload=a,kind=Nothing",
            "service=a,service=b",
            "app=web",
            "service=%zz",
        ] {
            assert_eq!(code(&path(selector)), 400, "{selector}");
        }
    }

    #[test]
    fn what_is_not_here_is_told_in_words_for_a_reader() {
        for path in [
            &format!("{OBJECT}/pods/%2A/http_requests_per_second?labelSelector=app%3Dweb"),
            &format!("{OBJECT}/metrics/http_requests_per_second"),
            &format!("{OBJECT}/deployments.apps/api/cpu"),
            &format!("{OBJECT}/deployments.example.com/api/http_requests_per_second"),
            &format!("{OBJECT}/ingresses.networking.k8s.io/api/http_requests_per_second"),
            &format!("{OBJECT}/services/api"),
            &format!("{OBJECT}/services/%zz/http_requests_per_second"),
            "/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/services/api/http_requests_per_second",
            "/apis/external.metrics.k8s.io/v1beta2",
            &format!("{LABELS}/queue_length?labelSelector=service%3Da"),
        ] {
            assert_eq!(code(path), 404, "{path}");
        }
        assert_eq!(
            code(&format!("{OBJECT}/services/a/http_requests_per_second?metricLabelSelector=method%3DGET")),
            400
        );
        let put = Ask::read(ON, "PUT", "/apis/custom.metrics.k8s.io", "");
        assert!(put.is_some_and(|put| put.is_err_and(|failure| failure.code == 405)));
    }

    #[test]
    fn a_group_that_is_switched_off_is_not_here() {
        let path = format!("{OBJECT}/services/api/http_requests_per_second");
        assert_eq!(Ask::read(Groups::default(), "GET", &path, ""), None);
        assert_eq!(Ask::read(Groups { custom: false, external: true }, "GET", &path, ""), None);
        assert_eq!(ask("/apis/traffic.pilotfish.io/v1alpha1/edges"), None);
        assert_eq!(ask("/apis/custom.metrics.k8s.io").unwrap().unwrap(), Ask::Group(CUSTOM.0));
        assert_eq!(ask("/apis/custom.metrics.k8s.io/v1beta2/").unwrap().unwrap(), Ask::Resources(CUSTOM.0));
        assert_eq!(ask("/apis/external.metrics.k8s.io/v1beta1").unwrap().unwrap(), Ask::Resources(EXTERNAL.0));
    }

    proptest! {
        #[test]
        fn any_path_and_any_selector_is_answered(path in "[a-z./%*0-9A-F-]{0,60}", query in ".{0,60}") {
            for base in ["/apis/", OBJECT, LABELS, "/apis/custom.metrics.k8s.io/"] {
                let _ = Ask::read(ON, "GET", &format!("{base}{path}"), &query);
                let _ = Ask::read(ON, "GET", &format!("{base}/{path}"), &format!("labelSelector={query}"));
            }
            let _ = Ask::read(ON, "GET", &path, &query);
        }
    }
}
