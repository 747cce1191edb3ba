//! A cluster of a given size, as its watches would tell of it.

use flow_model::Ts;
use k8s_sync::cluster::object::{
    Change, Controller, EndpointSlice, Job, Node, Object, Pod, Probe, Resource, Service, ServiceEndpoint, Uid,
};
use k8s_sync::cluster::{Cluster, Moment};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

/// Numbers of objects. Workloads have ten pods each: Deployments, and one in a hundred a CronJob with ten Jobs.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub pods: u32,
    pub services: u32,
    pub nodes: u32,
    /// Pods and Services have an address of each family, Services a slice for each.
    pub dual: bool,
}

pub const LARGE: Size = Size { pods: 100_000, services: 10_000, nodes: 5_000, dual: false };

pub fn moment(second: u64) -> Moment {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + second);
    Moment { mono: Ts(second * 1_000_000_000), wall }
}

/// Random, as the API's are, but the same each time.
fn uid(kind: u64, number: u32) -> Uid {
    let mix = |seed: u64| {
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    let seed = kind << 32 | u64::from(number);
    Uid::parse(&format!("{:016x}{:016x}", mix(seed), mix(!seed))).unwrap_or_else(|| unreachable!("32 digits"))
}

pub fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

pub fn service_address(number: u32) -> IpAddr {
    Ipv4Addr::from(0xac10_0000 + number).into()
}

/// The same in IPv6.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(ip.to_bits())).into(),
        v6 => v6,
    }
}

impl Size {
    fn families(self, ip: IpAddr) -> Vec<IpAddr> {
        if self.dual { vec![ip, mapped(ip)] } else { vec![ip] }
    }

    pub fn node_name(number: u32) -> String {
        format!("ip-10-88-{}-{}.ec2.internal", number >> 8 & 0xff, number & 0xff)
    }

    fn is_job(pod: u32) -> bool {
        pod / 10 % 100 == 99
    }

    fn namespace(number: u32) -> String {
        format!("team-{}", number / 10 % 200)
    }

    pub fn pod(self, number: u32) -> Pod {
        let workload = number / 10;
        let node = number % self.nodes;

        let (kind, owner, hash) = match Size::is_job(number) {
            true => ("Job", format!("report-{workload}-{}", 29_000_000 + number), None),
            false => ("ReplicaSet", format!("service-{workload}-6d4cf56db6"), Some("6d4cf56db6".to_owned())),
        };
        Pod {
            uid: uid(1, number),
            static_uid: None,
            namespace: Size::namespace(number),
            name: format!("{owner}-{:05x}", number & 0xf_ffff),
            node: Some(Size::node_name(node)),
            ips: self.families(address(number)),
            host_network: false,
            ended: false,
            deleted_by: None,
            started: Some(moment(u64::from(number % 5_000)).wall),
            controller: Some(Controller { kind: kind.to_owned(), name: owner }),
            template_hash: hash,
            rollout_hash: None,
            ports: vec![8080],
            // As most pods have them: of other nodes' pods nothing may be kept.
            probes: Some(vec![Probe { path: "/healthz".to_owned(), port: 8080, ..Probe::default() }; 2]),
        }
    }

    fn service(self, number: u32) -> Service {
        Service {
            uid: uid(2, number),
            namespace: Size::namespace(number * 10),
            name: format!("service-{number}"),
            cluster_ips: self.families(service_address(number)),
            external_ips: Vec::new(),
            ports: vec![80],
            node_ports: Vec::new(),
            external_name: None,
            created: Some(moment(0).wall),
        }
    }

    fn slice(self, number: u32, v6: bool) -> EndpointSlice {
        let pods = self.pods / self.services;
        let of = |ip| if v6 { mapped(ip) } else { ip };
        let endpoint = |pod: u32| ServiceEndpoint { addresses: vec![of(address(pod))], pod: Some(uid(1, pod)) };
        EndpointSlice {
            uid: uid(if v6 { 6 } else { 3 }, number),
            namespace: Size::namespace(number * 10),
            service: Some(format!("service-{number}")),
            endpoints: (number * pods..(number + 1) * pods).map(endpoint).collect(),
            ports: vec![8080],
        }
    }

    fn node(self, number: u32) -> Node {
        let (high, low) = ((number >> 8) as u8, number as u8);
        let name = Size::node_name(number);
        Node { uid: uid(4, number), name, addresses: vec![Ipv4Addr::new(192, 168, high, low).into()] }
    }

    fn job(self, number: u32) -> Job {
        let Controller { name, .. } = self.pod(number).controller.unwrap_or_else(|| unreachable!("it has one"));
        let cron_job = Some(format!("report-{}", number / 10));
        Job { uid: uid(5, number), namespace: Size::namespace(number), name, cron_job }
    }

    fn objects(self, resource: Resource) -> Box<dyn Iterator<Item = Object>> {
        match resource {
            Resource::Pods => Box::new((0..self.pods).map(move |n| Object::Pod(self.pod(n)))),
            Resource::Services => Box::new((0..self.services).map(move |n| Object::Service(self.service(n)))),
            Resource::EndpointSlices => {
                let second = if self.dual { 0..self.services } else { 0..0 };
                let all = (0..self.services).map(|n| (n, false)).chain(second.map(|n| (n, true)));
                Box::new(all.map(move |(n, v6)| Object::EndpointSlice(self.slice(n, v6))))
            }
            Resource::Nodes => Box::new((0..self.nodes).map(move |n| Object::Node(self.node(n)))),
            Resource::Jobs => {
                let jobs = (0..self.pods).filter(|n| Size::is_job(*n));
                Box::new(jobs.map(move |n| Object::Job(self.job(n))))
            }
        }
    }

    /// One list of everything.
    pub fn list(self, cluster: &mut Cluster, second: u64) {
        Resource::ALL.into_iter().for_each(|resource| self.list_of(resource, cluster, second));
    }

    /// One list of this resource.
    pub fn list_of(self, resource: Resource, cluster: &mut Cluster, second: u64) {
        cluster.apply(Change::ListBegun(resource), moment(second));
        for object in self.objects(resource) {
            cluster.apply(Change::Listed(object), moment(second));
        }
        cluster.apply(Change::ListEnded(resource), moment(second));
    }
}
