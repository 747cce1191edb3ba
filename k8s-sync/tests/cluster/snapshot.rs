//! A table that is saved and loaded, and files that are no such thing.

use crate::bed::{
    Bed, EPOCH, ip, job, limits, moment, node, owned, pod, replica, service, shown, slice, started, uid, wall,
};
use k8s_sync::cluster::object::{Object, Pod, Resource, Service};
use k8s_sync::cluster::{Cluster, Limits, Moment, SnapshotError};
use proptest::prelude::*;
use std::time::Duration;

fn saved() -> Vec<u8> {
    let mut bed = Bed::new();
    bed.apply(started(90, replica(1, "api", "10.0.0.1 fd00::1"))).apply(replica(2, "api", "10.0.0.2"));
    bed.apply(owned("Job", "backup-1", pod(3, "backup-1-q", "10.0.0.3"))).apply(job(4, "backup-1", Some("backup")));
    bed.apply(Pod {
        host_network: true,
        ports: vec![9100],
        static_uid: Some(uid(77)),
        ..pod(5, "exporter", "192.168.0.1")
    });
    bed.apply(Pod { started: None, ended: true, node: None, ..pod(6, "done", "") });
    let reached =
        Service { node_ports: vec![30_080], external_ips: vec![ip("198.51.100.1")], ..service(7, "api", "172.16.0.7") };
    bed.apply(Service { external_name: Some("api.example.com".to_owned()), ..reached });
    bed.apply(slice(8, "api", &[(1, "10.0.0.1"), (2, "10.0.0.2")])).apply(node(9, "n1", "192.168.0.1"));
    let mut file = Vec::new();
    bed.cluster.save(&mut file).unwrap();
    file
}

fn load(file: &[u8], now: Moment) -> Result<Bed, SnapshotError> {
    Cluster::load(limits(), file, now).map(Bed::of)
}

/// The machine was started again, and the agent an hour after what is saved.
fn later() -> Moment {
    Moment { mono: crate::bed::ts(50), wall: wall(3_700) }
}

#[test]
fn a_loaded_table_answers_as_the_saved_one() {
    let bed = load(&saved(), later()).unwrap();
    for (address, port, expected) in [
        ("10.0.0.1", 8080, "Deployment api api-5d4f-x1"),
        ("fd00::1", 8080, "Deployment api api-5d4f-x1"),
        ("10.0.0.3", 80, "CronJob backup backup-1-q"),
        ("192.168.0.1", 9100, "Pod exporter exporter"),
        ("192.168.0.1", 22, "Node n1"),
        ("192.168.0.1", 30_080, "Deployment api"),
        ("172.16.0.7", 80, "Deployment api"),
        ("198.51.100.1", 80, "Deployment api"),
        ("10.0.0.9", 80, "NotFound"),
    ] {
        assert_eq!(bed.who(address, port, 50), expected, "{address}:{port}");
    }
    assert_eq!(bed.service("10.0.0.2", 8080, 50), "api");
    assert_eq!(bed.names.named_service("api.example.com").map(|who| shown(&who)).as_deref(), Some("Service api"));
    for number in [5, 77] {
        assert_eq!(bed.names.pod(uid(number)).map(|who| shown(&who)).as_deref(), Some("Pod exporter exporter"));
    }
    assert_eq!(Resource::ALL.map(|resource| bed.cluster.objects(resource)), [5, 1, 1, 1, 1]);
    // Saved again, it is the same.
    let mut again = Vec::new();
    bed.cluster.save(&mut again).unwrap();
    assert_eq!(again.len(), saved().len());
}

#[test]
fn names_of_a_snapshot_are_stale_until_a_list_has_ended_and_keep_their_times() {
    let mut bed = load(&saved(), later()).unwrap();
    let explained = |bed: &Bed| bed.names.explain(ip("10.0.0.1"), None, later());
    let before = explained(&bed);
    assert_eq!((before.len(), before[0].stale, before[0].since), (1, true, Some(wall(90))));
    assert_eq!((before[0].node.as_deref(), before[0].service.as_deref()), (Some("n1"), Some("api")));

    bed.now = 60;
    bed.list(Resource::Pods, vec![Object::Pod(started(90, replica(1, "api", "10.0.0.1 fd00::1")))]);
    let after = explained(&bed);
    assert_eq!((after.len(), after[0].stale, after[0].since), (1, false, Some(wall(90))));
    // What was saved and is not listed is gone.
    assert_eq!(bed.who("10.0.0.3", 80, 60), "NotFound");
    assert!(bed.names.explain(ip("172.16.0.7"), None, later())[0].stale, "Services were not listed yet");
}

#[test]
fn after_a_snapshot_a_new_pod_begins_with_its_start() {
    let mut bed = load(&saved(), later()).unwrap();
    bed.now = 60;
    let new = Pod { started: Some(wall(3_690)), ..replica(20, "new", "10.0.0.3") };
    bed.cluster.apply(k8s_sync::cluster::object::Change::Applied(Object::Pod(new)), later());
    assert_eq!(bed.who("10.0.0.3", 80, 39), "CronJob backup backup-1-q");
    assert_eq!(bed.who("10.0.0.3", 80, 40), "Deployment new new-5d4f-x20");
}

#[test]
fn what_is_known_of_an_address_is_told_newest_first() {
    let mut bed = Bed::new();
    bed.apply(started(50, pod(1, "old", "10.0.0.5")));
    bed.at(200).delete(Resource::Pods, 1);
    bed.at(225).apply(started(220, pod(2, "new", "10.0.0.5")));
    let told = bed.names.explain(ip("10.0.0.5"), Some(80), moment(300));
    let short: Vec<_> = told.iter().map(|t| (shown(&t.who), t.since, t.until)).collect();
    let until = Some(wall(200));
    assert_eq!(short, [("Pod new new".into(), Some(wall(220)), None), ("Pod old old".into(), Some(wall(50)), until)]);
}

#[test]
fn a_file_that_is_cut_off_or_changed_anywhere_is_an_error() {
    let file = saved();
    assert!(load(&file, moment(0)).is_ok());
    for len in 0..file.len() {
        assert!(matches!(load(&file[..len], moment(0)), Err(SnapshotError::Damaged(_))), "cut off at {len}");
    }
    for at in 0..file.len() {
        let mut file = file.clone();
        file[at] ^= 1 << (at % 8);
        assert!(load(&file, moment(0)).is_err(), "byte {at}");
    }
}

#[test]
fn a_file_of_another_version_or_of_something_else_is_told_apart() {
    let mut file = saved();
    file[8] = 2;
    let error = load(&file, moment(0)).err().unwrap();
    assert_eq!(error.to_string(), "the snapshot of the cluster's names has version 2");
    let error = load(b"#!/bin/sh\nexit 0\n", moment(0)).err().unwrap();
    assert_eq!(error.to_string(), "the snapshot of the cluster's names is damaged: it is something else");
}

#[test]
fn a_file_of_a_larger_table_is_loaded_as_far_as_there_is_room() {
    let limits = Limits { pods: 2, ..Limits::default() };
    let cluster = Cluster::load(limits, &saved()[..], moment(0)).unwrap();
    assert_eq!((cluster.objects(Resource::Pods), cluster.names().refused(Resource::Pods)), (2, 3));
}

#[test]
fn a_clock_that_was_set_back_before_everything_harms_nothing() {
    let bed = load(&saved(), Moment { mono: crate::bed::ts(50), wall: std::time::SystemTime::UNIX_EPOCH }).unwrap();
    assert_eq!(bed.who("10.0.0.2", 80, 50), "Deployment api api-5d4f-x2");
    let far = wall(0) + Duration::from_secs(EPOCH);
    assert!(load(&saved(), Moment { mono: crate::bed::ts(0), wall: far }).is_ok());
}

proptest! {
    // Behind a right beginning, so that it gets anywhere.
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(prop_oneof![4 => 0_u8..12, 1 => any::<u8>()], 0..400)) {
        let mut file = b"PFNAMES\n\x01\0\0\0".to_vec();
        file.extend(bytes);
        prop_assert!(load(&file, moment(0)).is_err());
    }
}
