//! What a Service's address leads to, and by which Service a pod is reached.

use crate::bed::{Bed, ip, node, owned, pod, replica, service, shown, slice, started, wall};
use k8s_sync::cluster::object::{EndpointSlice, Object, Pod, Resource, Service, ServiceEndpoint};

#[test]
fn an_address_of_a_service_is_the_one_workload_behind_it_and_else_the_service() {
    let mut bed = Bed::new();
    bed.apply(service(1, "api", "172.16.0.1 fd02::1"));
    assert_eq!(bed.who("172.16.0.1", 80, 100), "Service api", "no endpoints yet");
    bed.apply(replica(2, "api", "10.0.0.2")).apply(replica(3, "api", "10.0.0.3"));
    bed.apply(slice(4, "api", &[(2, "10.0.0.2"), (3, "10.0.0.3")]));
    assert_eq!(bed.who("172.16.0.1", 80, 100), "Deployment api");
    assert_eq!(bed.who("fd02::1", 80, 100), "Deployment api");

    // A canary joins.
    bed.at(200).apply(replica(5, "canary", "10.0.0.5"));
    bed.apply(slice(4, "api", &[(2, "10.0.0.2"), (3, "10.0.0.3"), (5, "10.0.0.5")]));
    assert_eq!(bed.who("172.16.0.1", 80, 200), "Service api");
    assert_eq!(bed.who("172.16.0.1", 80, 199), "Deployment api", "as it was then");
    // It takes over.
    bed.at(300).apply(slice(4, "api", &[(5, "10.0.0.5")]));
    assert_eq!(bed.who("172.16.0.1", 80, 300), "Deployment canary");
    assert_eq!(bed.who("172.16.0.1", 80, 299), "Service api");
}

#[test]
fn objects_of_a_service_may_come_in_any_order() {
    let objects = || {
        [
            Object::Service(service(1, "api", "172.16.0.1")),
            Object::EndpointSlice(slice(2, "api", &[(3, "10.0.0.3"), (4, "10.0.0.4")])),
            Object::Pod(replica(3, "api", "10.0.0.3")),
            Object::Pod(replica(4, "api", "10.0.0.4")),
        ]
    };
    for turn in 0..24 {
        let mut left: Vec<Object> = objects().into();
        let mut bed = Bed::new();
        let mut turn = turn;
        while !left.is_empty() {
            let next = left.remove(turn % left.len());
            turn /= left.len() + 1;
            bed.apply(next);
        }
        assert_eq!(bed.who("172.16.0.1", 80, 100), "Deployment api");
        assert_eq!(bed.service("10.0.0.4", 8080, 100), "api");
    }
}

#[test]
fn nothing_is_said_of_all_endpoints_before_all_are_known() {
    let mut bed = Bed::fresh();
    bed.list(Resource::Services, vec![service(1, "api", "172.16.0.1")]);
    bed.apply(slice(2, "api", &[(3, "10.0.0.3")]));
    bed.list(Resource::Pods, vec![replica(3, "api", "10.0.0.3")]);
    // More slices of the Service may be on their way.
    assert_eq!(bed.who("172.16.0.1", 80, 100), "Service api");
    bed.list(Resource::EndpointSlices, vec![slice(2, "api", &[(3, "10.0.0.3")])]);
    assert_eq!(bed.who("172.16.0.1", 80, 100), "Deployment api");
    assert_eq!(bed.who("172.16.0.1", 80, 50), "Deployment api");
}

#[test]
fn a_pod_that_is_not_known_may_be_anybodys() {
    let mut bed = Bed::new();
    bed.apply(service(1, "api", "172.16.0.1")).apply(replica(2, "api", "10.0.0.2"));
    bed.apply(slice(3, "api", &[(2, "10.0.0.2"), (4, "10.0.0.4")]));
    assert_eq!(bed.who("172.16.0.1", 80, 100), "Service api");
    // Told of before it has its address, and again with it.
    bed.apply(replica(4, "api", "")).apply(replica(4, "api", "10.0.0.4"));
    assert_eq!(bed.who("172.16.0.1", 80, 100), "Deployment api");
}

#[test]
fn a_service_whose_only_pod_is_replaced_stays_that_workloads() {
    let mut bed = Bed::new();
    bed.apply(service(1, "api", "172.16.0.1")).apply(replica(2, "api", "10.0.0.2"));
    bed.apply(slice(3, "api", &[(2, "10.0.0.2")]));
    bed.at(200).delete(Resource::Pods, 2).apply(slice(3, "api", &[]));
    assert_eq!(bed.who("172.16.0.1", 80, 200), "Deployment api");
}

#[test]
fn a_reused_service_address_has_its_holder_of_the_time() {
    let mut bed = Bed::new();
    bed.apply(service(1, "old", "172.16.0.1"));
    // Its end is heard of after the other one's beginning, in a list.
    bed.at(200).list(Resource::Services, vec![Service { created: Some(wall(150)), ..service(2, "new", "172.16.0.1") }]);
    assert_eq!(
        [149, 150, 200].map(|second| bed.who("172.16.0.1", 80, second)),
        ["Service old", "Service new", "Service new"]
    );
}

#[test]
fn a_pods_port_is_reached_by_the_one_service_that_has_it() {
    let mut bed = Bed::new();
    bed.apply(replica(1, "api", "10.0.0.1"));
    bed.apply(service(2, "api", "172.16.0.2")).apply(slice(3, "api", &[(1, "10.0.0.1")]));
    assert_eq!(bed.service("10.0.0.1", 8080, 100), "api");
    assert_eq!(bed.service("10.0.0.1", 9090, 100), "-", "another port");
    assert_eq!(bed.service("172.16.0.2", 80, 100), "api");
    // A headless twin serves names, not traffic.
    bed.apply(service(4, "api-headless", "")).apply(slice(5, "api-headless", &[(1, "10.0.0.1")]));
    assert_eq!(bed.service("10.0.0.1", 8080, 100), "api");
    // Two that could be meant.
    bed.apply(service(6, "api-2", "172.16.0.6")).apply(slice(7, "api-2", &[(1, "10.0.0.1")]));
    assert_eq!(bed.service("10.0.0.1", 8080, 100), "-");
    bed.at(200).delete(Resource::EndpointSlices, 3).delete(Resource::EndpointSlices, 7);
    assert_eq!(bed.service("10.0.0.1", 8080, 200), "api-headless");
    assert_eq!(bed.service("10.0.0.1", 8080, 199), "-");
}

#[test]
fn a_reused_address_is_not_reached_by_the_old_pods_service() {
    let mut bed = Bed::new();
    bed.apply(replica(1, "old", "10.0.0.1"));
    bed.apply(service(2, "old", "172.16.0.2")).apply(slice(3, "old", &[(1, "10.0.0.1")]));
    bed.at(205).apply(started(200, replica(4, "new", "10.0.0.1")));
    assert_eq!(bed.service("10.0.0.1", 8080, 199), "old");
    assert_eq!(bed.service("10.0.0.1", 8080, 200), "-");
    bed.apply(service(5, "new", "")).apply(slice(6, "new", &[(4, "10.0.0.1")]));
    assert_eq!(bed.service("10.0.0.1", 8080, 205), "new");
    // News of the past.
    bed.at(210).delete(Resource::EndpointSlices, 3).delete(Resource::Pods, 1);
    assert_eq!(bed.service("10.0.0.1", 8080, 199), "old");
    assert_eq!(bed.service("10.0.0.1", 8080, 210), "new");
}

#[test]
fn a_service_is_reached_from_outside_by_the_ports_that_it_has_there() {
    let mut bed = Bed::new();
    bed.apply(node(1, "n1", "192.168.0.1"));
    bed.apply(replica(2, "ingress", "10.0.0.2")).apply(slice(3, "ingress", &[(2, "10.0.0.2")]));
    // As k3s does it: the node's address is the load balancer's.
    let outside = vec![ip("192.168.0.1"), ip("198.51.100.1")];
    bed.apply(Service { external_ips: outside, node_ports: vec![30_080], ..service(4, "ingress", "172.16.0.4") });
    for (address, port) in [("192.168.0.1", 80), ("192.168.0.1", 30_080), ("198.51.100.1", 80)] {
        assert_eq!(bed.who(address, port, 100), "Deployment ingress", "{address}:{port}");
        assert_eq!(bed.service(address, port, 100), "ingress", "{address}:{port}");
    }
    assert_eq!((bed.who("192.168.0.1", 22, 100), bed.service("192.168.0.1", 22, 100)), ("Node n1".into(), "-".into()));
    assert_eq!(bed.who("10.0.0.2", 30_080, 100), "Deployment ingress ingress-5d4f-x2", "a pod has no node ports");
    // Two Services share an address.
    bed.apply(Service { external_ips: vec![ip("198.51.100.1")], ports: vec![53], ..service(5, "dns", "172.16.0.5") });
    let at = |bed: &Bed, port| bed.who("198.51.100.1", port, 100);
    assert_eq!([80, 53, 22].map(|port| at(&bed, port)), ["Deployment ingress", "Service dns", "NotFound"]);
    bed.at(200).delete(Resource::Services, 4);
    assert_eq!(bed.who("192.168.0.1", 30_080, 201), "Node n1");
}

#[test]
fn an_external_name_and_every_name_of_a_service_in_the_cluster_lead_to_it() {
    let mut bed = Bed::new();
    bed.apply(Service { external_name: Some("DB.example.com".to_owned()), ..service(1, "db", "") });
    bed.apply(service(2, "api", "172.16.0.2"));
    let called = |bed: &Bed, name: &str| bed.names.named_service(name).map_or("-".to_owned(), |who| shown(&who));
    for (name, expected) in [
        ("db.shop.svc.cluster.local", "Service db"),
        ("db.shop.svc", "Service db"),
        ("DB.shop.svc.Cluster.Local.", "Service db"),
        ("db.example.com", "Service db"),
        ("api.shop.svc.cluster.local", "Service api"),
        ("api-0.api.shop.svc.cluster.local", "Service api"),
        ("api.other.svc.cluster.local", "-"),
        ("svc", "-"),
        ("", "-"),
        ("example.com", "-"),
    ] {
        assert_eq!(called(&bed, name), expected, "{name}");
    }
    // Two stand for it: which was meant?
    bed.apply(Service { external_name: Some("db.example.com".to_owned()), ..service(3, "db-2", "") });
    assert_eq!(called(&bed, "db.example.com"), "-");
    bed.delete(Resource::Services, 1);
    assert_eq!(called(&bed, "db.example.com"), "Service db-2");
    assert_eq!(called(&bed, "db.shop.svc"), "-");
}

#[test]
fn endpoints_that_are_no_pods_are_reached_by_their_service() {
    let mut bed = Bed::new();
    let outside = ServiceEndpoint { addresses: vec![ip("203.0.113.5")], pod: None };
    bed.apply(EndpointSlice { endpoints: vec![outside], ..slice(1, "legacy", &[]) });
    bed.apply(service(2, "legacy", "172.16.0.2"));
    assert_eq!(bed.service("203.0.113.5", 8080, 100), "legacy");
    assert_eq!(bed.who("172.16.0.2", 80, 100), "Service legacy");
}

#[test]
fn a_pod_on_its_nodes_network_is_reached_by_its_service_there() {
    let mut bed = Bed::new();
    bed.apply(node(1, "n1", "192.168.0.1"));
    bed.apply(slice(2, "exporters", &[(3, "192.168.0.1")])).apply(service(4, "exporters", ""));
    let host = Pod { host_network: true, ..pod(3, "exporter-x", "192.168.0.1") };
    bed.apply(owned("DaemonSet", "exporter", host));
    assert_eq!(bed.who("192.168.0.1", 8080, 100), "DaemonSet exporter exporter-x");
    assert_eq!(bed.service("192.168.0.1", 8080, 100), "exporters");
    assert_eq!(bed.service("192.168.0.1", 9999, 100), "-");
}

#[test]
fn what_another_namespace_lists_changes_no_service_of_a_pod() {
    let mut bed = Bed::new();
    bed.apply(replica(1, "api", "10.0.0.1")).apply(pod(2, "lone", "10.0.0.2"));
    bed.apply(service(3, "api", "172.16.0.3")).apply(slice(4, "api", &[(1, "10.0.0.1")]));
    let elsewhere = |mut slice: EndpointSlice| {
        slice.namespace = "other".to_owned();
        slice
    };
    // With the pod's uid, which is no secret, and without.
    let by_uid = elsewhere(slice(5, "mine", &[(1, "10.0.0.1"), (2, "10.0.0.2")]));
    let by_address =
        ["10.0.0.1", "10.0.0.2"].map(|address| ServiceEndpoint { addresses: vec![ip(address)], pod: None });
    bed.apply(Service { namespace: "other".to_owned(), ..service(6, "mine", "172.16.0.6") }).apply(by_uid);
    bed.apply(EndpointSlice { endpoints: by_address.into(), ..elsewhere(slice(7, "mine-too", &[])) });
    // An external address is for clients outside.
    let outside = vec![ip("10.0.0.1"), ip("10.0.0.2")];
    let external = Service { external_ips: outside, ports: vec![8080], ..service(8, "mine-as-well", "172.16.0.8") };
    bed.apply(Service { namespace: "other".to_owned(), ..external });
    assert_eq!(bed.service("10.0.0.1", 8080, 100), "api");
    assert_eq!(bed.service("10.0.0.2", 8080, 100), "-");
    assert_eq!(bed.who("10.0.0.2", 8080, 100), "Pod lone lone");
    assert_eq!(bed.service("172.16.0.3", 80, 100), "api");
    assert_eq!(bed.who("172.16.0.3", 80, 100), "Deployment api");
}

#[test]
fn an_external_name_of_another_namespace_names_nobodys_traffic() {
    let mut bed = Bed::new();
    let external =
        |number, name: &str| Service { external_name: Some("pay.example.com".to_owned()), ..service(number, name, "") };
    bed.apply(Service { namespace: "other".to_owned(), ..external(1, "mine") });
    let called = |bed: &Bed| {
        let service = bed.names.named_service_for(Some("shop"), "pay.example.com");
        service.map_or("-".to_owned(), |who| shown(&who))
    };
    assert_eq!(called(&bed), "-");
    bed.apply(external(2, "pay"));
    assert_eq!(called(&bed), "Service pay");
    assert_eq!(
        bed.names.named_service_for(Some("other"), "mine.other.svc").map(|who| shown(&who)).as_deref(),
        Some("Service mine")
    );
}
