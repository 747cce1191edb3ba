//! A pod, and what its containers are asked.

use super::*;
use flow_model::{Endpoint, Ts};
use k8s_sync::cluster::object::{Change, Object, Pod};
use k8s_sync::cluster::{Cluster, Limits, Moment};
use std::sync::Arc;
use std::time::SystemTime;

const MS: u64 = 1_000_000;
const UID: &str = "0f3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d";

struct Story {
    probing: Probing,
    losses: Losses,
    pod: Arc<PodProbes>,
}

fn probe(kind: ProbeKind, path: &str) -> Probe {
    let (container, path) = ("app".to_owned(), path.to_owned());
    Probe { container, kind, path, port: 8080, timeout_s: 1, failures: 3, grace_s: 30 }
}

fn uid() -> Uid {
    Uid::parse(UID).expect("a uid")
}

fn address() -> Endpoint {
    Endpoint { ip: [10, 0, 0, 7].into(), port: 8080 }
}

fn pod(probes: Vec<Probe>) -> Arc<PodProbes> {
    let mut cluster = Cluster::new(Limits::default());
    cluster.follow_node("n1");
    let pod = Pod {
        uid: uid(),
        name: "api-1".into(),
        node: Some("n1".into()),
        ips: vec![address().ip],
        probes: Some(probes),
        ..Pod::default()
    };
    let now = Moment { mono: Ts(0), wall: SystemTime::UNIX_EPOCH };
    cluster.apply(Change::Applied(Object::Pod(pod)), now);
    cluster.names().probes_at(address()).expect("its probes")
}

impl Story {
    fn new(probes: Vec<Probe>) -> Story {
        let losses = Losses::default();
        Story { probing: Probing::new(&losses), losses, pod: pod(probes) }
    }

    /// At this millisecond; None: no answer came.
    fn asked(&mut self, target: &str, at: u64, took: Option<u64>) {
        let of = End { workload: "api".into(), namespace: "shop".into(), kind: "Deployment" };
        let took = took.map(Duration::from_millis);
        let seen =
            ProbeSeen { server: address(), of, target: target.into(), at: Ts(at * MS), took, good: took.is_some() };
        self.probing.seen(seen, &self.pod);
    }

    fn suspects(&self, now: u64) -> Vec<String> {
        self.probing.suspects(Ts(now * MS), |at| at.0 / MS).iter().map(|(_, row)| shown(row)).collect()
    }

    fn exit(&mut self, at: u64) -> Vec<String> {
        let since = self.probing.exit(uid(), "app", Ts(at * MS));
        self.before(since.0 / MS, at)
    }

    fn before(&self, since: u64, at: u64) -> Vec<String> {
        let run = (Ts(since * MS), Ts(at * MS));
        self.probing.before_exit((uid(), "app"), run, |at| at.0 / MS).iter().map(shown).collect()
    }
}

fn shown(row: &ProbeRow) -> String {
    let ProbeRow { namespace, workload, pod, container, probe, path, port, asked_by, seen, .. } = row;
    let times = seen.iter().map(|one| match one.took_us {
        Some(took) => format!(" {}+{}", one.at_ms, took / 1000),
        None => format!(" {}+x", one.at_ms),
    });
    let shared = if *asked_by > 1 { " (shared)" } else { "" };
    format!("{namespace}/{workload} {pod} {container} {probe} {path}:{port}{shared}{}", times.collect::<String>())
}

#[test]
fn a_probe_is_told_once_it_is_slow_or_fails_and_no_longer_than_the_window() {
    let mut story = Story::new(vec![probe(ProbeKind::Readiness, "/ready"), probe(ProbeKind::Liveness, "/live?a=1")]);
    story.asked("/ready", 1_000, Some(20));
    story.asked("/ready", 11_000, Some(500));
    story.asked("/live?a=1", 12_000, Some(20));
    story.asked("/live", 12_500, None);
    story.asked("/other", 13_000, None);
    assert_eq!(story.suspects(20_000), [""; 0], "half of the timeout is fine, and what is no probe of it nobody's");
    story.asked("/ready", 21_000, Some(700));
    story.asked("/live?a=1", 22_000, None);
    let ready = "shop/api api-1 app readiness /ready:8080 1000+20 11000+500 21000+700";
    assert_eq!(story.suspects(30_000), ["shop/api api-1 app liveness /live:8080 12000+20 22000+x", ready]);
    assert_eq!(story.suspects(322_000), ["shop/api api-1 app liveness /live:8080 22000+x"]);
    assert_eq!(story.suspects(322_001), [""; 0]);
    story.probing.forget(Ts(621_000 * MS));
    assert_eq!(story.probing.tracks.len(), 1);
}

#[test]
fn an_exit_is_told_with_the_probes_of_its_own_run() {
    let mut story = Story::new(vec![probe(ProbeKind::Readiness, "/ready"), probe(ProbeKind::Liveness, "/live")]);
    for (at, took) in [(1_000, Some(20)), (11_000, None), (21_000, None), (31_000, None)] {
        story.asked("/live", at, took);
        story.asked("/ready", at + 500, took);
    }
    let live = "shop/api api-1 app liveness /live:8080";
    assert_eq!(story.exit(33_000), [format!("{live} 1000+20 11000+x 21000+x 31000+x")]);
    story.asked("/live", 41_000, Some(30));
    assert_eq!(story.exit(43_000), [format!("{live} 41000+30")], "what was before it is not its own");
    // What was under way is told late, and is of the run in which it began.
    story.asked("/live", 42_500, None);
    assert_eq!(story.before(33_000, 43_000), [format!("{live} 41000+30 42500+x")]);
    assert_eq!(story.probing.before_exit((uid(), "other"), (Ts(0), Ts(50_000 * MS)), |at| at.0), []);
    for second in 50..100 {
        story.asked("/live", second * 1_000, None);
    }
    assert_eq!(story.exit(101_000)[0].matches("+x").count(), BEFORE_EXIT);
}

#[test]
fn until_it_has_started_a_container_is_asked_by_its_startup_probe_alone() {
    let mut story = Story::new(vec![probe(ProbeKind::Startup, "/live"), probe(ProbeKind::Liveness, "/live")]);
    story.asked("/live", 1_000, None);
    story.asked("/live", 2_000, Some(600));
    story.asked("/live", 3_000, None);
    let startup = "shop/api api-1 app startup /live:8080 1000+x 2000+600";
    let liveness = "shop/api api-1 app liveness /live:8080";
    assert_eq!(story.suspects(5_000), [format!("{liveness} 3000+x"), startup.to_owned()]);
    assert_eq!(story.exit(6_000).len(), 2);
    story.asked("/live", 7_000, None);
    assert_eq!(story.exit(8_000), [liveness.to_owned(), "shop/api api-1 app startup /live:8080 7000+x".to_owned()]);
}

#[test]
fn probes_that_ask_for_the_same_are_not_told_apart_and_there_is_room_for_so_many() {
    let same = || [ProbeKind::Readiness, ProbeKind::Liveness].map(|kind| probe(kind, "/healthz")).to_vec();
    let mut story = Story::new(same());
    story.asked("/healthz", 1_000, Some(900));
    assert!(story.suspects(2_000).iter().all(|row| row.contains("(shared) 1000+900")), "{:?}", story.suspects(2_000));
    assert_eq!(story.suspects(2_000).len(), 2);
    for second in 0..100 {
        story.asked("/healthz", 3_000 + second * 1_000, Some(900));
    }
    assert!(story.suspects(110_000).iter().all(|row| row.matches("+900").count() == MOST_SEEN));
    // So many pods as no node has.
    for number in 0..300_u32 {
        let uid = Uid::parse(&format!("{number:08x}-8d2b-4a76-9c63-0d1f2a3b4c5d")).expect("a uid");
        story.pod = Arc::new(PodProbes { uid, ..(*story.pod).clone() });
        story.asked("/healthz", 120_000, Some(900));
    }
    assert_eq!(story.probing.tracks.len(), MOST);
    let lost: u64 = story.losses.rows().iter().filter(|row| row.reason == "probes_full").map(|row| row.total).sum();
    assert_eq!(lost, 2 + 600 - 512);
}
