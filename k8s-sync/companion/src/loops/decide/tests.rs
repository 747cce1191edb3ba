use super::*;

fn who(name: &str) -> Who {
    Who { namespace: "shop".into(), workload: name.into(), kind: "Deployment" }
}

/// In a window: client, server, requests, of which so many failed, and milliseconds that each took.
type Edge<'a> = (&'a str, &'a str, u64, u64, u64);

fn asked(what: &str, edges: &[Edge<'_>]) -> Asked {
    let sum = |(client, server, requests, failed, millis): &Edge<'_>| {
        let nanos = requests * millis * 1_000_000;
        ((who(client), who(server)), Sum { requests: *requests, failed: *failed, unanswered: 0, nanos })
    };
    [(["GET".into(), what.into()], edges.iter().map(sum).collect())].into()
}

fn found(edges: &[Edge<'_>]) -> Vec<String> {
    found_in(&asked("/items/{id}", edges))
}

fn found_in(asked: &Asked) -> Vec<String> {
    let path = |found: &Loop| {
        let names: Vec<&str> = found.members.iter().map(|who| &*who.workload).collect();
        format!("{} by {}", names.join(" "), found.entry.workload)
    };
    loops(asked, &Thresholds::default()).iter().map(path).collect()
}

/// web asks a twice a second, and each of these goes 40 times from a to b and back before it fails.
const LOOP: [Edge<'_>; 3] = [("web", "a", 180, 180, 80), ("a", "b", 7_200, 7_200, 40), ("b", "a", 7_020, 7_020, 39)];

#[test]
fn what_comes_back_and_fails_is_a_circle_with_its_figures() {
    assert_eq!(found(&LOOP), ["a b by a"]);
    let all = loops(&asked("/items/{id}", &LOOP), &Thresholds::default());
    let [one] = &*all else { panic!("{all:?}") };
    assert_eq!((one.rate.round(), one.others, one.failed), (78.0, 2.0, 1.0));
    assert_eq!((one.takes.as_millis(), one.others_take.as_millis()), (40, 80));
    assert_eq!(one.hurt, [("shop/web".to_owned(), 180)]);
}

#[test]
fn three_in_a_row_and_one_that_asks_itself_by_a_service_are_circles_too() {
    let three = [
        ("web", "c", 90, 90, 90),
        ("a", "b", 2_700, 2_690, 45),
        ("b", "c", 2_700, 2_690, 45),
        ("c", "a", 2_700, 2_690, 45),
    ];
    assert_eq!(found(&three), ["a b c by c"]);
    assert_eq!(found(&[("web", "a", 90, 90, 90), ("a", "a", 9_000, 9_000, 45)]), ["a by a"]);
    // Beyond four it may be chance.
    let names = ["a", "b", "c", "d", "e"];
    let mut five: Vec<Edge<'_>> = (0..5).map(|n| (names[n], names[(n + 1) % 5], 2_700, 2_700, 45)).collect();
    five.push(("web", "a", 90, 90, 90));
    assert_eq!(found(&five), [""; 0]);
}

#[test]
fn hops_that_wait_for_a_time_limit_all_take_as_long() {
    let waits =
        |millis| [("web", "a", 90, 90, millis), ("a", "b", 2_700, 2_700, millis), ("b", "a", 2_700, 2_700, millis)];
    assert_eq!(found(&waits(60_000)), ["a b by a"]);
    assert_eq!(found(&waits(999)), [""; 0]);
    // Who asked gave up.
    let mut gave_up = asked("/", &waits(999));
    for sum in gave_up.values_mut().flatten().filter(|((client, _), _)| client.workload == "web".into()) {
        sum.1.unanswered = 46;
    }
    assert_eq!(found_in(&gave_up), ["a b by a"]);
}

/// Each is the loop but for one thing.
#[test]
fn who_uses_each_other_is_no_circle() {
    let but = |change: fn(&mut [Edge<'static>; 3])| {
        let mut edges = LOOP;
        change(&mut edges);
        found(&edges)
    };
    // Replication or gossip: it is answered.
    assert_eq!(but(|edges| edges.iter_mut().for_each(|edge| edge.3 = 0)), [""; 0]);
    assert_eq!(but(|edges| edges[1].3 = 6_000), [""; 0], "some are answered");
    // Peers that fail each other, and nobody else asks.
    assert_eq!(but(|edges| edges[0].2 = 0), [""; 0]);
    // Peers that fail each other, and who asks one of them for the same is told as quickly.
    assert_eq!(but(|edges| edges[0].4 = 40), [""; 0]);
    // .. or is answered.
    assert_eq!(but(|edges| edges[0].3 = 100), [""; 0]);
    // A call back for each request.
    assert_eq!(but(|edges| edges[0].2 = 7_000), [""; 0]);
    assert_eq!(but(|edges| (edges[0].2, edges[0].3) = (711, 711)), [""; 0], "less than ten times");
    // Each at its own pace.
    assert_eq!(but(|edges| (edges[2].2, edges[2].3) = (5_900, 5_900)), [""; 0]);
    // One way only, as a storm of retries is.
    assert_eq!(but(|edges| edges[2].1 = "c"), [""; 0]);
    // Little.
    assert_eq!(found(&[("web", "a", 9, 9, 80), ("a", "b", 899, 899, 40), ("b", "a", 899, 899, 40)]), [""; 0]);
    assert_eq!(found(&[("web", "a", 9, 9, 80), ("a", "b", 900, 900, 40), ("b", "a", 900, 900, 40)]), ["a b by a"]);
}

#[test]
fn different_things_are_never_one_circle() {
    let mut all = asked("/orders", &[LOOP[0], LOOP[1]]);
    all.extend(asked("/stock", &[LOOP[2]]));
    assert_eq!(found_in(&all), [""; 0]);
}

#[test]
fn what_many_may_be_has_no_part_in_a_circle() {
    let mut all = asked("/", &LOOP);
    for edges in all.values_mut() {
        let other = |who: Who| Who { kind: if *who.workload == *"b" { "Address" } else { who.kind }, ..who };
        *edges = std::mem::take(edges).into_iter().map(|((c, s), sum)| ((other(c), other(s)), sum)).collect();
    }
    assert_eq!(found_in(&all), [""; 0]);
}

/// Each of 150 asks each.
#[test]
fn who_makes_up_all_circles_that_there_can_be_costs_a_bounded_time() {
    let names: Vec<String> = (0..150).map(|n| format!("w{n}")).collect();
    let of = |a: &'_ String| a.clone();
    let mut edges = BTreeMap::new();
    let sum = Sum { requests: 2_700, failed: 2_700, unanswered: 0, nanos: 1 };
    for (a, b) in names.iter().flat_map(|a| names.iter().map(move |b| (a, b))) {
        edges.insert((who(&of(a)), who(&of(b))), sum);
    }
    let all = loops(&[(["GET".into(), "/".into()], edges)].into(), &Thresholds::default());
    assert_eq!(all, [], "everybody is asked by others as much");
}
