//! What is known of an address now: by the table of the cluster, by containerd and the node, by the
//! DNS answers that pods received.

use crate::clock;
use crate::run::orders::Order;
use agent_api::{Fact, Identity, Party};
use flow_model::{Endpoint, Names, Slot, Ts, Unknown, Workload, WorkloadKind};
use k8s_sync::cluster::{ClusterHolder, ClusterNames, Moment};
use k8s_sync::watch::Report;
use k8s_sync::{AddressHolder, HolderReader, LearntName, NamesReader, TableMetric};
use std::net::IpAddr;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, SystemTime};

/// The pipeline looks at its orders every 100 ms; when it is held up, the answer does without what pods learnt by DNS.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where is looked.
#[derive(Debug)]
pub struct Lookup {
    /// Without names by DNS, which belong to the pods that learnt them.
    pub names: NamesReader,
    pub holders: HolderReader,
    pub cluster: Option<ClusterNames>,
    /// Has the names by DNS.
    pub pipeline: Sender<Order>,
}

impl Lookup {
    /// What the table of the cluster's names says of itself.
    #[must_use]
    pub fn cluster_metrics(&self) -> Vec<TableMetric> {
        self.cluster.as_ref().map(ClusterNames::metrics).unwrap_or_default()
    }

    /// Waits for the pipeline, though not for long: not for a thread that others wait for.
    #[must_use]
    pub fn explain(&self, ip: IpAddr, port: Option<u16>, report: Option<&Report>) -> Identity {
        let now = Moment { mono: clock::now(), wall: SystemTime::now() };
        let ip = ip.to_canonical();
        let endpoint = Endpoint { ip, port: port.unwrap_or(0) };
        let mut missing = Vec::new();
        let stale = report.and_then(|report| report.is_fresh().err());
        let mut facts: Vec<Fact> = Vec::new();
        if let Some(cluster) = &self.cluster {
            facts.extend(
                cluster.explain(ip, port, now).into_iter().map(|holder| by_cluster(holder, stale.is_some(), now.wall)),
            );
        }
        facts.extend(self.holders.of(ip, port).into_iter().map(|holder| by_containerd(holder, now.mono)));
        match self.learnt_names(ip, now.mono) {
            Some(learnt) => facts.extend(learnt.into_iter().map(|learnt| by_dns(learnt, now.mono))),
            None => missing.push("names by DNS: the pipeline is busy".to_owned()),
        }
        missing.extend(stale);
        // Stable: within a source the order stays.
        facts.sort_by_key(|fact| fact.ended_s.is_some());
        let shown = self.names.remote(Slot(0), endpoint, now.mono);
        Identity {
            ip: ip.to_string(),
            port,
            known: facts.iter().any(|fact| fact.ended_s.is_none()),
            shown: party(&shown),
            service: self.names.service(endpoint, now.mono).map(|name| name.to_string()).unwrap_or_default(),
            facts,
            missing,
        }
    }

    fn learnt_names(&self, ip: IpAddr, at: Ts) -> Option<Vec<LearntName>> {
        if !self.holders.has_learnt_names() {
            return Some(Vec::new());
        }
        let (answer, answered) = mpsc::sync_channel(1);
        self.pipeline.send(Order::LearntNames { ip, at, answer }).ok()?;
        answered.recv_timeout(PATIENCE).ok()
    }
}

fn party(identity: &flow_model::Identity) -> Party {
    let unknown =
        |why: &str| Party { name: golden_metrics::UNKNOWN.to_owned(), namespace: String::new(), kind: why.to_owned() };
    match identity {
        flow_model::Identity::Known(workload) => Party {
            name: workload.name.to_string(),
            namespace: workload.namespace.to_string(),
            kind: workload.kind.as_str().to_owned(),
        },
        flow_model::Identity::Unknown(Unknown::NotFound) => unknown("NotFound"),
        flow_model::Identity::Unknown(Unknown::Pending) => unknown("Pending"),
        flow_model::Identity::Unknown(Unknown::Ambiguous) => unknown("Ambiguous"),
    }
}

fn fact(source: &str, who: &Workload) -> Fact {
    Fact {
        source: source.to_owned(),
        kind: who.kind.as_str().to_owned(),
        namespace: who.namespace.to_string(),
        name: who.name.to_string(),
        pod: who.pod.to_string(),
        ..Fact::default()
    }
}

fn by_cluster(holder: ClusterHolder, is_stale: bool, now: SystemTime) -> Fact {
    let ClusterHolder { who, port, node, service, since, until, stale } = holder;
    // The clock of the API server may be ahead of ours.
    let ago = |at: SystemTime| now.duration_since(at).unwrap_or_default().as_secs();
    Fact {
        port,
        node: node.map(|name| name.to_string()).unwrap_or_default(),
        service: service.map(|name| name.to_string()).unwrap_or_default(),
        since_s: since.map(ago),
        ended_s: until.map(ago),
        stale: stale || is_stale,
        ..fact("kubernetes", &who)
    }
}

fn by_containerd(holder: AddressHolder, now: Ts) -> Fact {
    let AddressHolder { who, port, from, until } = holder;
    let source = match who.kind {
        WorkloadKind::Node | WorkloadKind::Process => "node",
        _ => "containerd",
    };
    let ended_s = until.map(|until| now.since(until).as_secs());
    Fact { port, since_s: Some(now.since(from).as_secs()), ended_s, ..fact(source, &who) }
}

fn by_dns(learnt: LearntName, now: Ts) -> Fact {
    let LearntName { name, slot, by, from, until: _ } = learnt;
    let by = match by {
        flow_model::Identity::Known(pod) => format!("{}/{}", pod.namespace, pod.name),
        flow_model::Identity::Unknown(_) => format!("slot {}", slot.0),
    };
    Fact { since_s: Some(now.since(from).as_secs()), by, ..fact("dns", &name) }
}
