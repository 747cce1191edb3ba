use super::Verdict::{Here, Nobodys, Stranger, Unjudged};
use super::*;
use crate::pods::{pod, uid, web};
use k8s_sync::cluster::object::Controller;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bare(n: u32, node: &str) -> Pod {
    Pod { controller: None, ..web(n, node) }
}

fn end(namespace: &str, kind: WorkloadKind, name: &str) -> End {
    End { workload: name.into(), namespace: namespace.into(), kind: kind.as_str() }
}

fn deployment(name: &str) -> End {
    end("shop", WorkloadKind::Deployment, name)
}

/// All was listed half an hour ago.
fn ran(pods: &[Pod]) -> Ran {
    let mut ran = Ran::default();
    pods.iter().for_each(|pod| ran.put(&Object::Pod(pod.clone())));
    ran.set_complete();
    ran.tick(LATELY, at(0));
    ran
}

#[test]
fn a_node_tells_of_what_has_a_pod_there_and_not_of_what_has_pods_elsewhere() {
    let ran = ran(&[web(1, "n1"), pod(2, ("StatefulSet", "db"), "n2"), web(3, "n3")]);
    let told = |node, end: &End| ran.verdict(node, end, false);
    assert_eq!(["n1", "n2", "n3"].map(|node| told(node, &deployment("web"))), [Here, Stranger, Here]);
    assert_eq!(told("n1", &end("shop", WorkloadKind::StatefulSet, "db")), Stranger);
    // Of another namespace, or of another kind: no pod is of it.
    assert_eq!(told("n2", &end("pay", WorkloadKind::Deployment, "web")), Nobodys);
    assert_eq!(told("n2", &end("shop", WorkloadKind::StatefulSet, "web")), Nobodys);
    // A node of which nothing is known runs nothing.
    assert_eq!(told("n9", &deployment("web")), Stranger);
}

#[test]
fn before_its_controller_is_known_a_pod_goes_by_its_own_name() {
    let ran = ran(&[web(1, "n1"), bare(2, "n2"), pod(3, ("StrimziPodSet", "kafka"), "n1")]);
    let pods = ["pod-1", "pod-2", "pod-3", "kafka"].map(|name| end("shop", WorkloadKind::Pod, name));
    assert_eq!(pods.each_ref().map(|pod| ran.verdict("n1", pod, false)), [Here, Stranger, Here, Here]);
    assert_eq!(pods.each_ref().map(|pod| ran.verdict("n2", pod, false)), [Stranger, Here, Stranger, Stranger]);
}

#[test]
fn static_pods_and_pods_on_the_nodes_network_are_pods() {
    let mirror = Pod { controller: Some(Controller { kind: "Node".into(), name: "n1".into() }), ..bare(1, "n1") };
    let host = Pod { host_network: true, ..pod(2, ("DaemonSet", "proxy"), "n1") };
    let ran = ran(&[Pod { static_uid: Some(uid(77)), ..mirror }, host]);
    assert_eq!(ran.verdict("n1", &end("shop", WorkloadKind::Pod, "pod-1"), false), Here);
    assert_eq!(ran.verdict("n1", &end("shop", WorkloadKind::DaemonSet, "proxy"), false), Here);
    assert_eq!(ran.verdict("n2", &end("shop", WorkloadKind::DaemonSet, "proxy"), false), Stranger);
    // Its mirror could not be made.
    assert_eq!(ran.verdict("n2", &end("shop", WorkloadKind::Pod, "etcd-n2"), false), Nobodys);
}

#[test]
fn what_is_no_pod_is_nobodys_and_what_no_interface_has_is_a_strangers() {
    let ran = ran(&[web(1, "n1")]);
    let told = |namespace, kind, name| ran.verdict("n2", &end(namespace, kind, name), false);
    assert_eq!(told("moby", WorkloadKind::Container, "web"), Nobodys);
    assert_eq!(told("shop", WorkloadKind::Container, "web"), Nobodys);
    assert_eq!(told("", WorkloadKind::Process, "kubelet"), Nobodys);
    assert_eq!(told("", WorkloadKind::External, "api.example"), Nobodys);
    assert_eq!(told("", WorkloadKind::Address, "private"), Nobodys);
    assert_eq!(told("", WorkloadKind::Node, "n2"), Here);
    for (namespace, kind, name) in [
        ("", WorkloadKind::Node, "n1"),
        ("shop", WorkloadKind::Node, "n2"),
        ("shop", WorkloadKind::Service, "web"),
        ("shop", WorkloadKind::External, "web"),
        ("shop", WorkloadKind::Process, "web"),
    ] {
        assert_eq!(told(namespace, kind, name), Stranger, "{namespace} {kind:?} {name}");
    }
    let without = |namespace: &str, workload: &str, kind| {
        let (workload, namespace) = (workload.into(), namespace.into());
        ran.verdict("n2", &End { workload, namespace, kind }, false)
    };
    for (workload, kind) in [("_unknown", "Pending"), ("_unknown", "NotFound"), ("_overflow", "")] {
        assert_eq!((without("", workload, kind), without("shop", workload, kind)), (Nobodys, Stranger), "{kind}");
    }
}

#[test]
fn a_workload_that_moves_is_of_both_nodes_for_half_an_hour() {
    let mut ran = ran(&[web(1, "n1")]);
    ran.put(&Object::Pod(web(2, "n2")));
    ran.put(&Object::Pod(Pod { ended: true, ..web(1, "n1") }));
    let told = |ran: &Ran| ["n1", "n2"].map(|node| ran.verdict(node, &deployment("web"), false));
    assert_eq!(told(&ran), [Here, Here]);
    // That it exists no more is told later, and begins nothing anew.
    ran.tick(LATELY + at(600), at(0));
    ran.remove(Resource::Pods, uid(1));
    ran.tick(2 * LATELY, at(0));
    assert_eq!(told(&ran), [Here, Here]);
    ran.tick(2 * LATELY + at(1), at(0));
    assert_eq!(told(&ran), [Stranger, Here]);
    // It is gone everywhere, and then nobody's.
    ran.remove(Resource::Pods, uid(2));
    ran.tick(3 * LATELY + at(2), at(0));
    assert_eq!(told(&ran), [Nobodys, Nobodys]);
    assert_eq!(ran.counts(), RanCounts { judges: true, ..RanCounts::default() });
    assert!(ran.nodes.is_empty() && ran.anywhere.is_empty());
}

#[test]
fn a_pod_without_a_node_runs_nowhere_and_one_that_is_being_deleted_runs() {
    let waiting = Pod { node: None, ..web(1, "") };
    let deleted = Pod { deleted_by: Some(std::time::SystemTime::UNIX_EPOCH), ..web(2, "n1") };
    let mut ran = ran(&[waiting, deleted]);
    assert_eq!(["n1", "n2"].map(|node| ran.verdict(node, &deployment("web"), false)), [Here, Stranger]);
    ran.put(&Object::Pod(web(1, "n2")));
    assert_eq!(ran.verdict("n2", &deployment("web"), false), Here);
}

#[test]
fn pods_of_a_cron_job_go_by_it_and_by_its_job() {
    let mut ran = ran(&[pod(1, ("Job", "nightly-29"), "n1")]);
    let (job, cron) = (end("shop", WorkloadKind::Job, "nightly-29"), end("shop", WorkloadKind::CronJob, "nightly"));
    let told = |ran: &Ran, node: &str| [&job, &cron].map(|end| ran.verdict(node, end, false));
    assert_eq!(told(&ran, "n1"), [Here, Nobodys]);
    let made = |n, name: &str| {
        let cron_job = Some("nightly".into());
        Object::Job(Job { uid: uid(n), namespace: "shop".into(), name: name.into(), cron_job })
    };
    ran.put(&made(7, "nightly-29"));
    ran.put(&made(8, "nightly-30"));
    assert_eq!((told(&ran, "n1"), told(&ran, "n2")), ([Here, Here], [Stranger, Stranger]));
    // Job and pod are deleted.
    ran.remove(Resource::Jobs, uid(7));
    ran.remove(Resource::Pods, uid(1));
    ran.put(&Object::Pod(pod(2, ("Job", "nightly-30"), "n2")));
    assert_eq!((told(&ran, "n1"), told(&ran, "n2")), ([Here, Here], [Stranger, Here]));
    ran.tick(2 * LATELY + at(1), at(0));
    assert_eq!((told(&ran, "n1"), told(&ran, "n2")), ([Nobodys, Stranger], [Nobodys, Here]));
    ran.remove(Resource::Jobs, uid(8));
    ran.tick(4 * LATELY, at(0));
    assert!(ran.below.is_empty());
}

#[test]
fn nobody_is_judged_by_what_is_not_known() {
    let mut ran = Ran::default();
    ran.put(&Object::Pod(web(1, "n1")));
    ran.tick(at(100), at(0));
    let told = |ran: &Ran| [false, true].map(|is_first| ran.verdict("n2", &deployment("web"), is_first));
    assert_eq!(told(&ran), [Unjudged, Unjudged], "not everything was listed");
    ran.set_complete();
    ran.tick(at(129), at(0));
    assert_eq!(told(&ran), [Unjudged, Unjudged], "it may have ended a moment before");
    ran.tick(at(130), at(0));
    assert_eq!(told(&ran), [Stranger, Unjudged], "what was counted before may be of half an hour ago");
    ran.tick(at(100) + LATELY, at(0));
    assert_eq!(told(&ran), [Stranger, Stranger]);
    // The API server is away: a pod may have begun.
    ran.tick(at(110) + LATELY, at(6));
    assert_eq!(told(&ran), [Unjudged, Unjudged]);
    ran.tick(at(200) + LATELY, at(0));
    assert_eq!(told(&ran), [Unjudged, Unjudged], "one may have come and gone");
    ran.tick(at(230) + LATELY, at(3));
    assert_eq!(told(&ran), [Stranger, Unjudged]);
    // Another list says nothing of the past.
    ran.set_complete();
    assert_eq!(told(&ran), [Stranger, Unjudged]);
}

#[test]
fn who_is_forgotten_for_want_of_room_judges_nobody() {
    let mut ran = Ran::with_room(10);
    ran.set_complete();
    ran.tick(LATELY, at(0));
    for n in 0..11 {
        ran.put(&Object::Pod(web(n, "n1")));
        ran.remove(Resource::Pods, uid(n));
    }
    ran.put(&Object::Pod(web(90, "n2")));
    let RanCounts { judges, pods, ended, forgotten } = ran.counts();
    assert_eq!((judges, pods, ended, forgotten), (false, 1, 10, 1));
    assert_eq!(ran.verdict("n3", &deployment("web"), false), Unjudged);
    ran.tick(2 * LATELY, at(0));
    assert_eq!(ran.verdict("n3", &deployment("web"), false), Stranger);
}

#[derive(Clone, Debug)]
enum Told {
    Put(u32, u8, u8, bool),
    Removed(u32),
    Waits(u16),
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        5 => (0..12_u32, 0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(n, of, node, ended)| Told::Put(n, of, node, ended)),
        2 => (0..12_u32).prop_map(Told::Removed),
        2 => (0..1_000_u16).prop_map(Told::Waits),
    ]
}

proptest! {
    /// Whatever the order: of a node is what runs there, and what did within half an hour; nothing else is kept.
    #[test]
    fn of_a_node_is_what_runs_there_and_what_did_of_late(all in proptest::collection::vec(told(), 0..120)) {
        let mut ran = ran(&[]);
        let mut now = LATELY;
        // Where each pod is, and until when others were.
        let mut pods: BTreeMap<u32, (u8, u8)> = BTreeMap::new();
        let mut past: Vec<(Duration, u8, u8)> = Vec::new();
        for one in all {
            match one {
                Told::Put(n, of, node, ended) => {
                    let whole = pod(n, ("StatefulSet", &format!("w{of}")), &format!("n{node}"));
                    ran.put(&Object::Pod(Pod { ended, ..whole }));
                    let before = if ended { pods.remove(&n) } else { pods.insert(n, (of, node)) };
                    past.extend(before.filter(|was| ended || *was != (of, node)).map(|(of, node)| (now, of, node)));
                }
                Told::Removed(n) => {
                    ran.remove(Resource::Pods, uid(n));
                    past.extend(pods.remove(&n).map(|(of, node)| (now, of, node)));
                }
                Told::Waits(seconds) => {
                    now += at(seconds.into());
                    ran.tick(now, at(0));
                }
            }
            past.retain(|(ended, ..)| now - *ended <= LATELY);
            let known: BTreeSet<(u8, u8)> =
                pods.values().copied().chain(past.iter().map(|(_, of, node)| (*of, *node))).collect();
            for of in 0..3_u8 {
                let is_anywhere = known.iter().any(|(known, _)| *known == of);
                for node in 0..3_u8 {
                    let expected = match (known.contains(&(of, node)), is_anywhere) {
                        (true, _) => Here,
                        (false, true) => Stranger,
                        (false, false) => Nobodys,
                    };
                    let end = end("shop", WorkloadKind::StatefulSet, &format!("w{of}"));
                    prop_assert_eq!(ran.verdict(&format!("n{node}"), &end, true), expected);
                }
            }
            prop_assert_eq!((ran.pods.len(), ran.ended.len()), (pods.len(), past.len()));
        }
        ran.tick(now + LATELY + at(1), at(0));
        let nodes: BTreeSet<u8> = pods.values().map(|(_, node)| *node).collect();
        prop_assert_eq!((ran.nodes.len(), ran.ended.len()), (nodes.len(), 0));
    }

    /// Names that nobody has made up for the purpose do not meet, and none makes it fail.
    #[test]
    fn any_name_is_judged(workload in ".{0,40}", namespace in ".{0,20}", node in ".{0,20}", kind in 0..15_usize) {
        let ran = ran(&[web(1, "n1")]);
        let end = end(&namespace, WorkloadKind::ALL[kind], &workload);
        let is_web = (&*namespace, &*workload) == ("shop", "web");
        prop_assert!(is_web || ran.verdict(&node, &end, false) != Here || workload == node);
    }
}

/// What 100,000 pods of 2,000 Deployments on 1,000 nodes take.
#[test]
#[ignore = "measures"]
fn memory_of_a_large_cluster() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let mut ran = Ran::default();
    for n in 0..100_000_u32 {
        let workload = format!("web-{}-5d4c", n % 2_000);
        ran.put(&Object::Pod(pod(n, ("ReplicaSet", &workload), &format!("n{}", n % 1_000))));
    }
    let running = resident();
    eprintln!("{} KiB for {} pods", running - before, ran.counts().pods);
    (0..100_000_u32).for_each(|n| ran.remove(Resource::Pods, uid(n)));
    eprintln!("{} KiB more for {} that ended", resident() - running, ran.counts().ended);
    ran.set_complete();
    ran.tick(LATELY, at(0));
    let (end, started) = (deployment("web-7"), std::time::Instant::now());
    let here = (0..1_000_000).filter(|n| ran.verdict(&format!("n{}", n % 1_000), &end, false) == Here).count();
    eprintln!("{:?} for a million verdicts, {here} of them here", started.elapsed());
}
