//! Lists again: what they have stays, what they lack goes, and nobody is without a name meanwhile.

use crate::bed::{Bed, IntoObject, job, moment, node, pod, replica, service, slice, uid};
use k8s_sync::cluster::object::{Change, Object, Resource};
use k8s_sync::cluster::{Cluster, Limits};

fn everything() -> Vec<Object> {
    vec![
        Object::Pod(replica(1, "api", "10.0.0.1")),
        Object::Pod(replica(2, "api", "10.0.0.2 fd00::2")),
        Object::Service(service(3, "api", "172.16.0.3")),
        Object::EndpointSlice(slice(4, "api", &[(1, "10.0.0.1"), (2, "10.0.0.2")])),
        Object::Node(node(5, "n1", "192.168.0.1")),
        Object::Job(job(6, "backup-1", Some("backup"))),
    ]
}

fn list_all(bed: &mut Bed, objects: &[Object]) {
    for resource in Resource::ALL {
        let of_it = objects.iter().filter(|object| object.resource() == resource).cloned().collect();
        bed.list::<Object>(resource, of_it);
    }
}

#[test]
fn the_same_again_changes_nothing() {
    let mut bed = Bed::fresh();
    list_all(&mut bed, &everything());
    let before = bed.names.version();
    bed.now = 300;
    list_all(&mut bed, &everything());
    for object in everything() {
        bed.apply(object);
    }
    assert_eq!(bed.names.version(), before);
    for resource in Resource::ALL {
        assert_eq!(bed.cluster.objects(resource), everything().iter().filter(|o| o.resource() == resource).count());
    }
}

#[test]
fn what_a_list_lacks_is_gone_when_it_ends_and_not_before() {
    let mut bed = Bed::fresh();
    list_all(&mut bed, &everything());
    bed.now = 200;
    bed.tell(Change::ListBegun(Resource::Pods));
    bed.tell(Change::Listed(replica(2, "api", "10.0.0.2 fd00::2").into_object()));
    for address in ["10.0.0.1", "10.0.0.2"] {
        assert!(bed.now_at(address).starts_with("Deployment api"), "{address}");
    }
    bed.tell(Change::ListEnded(Resource::Pods));
    assert_eq!(bed.now_at("10.0.0.1"), "NotFound");
    assert!(bed.now_at("10.0.0.2").starts_with("Deployment api"));
    assert_eq!(bed.cluster.objects(Resource::Pods), 1);
}

#[test]
fn a_list_that_broke_off_takes_nothing_away() {
    let mut bed = Bed::fresh();
    list_all(&mut bed, &everything());
    for _ in 0..300 {
        bed.tell(Change::ListBegun(Resource::Pods));
    }
    assert!(bed.now_at("10.0.0.1").starts_with("Deployment api"));
    list_all(&mut bed, &everything());
    assert_eq!(bed.cluster.objects(Resource::Pods), 2);
}

#[test]
fn an_empty_list_leaves_nothing() {
    let mut bed = Bed::fresh();
    list_all(&mut bed, &everything());
    bed.now = 200;
    list_all(&mut bed, &[]);
    for (address, port) in [("10.0.0.1", 8080), ("10.0.0.2", 8080), ("172.16.0.3", 80), ("192.168.0.1", 22)] {
        assert_eq!(bed.who(address, port, 200), "NotFound", "{address}");
        assert_eq!(bed.service(address, port, 200), "-", "{address}");
    }
    assert!(Resource::ALL.into_iter().all(|resource| bed.cluster.objects(resource) == 0));
    bed.cluster.forget(crate::bed::ts(10_000));
    bed.cluster.forget(crate::bed::ts(10_000));
    for metric in bed.cluster.metrics() {
        assert_eq!(metric.value, 0, "{}", metric.name);
    }
}

#[test]
fn a_name_that_is_used_again_is_the_new_objects() {
    let mut bed = Bed::fresh();
    list_all(&mut bed, &everything());
    bed.now = 200;
    // Deleted and made anew, with the same address, while nobody watched.
    bed.list(Resource::Services, vec![service(30, "api", "172.16.0.3")]);
    bed.list(Resource::Nodes, vec![node(50, "n1", "192.168.0.1")]);
    assert_eq!(bed.who("172.16.0.3", 80, 201), "Deployment api");
    assert_eq!(bed.service("172.16.0.3", 80, 201), "api");
    assert!(bed.names.named_service("api.shop.svc").is_some());
    assert_eq!(bed.who("192.168.0.1", 22, 201), "Node n1");
    assert_eq!(bed.cluster.objects(Resource::Services), 1);
}

#[test]
fn deletes_of_what_is_not_known_change_nothing() {
    let mut bed = Bed::fresh();
    list_all(&mut bed, &everything());
    let before = bed.names.version();
    for resource in Resource::ALL {
        bed.delete(resource, 999);
    }
    assert_eq!(bed.names.version(), before);
}

#[test]
fn what_finds_no_room_is_refused_and_counted() {
    let limits = Limits { pods: 2, services: 1, slices: 1, nodes: 1, jobs: 1, endpoints: 1, ..Limits::default() };
    let mut bed = Bed::of(Cluster::new(limits));
    for number in 0..4 {
        bed.apply(pod(number, &format!("p{number}"), &format!("10.0.0.{number}")));
        bed.apply(service(number, &format!("s{number}"), &format!("172.16.0.{number}")));
        bed.apply(node(number, &format!("n{number}"), &format!("192.168.0.{number}")));
        bed.apply(job(number, &format!("j{number}"), Some("cron")));
    }
    bed.apply(slice(1, "s0", &[(1, "10.0.0.1"), (2, "10.0.0.2")]));
    let refused = Resource::ALL.map(|resource| bed.names.refused(resource));
    assert_eq!(refused, [2, 3, 1, 3, 3]);
    assert_eq!(bed.metric("pilotfish_cluster_refused_total"), 12);
    assert_eq!(bed.now_at("10.0.0.3"), "NotFound");
    // There is room again.
    bed.delete(Resource::Pods, 0).apply(pod(3, "p3", "10.0.0.3"));
    assert_eq!(bed.now_at("10.0.0.3"), "Pod p3 p3");
}

#[test]
fn holds_that_find_no_room_are_refused_and_counted() {
    let mut bed = Bed::of(Cluster::new(Limits { holds: 1, ..Limits::default() }));
    bed.apply(pod(1, "a", "10.0.0.1")).apply(pod(2, "b", "10.0.0.2"));
    assert_eq!(bed.now_at("10.0.0.2"), "NotFound");
    assert_eq!(bed.metric("pilotfish_cluster_refused_total"), 1);
    assert!(bed.names.pod(uid(2)).is_some());
}

// One thread changes what another asks about: pod n has the address from second n to n + 1.
#[test]
fn a_reader_never_sees_a_holder_of_another_time() {
    use std::sync::atomic::{AtomicU64, Ordering};
    const PODS: u32 = 2_000;
    let mut bed = Bed::new();
    let names = bed.names.clone();
    let past = AtomicU64::new(1_000);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut named, mut turn) = (0_u64, 0_u64);
            while named == 0 || past.load(Ordering::Acquire) < 1_000 + u64::from(PODS) {
                turn += 1;
                let second = past.load(Ordering::Acquire).saturating_sub(1 + turn % 20);
                let endpoint = flow_model::Endpoint { ip: crate::bed::ip("10.0.0.5"), port: 80 };
                if let flow_model::Identity::Known(who) = names.holder(endpoint, crate::bed::ts(second)) {
                    assert_eq!(*who.pod, format!("p{second}"));
                    named += 1;
                }
            }
            named
        });
        for number in 0..PODS {
            let second = 1_000 + u64::from(number);
            let new = crate::bed::started(second, pod(number, &format!("p{second}"), "10.0.0.5"));
            bed.cluster.apply(Change::Applied(Object::Pod(new)), moment(second));
            bed.cluster.apply(Change::Deleted(Resource::Pods, uid(number)), moment(second + 1));
            past.store(second + 1, Ordering::Release);
        }
        asking.join().unwrap()
    });
    assert!(asked > 0);
}
