//! Requests that go in circles over nodes, by what their agents push.

use crate::bed::{Agent, at, fleet};
use crate::findings::{get, metric, rows};
use companion::{Fleet, Severity};
use flow_model::Role;

/// Of each second: who asks whom, how often, with which status and after so many milliseconds.
type Edge = (&'static str, &'static str, u64, u16, u64);

/// web, on n1, asks a, on n1, which asks b, on n2, which asks a.
const LOOP: [Edge; 3] = [("web", "a", 1, 502, 80), ("a", "b", 30, 502, 41), ("b", "a", 29, 502, 40)];
const ROUTE: &str = "/items/{id}";

struct World {
    fleet: Fleet,
    nodes: [Agent; 2],
    now: u64,
}

impl World {
    fn new() -> World {
        World { fleet: fleet(), nodes: [Agent::new("n1", 11), Agent::new("n2", 12)], now: 0 }
    }

    /// Both ends of each edge are seen.
    fn run(&mut self, seconds: u64, edges: &[Edge], route: impl Fn(&Edge) -> &'static str) {
        let node = |who: &str| usize::from(who == "b");
        for _ in 0..seconds {
            self.now += 1;
            for edge in edges {
                let (client, server, times, status, took) = edge;
                let route = route(edge);
                self.nodes[node(client)].between(Role::Client, [client, server], route, *times, *status, *took);
                self.nodes[node(server)].between(Role::Server, [server, client], route, *times, *status, *took);
            }
            self.nodes.iter_mut().for_each(|agent| agent.run(at(self.now), &mut self.fleet));
            self.fleet.tick(at(self.now));
        }
    }

    fn found(&self) -> Vec<String> {
        let found = self.fleet.findings(at(self.now));
        assert!(found.iter().all(|row| row.told.severity == Severity::Warning && row.told.likely));
        found.iter().map(|row| format!("{} {}", row.told.id, row.told.workload)).collect()
    }
}

#[test]
fn a_request_that_goes_from_node_to_node_and_back_is_found_shown_and_gone_when_it_ends() {
    let mut world = World::new();
    world.run(60, &LOOP, |_| ROUTE);
    assert_eq!(world.found(), [""; 0], "not yet");
    world.run(140, &LOOP, |_| ROUTE);
    assert_eq!(world.found(), ["request-loop a"]);
    let now = world.now;
    let shown = rows(&mut world.fleet, now, "namespaces/shop/findings");
    let [row] = &*shown else { panic!("{shown:?}") };
    assert!(row.starts_with("warning | a |  | Companion | "), "{row}");
    let said = "GET /items/{id} goes in a circle: shop/a -> shop/b -> shop/a, ";
    assert!(row.contains(said) && row.contains("100 % fail"), "{row}");
    let (_, list) = get(&mut world.fleet, now, "namespaces/shop/findings", "");
    let one = &list["items"][0];
    assert_eq!((&one["certainty"], &one["node"], &one["agent"]), (&"likely".into(), &"".into(), &"Companion".into()));
    assert_eq!(one["hurt"][0]["client"], "shop/web");
    let figure = |name: &str| one["evidence"][name].as_f64().unwrap_or(-1.0);
    assert!((24.0..=32.0).contains(&figure("requests_per_second")), "{one:#}");
    assert!((0.8..=1.2).contains(&figure("asked_by_others_per_second")), "{one:#}");
    assert_eq!((figure("failed_percent"), figure("others_mean_ms")), (100.0, 80.0), "{one:#}");
    assert_eq!(metric(&world.fleet, now, "pilotfish_companion_findings", "warning"), 1.0);
    assert_eq!(world.fleet.counts().loops_no_room, 0);
    // The row stays what it is while it holds.
    let name = one["metadata"]["name"].clone();
    world.run(60, &LOOP, |_| ROUTE);
    let (now, since) = (world.now, one["since"].clone());
    let (_, list) = get(&mut world.fleet, now, "namespaces/shop/findings", "");
    assert_eq!((&list["items"][0]["metadata"]["name"], &list["items"][0]["since"]), (&name, &since));
    // One of them leads elsewhere now.
    world.run(100, &[("web", "a", 1, 200, 4), ("a", "b", 1, 200, 2)], |_| ROUTE);
    assert_eq!(world.found(), [""; 0]);
    assert_eq!(metric(&world.fleet, world.now, "pilotfish_companion_findings", "warning"), 0.0);
}

#[test]
fn who_uses_each_other_as_much_is_no_loop() {
    // Answered; nobody else asks; other things each way; other rates; told as quickly.
    let answered = LOOP.map(|edge| (edge.0, edge.1, edge.2, 200, edge.4));
    let slower = [LOOP[0], LOOP[1], ("b", "a", 20, 502, 40)];
    let as_quick = [("web", "a", 1, 502, 40), LOOP[1], LOOP[2]];
    let mut worlds =
        [&answered[..], &LOOP[1..], &LOOP[..], &slower[..], &as_quick[..]].map(|edges| (World::new(), edges));
    for (number, (world, edges)) in worlds.iter_mut().enumerate() {
        let route = |edge: &Edge| if number == 2 && edge.0 == "b" { "/stock" } else { ROUTE };
        world.run(240, edges, route);
        assert_eq!(world.found(), [""; 0], "{number}");
    }
}

/// An outage of two services that poll each other is not taken for one by what failed before others answered.
#[test]
fn what_is_answered_in_part_is_seen_once_it_looks_like_a_loop() {
    let mut world = World::new();
    let half =
        [LOOP[0], ("a", "b", 30, 502, 41), ("a", "b", 30, 200, 41), ("b", "a", 30, 502, 40), ("b", "a", 30, 200, 40)];
    world.run(300, &half, |_| ROUTE);
    assert_eq!(world.found(), [""; 0]);
}

#[test]
fn one_node_without_an_agent_hides_no_loop_that_the_other_sees() {
    let mut world = World::new();
    // n2 has none: what a asks b and what b asks a is seen at a.
    for _ in 0..200 {
        world.now += 1;
        for (client, server, times, status, took) in LOOP {
            let (role, ends) =
                if server == "a" { (Role::Server, [server, client]) } else { (Role::Client, [client, server]) };
            world.nodes[0].between(role, ends, ROUTE, times, status, took);
        }
        world.nodes[0].run(at(world.now), &mut world.fleet);
        world.fleet.tick(at(world.now));
    }
    assert_eq!(world.found(), ["request-loop a"]);
}
