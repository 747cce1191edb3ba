//! Servers that refuse, freeze, close, and talk nonsense.

use crate::bed::{Watches, address, agent, agent_at, create, plane};
use anyhow::Result;
use k8s_sync::access::OwnAddresses;
use k8s_sync::cluster::object::Resource;
use k8s_sync::watch::{Asked, Link, Verb, WatchReport};
use serde_json::json;
use testbed::cluster::{Act, Door, Fault, On, kinds};

fn pods(report: &k8s_sync::watch::Report) -> Option<&WatchReport> {
    report.watches.iter().find(|watch| watch.resource == Resource::Pods)
}

#[test]
fn a_server_that_comes_late_is_found() -> Result<()> {
    let mut plane = plane(2)?;
    plane.kill_api_server();
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until("the server is known to be away", |report| matches!(report.link, Link::Unreachable { .. }))?;
    plane.start_api_server()?;
    watches.until_fresh()?;
    watches.until_equal(&plane)
}

#[test]
fn names_stay_while_the_server_is_away_and_are_followed_again() -> Result<()> {
    let mut plane = plane(5)?;
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until_fresh()?;
    plane.kill_api_server();
    watches.until("the server is known to be away", |report| matches!(report.link, Link::Unreachable { .. }))?;
    assert_eq!(watches.model.pods().len(), 5);
    let reason = watches.report().is_fresh().expect_err("not fresh");
    assert!(reason.contains("has not answered"), "{reason}");
    plane.start_api_server()?;
    create(&plane, "late", address(9))?;
    watches.until_fresh()?;
    watches.until_equal(&plane)
}

#[test]
fn a_frozen_server_is_noticed_and_forgiven() -> Result<()> {
    let plane = plane(2)?;
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until_fresh()?;
    plane.freeze()?;
    watches.until("no answer to a ping", |report| matches!(report.link, Link::Unreachable { .. }))?;
    let age = watches.pods()?.age;
    watches.until("staleness grows", |report| pods(report).is_some_and(|pods| pods.age > age))?;
    assert_eq!(watches.model.pods().len(), 2);
    plane.thaw()?;
    watches.until_fresh()?;
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)?;
    assert_eq!(watches.pods()?.lists, 1, "nothing was lost, so nothing is listed");
    Ok(())
}

#[test]
fn a_server_that_accepts_and_closes_is_asked_ever_more_seldom() -> Result<()> {
    let plane = plane(2)?;
    let fault = Fault::start(&plane)?;
    let watches = Watches::start(agent_at(&plane, fault.server())?, |config| {
        config.timing.backoff.cap = std::time::Duration::from_secs(60);
    })?;
    watches.until_fresh()?;
    fault.set_door(Door::AcceptAndClose);
    let before = fault.connections().len();
    fault.cut();
    // 100, 200, .. 1,600 ms between them, less a quarter, and all watches share them. The proxy may see
    // each of them late.
    testbed::until("six attempts", crate::bed::PATIENCE, || fault.connections().len() >= before + 6)?;
    let attempts = fault.connections().split_off(before);
    let between = |from: usize, to: usize| Some(*attempts.get(to)? - *attempts.get(from)?);
    let (early, late) = (between(0, 3).unwrap_or_default(), between(3, 5).unwrap_or_default());
    assert!(late > early, "{early:?} {late:?}");
    assert!(early + late > std::time::Duration::from_millis(1_500), "{early:?} {late:?}");
    fault.set_door(Door::Open);
    watches.until_fresh()?;
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)
}

#[test]
fn a_connection_that_leads_nowhere_is_given_up() -> Result<()> {
    let plane = plane(2)?;
    let fault = Fault::start(&plane)?;
    let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
    watches.until_fresh()?;
    fault.set_door(Door::BlackHole);
    watches.until("silence is taken for what it is", |report| report.is_fresh().is_err())?;
    create(&plane, "late", address(9))?;
    // The old connections stay black; new ones work.
    fault.set_door(Door::Open);
    watches.until_equal(&plane)?;
    watches.until_fresh()?;
    assert_eq!(watches.pods()?.lists, 1);
    Ok(())
}

#[test]
fn a_start_that_is_refused_with_410_or_504_lists_after_the_third() -> Result<()> {
    let plane = plane(2)?;
    for code in [410, 504] {
        let fault = Fault::start(&plane)?;
        let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
        watches.until_fresh()?;
        fault.script(On::watch("pods"), Act::Status(code), Some(3));
        watches.until("pods are listed anew", |report| pods(report).is_some_and(|pods| pods.lists > 1))?;
        watches.until_fresh()?;
        let pods = watches.pods()?;
        assert_eq!((pods.lists, pods.relists), (2, 1), "{code}: {:#?}", watches.report());
        assert_eq!(fault.acted(), 3);
    }
    Ok(())
}

#[test]
fn a_server_that_answers_probes_only_is_not_asked_in_a_circle() -> Result<()> {
    let plane = plane(2)?;
    let fault = Fault::start(&plane)?;
    fault.script(On::any_watch(), Act::Status(500), None);
    let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
    watches.until("every watch was refused twice", |report| {
        report.watches.len() == 5 && report.watches.iter().all(|watch| watch.failures >= 2)
    })?;
    // 0.5 s, 1 s, 2 s, .. less a quarter, each for itself: the third refusal of one is no sign that
    // others had many more.
    let most = watches.report().watches.iter().map(|watch| watch.failures).max();
    assert!(most <= Some(6), "{:#?}", watches.report());
    fault.forget_script();
    watches.until_fresh()?;
    watches.until_equal(&plane)
}

#[test]
fn a_410_in_the_stream_lists_once() -> Result<()> {
    let plane = plane(2)?;
    let fault = Fault::start(&plane)?;
    let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
    watches.until_fresh()?;
    fault.script(On::watch("pods"), Act::gone_in_stream(0), Some(1));
    watches.until("pods are listed anew", |report| pods(report).is_some_and(|pods| pods.lists > 1))?;
    watches.until_fresh()?;
    watches.until_equal(&plane)?;
    let pods = watches.pods()?;
    assert_eq!((pods.lists, pods.relists), (2, 1), "{:#?}", watches.report());
    Ok(())
}

#[test]
fn a_streaming_list_that_does_not_end_is_made_in_pages() -> Result<()> {
    let plane = plane(2)?;
    let message = "the required storage feature RequestWatchProgress is disabled";
    let old_etcd = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": message}});
    for (act, times) in
        [(Act::Event { after: 0, event: old_etcd }, 1), (Act::NoBookmarks, 1), (Act::End { after: 1 }, 3)]
    {
        let fault = Fault::start(&plane)?;
        fault.script(On::watch("pods"), act.clone(), Some(times));
        let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
        watches.until_fresh()?;
        watches.until_equal(&plane)?;
        let counts = fault.counts();
        assert_eq!(counts.get("list pods"), Some(&1), "{act:?}: {counts:?}");
    }
    Ok(())
}

#[test]
fn half_an_event_is_no_event_and_comes_again() -> Result<()> {
    let plane = plane(2)?;
    for act in [Act::HalfEvent { after: 0 }, Act::HalfEventThenEnd { after: 0 }] {
        let fault = Fault::start(&plane)?;
        let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
        watches.until_fresh()?;
        fault.script(On::watch("pods"), act.clone(), Some(2));
        testbed::until("a stream that breaks", crate::bed::PATIENCE, || fault.acted() >= 1)?;
        let name = format!("late-{}", matches!(act, Act::HalfEvent { .. }));
        create(&plane, &name, address(9))?;
        watches.until_equal(&plane)?;
        watches.until_fresh()?;
        let pods = watches.pods()?;
        assert_eq!((pods.lists, pods.skipped), (1, [0; 3]), "{act:?}: {:#?}", watches.report());
        plane.client().delete(&kinds::POD, Some("default"), &name)?;
    }
    Ok(())
}

#[test]
fn an_object_that_makes_no_sense_is_counted_and_the_rest_goes_on() -> Result<()> {
    let plane = plane(2)?;
    let fault = Fault::start(&plane)?;
    let watches = Watches::start(agent_at(&plane, fault.server())?, |_| {})?;
    watches.until_fresh()?;
    for event in [json!({"type": "ADDED", "object": {"spec": 7}}), json!([1, 2, 3])] {
        let before: u64 = watches.pods()?.skipped.iter().sum();
        fault.script(On::watch("pods"), Act::Event { after: 0, event }, Some(1));
        watches.until("the object is counted", |report| {
            pods(report).is_some_and(|pods| pods.skipped.iter().sum::<u64>() > before)
        })?;
    }
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)?;
    assert_eq!(watches.pods()?.lists, 1);
    Ok(())
}

#[test]
fn a_name_that_nobody_knows_is_a_reason_and_asked_ever_more_seldom() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("kubeconfig");
    // Never to be resolved: RFC 6761, 6.4.
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
                clusters: [{name: a, cluster: {server: 'https://api.invalid:6443'}}]\nusers: [{name: a, user: {token: t}}]\n";
    std::fs::write(&path, text)?;
    let watches = Watches::start(path, |_| {})?;
    watches.until("three probes failed", |report| report.requests.iter().map(|asked| asked.count).sum::<u64>() >= 3)?;
    let report = watches.report();
    assert!(matches!(&report.link, Link::Unreachable { .. }), "{report:#?}");
    let [probes] = report.requests.as_slice() else { panic!("only probes are sent: {report:#?}") };
    assert_eq!((probes.verb, probes.resource), (Verb::Get, Asked::Version));
    Ok(())
}

#[test]
fn an_api_server_that_is_the_agent_itself_is_refused_with_a_reason() -> Result<()> {
    let plane = plane(0)?;
    let fault = Fault::start(&plane)?;
    let own = OwnAddresses::new([fault.server()]);
    let watches = Watches::start(agent_at(&plane, fault.server())?, move |config| config.agent.own = own)?;
    watches.until("it is refused", |report| {
        matches!(&report.link, Link::Unreachable { reason, .. } if reason.contains("this agent's own address"))
    })?;
    assert_eq!(fault.connections().len(), 0);
    Ok(())
}
