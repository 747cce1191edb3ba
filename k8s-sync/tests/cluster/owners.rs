//! Whose a pod is.

use crate::bed::{Bed, job, owned, pod, replica, service, shown, slice, uid};
use k8s_sync::cluster::object::{Pod, Resource};

#[test]
fn a_pod_has_the_name_of_what_it_belongs_to() {
    let mut bed = Bed::new();
    bed.apply(replica(1, "web", "10.0.0.1"));
    bed.apply(owned("ReplicaSet", "lone", pod(2, "lone-x", "10.0.0.2")));
    bed.apply(owned("StatefulSet", "db", pod(3, "db-0", "10.0.0.3")));
    bed.apply(owned("DaemonSet", "log", pod(4, "log-x7k2p", "10.0.0.4")));
    bed.apply(owned("StrimziPodSet", "kafka", pod(5, "kafka-0", "10.0.0.5")));
    bed.apply(pod(6, "debug", "10.0.0.6"));
    let names: Vec<_> = (1..=6).map(|last| bed.now_at(&format!("10.0.0.{last}"))).collect();
    assert_eq!(
        names,
        [
            "Deployment web web-5d4f-x1",
            "ReplicaSet lone lone-x",
            "StatefulSet db db-0",
            "DaemonSet log log-x7k2p",
            "Pod kafka kafka-0",
            "Pod debug debug",
        ]
    );
}

#[test]
fn a_job_is_its_cron_jobs_whichever_is_heard_of_first() {
    let mut bed = Bed::new();
    bed.apply(owned("Job", "backup-29", pod(1, "backup-29-q", "10.0.0.1")));
    assert_eq!(bed.now_at("10.0.0.1"), "Job backup-29 backup-29-q");
    let before = bed.names.version();
    bed.apply(job(2, "backup-29", Some("backup")));
    assert_ne!(bed.names.version(), before);
    assert_eq!(bed.now_at("10.0.0.1"), "CronJob backup backup-29-q");

    bed.apply(job(3, "backup-30", Some("backup")));
    bed.apply(owned("Job", "backup-30", pod(4, "backup-30-q", "10.0.0.2")));
    assert_eq!(bed.now_at("10.0.0.2"), "CronJob backup backup-30-q");

    // The Job is deleted before its pod.
    bed.delete(Resource::Jobs, 3);
    assert_eq!(bed.now_at("10.0.0.2"), "CronJob backup backup-30-q");
    // Somebody makes one of that name by hand.
    bed.delete(Resource::Pods, 4).apply(job(5, "backup-30", None));
    bed.apply(owned("Job", "backup-30", pod(6, "backup-30-r", "10.0.0.3")));
    assert_eq!(bed.now_at("10.0.0.3"), "Job backup-30 backup-30-r");
}

#[test]
fn a_static_pod_is_known_by_what_its_containers_call_it_too() {
    let mut bed = Bed::new();
    let mirror = owned("Node", "n1", pod(1, "etcd-n1", "10.88.0.11"));
    bed.apply(Pod { host_network: true, static_uid: Some(uid(77)), ..mirror });
    for number in [1, 77] {
        let known = bed.names.pod(uid(number)).map(|who| shown(&who));
        assert_eq!(known.as_deref(), Some("Pod etcd-n1 etcd-n1"));
    }
    bed.at(200).delete(Resource::Pods, 1).cluster.forget(crate::bed::ts(3_600));
    assert_eq!(bed.names.pod(uid(77)), None);
}

#[test]
fn a_pod_is_known_by_its_uid_before_it_has_an_address_and_a_while_after_its_end() {
    let mut bed = Bed::new();
    bed.apply(replica(1, "web", ""));
    let known = |bed: &Bed| bed.names.pod(uid(1)).map(|who| shown(&who));
    assert_eq!(known(&bed).as_deref(), Some("Deployment web web-5d4f-x1"));
    bed.at(200).delete(Resource::Pods, 1);
    assert_eq!(bed.cluster.objects(Resource::Pods), 0);
    bed.cluster.forget(crate::bed::ts(700));
    assert!(known(&bed).is_some());
    bed.cluster.forget(crate::bed::ts(900));
    assert_eq!(known(&bed), None);
}

#[test]
fn names_of_any_length_come_out_whole() {
    let mut bed = Bed::new();
    let long = "x".repeat(200);
    for (number, (owner, name)) in
        [("web", "web"), ("web", "we"), ("web", "é"), (&long, &*format!("{long}-{}", "y".repeat(40))), ("é", "è")]
            .into_iter()
            .enumerate()
    {
        bed.apply(owned("StatefulSet", owner, pod(number as u32, name, "")));
        let who = bed.names.pod(uid(number as u32)).unwrap();
        assert_eq!((&*who.name, &*who.pod), (owner, name));
    }
}

#[test]
fn what_stands_in_for_a_deployment_is_one_workload_over_its_rollouts() {
    let mut bed = Bed::new();
    let of_rollout = |number, hash: &str, address: &str| Pod {
        rollout_hash: Some(hash.to_owned()),
        ..owned("ReplicaSet", &format!("shop-web-{hash}"), pod(number, &format!("shop-web-{hash}-x{number}"), address))
    };
    bed.apply(service(1, "web", "172.16.0.1"));
    bed.apply(of_rollout(2, "6d4cf", "10.0.0.2")).apply(slice(3, "web", &[(2, "10.0.0.2")]));
    let workload = bed.who("172.16.0.1", 80, 100);
    assert_eq!(workload, "Rollout shop-web");
    // The canary of the next version, beside the stable one.
    bed.at(200).apply(of_rollout(4, "7f8b9", "10.0.0.4"));
    bed.apply(slice(3, "web", &[(2, "10.0.0.2"), (4, "10.0.0.4")]));
    assert_eq!(bed.who("172.16.0.1", 80, 200), workload);
    assert_eq!(bed.now_at("10.0.0.4"), "Rollout shop-web shop-web-7f8b9-x4");

    // OpenKruise's own StatefulSet and DaemonSet are called like those of Kubernetes.
    bed.apply(owned("CloneSet", "cart", pod(5, "cart-x7k2p", "10.0.0.5")));
    assert_eq!(bed.now_at("10.0.0.5"), "CloneSet cart cart-x7k2p");
}
