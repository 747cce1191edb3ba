//! What the kubelet of this node asks its pods for.

use crate::bed::{Bed, ip, pod, uid};
use flow_model::Endpoint;
use k8s_sync::cluster::object::{Pod, Probe, Resource};

fn asked(number: u32, node: &str, address: &str, ports: &[u16]) -> Pod {
    let probe = |port: &u16| Probe { path: "/healthz".into(), port: *port, ..Probe::default() };
    let probes = Some(ports.iter().map(probe).collect());
    Pod { probes, node: Some(node.to_owned()), ..pod(number, &format!("web-{number}"), address) }
}

fn at(bed: &Bed, address: &str, port: u16) -> Option<String> {
    Some(bed.cluster.names().probes_at(Endpoint { ip: ip(address), port })?.pod.clone())
}

#[test]
fn they_are_known_of_pods_of_this_node_alone_and_for_a_while_after_they_are_gone() {
    let mut bed = Bed::new();
    bed.cluster.follow_node("n1");
    bed.apply(pod(1, "web", "10.0.0.1")).apply(asked(2, "n2", "10.0.0.2", &[80]));
    assert!(!bed.cluster.names().knows_probes(), "nobody told");
    bed.apply(asked(3, "n1", "10.0.0.3", &[80, 81])).apply(asked(4, "n1", "", &[80]));
    assert!(bed.cluster.names().knows_probes());
    assert_eq!(at(&bed, "10.0.0.3", 81).as_deref(), Some("web-3"));
    assert_eq!([at(&bed, "10.0.0.3", 82), at(&bed, "10.0.0.2", 80)], [None, None]);
    // It was given its address after it was scheduled.
    bed.apply(asked(4, "n1", "10.0.0.4", &[80]));
    assert_eq!(at(&bed, "10.0.0.4", 80).as_deref(), Some("web-4"));
    bed.delete(Resource::Pods, 4);
    assert_eq!(at(&bed, "10.0.0.4", 80).as_deref(), Some("web-4"), "its container's end may be told later");
    bed.apply(asked(5, "n1", "10.0.0.4", &[80]));
    assert_eq!(at(&bed, "10.0.0.4", 80).as_deref(), Some("web-5"), "who took over its address");
    for number in 100..1_200 {
        bed.apply(asked(number, "n1", "10.0.0.9", &[80]));
    }
    assert_eq!(at(&bed, "10.0.0.3", 80), None, "bounded");
}

#[test]
fn pods_on_the_nodes_network_are_told_apart_by_their_ports_and_static_ones_have_two_names() {
    let mut bed = Bed::new();
    bed.cluster.follow_node("n1");
    bed.apply(Pod { static_uid: Some(uid(77)), ..asked(1, "n1", "192.168.0.1", &[6443]) });
    bed.apply(asked(2, "n1", "192.168.0.1", &[10250]));
    assert_eq!(at(&bed, "192.168.0.1", 6443).as_deref(), Some("web-1"));
    assert_eq!(at(&bed, "192.168.0.1", 10250).as_deref(), Some("web-2"));
    let of = bed.cluster.names().probes_at(Endpoint { ip: ip("192.168.0.1"), port: 6443 });
    assert_eq!([1, 77, 2].map(|number| of.as_ref().is_some_and(|of| of.is_of(uid(number)))), [true, true, false]);
}

#[test]
fn nothing_is_kept_where_the_node_has_no_name() {
    let mut bed = Bed::new();
    bed.apply(asked(1, "n1", "10.0.0.1", &[80]));
    assert_eq!(at(&bed, "10.0.0.1", 80), None);
}
