//! The task against a real containerd and runc. Needs root, containerd, runc and busybox-static.

mod bed;
mod docker;
mod storm;

use bed::{Agent, Bed, config, wait};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{CreateTaskRequest, StartRequest};
use shim_plugin::{Config, Connection, Limits, Origin, Registry, TaskEvent};
use std::time::{Duration, Instant};

fn ids(done: &bed::Done) -> Vec<&str> {
    done.attached.values().map(String::as_str).collect()
}

#[test]
fn waits_for_the_socket_then_picks_up_what_ran_before_and_names_it() {
    let mut bed = Bed::new();
    let agent = Agent::start(config(&bed));
    agent.wait("no socket is said", |_, status| status.links[1].connection == Connection::Searching);
    bed.start();
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    drop(agent);

    bed.run("pfc", "plain", &["--label", "nerdctl/name=web"]);
    let pod = ["--label", "io.kubernetes.pod.namespace=shop", "--label", "io.kubernetes.pod.name=cart-0"];
    bed.run("pfc-k8s", "pause", &[pod.as_slice(), &["--label", "io.cri-containerd.kind=sandbox"]].concat());
    bed.run("pfc", "on-host", &["--net-host"]);
    let agent = Agent::start(config(&bed));
    agent.wait("all are attached and named", |done, status| {
        let mut names: Vec<&str> = done.names.values().map(String::as_str).collect();
        names.sort_unstable();
        // A reconcile is counted after what it found was handed on.
        let reconciled = status.links[1].counts.reconciles > 0;
        names == ["cart-0", "web"] && status.tasks.placed == 2 && status.tasks.node == 1 && reconciled
    });
    let status = agent.read();
    // Distributions' own builds say it without the "v".
    let version = status.links[1].version.as_deref().map(|version| version.trim_start_matches('v'));
    assert_eq!(version.map(|version| version.starts_with("1.") || version.starts_with("2.")), Some(true));
    assert_eq!((status.counts.found_at_start, status.links[1].counts.reconciles), (3, 1));
    assert_eq!(agent.done().asked["plain"].1, Origin::Found);
    drop(agent);

    let only = Config { namespaces: vec!["pfc-k8s".into()], ..config(&bed) };
    let agent = Agent::start(only);
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    bed.run("pfc", "elsewhere", &[]);
    bed.run("pfc-k8s", "here", &[]);
    agent.wait("the configured namespace is followed", |done, status| {
        ids(done).contains(&"here") && status.tasks.placed == 2
    });
    assert_eq!(agent.read().tasks.namespaces, 2);
    assert!(!agent.done().asked.contains_key("elsewhere"));
    drop(agent);
    bed.end();
}

#[test]
fn a_created_task_is_attached_before_it_starts() {
    let bed = Bed::started();
    bed.create("pfc", "c1");
    let agent = Agent::start(config(&bed));
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = containerd_client::connect(bed.socket()).await.expect("containerd");
        let options = Some(containerd_client::to_any(&RuncOptions { root: bed.runc_root() }));
        let create = CreateTaskRequest { container_id: "c1".into(), options, ..Default::default() };
        let mut tasks = TasksClient::new(channel);
        let pid = tasks.create(in_namespace("pfc", create)).await.expect("a task").into_inner().pid;

        agent.wait("attached while it is only created", |done, status| ids(done) == ["c1"] && status.tasks.placed == 1);
        assert_eq!(agent.done().asked["c1"].1, Origin::Live);
        let first = std::fs::read(format!("/proc/{pid}/cmdline")).expect("its process lives");
        assert!(String::from_utf8_lossy(&first).contains("init"), "the container's own process does not run yet");
        assert_eq!(agent.read().links[1].counts.events.start, 0);

        let start = StartRequest { container_id: "c1".into(), ..Default::default() };
        tasks.start(in_namespace("pfc", start)).await.expect("it starts");
        agent.wait("its start was seen", |_, status| status.links[1].counts.events.start == 1);
        assert_eq!(agent.done().attaches, 1);
    });
    drop(agent);
    bed.end();
}

/// The one runc option that the test needs: where runc keeps its state.
#[derive(Clone, PartialEq, prost::Message)]
struct RuncOptions {
    #[prost(string, tag = "7")]
    root: String,
}

impl prost::Name for RuncOptions {
    const NAME: &'static str = "Options";
    const PACKAGE: &'static str = "containerd.runc.v1";
}

fn in_namespace<T>(namespace: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("a header"));
    request
}

#[test]
fn containers_that_share_a_namespace_are_one_attachment_and_execs_end_nothing() {
    let bed = Bed::started();
    let agent = Agent::start(config(&bed));
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    bed.run("pfc", "first", &[]);
    agent.wait("attached", |done, _| ids(done) == ["first"]);
    let shared = format!("network:/proc/{}/ns/net", bed.pid("pfc", "first"));
    bed.run("pfc", "second", &["--with-ns", &shared]);
    agent.wait("both are in it", |_, status| status.tasks.placed == 2 && status.tasks.namespaces == 1);
    bed.ctr("pfc", &["task", "exec", "--exec-id", "e1", "second", "/bin/true"]).expect("an exec ran");
    agent.wait("the exec's end was seen", |_, status| status.counts.exec_exits >= 1);
    bed.remove("pfc", "first");
    // This performer reads no cookies, so the second is looked at again: it could be in another namespace by now.
    agent.wait("the second keeps it", |done, status| ids(done) == ["second"] && status.tasks.placed == 1);
    assert_eq!((agent.done().attaches, agent.done().detaches), (2, 1));
    bed.remove("pfc", "second");
    agent.wait("the last detaches", |done, status| done.detaches == 2 && status.tasks.namespaces == 0);
    drop(agent);
    bed.end();
}

#[test]
fn survives_a_killed_containerd_and_finds_what_it_missed() {
    let mut bed = Bed::started();
    bed.run("pfc", "stays", &[]);
    bed.run("pfc", "ends-unseen", &[]);
    let agent = Agent::start(config(&bed));
    agent.wait("both are attached", |_, status| status.tasks.placed == 2);
    let unseen = bed.pid("pfc", "ends-unseen").to_string();
    bed.kill();
    agent.wait("the loss is said", |_, status| matches!(status.links[1].connection, Connection::Down { .. }));
    assert_eq!(agent.read().tasks.placed, 2, "what runs is kept");
    std::process::Command::new("kill").args(["-9", &unseen]).status().expect("kill");
    wait("it ended", || !std::path::Path::new(&format!("/proc/{unseen}")).exists());
    bed.start();
    bed.run("pfc", "new", &[]);
    agent.wait("the state is whole", |done, status| {
        let mut attached = ids(done);
        attached.sort_unstable();
        // What was done is told of before its report is in the registry.
        let placed = status.tasks.placed == 2 && status.tasks.namespaces == 2;
        attached == ["new", "stays"] && placed && matches!(status.links[1].connection, Connection::Live)
    });
    let status = agent.read();
    assert_eq!((status.tasks.placed, status.tasks.namespaces, status.links[1].counts.reconnects), (2, 2, 1));
    assert_eq!(
        (agent.done().attaches, agent.done().detaches),
        (3, 1),
        "nothing was attached twice, inode reused or not"
    );
    drop(agent);
    bed.end();
}

#[test]
fn a_containerd_that_falls_silent_is_noticed_and_found_again() {
    let bed = Bed::started();
    bed.run("pfc", "stays", &[]);
    let agent = Agent::start(Config { reconcile_every: Duration::from_millis(200), ..config(&bed) });
    agent.wait("attached", |_, status| status.tasks.placed == 1);
    bed.signal("-STOP");
    agent.wait("silence is not taken for health", |_, status| {
        matches!(status.links[1].connection, Connection::Down { .. })
    });
    assert_eq!(agent.read().tasks.placed, 1);
    bed.signal("-CONT");
    agent.wait("live again", |_, status| matches!(status.links[1].connection, Connection::Live));
    assert_eq!((agent.done().attaches, agent.done().detaches), (1, 0));
    drop(agent);
    bed.end();
}

#[test]
fn fifty_quick_cycles_leave_the_registry_empty() {
    let bed = Bed::started();
    let agent = Agent::start(config(&bed));
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    for cycle in 0..50 {
        bed.run_briefly("pfc", &format!("c{cycle}"));
    }
    agent.wait("nothing is left", |done, status| {
        let events = status.links[1].counts.events;
        // 2.x forgets to tell of some tasks' ends, and never of a container's.
        let forgets = status.links[1].version.as_ref().is_some_and(|version| version.starts_with("v2."));
        // What the registry has forgotten may still wait to be performed.
        let performed = done.attached.is_empty() && done.asked.len() >= 50 && done.attaches == done.detaches;
        // A link counts an event before the registry has it.
        let gone = agent.status.tasks().is_empty() && status.tasks.namespaces == 0;
        performed && gone && (forgets || events.delete >= 50) && events.remove >= 50
    });
    let (done, status) = (agent.done(), agent.read());
    // On a busy machine one may have ended before it was opened.
    assert_eq!((done.attaches, done.asked.len()), (done.detaches, 50));
    assert_eq!(
        (status.links[1].counts.events.create, status.links[1].counts.events.start, status.links[1].counts.events_lost),
        (50, 50, 0)
    );
    drop(agent);
    bed.end();
}

/// `cargo test -p shim-plugin --test containerd -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure_event_to_action() {
    let bed = Bed::started();
    let agent = Agent::start(config(&bed));
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let raw = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (socket, kept) = (bed.socket(), raw.clone());
    runtime.spawn(async move {
        let channel = containerd_client::connect(socket).await.expect("containerd");
        let mut events = containerd_client::services::v1::events_client::EventsClient::new(channel);
        let filters = vec![r#"topic=="/tasks/create""#.to_owned()];
        let request = containerd_client::services::v1::SubscribeRequest { filters };
        let mut stream = events.subscribe(request).await.expect("a first event").into_inner();
        while let Ok(Some(envelope)) = stream.message().await {
            let at = envelope.timestamp.expect("a stamp");
            let stamp = std::time::UNIX_EPOCH + Duration::new(at.seconds as u64, at.nanos as u32);
            kept.lock().expect("not poisoned").push((stamp, std::time::SystemTime::now()));
        }
    });
    for cycle in 0..100 {
        bed.run_briefly("pfc", &format!("c{cycle:03}"));
    }
    agent.wait("all were seen", |done, _| done.asked.len() == 100);
    let asked = agent.done().asked;
    // The first may have come before the measuring subscription was there: pair from the end.
    let raw: Vec<_> = raw.lock().expect("not poisoned").iter().rev().copied().collect();
    let micros = |from: std::time::SystemTime, to: std::time::SystemTime| match to.duration_since(from) {
        Ok(later) => later.as_micros() as i64,
        Err(earlier) => -(earlier.duration().as_micros() as i64),
    };
    let tell = |what: &str, mut samples: Vec<i64>| {
        samples.sort_unstable();
        let at = |share: usize| samples[(samples.len() - 1) * share / 100];
        eprintln!("{what}, {} creates: p50 {} us, p90 {} us, p99 {} us", samples.len(), at(50), at(90), at(99));
    };
    let acted = || asked.values().rev().map(|(at, _)| *at);
    tell("the shim's stamp -> action", acted().zip(&raw).map(|(at, (stamp, _))| micros(*stamp, at)).collect());
    tell("the shim's stamp -> a bare subscriber", raw.iter().map(|(stamp, seen)| micros(*stamp, *seen)).collect());
    tell("a bare subscriber -> action", acted().zip(&raw).map(|(at, (_, seen))| micros(*seen, at)).collect());
    drop(agent);
    bed.end();
}

#[test]
#[ignore = "a measurement"]
fn measure_memory_of_a_registry() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
        line.trim_end_matches("kB").trim().parse::<u64>().expect("kilobytes") << 10
    };
    const TASKS: u32 = 50_000;
    let before = resident();
    let mut registry = Registry::new(Limits { tasks: TASKS as usize, ..Limits::default() }, None);
    let (now, began) = (Instant::now(), Instant::now());
    for pid in 1..=TASKS {
        let container = shim_plugin::ContainerRef::new(shim_plugin::LinkId(0), "k8s.io", format!("{pid:064x}"));
        let _ = registry.apply(TaskEvent::Created { container: container.clone(), pid }, now);
        let netns = flow_model::NetnsId { dev: 4, ino: u64::from(pid) };
        let task = shim_plugin::TaskId(u64::from(pid));
        let _ = registry.report(shim_plugin::Report::Opened { task, netns, cookie: None, began: None }, now);
        let labels = [
            ("io.kubernetes.pod.namespace", "production"),
            ("io.kubernetes.pod.name", "checkout-6d4cf56db6-abcde"),
            ("io.kubernetes.pod.uid", "0d6a4b0e-6f5b-4a53-8f5c-6a1f4a4a2f55"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let _ = registry.apply(TaskEvent::Labels { container, labels: shim_plugin::Labels::pick(&labels) }, now);
    }
    eprintln!(
        "{TASKS} tasks with a slot and a name each: {} bytes a task, {:?} an event",
        (resident() - before) / u64::from(TASKS),
        began.elapsed() / (3 * TASKS)
    );
}
