use super::learned::{MANY, MOST_ROUTES, TOO_MANY};
use super::*;
use proptest::prelude::*;

/// One server, and somebody who asks it on ever new connections.
struct Bed {
    routes: Routes,
    losses: Losses,
    now: Ts,
}

fn server(name: &str) -> End {
    End { workload: name.into(), namespace: "shop".into(), kind: "Deployment" }
}

impl Bed {
    fn new() -> Bed {
        let losses = Losses::default();
        Bed { routes: Routes::new(&losses), losses, now: Ts(1_000_000_000) }
    }

    fn answered(&mut self, path: &str, status: u16) -> String {
        let http = HttpExchange { route: path.into(), status: Some(status), ..HttpExchange::default() };
        self.routes.of(&mut None, (1, &server("api")), &http, self.now).to_owned()
    }

    fn ask(&mut self, path: &str) -> String {
        self.answered(path, 200)
    }

    fn lost(&self) -> u64 {
        self.losses.rows().iter().filter(|row| row.reason == "routes_cap").map(|row| row.total).sum()
    }
}

#[test]
fn words_of_a_small_set_are_routes_of_their_own() {
    let mut bed = Bed::new();
    for round in 0..3 {
        for word in 0..MANY {
            let path = format!("/api/word-{word}/list");
            assert_eq!(bed.ask(&path), path, "round {round}");
        }
    }
    for path in ["/", "*", "//", "/a/b/c/d/e/f/g/h/*"] {
        assert_eq!(bed.ask(path), path);
    }
}

#[test]
fn a_set_that_keeps_growing_holds_values() {
    let mut bed = Bed::new();
    let path = |n: usize| format!("/users/user-{n}/orders");
    let shown: Vec<String> = (0..MANY + 10).map(|n| bed.ask(&path(n))).collect();
    assert_eq!(shown.iter().position(|route| route == "/users/{id}/orders"), Some(MANY));
    assert!(shown.iter().skip(MANY).all(|route| route == "/users/{id}/orders"));
    assert_eq!(bed.ask(&path(0)), "/users/{id}/orders", "those of before, too");
    assert_eq!(bed.ask("/users/someone"), "/users/{id}");
    assert_eq!(bed.ask("/carts/someone"), "/carts/someone", "other places are as they were");
}

#[test]
fn words_that_come_again_may_be_more() {
    let mut bed = Bed::new();
    let again = |bed: &mut Bed, n: usize| {
        bed.ask(&format!("/rpc/do-{n}"));
        bed.ask(&format!("/rpc/do-{n}"));
        bed.ask(&format!("/rpc/do-{n}"))
    };
    for n in 0..TOO_MANY {
        assert_eq!(again(&mut bed, n), format!("/rpc/do-{n}"));
    }
    assert_eq!(again(&mut bed, TOO_MANY), "/rpc/{id}", "but not without end");
}

#[test]
fn what_is_not_there_takes_no_place() {
    let mut bed = Bed::new();
    bed.ask("/login");
    for n in 0..1000 {
        assert_eq!(bed.answered(&format!("/wp-{n}.php"), 404), ANY);
    }
    assert_eq!(bed.answered("/login", 404), "/login", "this one is there");
    assert_eq!(bed.ask("/wp-0.php"), "/wp-0.php");
    assert_eq!(bed.lost(), 0);
}

#[test]
fn a_server_has_a_bounded_number_of_routes() {
    let mut bed = Bed::new();
    let path = |n: usize| format!("/{}/{}", n / 20, n % 20 + 100);
    for n in 0..MOST_ROUTES {
        assert_eq!(bed.ask(&format!("{}/x{}", path(n), n % 3)), format!("{}/x{}", path(n), n % 3));
    }
    assert_eq!(bed.ask("/one/more"), ANY);
    assert_eq!(bed.lost(), 1);
    assert_eq!(bed.ask("/0/100/x0"), "/0/100/x0", "those that are known stay");
    // What nobody asked for makes room.
    bed.now = Ts(bed.now.0 + 1_000_000_000);
    bed.ask("/0/100/x0");
    bed.routes.expire(bed.now);
    assert_eq!(bed.ask("/one/more"), "/one/more");
    bed.routes.expire(Ts(bed.now.0 + 1));
    assert!(bed.routes.servers.is_empty() && bed.routes.nodes == 0);
}

#[test]
fn a_flow_hears_of_it_when_words_become_values() {
    let mut bed = Bed::new();
    let mut recent = None;
    let http = |path: String| HttpExchange { route: path.into(), status: Some(200), ..HttpExchange::default() };
    let first = http("/users/user-0".to_owned());
    let mut ask =
        |bed: &mut Bed, http: &HttpExchange| bed.routes.of(&mut recent, (1, &server("api")), http, bed.now).to_owned();
    assert_eq!(ask(&mut bed, &first), "/users/user-0");
    for n in 1..=MANY {
        bed.ask(&format!("/users/user-{n}"));
    }
    assert_eq!(ask(&mut bed, &first), "/users/{id}");
    for n in 0..20 {
        assert_eq!(ask(&mut bed, &http(format!("/users/user-{n}"))), "/users/{id}");
    }
}

#[test]
fn servers_share_a_bound() {
    let losses = Losses::default();
    let mut routes = Routes::new(&losses);
    for n in 0..MOST_NODES {
        let http = HttpExchange { route: format!("/a/b{n}").into(), status: Some(200), ..HttpExchange::default() };
        routes.of(&mut None, (1, &server(&n.to_string())), &http, Ts(1));
    }
    assert!(routes.nodes <= MOST_NODES + 9 && routes.servers.len() <= MOST_NODES / 2 + 1);
    assert!(losses.rows().iter().any(|row| row.reason == "routes_cap" && row.total > 0));
}

proptest! {
    /// Whatever is asked in whatever order: bounds hold, counts are right, and what a flow is told is
    /// what it would be told if it asked anew.
    #[test]
    fn a_tree_stays_within_its_bounds(asked in proptest::collection::vec(("(/[a-d{}]{0,2}){0,4}", 0..3_u8, any::<bool>()), 1..400)) {
        let mut bed = Bed::new();
        let mut flow = None;
        for (path, what, cached) in asked {
            let path = if path.is_empty() { "*".to_owned() } else { path };
            let status = if what == 0 { 404 } else { 200 };
            let http = HttpExchange { route: path.into(), status: Some(status), ..HttpExchange::default() };
            if cached {
                let told = bed.routes.of(&mut flow, (1, &server("api")), &http, bed.now).to_owned();
                if told != ANY {
                    let anew = bed.routes.of(&mut None, (1, &server("api")), &http, bed.now).to_owned();
                    prop_assert_eq!(anew, told);
                }
            } else {
                bed.routes.of(&mut None, (1, &server("api")), &http, bed.now);
            }
            bed.now = Ts(bed.now.0 + 1);
            if what == 2 {
                bed.routes.expire(Ts(bed.now.0 - 50));
            }
            let nodes: usize = bed.routes.servers.values().map(Learned::nodes).sum();
            prop_assert_eq!(bed.routes.nodes, nodes);
        }
    }
}
