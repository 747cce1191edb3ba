//! Events of containers called as edges and findings call them: by the API where that knows the pod, else
//! by the labels that containerd tells. A pod is often started before the API has told of it.

use flow_model::{Ts, Workload};
use k8s_sync::cluster::ClusterNames;
use k8s_sync::cluster::object::Uid;
use shim_plugin::{LocalName, Run, TaskNews};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Events whose pod the API may still tell of.
const MOST: usize = 1024;
/// For so long: a watch that is later than this is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who that is.
pub fn workload(name: &LocalName, cluster: Option<&ClusterNames>) -> Arc<Workload> {
    known(name, cluster).unwrap_or_else(|| name.workload.clone())
}

fn known(name: &LocalName, cluster: Option<&ClusterNames>) -> Option<Arc<Workload>> {
    cluster?.pod(Uid::parse(&name.pod_uid)?)
}

fn renamed(name: &LocalName, workload: Arc<Workload>) -> Arc<LocalName> {
    Arc::new(LocalName { workload, ..name.clone() })
}

/// The same news with the cluster's name of its run, and the name for which the cluster's is awaited.
pub fn by_cluster(news: TaskNews, cluster: Option<&ClusterNames>) -> (TaskNews, Option<Arc<LocalName>>) {
    let mut awaited = None;
    let mut better = |name: Arc<LocalName>| match known(&name, cluster) {
        Some(workload) => renamed(&name, workload),
        None => {
            awaited = Some(name.clone());
            name
        }
    };
    let mut of = |run: Run| Run { name: run.name.map(&mut better), ..run };
    let news = match news {
        TaskNews::Began(run) => TaskNews::Began(of(run)),
        TaskNews::Ended { run, exit } => TaskNews::Ended { run: of(run), exit },
        TaskNews::OutOfMemory { container, run, at } => TaskNews::OutOfMemory { container, run: run.map(of), at },
        TaskNews::Named { task, name } => TaskNews::Named { task, name: better(name) },
    };
    (news, awaited)
}

/// Events that wait for the cluster's name.
#[derive(Debug, Default)]
pub struct Renames(VecDeque<(u64, Ts, Arc<LocalName>)>);

impl Renames {
    /// Waits for the pod of this event, if it is of one. The oldest makes room: it keeps the name that it
    /// has.
    pub fn add(&mut self, seq: Option<u64>, awaited: Option<Arc<LocalName>>, now: Ts) {
        let Some((seq, name)) = seq.zip(awaited) else { return };
        if Uid::parse(&name.pod_uid).is_none() {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((seq, now, name));
    }

    /// Those that the cluster knows by now.
    pub fn known(&mut self, cluster: Option<&ClusterNames>, now: Ts) -> Vec<(u64, Arc<LocalName>)> {
        let mut found = Vec::new();
        self.0.retain(|(seq, since, name)| match known(name, cluster) {
            Some(workload) => {
                found.push((*seq, renamed(name, workload)));
                false
            }
            None => now.since(*since) < PATIENCE,
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::WorkloadKind;
    use k8s_sync::cluster::object::{Change, Controller, Object, Pod};
    use k8s_sync::cluster::{Cluster, Limits, Moment};
    use shim_plugin::{ContainerRef, LinkId, NameSource, Observe, TaskId};

    const UID: &str = "0f3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d";

    fn at(seconds: u64) -> Ts {
        Ts(seconds * 1_000_000_000)
    }

    fn began(pod_uid: &str) -> TaskNews {
        let workload =
            Workload { namespace: "shop".into(), name: "api-x1".into(), kind: WorkloadKind::Pod, pod: "api-x1".into() };
        let name = LocalName {
            workload: Arc::new(workload),
            pod_uid: pod_uid.into(),
            container: "app".into(),
            source: NameSource::PodContainer,
            observe: Observe::All,
        };
        let container = ContainerRef::new(LinkId(0), "k8s.io", "c");
        TaskNews::Began(Run { task: TaskId(1), container, pid: 70, name: Some(Arc::new(name)), slot: None, sharing: 1 })
    }

    fn told(news: &TaskNews) -> String {
        let TaskNews::Began(Run { name: Some(name), .. }) = news else { panic!("{news:?}") };
        format!("{} {}", name.workload.kind.as_str(), name.workload.name)
    }

    #[test]
    fn an_event_is_called_as_the_api_calls_its_pod_as_soon_as_that_is_known() {
        let mut cluster = Cluster::new(Limits::default());
        let names = cluster.names();
        let (early, awaited) = by_cluster(began(UID), Some(&names));
        assert_eq!((told(&early), awaited.is_some()), ("Pod api-x1".to_owned(), true));
        let mut renames = Renames::default();
        renames.add(Some(7), awaited, at(1));
        assert_eq!(renames.known(Some(&names), at(2)), []);

        let uid = Uid::parse(UID).expect("a uid");
        let controller = Some(Controller { kind: "DaemonSet".to_owned(), name: "api".to_owned() });
        let pod = Pod { uid, namespace: "shop".to_owned(), name: "api-x1".to_owned(), controller, ..Pod::default() };
        let moment = Moment { mono: at(3), wall: std::time::SystemTime::UNIX_EPOCH };
        cluster.apply(Change::Applied(Object::Pod(pod)), moment);
        let known = renames.known(Some(&names), at(3));
        let known: Vec<_> = known.iter().map(|(seq, name)| (*seq, &*name.workload.name, &*name.container)).collect();
        assert_eq!(known, [(7, "api", "app")]);
        assert_eq!(renames.known(Some(&names), at(4)), [], "once");
        let (late, awaited) = by_cluster(began(UID), Some(&names));
        assert_eq!((told(&late), awaited), ("DaemonSet api".to_owned(), None));
    }

    #[test]
    fn without_an_api_the_labels_name_it_and_nothing_is_waited_for_without_end() {
        let mut renames = Renames::default();
        let (news, awaited) = by_cluster(began(UID), None);
        assert_eq!(told(&news), "Pod api-x1");
        for seq in 0..MOST as u64 + 3 {
            renames.add(Some(seq), awaited.clone(), at(1));
        }
        assert_eq!(renames.0.len(), MOST);
        assert_eq!((renames.known(None, at(61)), renames.0.len()), (vec![], 0));
        renames.add(Some(1), by_cluster(began(""), None).1, at(1));
        assert!(renames.0.is_empty(), "of no pod");
    }
}
