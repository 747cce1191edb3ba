//! A table, and words to tell it things with. Times are seconds since the machine was started; the
//! wall clock showed `EPOCH` then.

use flow_model::{Endpoint, Identity, Ts, Workload};
use k8s_sync::cluster::object::{
    Change, Controller, EndpointSlice, Job, Node, Object, Pod, Resource, Service, ServiceEndpoint, Uid,
};
use k8s_sync::cluster::{Cluster, ClusterNames, Limits, Moment};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub const EPOCH: u64 = 1_800_000_000;

pub fn wall(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH + second)
}

pub fn ts(second: u64) -> Ts {
    Ts(second * 1_000_000_000)
}

pub fn moment(second: u64) -> Moment {
    Moment { mono: ts(second), wall: wall(second) }
}

pub fn uid(number: u32) -> Uid {
    Uid::parse(&format!("{number:08x}-8d2b-4a76-9c63-0d1f2a3b4c5d")).unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A running pod of namespace `shop` that started with the machine.
pub fn pod(number: u32, name: &str, address: &str) -> Pod {
    Pod {
        uid: uid(number),
        static_uid: None,
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        node: Some("n1".to_owned()),
        ips: address.split_whitespace().map(ip).collect(),
        host_network: false,
        ended: false,
        deleted_by: None,
        started: Some(wall(0)),
        controller: None,
        template_hash: None,
        rollout_hash: None,
        ports: Vec::new(),
        probes: None,
    }
}

/// One of `deployment`.
pub fn replica(number: u32, deployment: &str, address: &str) -> Pod {
    Pod {
        controller: Some(Controller { kind: "ReplicaSet".to_owned(), name: format!("{deployment}-5d4f") }),
        template_hash: Some("5d4f".to_owned()),
        ..pod(number, &format!("{deployment}-5d4f-x{number}"), address)
    }
}

pub fn owned(kind: &str, owner: &str, pod: Pod) -> Pod {
    Pod { controller: Some(Controller { kind: kind.to_owned(), name: owner.to_owned() }), ..pod }
}

pub fn started(second: u64, pod: Pod) -> Pod {
    Pod { started: Some(wall(second)), ..pod }
}

pub fn service(number: u32, name: &str, cluster_ips: &str) -> Service {
    Service {
        uid: uid(number),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        cluster_ips: cluster_ips.split_whitespace().map(ip).collect(),
        external_ips: Vec::new(),
        ports: vec![80],
        node_ports: Vec::new(),
        external_name: None,
        created: Some(wall(0)),
    }
}

/// Of `service`, on port 8080: pods by number and address.
pub fn slice(number: u32, service: &str, endpoints: &[(u32, &str)]) -> EndpointSlice {
    let endpoint =
        |(pod, address): &(u32, &str)| ServiceEndpoint { addresses: vec![ip(address)], pod: Some(uid(*pod)) };
    EndpointSlice {
        uid: uid(number),
        namespace: "shop".to_owned(),
        service: Some(service.to_owned()),
        endpoints: endpoints.iter().map(endpoint).collect(),
        ports: vec![8080],
    }
}

pub fn node(number: u32, name: &str, addresses: &str) -> Node {
    Node { uid: uid(number), name: name.to_owned(), addresses: addresses.split_whitespace().map(ip).collect() }
}

pub fn job(number: u32, name: &str, cron_job: Option<&str>) -> Job {
    Job { uid: uid(number), namespace: "shop".to_owned(), name: name.to_owned(), cron_job: cron_job.map(str::to_owned) }
}

pub fn limits() -> Limits {
    Limits { pods: 2_000, ..Limits::default() }
}

/// What `Bed` can be told of.
pub trait IntoObject {
    fn into_object(self) -> Object;
}

macro_rules! into_object {
    ($($kind:ident)*) => {
        $(impl IntoObject for $kind {
            fn into_object(self) -> Object {
                Object::$kind(self)
            }
        })*
    };
}

into_object!(Pod Service EndpointSlice Node Job);

impl IntoObject for Object {
    fn into_object(self) -> Object {
        self
    }
}

pub struct Bed {
    pub cluster: Cluster,
    pub names: ClusterNames,
    /// The next change comes then.
    pub now: u64,
}

impl Bed {
    /// All first lists are over, and were empty.
    pub fn new() -> Bed {
        let mut bed = Bed::fresh();
        for resource in Resource::ALL {
            bed.list(resource, Vec::<Object>::new());
        }
        bed
    }

    /// Nothing was told yet.
    pub fn fresh() -> Bed {
        Bed::of(Cluster::new(limits()))
    }

    pub fn of(cluster: Cluster) -> Bed {
        Bed { names: cluster.names(), cluster, now: 100 }
    }

    pub fn tell(&mut self, change: Change) {
        self.cluster.apply(change, moment(self.now));
    }

    pub fn at(&mut self, now: u64) -> &mut Bed {
        self.now = now;
        self
    }

    pub fn apply(&mut self, object: impl IntoObject) -> &mut Bed {
        self.tell(Change::Applied(object.into_object()));
        self
    }

    pub fn delete(&mut self, resource: Resource, number: u32) -> &mut Bed {
        self.tell(Change::Deleted(resource, uid(number)));
        self
    }

    pub fn list<O: IntoObject>(&mut self, resource: Resource, objects: Vec<O>) -> &mut Bed {
        self.tell(Change::ListBegun(resource));
        for object in objects {
            self.tell(Change::Listed(object.into_object()));
        }
        self.tell(Change::ListEnded(resource));
        self
    }

    /// "Kind name pod", or the reason that there is none.
    pub fn who(&self, address: &str, port: u16, second: u64) -> String {
        match self.names.holder(Endpoint { ip: ip(address), port }, ts(second)) {
            Identity::Known(who) => shown(&who),
            Identity::Unknown(reason) => format!("{reason:?}"),
        }
    }

    pub fn now_at(&self, address: &str) -> String {
        self.who(address, 8080, self.now)
    }

    pub fn service(&self, address: &str, port: u16, second: u64) -> String {
        let service = self.names.service(Endpoint { ip: ip(address), port }, ts(second));
        service.map_or_else(|| "-".to_owned(), |name| name.to_string())
    }

    pub fn metric(&self, name: &str) -> u64 {
        self.cluster.metrics().into_iter().find(|metric| metric.name == name).unwrap().value
    }
}

pub fn shown(who: &Arc<Workload>) -> String {
    let Workload { namespace: _, name, kind, pod } = &**who;
    format!("{} {name} {pod}", kind.as_str()).trim_end().to_owned()
}
