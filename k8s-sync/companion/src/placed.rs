//! Which nodes run the pods of a workload, and those behind a Service. Told what watches tell; small,
//! since it keeps nothing else of a pod. Knows no figures.

use flow_model::WorkloadKind;
use golden_metrics::Answering;
use hashbrown::{HashMap, HashSet};
use k8s_sync::cluster::object::{EndpointSlice, Job, Object, Pod, Resource, Uid};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<T> = HashSet<T, foldhash::fast::RandomState>;

/// What pods belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Workload {
    namespace: String,
    kind: WorkloadKind,
    name: String,
}

#[derive(Debug)]
struct Put {
    /// Of a pod with a controller.
    name: Option<Box<str>>,
    workload: Arc<Workload>,
    node: Arc<str>,
    /// It is to be gone by then: afterwards nobody says that it runs.
    deleted_by: Option<SystemTime>,
}

#[derive(Debug)]
struct Slice {
    service: (String, String),
    pods: Vec<Uid>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Placed {
    pods: Map<Uid, Put>,
    of: Map<Arc<Workload>, Set<Uid>>,
    nodes: Set<Arc<str>>,
    slices: Map<Uid, Slice>,
    behind: Map<(String, String), Set<Uid>>,
    /// Of CronJobs alone: namespace, name, and the CronJob.
    jobs: Map<Uid, (String, String, String)>,
    is_complete: bool,
    age: Duration,
}

/// What runs of something on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Kind and name of what the pods belong to.
    pub workloads: BTreeSet<(&'static str, String)>,
    /// Those with a controller. Their node counts for them before it hears of that.
    pub pods: BTreeSet<String>,
}

/// Where pods of something run, by their nodes.
pub type Places = std::collections::BTreeMap<Arc<str>, Here>;

impl Placed {
    /// Everything was listed.
    pub fn set_complete(&mut self) {
        self.is_complete = true;
    }

    /// How old it is what is known.
    pub fn set_age(&mut self, age: Duration) {
        self.age = age;
    }

    /// How old it is what is known; `None` before everything was listed.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.is_complete.then_some(self.age)
    }

    /// It is as it is told here.
    pub fn put(&mut self, object: &Object) {
        self.remove(object.resource(), object.uid());
        match object {
            Object::Pod(pod) => self.put_pod(pod),
            Object::EndpointSlice(slice) => self.put_slice(slice),
            Object::Job(Job { uid, namespace, name, cron_job: Some(cron_job) }) => {
                self.jobs.insert(*uid, (namespace.clone(), name.clone(), cron_job.clone()));
            }
            Object::Job(_) | Object::Service(_) | Object::Node(_) => {}
        }
    }

    fn put_pod(&mut self, pod: &Pod) {
        let Some(node) = pod.node.as_deref().filter(|_| !pod.ended) else { return };
        let (kind, name) = pod.workload();
        let of_pod = (kind != WorkloadKind::Pod).then(|| pod.name.as_str().into());
        let workload = Workload { namespace: pod.namespace.clone(), kind, name: name.to_owned() };
        let workload = self.of.get_key_value(&workload).map_or_else(|| Arc::new(workload), |(known, _)| known.clone());
        let node: Arc<str> = self.nodes.get(node).map_or_else(|| node.into(), Arc::clone);
        self.nodes.insert(node.clone());
        self.of.entry(workload.clone()).or_default().insert(pod.uid);
        self.pods.insert(pod.uid, Put { name: of_pod, workload, node, deleted_by: pod.deleted_by });
    }

    fn put_slice(&mut self, slice: &EndpointSlice) {
        let Some(service) = slice.service.clone() else { return };
        let service = (slice.namespace.clone(), service);
        let pods = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod).collect();
        self.behind.entry(service.clone()).or_default().insert(slice.uid);
        self.slices.insert(slice.uid, Slice { service, pods });
    }

    /// It exists no more.
    pub fn remove(&mut self, resource: Resource, uid: Uid) {
        match resource {
            Resource::Pods => {
                let Some(put) = self.pods.remove(&uid) else { return };
                if let Some(of) = self.of.get_mut(&put.workload) {
                    of.remove(&uid);
                    if of.is_empty() {
                        self.of.remove(&put.workload);
                    }
                }
                // The last one but for the set itself.
                if Arc::strong_count(&put.node) == 2 {
                    self.nodes.remove(&put.node);
                }
            }
            Resource::EndpointSlices => {
                let Some(slice) = self.slices.remove(&uid) else { return };
                if let Some(behind) = self.behind.get_mut(&slice.service) {
                    behind.remove(&uid);
                    if behind.is_empty() {
                        self.behind.remove(&slice.service);
                    }
                }
            }
            Resource::Jobs => drop(self.jobs.remove(&uid)),
            Resource::Services | Resource::Nodes => {}
        }
    }

    /// The nodes that run pods of it, as it is known at `now`. A pod that ended is not there, nor is one
    /// that was to be gone by now: its node may be unable to say so.
    #[must_use]
    pub fn places(&self, answering: &Answering, now: SystemTime) -> Places {
        let mut places = Places::new();
        let mut add = |uid: &Uid| {
            if let Some(Put { name, workload, node, deleted_by }) = self.pods.get(uid)
                && deleted_by.is_none_or(|by| now <= by)
            {
                let who = self.above(workload);
                let here = places.entry(node.clone()).or_default();
                here.workloads.insert(who);
                here.pods.extend(name.as_deref().map(str::to_owned));
            }
        };
        match answering {
            Answering::Workload { namespace, kind, name } => {
                let kinds = WorkloadKind::ALL.into_iter().filter(|known| known.as_str() == *kind);
                for kind in kinds {
                    for name in self.below(namespace, kind, name) {
                        let workload = Workload { namespace: namespace.clone(), kind: name.0, name: name.1 };
                        self.of.get(&workload).into_iter().flatten().for_each(&mut add);
                    }
                }
            }
            Answering::Service { namespace, name } => {
                let slices = self.behind.get(&(namespace.clone(), name.clone())).into_iter().flatten();
                let pods = slices.filter_map(|slice| self.slices.get(slice)).flat_map(|slice| &slice.pods);
                pods.for_each(&mut add);
            }
        }
        places
    }

    /// What pods of the workload call their controller: those of a CronJob are its Jobs'.
    fn below(&self, namespace: &str, kind: WorkloadKind, name: &str) -> Vec<(WorkloadKind, String)> {
        if kind != WorkloadKind::CronJob {
            return vec![(kind, name.to_owned())];
        }
        let of = self.jobs.values().filter(|(of, _, cron_job)| of == namespace && cron_job == name);
        of.map(|(_, job, _)| (WorkloadKind::Job, job.clone())).collect()
    }

    fn above(&self, workload: &Workload) -> (&'static str, String) {
        let Workload { namespace, kind, name } = workload;
        let cron_job = (*kind == WorkloadKind::Job)
            .then(|| self.jobs.values().find(|(of, job, _)| of == namespace && job == name))
            .flatten();
        match cron_job {
            Some((_, _, cron_job)) => (WorkloadKind::CronJob.as_str(), cron_job.clone()),
            None => (kind.as_str(), name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::{pod, uid, web};
    use k8s_sync::cluster::object::ServiceEndpoint;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn workload(kind: &'static str, name: &str) -> Answering {
        Answering::Workload { namespace: "shop".into(), kind, name: name.into() }
    }

    fn nodes(placed: &Placed, answering: &Answering, now: u64) -> Vec<String> {
        placed.places(answering, at(now)).keys().map(|node| node.to_string()).collect()
    }

    #[test]
    fn a_workload_is_where_its_pods_are() {
        let mut placed = Placed::default();
        for pod in [web(1, "n1"), web(2, "n2"), web(3, "n2"), pod(4, ("StatefulSet", "web"), "n3")] {
            placed.put(&Object::Pod(pod));
        }
        let web_is = workload("Deployment", "web");
        assert_eq!(nodes(&placed, &web_is, 0), ["n1", "n2"]);
        assert_eq!(nodes(&placed, &workload("StatefulSet", "web"), 0), ["n3"]);
        assert!(nodes(&placed, &workload("Deployment", "other"), 0).is_empty());
        // One ends, one is to be gone by 100, one was never given a node.
        placed.put(&Object::Pod(Pod { ended: true, ..web(1, "n1") }));
        placed.put(&Object::Pod(Pod { deleted_by: Some(at(100)), ..web(2, "n2") }));
        placed.remove(Resource::Pods, uid(3));
        placed.put(&Object::Pod(Pod { node: None, ..web(5, "") }));
        assert_eq!(nodes(&placed, &web_is, 100), ["n2"]);
        assert!(nodes(&placed, &web_is, 101).is_empty());
        for n in [2, 4] {
            placed.remove(Resource::Pods, uid(n));
        }
        assert!(placed.of.is_empty() && placed.nodes.is_empty() && placed.pods.is_empty());
    }

    #[test]
    fn a_service_is_where_its_endpoints_are() {
        let mut placed = Placed::default();
        placed.put(&Object::Pod(web(1, "n1")));
        placed.put(&Object::Pod(pod(2, ("StatefulSet", "db"), "n2")));
        let slice = |n: u32, pods: &[u32]| {
            let end = |n: &u32| ServiceEndpoint { pod: Some(uid(*n)), ..ServiceEndpoint::default() };
            let (namespace, service) = ("shop".into(), Some("all".into()));
            let endpoints = pods.iter().map(end).collect();
            Object::EndpointSlice(EndpointSlice { uid: uid(n), namespace, service, endpoints, ..Default::default() })
        };
        placed.put(&slice(10, &[1]));
        placed.put(&slice(11, &[2, 99]));
        let all = Answering::Service { namespace: "shop".into(), name: "all".into() };
        assert_eq!(nodes(&placed, &all, 0), ["n1", "n2"]);
        let places = placed.places(&all, at(0));
        assert!(places["n1"].workloads.contains(&("Deployment", "web".to_owned())), "{places:?}");
        assert!(places["n1"].pods.contains("pod-1"), "{places:?}");
        placed.put(&slice(11, &[]));
        assert_eq!(nodes(&placed, &all, 0), ["n1"]);
        placed.remove(Resource::EndpointSlices, uid(10));
        placed.remove(Resource::EndpointSlices, uid(11));
        assert!(placed.behind.is_empty() && placed.slices.is_empty());
    }

    #[test]
    fn pods_of_jobs_are_their_cron_jobs() {
        let mut placed = Placed::default();
        placed.put(&Object::Pod(pod(1, ("Job", "nightly-29"), "n1")));
        assert_eq!(nodes(&placed, &workload("Job", "nightly-29"), 0), ["n1"]);
        let job =
            Job { uid: uid(7), namespace: "shop".into(), name: "nightly-29".into(), cron_job: Some("nightly".into()) };
        placed.put(&Object::Job(job));
        let cron_job = workload("CronJob", "nightly");
        assert_eq!(nodes(&placed, &cron_job, 0), ["n1"]);
        assert!(placed.places(&cron_job, at(0))["n1"].workloads.contains(&("CronJob", "nightly".to_owned())));
    }

    #[test]
    fn nothing_is_known_before_everything_was_listed() {
        let mut placed = Placed::default();
        placed.set_age(Duration::from_secs(3));
        assert_eq!(placed.age(), None);
        placed.set_complete();
        assert_eq!(placed.age(), Some(Duration::from_secs(3)));
    }

    #[derive(Clone, Debug)]
    enum Told {
        Put(u32, u8, u8, bool),
        Removed(u32),
        Slice(u32, Vec<u32>),
        Unsliced(u32),
    }

    fn told() -> impl Strategy<Value = Told> {
        prop_oneof![
            4 => (0..12_u32, 0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(n, of, node, ended)| Told::Put(n, of, node, ended)),
            2 => (0..12_u32).prop_map(Told::Removed),
            1 => (20..23_u32, proptest::collection::vec(0..12_u32, 0..6)).prop_map(|(n, pods)| Told::Slice(n, pods)),
            1 => (20..23_u32).prop_map(Told::Unsliced),
        ]
    }

    proptest! {
        /// Whatever the order, it is where the pods are that exist, and nothing is kept of others.
        #[test]
        fn places_are_those_of_the_pods_that_exist(all in proptest::collection::vec(told(), 0..80)) {
            let (mut placed, mut pods, mut slices) = (Placed::default(), BTreeMap::new(), BTreeMap::new());
            for one in all {
                match one {
                    Told::Put(n, of, node, ended) => {
                        let pod = pod(n, ("StatefulSet", &format!("w{of}")), &format!("n{node}"));
                        placed.put(&Object::Pod(Pod { ended, ..pod }));
                        match ended {
                            true => pods.remove(&n),
                            false => pods.insert(n, (format!("w{of}"), format!("n{node}"))),
                        };
                    }
                    Told::Removed(n) => {
                        placed.remove(Resource::Pods, uid(n));
                        pods.remove(&n);
                    }
                    Told::Slice(n, of) => {
                        let end = |n: &u32| ServiceEndpoint { pod: Some(uid(*n)), ..ServiceEndpoint::default() };
                        let (namespace, service) = ("shop".into(), Some("all".into()));
                        let endpoints = of.iter().map(end).collect();
                        let slice = EndpointSlice { uid: uid(n), namespace, service, endpoints, ..Default::default() };
                        placed.put(&Object::EndpointSlice(slice));
                        slices.insert(n, of);
                    }
                    Told::Unsliced(n) => {
                        placed.remove(Resource::EndpointSlices, uid(n));
                        slices.remove(&n);
                    }
                }
            }
            for of in ["w0", "w1", "w2"] {
                let expected: BTreeSet<&String> = pods.values().filter(|(who, _)| who == of).map(|(_, node)| node).collect();
                let found = nodes(&placed, &workload("StatefulSet", of), 0);
                prop_assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected);
            }
            let behind = slices.values().flatten().filter_map(|n| pods.get(n));
            let behind: BTreeSet<&String> = behind.map(|(_, node)| node).collect();
            let found = nodes(&placed, &Answering::Service { namespace: "shop".into(), name: "all".into() }, 0);
            prop_assert_eq!(found.iter().collect::<BTreeSet<_>>(), behind);
            let known: BTreeSet<&String> = pods.values().map(|(_, node)| node).collect();
            let workloads: BTreeSet<&String> = pods.values().map(|(who, _)| who).collect();
            prop_assert_eq!((placed.pods.len(), placed.slices.len()), (pods.len(), slices.len()));
            prop_assert_eq!((placed.nodes.len(), placed.of.len()), (known.len(), workloads.len()));
        }
    }
}
