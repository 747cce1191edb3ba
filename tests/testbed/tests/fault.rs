//! The proxy by itself, in front of a real API server: each fault is what it says, and the
//! connection after it is good again.

use std::time::Duration;
use testbed::cluster::{
    Act, Client, ControlPlane, ControlPlaneOptions, Door, Fault, On, PodSpec, User, bulk, kinds, objects,
};
use testbed::until;

struct Scene {
    // Dropped in this order.
    client: Client,
    fault: Fault,
    plane: ControlPlane,
}

fn scene() -> anyhow::Result<Scene> {
    let plane = ControlPlane::start(&ControlPlaneOptions::default())?;
    let fault = Fault::start(&plane)?;
    let client = plane.client_through(&fault, User::Agent)?.with_patience(Duration::from_secs(10));
    for name in ["a", "b", "c"] {
        PodSpec::new(name, "node-1", &["10.1.2.3".parse()?]).create_running(plane.client())?;
    }
    Ok(Scene { client, fault, plane })
}

impl Scene {
    /// A watch of pods from the beginning, which the server ends after a second: three events, ADDED.
    fn watch(&self) -> anyhow::Result<(u16, String)> {
        let reply = self.client.request("GET", "/api/v1/pods?watch=1&timeoutSeconds=1", None)?;
        Ok((reply.status, reply.text()))
    }

    fn whole_events(&self) -> anyhow::Result<usize> {
        let (_, text) = self.watch()?;
        Ok(text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count())
    }
}

#[test]
fn without_a_script_everything_passes_and_is_counted() -> anyhow::Result<()> {
    let scene = scene()?;
    assert_eq!(scene.client.list(&kinds::POD, None)?.len(), 3);
    assert_eq!(scene.client.list(&kinds::NODE, None)?.len(), 0);
    assert_eq!(scene.whole_events()?, 3);
    let counts: Vec<(String, usize)> = scene.fault.counts().into_iter().collect();
    let one = |what: &str| (what.to_owned(), 1);
    assert_eq!(counts, [one("list nodes"), one("list pods"), one("watch pods")]);
    assert_eq!(scene.fault.connections().len(), 1, "a kept connection is kept");
    // More than fits into any buffer on the way.
    scene.plane.client().create(&kinds::NAMESPACE, &objects::namespace("bulk"))?;
    bulk::write_pods(scene.plane.client(), scene.plane.etcd(), "bulk", 1000, 10)?;
    until("all are listed", Duration::from_secs(30), || {
        scene.client.list(&kinds::POD, Some("bulk")).is_ok_and(|pods| pods.len() == 1000)
    })
}

#[test]
fn a_watch_is_refused_at_its_start_as_often_as_the_script_says() -> anyhow::Result<()> {
    let scene = scene()?;
    scene.fault.script(On::watch("pods"), Act::Status(410), Some(2));
    scene.fault.script(On::list("pods"), Act::Status(504), Some(1));
    let (code, body) = scene.watch()?;
    assert_eq!((code, body.contains("\"reason\":\"Expired\"")), (410, true), "{body}");
    assert_eq!(scene.watch()?.0, 410);
    assert_eq!(scene.watch()?.0, 200);
    assert!(scene.client.list(&kinds::POD, None).is_err());
    assert_eq!(scene.client.list(&kinds::POD, None)?.len(), 3);
    assert_eq!((scene.fault.acted(), scene.fault.connections().len()), (3, 1));
    Ok(())
}

#[test]
fn streams_end_in_every_way_that_a_stream_can_end() -> anyhow::Result<()> {
    let scene = scene()?;
    let once = |act| scene.fault.script(On::any_watch(), act, Some(1));
    once(Act::HalfEventThenEnd { after: 1 });
    let (_, body) = scene.watch()?;
    let lines: Vec<bool> = body.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).collect();
    assert_eq!(lines, [true, false], "{body}");
    once(Act::HalfEvent { after: 3 });
    assert!(scene.watch().is_err(), "cut inside the body");
    once(Act::gone_in_stream(2));
    let (code, body) = scene.watch()?;
    assert_eq!((code, body.lines().count()), (200, 3));
    assert!(body.lines().last().is_some_and(|line| line.contains("\"ERROR\"") && line.contains("410")), "{body}");
    once(Act::End { after: 1 });
    assert_eq!(scene.whole_events()?, 1);
    once(Act::Close);
    // The client's second attempt, after a close without an answer, meets no script.
    assert_eq!(scene.whole_events()?, 3);
    once(Act::Stall { after: 2 });
    let hasty = scene.client.clone().with_patience(Duration::from_millis(500));
    assert!(hasty.request("GET", "/api/v1/pods?watch=1&timeoutSeconds=1", None).is_err(), "neither more nor an end");
    once(Act::Silence);
    assert!(hasty.request("GET", "/api/v1/pods?watch=1&timeoutSeconds=1", None).is_err());
    once(Act::Delay(Duration::from_millis(10)));
    assert_eq!(scene.whole_events()?, 3);
    Ok(())
}

#[test]
fn bookmarks_can_be_kept_back() -> anyhow::Result<()> {
    let scene = scene()?;
    // With sendInitialEvents, the server says by a bookmark that the initial events are over.
    let path = "/api/v1/pods?watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true\
                &resourceVersionMatch=NotOlderThan&resourceVersion=0";
    let with = scene.client.request("GET", path, None)?.text();
    assert!(with.contains("BOOKMARK"), "{with}");
    scene.fault.script(On::any_watch(), Act::NoBookmarks, None);
    let without = scene.client.request("GET", path, None)?.text();
    assert!(!without.contains("BOOKMARK") && without.lines().count() == 3, "{without}");
    Ok(())
}

#[test]
fn the_door_closes_in_every_way_and_opens_again() -> anyhow::Result<()> {
    let scene = scene()?;
    let fresh = || scene.client.clone().with_patience(Duration::from_millis(500));
    for door in [Door::AcceptAndClose, Door::Refuse, Door::BlackHole] {
        let before = scene.fault.connections().len();
        scene.fault.set_door(door);
        // Refusing begins when the listener is gone.
        until("the door is closed", Duration::from_secs(10), || fresh().list(&kinds::POD, None).is_err())?;
        assert!(door == Door::Refuse || scene.fault.connections().len() > before, "{door:?}");
        scene.fault.set_door(Door::Open);
        until("the door is open", Duration::from_secs(10), || fresh().list(&kinds::POD, None).is_ok())?;
    }
    // An open connection in a black hole carries nothing, and goes on afterwards where it was.
    assert_eq!(scene.client.list(&kinds::POD, None)?.len(), 3);
    let connections = scene.fault.connections().len();
    scene.fault.set_door(Door::BlackHole);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| scene.client.list(&kinds::POD, None).map(|pods| pods.len()));
        assert!(fresh().list(&kinds::POD, None).is_err());
        assert!(!asked.is_finished());
        scene.fault.set_door(Door::Open);
        assert_eq!(asked.join().map_err(|_| anyhow::anyhow!("panicked"))??, 3);
        anyhow::Ok(())
    })?;
    assert_eq!(scene.fault.connections().len(), connections + 1, "only the fresh one was new");
    scene.fault.cut();
    assert_eq!(scene.client.list(&kinds::POD, None)?.len(), 3, "a cut connection is made anew");
    Ok(())
}
