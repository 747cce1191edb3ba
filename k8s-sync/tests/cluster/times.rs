//! Who had an address when.

use crate::bed::{Bed, EPOCH, moment, node, pod, replica, started, ts, wall};
use k8s_sync::cluster::Moment;
use k8s_sync::cluster::object::{Change, Object, Pod, Resource};
use std::time::{Duration, SystemTime};

#[test]
fn a_reused_address_has_its_holder_of_the_time() {
    let mut bed = Bed::new();
    bed.at(110).apply(started(105, replica(1, "old", "10.0.0.5")));
    bed.at(120).delete(Resource::Pods, 1);
    bed.at(135).apply(started(130, replica(2, "new", "10.0.0.5")));
    let at = |second| bed.who("10.0.0.5", 80, second);
    let told = [104, 105, 119, 120, 129, 130, 999].map(at);
    let (old, new) = ("Deployment old old-5d4f-x1", "Deployment new new-5d4f-x2");
    assert_eq!(told, ["NotFound", old, old, "NotFound", "NotFound", new, new]);
}

#[test]
fn a_new_pod_has_the_address_from_its_start_though_the_old_ones_end_is_heard_of_later_or_never() {
    let mut bed = Bed::new();
    bed.apply(started(50, replica(1, "old", "10.0.0.5")));
    bed.at(160).apply(started(150, replica(2, "new", "10.0.0.5")));
    let at = |bed: &Bed, second| bed.who("10.0.0.5", 80, second);
    assert_eq!(at(&bed, 149), "Deployment old old-5d4f-x1");
    assert_eq!(at(&bed, 150), "Deployment new new-5d4f-x2");
    // News of the old one, which still claims the address.
    bed.at(165).apply(Pod { node: Some("n2".to_owned()), ..started(50, replica(1, "old", "10.0.0.5")) });
    assert_eq!(at(&bed, 166), "Deployment new new-5d4f-x2");
    bed.at(170).delete(Resource::Pods, 1);
    let (old, new) = ("Deployment old old-5d4f-x1", "Deployment new new-5d4f-x2");
    assert_eq!([149, 150, 180].map(|second| at(&bed, second)), [old, new, new]);
}

#[test]
fn the_order_in_which_two_pods_of_one_address_are_listed_does_not_matter() {
    for turned in [false, true] {
        let mut bed = Bed::fresh();
        let mut pods = vec![started(50, replica(1, "old", "10.0.0.5")), started(60, replica(2, "new", "10.0.0.5"))];
        if turned {
            pods.reverse();
        }
        bed.list(Resource::Pods, pods);
        assert_eq!(bed.now_at("10.0.0.5"), "Deployment new new-5d4f-x2");
        assert_eq!(bed.who("10.0.0.5", 80, 55), "Deployment old old-5d4f-x1");
    }
}

#[test]
fn two_pods_that_started_in_the_same_second_are_not_told_apart() {
    let mut bed = Bed::new();
    bed.apply(started(90, pod(1, "a", "10.0.0.5"))).apply(started(90, pod(2, "b", "10.0.0.5")));
    assert_eq!(bed.now_at("10.0.0.5"), "Ambiguous");
    bed.at(110).delete(Resource::Pods, 1);
    assert_eq!(bed.now_at("10.0.0.5"), "Pod b b");
}

#[test]
fn a_pod_that_has_ended_holds_its_address_no_more() {
    let mut bed = Bed::new();
    bed.apply(pod(1, "task", "10.0.0.5"));
    bed.at(120).apply(Pod { ended: true, ..pod(1, "task", "10.0.0.5") });
    assert_eq!(bed.who("10.0.0.5", 80, 119), "Pod task task");
    assert_eq!(bed.who("10.0.0.5", 80, 120), "NotFound");
    assert_eq!(bed.cluster.objects(Resource::Pods), 1);
}

#[test]
fn what_the_first_list_has_was_so_before() {
    let mut bed = Bed::fresh();
    bed.list(Resource::Pods, vec![started(90, pod(1, "a", "10.0.0.5"))]);
    assert_eq!(bed.who("10.0.0.5", 80, 3), "Pod a a");
    bed.at(110).apply(started(105, pod(2, "b", "10.0.0.6")));
    assert_eq!(bed.who("10.0.0.6", 80, 104), "NotFound");
}

#[test]
fn a_pod_older_than_this_machine_is_named() {
    let mut bed = Bed::new();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH - 1_000_000);
    bed.apply(Pod { started: Some(long_ago), ..pod(1, "a", "10.0.0.5") });
    assert_eq!(bed.who("10.0.0.5", 80, 0), "Pod a a");
}

#[test]
fn a_nodes_clock_that_is_ahead_does_not_delay_a_name_beyond_its_news() {
    let mut bed = Bed::new();
    bed.at(120).apply(started(1_000, pod(1, "a", "10.0.0.5")));
    assert_eq!(bed.now_at("10.0.0.5"), "Pod a a");
}

#[test]
fn a_pod_without_a_start_begins_when_it_is_heard_of() {
    let mut bed = Bed::new();
    let undated = |number, name| Pod { started: None, ..pod(number, name, "10.0.0.5") };
    bed.at(110).apply(undated(1, "a"));
    bed.at(150).delete(Resource::Pods, 1);
    bed.at(155).apply(undated(2, "b"));
    // News are slower than clients.
    let told = [149, 150, 155].map(|second| bed.who("10.0.0.5", 80, second));
    assert_eq!(told, ["Pod a a", "Pod b b", "Pod b b"]);
    bed.at(160).apply(undated(3, "c"));
    let told = [159, 160].map(|second| bed.who("10.0.0.5", 80, second));
    assert_eq!(told, ["Pod b b", "Pod c c"]);
}

#[test]
fn a_sandbox_that_is_made_anew_gives_its_pod_another_address_from_then_on() {
    let mut bed = Bed::new();
    bed.apply(started(20, pod(1, "old", "10.0.0.1"))).apply(started(90, pod(2, "other", "10.0.0.2")));
    // The other one's end was not heard of.
    bed.at(200).apply(started(20, pod(1, "old", "10.0.0.2")));
    assert_eq!(bed.who("10.0.0.2", 80, 150), "Pod other other");
    assert_eq!(bed.now_at("10.0.0.2"), "Pod old old");
    assert_eq!(bed.now_at("10.0.0.1"), "NotFound");
    assert_eq!(bed.who("10.0.0.1", 80, 150), "Pod old old");
}

#[test]
fn no_wall_clock_that_jumps_gives_a_holders_time_to_another() {
    for jump in [-3_600_i64, 3_600] {
        let mut bed = Bed::new();
        bed.apply(started(50, pod(1, "old", "10.0.0.5")));
        let set = |second: u64| Moment {
            mono: ts(second),
            wall: match jump > 0 {
                true => wall(second) + Duration::from_secs(3_600),
                false => wall(second) - Duration::from_secs(3_600),
            },
        };
        let new = Object::Pod(started(150, pod(2, "new", "10.0.0.5")));
        bed.cluster.apply(Change::Applied(new.clone()), set(160));
        bed.cluster.apply(Change::Deleted(Resource::Pods, crate::bed::uid(1)), set(161));
        assert_ne!(bed.who("10.0.0.5", 80, 100), "Pod new new", "by {jump} s");
        for second in 150..170 {
            assert_ne!(bed.who("10.0.0.5", 80, second), "Pod old old", "by {jump} s, at {second}");
        }
        assert_eq!(bed.who("10.0.0.5", 80, 161), "Pod new new");
        // Set right again, and told again.
        let before = bed.names.version();
        bed.cluster.apply(Change::Applied(new), moment(170));
        assert_eq!(bed.names.version(), before);
        assert_eq!(bed.who("10.0.0.5", 80, 170), "Pod new new");
    }
}

#[test]
fn the_past_is_kept_for_ten_minutes() {
    let mut bed = Bed::new();
    bed.apply(pod(1, "old", "10.0.0.5"));
    bed.at(200).delete(Resource::Pods, 1);
    bed.cluster.forget(ts(800));
    assert_eq!(bed.who("10.0.0.5", 80, 199), "Pod old old");
    assert_eq!(bed.metric("pilotfish_cluster_holds"), 1);
    bed.cluster.forget(ts(801));
    assert_eq!(bed.who("10.0.0.5", 80, 199), "NotFound");
    assert_eq!(bed.metric("pilotfish_cluster_holds"), 0);
}

#[test]
fn an_address_with_more_past_than_there_is_room_for_has_no_name_rather_than_a_wrong_one() {
    let mut bed = Bed::new();
    // It is never told of that this one ends.
    bed.apply(started(0, pod(1_000, "first", "10.0.0.5")));
    for number in 1..=40 {
        let second = 100 + u64::from(number) * 10;
        bed.at(second).apply(started(second, pod(number, &format!("p{number}"), "10.0.0.5")));
        bed.at(second + 10).delete(Resource::Pods, number);
    }
    assert_eq!(bed.who("10.0.0.5", 80, 115), "NotFound");
    assert_eq!(bed.who("10.0.0.5", 80, 505), "Pod p40 p40");
    assert_eq!(bed.metric("pilotfish_cluster_evicted_total"), 8);
}

#[test]
fn both_families_and_mapped_addresses_are_the_same_pods() {
    let mut bed = Bed::new();
    bed.apply(pod(1, "a", "10.0.0.5 fd00::5"));
    for address in ["10.0.0.5", "fd00::5", "::ffff:10.0.0.5"] {
        assert_eq!(bed.now_at(address), "Pod a a", "{address}");
    }
}

#[test]
fn a_nodes_ports_are_the_pods_that_listen_there_and_else_its_own() {
    let mut bed = Bed::new();
    bed.apply(node(1, "n1", "192.168.0.1 fd01::1"));
    bed.apply(Pod { host_network: true, ports: vec![9100], ..pod(2, "exporter", "192.168.0.1") });
    bed.apply(Pod { host_network: true, ..pod(3, "agent", "192.168.0.1") });
    assert_eq!(bed.who("192.168.0.1", 9100, 100), "Pod exporter exporter");
    assert_eq!(bed.who("192.168.0.1", 40_000, 100), "Node n1");
    assert_eq!(bed.who("fd01::1", 22, 100), "Node n1");
    // A Service lists the other one under a port that it does not declare.
    assert_eq!(bed.who("192.168.0.1", 8080, 100), "Node n1");
    bed.at(110).apply(crate::bed::slice(4, "agents", &[(3, "192.168.0.1")]));
    assert_eq!(bed.who("192.168.0.1", 8080, 110), "Pod agent agent");
    bed.at(120).delete(Resource::EndpointSlices, 4);
    assert_eq!(bed.who("192.168.0.1", 8080, 121), "Node n1");
    // An update of a DaemonSet: the next one listens there.
    bed.at(130)
        .apply(started(125, Pod { host_network: true, ports: vec![9100], ..pod(5, "exporter-2", "192.168.0.1") }));
    assert_eq!(bed.who("192.168.0.1", 9100, 126), "Pod exporter-2 exporter-2");
    bed.at(140).delete(Resource::Nodes, 1);
    assert_eq!(bed.who("192.168.0.1", 22, 141), "NotFound");
}
