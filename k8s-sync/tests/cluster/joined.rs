//! One reader over both tables: what containerd tells of this node, and what the API tells of all.

use crate::bed::{Bed, ip, job, node, owned, pod, replica, service, shown, slice, started, ts, uid};
use flow_model::{Endpoint, Identity, Names, Slot, Workload, WorkloadKind};
use k8s_sync::cluster::Standing;
use k8s_sync::cluster::object::{Pod, Resource, Service};
use k8s_sync::{Address, Addresses, Claim, IdentityIndex, Limits, NamesReader, Origin};
use std::sync::Arc;

const POD: Slot = Slot(1);

fn by_containerd(kind: WorkloadKind, name: &str, pod: &str) -> Arc<Workload> {
    let namespace = if pod.is_empty() { "" } else { "shop" };
    Arc::new(Workload { namespace: namespace.into(), name: name.into(), kind, pod: pod.into() })
}

fn both() -> (Bed, IdentityIndex, NamesReader) {
    let bed = Bed::new();
    let index = IdentityIndex::new(Limits::default());
    let reader = index.reader(Addresses::ByClass).with_cluster(bed.names.clone());
    (bed, index, reader)
}

fn said(identity: Identity) -> String {
    match identity {
        Identity::Known(who) => shown(&who),
        Identity::Unknown(reason) => format!("{reason:?}"),
    }
}

fn remote(reader: &NamesReader, address: &str, port: u16, second: u64) -> String {
    said(reader.remote(POD, Endpoint { ip: ip(address), port }, ts(second)))
}

#[test]
fn a_local_pod_is_what_the_api_calls_it_once_it_is_known() {
    let (mut bed, mut index, reader) = both();
    let name = by_containerd(WorkloadKind::Job, "backup-1", "backup-1-q");
    index.set_slot(POD, Identity::Known(name), Some(uid(1)));
    assert_eq!(said(reader.local(POD)), "Job backup-1 backup-1-q");
    let before = reader.version();
    bed.apply(job(2, "backup-1", Some("backup"))).apply(owned("Job", "backup-1", pod(1, "backup-1-q", "10.0.0.1")));
    assert_ne!(reader.version(), before);
    assert_eq!(said(reader.local(POD)), "CronJob backup backup-1-q");
}

#[test]
fn an_address_of_a_local_pod_has_its_time_from_containerd_and_its_name_from_the_api() {
    let (mut bed, mut index, reader) = both();
    bed.apply(job(2, "backup-1", Some("backup"))).apply(owned("Job", "backup-1", pod(1, "backup-1-q", "10.0.0.1")));
    let name = by_containerd(WorkloadKind::Job, "backup-1", "backup-1-q");
    let held = index.bind(Address::ip(ip("10.0.0.1")), name, ts(50));
    assert_eq!(remote(&reader, "10.0.0.1", 80, 60), "CronJob backup backup-1-q");
    // The next one on this node; the API server is away.
    index.release(held, ts(200));
    let _held =
        index.bind(Address::ip(ip("10.0.0.1")), by_containerd(WorkloadKind::Deployment, "web", "web-1"), ts(210));
    assert_eq!(remote(&reader, "10.0.0.1", 80, 220), "Deployment web web-1");
    assert_eq!(remote(&reader, "10.0.0.1", 80, 60), "CronJob backup backup-1-q");
}

#[test]
fn a_port_of_this_node_is_whose_the_api_says_and_else_the_nodes() {
    let (mut bed, mut index, reader) = both();
    let _node = index.bind(Address::ip(ip("192.168.0.1")), by_containerd(WorkloadKind::Node, "host", ""), ts(0));
    let process = by_containerd(WorkloadKind::Process, "sshd.service", "");
    let _port = index.bind(Address::port(ip("192.168.0.1"), 22), process, ts(0));
    assert_eq!(remote(&reader, "192.168.0.1", 9100, 100), "Node host", "without the API");
    bed.apply(node(1, "n1", "192.168.0.1"));
    bed.apply(Pod { host_network: true, ports: vec![9100], ..pod(2, "exporter", "192.168.0.1") });
    assert_eq!(remote(&reader, "192.168.0.1", 9100, 100), "Pod exporter exporter");
    assert_eq!(remote(&reader, "192.168.0.1", 22, 100), "Process sshd.service");
    assert_eq!(remote(&reader, "192.168.0.1", 6443, 100), "Node n1");
}

#[test]
fn a_peer_on_another_node_and_a_service_are_named_by_the_api() {
    let (mut bed, _index, reader) = both();
    bed.apply(replica(1, "api", "10.1.0.1")).apply(service(2, "api", "172.16.0.2"));
    bed.apply(slice(3, "api", &[(1, "10.1.0.1")]));
    assert_eq!(remote(&reader, "10.1.0.1", 8080, 100), "Deployment api api-5d4f-x1");
    assert_eq!(remote(&reader, "172.16.0.2", 80, 100), "Deployment api");
    for (address, port) in [("10.1.0.1", 8080), ("172.16.0.2", 80)] {
        assert_eq!(reader.service(Endpoint { ip: ip(address), port }, ts(100)).as_deref(), Some("api"));
    }
    assert_eq!(remote(&reader, "10.1.0.9", 8080, 100), "Address private");
    bed.at(200).delete(Resource::Pods, 1).apply(started(210, replica(4, "new", "10.1.0.1")));
    assert_eq!(remote(&reader, "10.1.0.1", 8080, 215), "Deployment new new-5d4f-x4");
}

#[test]
fn a_name_that_stands_for_a_service_is_the_services() {
    let (mut bed, _index, mut reader) = both();
    bed.apply(Service { external_name: Some("db.example.com".to_owned()), ..service(1, "db", "") });
    reader.dns_answer(POD, "db.shop.svc.cluster.local", &[ip("203.0.113.1")], 60, ts(100));
    reader.dns_answer(POD, "db.example.com", &[ip("203.0.113.2")], 60, ts(100));
    reader.dns_answer(POD, "www.example.com", &[ip("203.0.113.3")], 60, ts(100));
    let names = ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(|address| remote(&reader, address, 5432, 101));
    assert_eq!(names, ["Service db", "Service db", "External www.example.com"]);
}

#[test]
fn a_pod_that_asks_a_server_for_the_name_of_a_service_makes_no_service_of_it() {
    let (mut bed, _index, mut reader) = both();
    bed.apply(service(1, "db", "172.16.0.2")).apply(pod(2, "api", "10.1.0.1"));
    reader.server_name(POD, "db.shop.svc.cluster.local", ip("203.0.113.1"), ts(100), ts(101));
    reader.server_name(POD, "evil.example", ip("172.16.0.2"), ts(100), ts(101));
    reader.server_name(POD, "evil.example", ip("10.1.0.1"), ts(100), ts(101));
    let names = ["203.0.113.1", "172.16.0.2", "10.1.0.1"].map(|address| remote(&reader, address, 443, 101));
    assert!(names[0].starts_with("External db.shop"), "{names:?}");
    assert!(names[1..].iter().all(|name| !name.contains("evil")), "{names:?}");
}

fn claim(origin: Origin, name: &str, number: u32) -> Claim {
    Claim { who: by_containerd(WorkloadKind::Pod, name, name), pod: Some(uid(number)), origin }
}

#[test]
fn an_address_that_is_taken_is_whose_the_api_says_while_it_is_fresh() {
    let (mut bed, mut index, reader) = both();
    bed.apply(pod(1, "victim", "10.1.0.1")).apply(pod(2, "thief", "10.0.0.2"));
    bed.apply(service(3, "api", "172.16.0.3"));
    // The victim is on another node: nobody here was given its address.
    let _taken = index.claim(Address::ip(ip("10.1.0.1")), claim(Origin::Taken, "thief", 2), ts(50));
    let _taken = index.claim(Address::ip(ip("172.16.0.3")), claim(Origin::Taken, "thief", 2), ts(50));
    bed.cluster.stand(Standing::Away);
    assert_eq!(remote(&reader, "10.1.0.1", 80, 60), "Pod thief thief", "what the API said may be old");
    let before = reader.version();
    bed.cluster.stand(Standing::Fresh);
    assert_ne!(reader.version(), before);
    assert_eq!(index.contested(), 0);
    for _ in 0..3 {
        assert_eq!(remote(&reader, "10.1.0.1", 80, 60), "Pod victim victim");
        assert_eq!(remote(&reader, "172.16.0.3", 80, 60), "Service api");
    }
    assert_eq!(index.contested(), 2, "each claim once");
    // A second interface, of which the API tells nothing.
    let _taken = index.claim(Address::ip(ip("192.168.7.2")), claim(Origin::Taken, "thief", 2), ts(50));
    assert_eq!(remote(&reader, "192.168.7.2", 80, 60), "Pod thief thief");
}

#[test]
fn a_pod_that_was_given_an_address_has_it_before_the_api_hears_that_it_passed_on() {
    let (mut bed, mut index, reader) = both();
    bed.cluster.stand(Standing::Fresh);
    bed.apply(pod(1, "old", "10.0.0.1"));
    let _given = index.claim(Address::ip(ip("10.0.0.1")), claim(Origin::Given, "new", 2), ts(150));
    assert_eq!(remote(&reader, "10.0.0.1", 80, 160), "Pod new new", "of the new pod nothing is known");
    bed.at(151).apply(started(150, pod(2, "new", "")));
    assert_eq!(remote(&reader, "10.0.0.1", 80, 160), "Pod new new", "it has no address yet");
    bed.at(152).apply(started(150, pod(2, "new", "10.0.0.1")));
    assert_eq!(remote(&reader, "10.0.0.1", 80, 160), "Pod new new");
    assert_eq!(index.contested(), 0);
}

#[test]
fn of_two_that_were_found_with_an_address_the_api_tells_whose_it_is() {
    let (mut bed, mut index, reader) = both();
    bed.apply(pod(1, "victim", "10.0.0.1")).apply(pod(2, "thief", "10.0.0.2"));
    // An agent that has just started does not know who was first.
    let _victim = index.claim(Address::ip(ip("10.0.0.1")), claim(Origin::Given, "victim", 1), ts(50));
    let _thief = index.claim(Address::ip(ip("10.0.0.1")), claim(Origin::Given, "thief", 2), ts(50));
    assert_eq!(remote(&reader, "10.0.0.1", 80, 60), "Ambiguous", "nobody's while the API is away");
    bed.cluster.stand(Standing::Fresh);
    assert_eq!(remote(&reader, "10.0.0.1", 80, 60), "Pod victim victim");
    assert_eq!(index.contested(), 1);
}

#[test]
fn better_news_are_awaited_from_an_api_that_is_there_and_of_others_alone() {
    let (mut bed, mut index, reader) = both();
    let remote = |address: &str| Endpoint { ip: ip(address), port: 80 };
    let awaits = |reader: &NamesReader, address: &str| reader.awaits(POD, remote(address), ts(100));
    let local = by_containerd(WorkloadKind::Deployment, "web", "web-1");
    index.set_slot(POD, Identity::Known(local), Some(uid(1)));
    bed.apply(pod(1, "web-1", "10.0.0.1"));
    let _held = index.bind(Address::ip(ip("10.0.0.2")), by_containerd(WorkloadKind::Pod, "b", "b"), ts(50));
    for (standing, expected) in
        [(Standing::Absent, false), (Standing::Coming, true), (Standing::Fresh, true), (Standing::Away, false)]
    {
        bed.cluster.stand(standing);
        assert_eq!(awaits(&reader, "10.1.0.9"), expected, "{standing:?}");
        assert!(!awaits(&reader, "10.0.0.2"), "containerd has told of it");
        assert!(!awaits(&reader, "127.0.0.1") && !awaits(&reader, "224.0.0.251"));
    }
    // The API has not heard of the pod that asks.
    bed.cluster.stand(Standing::Fresh);
    index.set_slot(POD, Identity::Known(by_containerd(WorkloadKind::Job, "b-1", "b-1-q")), Some(uid(7)));
    assert!(awaits(&reader, "10.0.0.2"));
    let without = index.reader(Addresses::ByClass);
    assert!(!without.awaits(POD, remote("10.1.0.9"), ts(100)), "no cluster");
}
