//! Streams end, stop, break; versions are forgotten.

use crate::bed::{PATIENCE, Watches, address, agent, agent_at, create, plane, plane_with, server_pods};
use anyhow::Result;
use k8s_sync::cluster::object::Resource;
use k8s_sync::watch::{Code, Scope, Verb};
use testbed::cluster::{ControlPlaneOptions, Door, Fault, User, kinds, objects};

#[test]
fn everything_is_listed_once_and_followed() -> Result<()> {
    let plane = plane(3)?;
    let client = plane.client();
    objects::create_node(client, "node-1", "10.88.0.11".parse()?)?;
    client.create(&kinds::SERVICE, &objects::service("default", "web", &[("app", "web")], 80, false))?;
    client.create(&kinds::ENDPOINT_SLICE, &objects::endpoint_slice("default", "web", 80, &[(address(0), "web-0")]))?;
    let mark = plane.audit().mark();
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until_fresh()?;
    watches.until_equal(&plane)?;
    create(&plane, "late", address(9))?;
    client.delete(&kinds::POD, Some("default"), "web-0")?;
    watches.until_equal(&plane)?;
    let report = watches.report();
    // The API server itself has the Service "kubernetes".
    let known: Vec<(&str, u64)> = report.watches.iter().map(|watch| (watch.resource.as_str(), watch.objects)).collect();
    assert_eq!(known, [("pods", 3), ("services", 2), ("endpointslices", 1), ("nodes", 1), ("jobs", 0)], "{report:#?}");
    assert!(report.watches.iter().all(|watch| watch.lists == 1 && watch.relists == 0), "{report:#?}");
    watches.end()?;

    let asked: Vec<_> =
        plane.audit().since(mark)?.into_iter().filter(|request| request.user == User::Agent.name()).collect();
    assert!(asked.iter().all(|request| !request.is_mutating() && request.user_agent == "pilotfish/test"), "{asked:#?}");
    let lists = asked.iter().filter(|request| request.uri.contains("sendInitialEvents") || request.verb == "list");
    assert_eq!(lists.count(), 5);
    assert!(
        asked.iter().all(|request| !request.uri.contains("timeoutSeconds")),
        "the server decides when a watch ends"
    );
    Ok(())
}

#[test]
fn the_end_of_a_stream_resumes_it_without_a_list() -> Result<()> {
    let plane = plane(3)?;
    // Without that, a watch that has nothing to tell would be taken for dead before the server ends it.
    let watches = Watches::start(agent(&plane)?, |config| {
        (config.timing.silence, config.timing.unmarked_silence) = (PATIENCE, PATIENCE);
    })?;
    watches.until_fresh()?;
    for n in 0..2 {
        let restarts = watches.pods()?.restarts;
        watches.until("a stream of pods ended and was resumed", |report| {
            report.watches.iter().any(|watch| watch.resource == Resource::Pods && watch.restarts > restarts)
        })?;
        create(&plane, &format!("after-{n}"), address(100 + n))?;
        watches.until_equal(&plane)?;
    }
    let report = watches.report();
    assert!(
        report.watches.iter().all(|watch| (watch.lists, watch.relists, watch.failures) == (1, 0, 0)),
        "{report:#?}"
    );
    Ok(())
}

#[test]
fn changes_behind_a_black_hole_and_a_compaction_are_found_by_one_list() -> Result<()> {
    let plane =
        plane_with(20, &ControlPlaneOptions { min_request_timeout: Some(5), ..ControlPlaneOptions::default() })?;
    let fault = Fault::start(&plane)?;
    let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
    watches.until_fresh()?;
    fault.set_door(Door::BlackHole);
    for n in 0..10 {
        plane.client().delete(&kinds::POD, Some("default"), &format!("web-{n}"))?;
        create(&plane, &format!("heir-{n}"), address(n))?;
    }
    watches.until("the silence is noticed", |report| report.is_fresh().is_err())?;
    assert_eq!(watches.model.pods().len(), 20, "names stay meanwhile");
    let before = watches.pods()?;
    assert_eq!(before.lists, 1);
    // The watch cache of a server that was restarted begins at its start, and etcd has forgotten what was before.
    let mut plane = plane;
    plane.compact()?;
    plane.restart_api_server()?;
    fault.cut();
    fault.set_door(Door::Open);
    watches.until("pods are listed anew", |report| {
        report.watches.iter().any(|watch| watch.resource == Resource::Pods && watch.lists > 1)
    })?;
    watches.until_equal(&plane)?;
    let pods = watches.pods()?;
    assert_eq!((pods.lists, pods.relists), (2, 1), "{:#?}", watches.report());
    Ok(())
}

#[test]
fn a_server_without_streaming_lists_is_listed_in_pages() -> Result<()> {
    let flags = vec!["--feature-gates=WatchList=false".to_owned()];
    let plane = plane_with(3, &ControlPlaneOptions { api_server_flags: flags, ..ControlPlaneOptions::default() })?;
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until_fresh()?;
    watches.until_equal(&plane)?;
    let report = watches.report();
    let count = |verb, wanted: Code| -> u64 {
        let asked = report.requests.iter().filter(|asked| asked.verb == verb && asked.code == wanted);
        asked.map(|asked| asked.count).sum()
    };
    assert_eq!(count(Verb::List, Code::Status(200)), 5, "{report:#?}");
    assert_eq!(count(Verb::StreamingList, Code::Status(200)), 0, "{report:#?}");
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)
}

#[test]
fn more_pods_than_are_kept_leave_those_of_the_node() -> Result<()> {
    let plane = plane(12)?;
    for streaming_lists in [true, false] {
        let watches = Watches::start(agent(&plane)?, |config| {
            config.most_pods = 10;
            config.node = Some("node-2".to_owned());
            config.streaming_lists = streaming_lists;
        })?;
        watches.until_fresh()?;
        watches.until("only pods of the node are left", |_| watches.model.pods().is_empty())?;
        let report = watches.report();
        assert_eq!(report.scope, "node");
        assert!(report.scope_reason.is_some_and(|reason| reason.contains("more than 10 pods")));
    }
    Ok(())
}

#[test]
fn the_scope_of_a_node_is_its_own_pods() -> Result<()> {
    let plane = plane(2)?;
    testbed::cluster::PodSpec::new("other", "node-2", &[address(50)]).create_running(plane.client())?;
    let watches = Watches::start(agent(&plane)?, |config| {
        config.scope = Scope::Node;
        config.node = Some("node-2".to_owned());
    })?;
    watches.until_fresh()?;
    assert_eq!(watches.model.pods().into_keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(server_pods(&plane)?.len(), 3);
    Ok(())
}

#[test]
fn a_snapshot_is_saved_at_the_end() -> Result<()> {
    let plane = plane(2)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("names");
    let saved = path.clone();
    let watches = Watches::start(agent(&plane)?, move |config| config.snapshot = Some(saved))?;
    watches.until_fresh()?;
    watches.until_equal(&plane)?;
    watches.end()?;
    let text = String::from_utf8(std::fs::read(&path)?)?;
    assert!(text.starts_with("pilotfish-k8s ") && text.contains("web-1"), "{text}");
    assert!(!path.with_extension("next").exists());
    Ok(())
}
