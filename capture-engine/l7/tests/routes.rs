//! Routes of HTTP's requests, as each version tells them: with or without the target itself, and none
//! where the path was not whole.
#![allow(clippy::unwrap_used)]

mod support;

use flow_model::Close::Fin;
use flow_model::{Detail, Notes};
use l7::Limits;
use support::Do::{C, Close, S, SnapC};
use support::{Do, c, get, ok, s, story};

/// Route and target of each exchange.
fn told(acts: Vec<Do>, limits: impl FnOnce(&mut Limits)) -> Vec<(String, String)> {
    let (found, _) = story().limits(limits).run(acts);
    let both = |record: &flow_model::L7Record| match &record.detail {
        Detail::Http(http) => (http.route.to_string(), http.target.to_string()),
        other => panic!("{other:?}"),
    };
    found.records.iter().map(both).collect()
}

fn routes(limits: &mut Limits) {
    (limits.routes, limits.keep_strings) = (true, false);
}

fn pair(route: &str, target: &str) -> (String, String) {
    (route.to_owned(), target.to_owned())
}

/// `GET /orders/17?token=..` of HTTP/2, its path spelt out.
fn http2(path: &str) -> Vec<Do> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // 0x82 is `:method: GET`, 0x04 a path that no table gets, 0x88 `:status: 200`.
    let request = [&[0x82, 0x04, path.len() as u8], path.as_bytes()].concat();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat();
    vec![C(hello), S(frame(4, 0, 0, &[])), C(frame(1, 5, 1, &request)), S(frame(1, 5, 1, &[0x88])), Close(Fin)]
}

#[test]
fn a_route_needs_no_target_to_be_kept() {
    let acts = || vec![C(get("/orders/17?token=secret")), S(ok(0)), Close(Fin)];
    assert_eq!(told(acts(), routes), [pair("/orders/{id}", "")]);
    assert_eq!(told(acts(), |limits| limits.routes = true), [pair("/orders/{id}", "/orders/17?token=secret")]);
    assert_eq!(told(acts(), |limits| limits.keep_strings = false), [pair("", "")], "nobody wants them");
}

#[test]
fn a_probe_keeps_its_target_and_nothing_else_where_nobody_wants_any() {
    let probe = b"GET /healthz?full=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.36\r\n\r\n".to_vec();
    let acts = || vec![C([probe.clone(), get("/next")].concat()), S([ok(0), ok(0)].concat()), Close(Fin)];
    let (found, _) = story().limits(|limits| limits.keep_strings = false).run(acts());
    let shown = found.records.iter().map(|record| match &record.detail {
        Detail::Http(http) => (record.notes.has(Notes::PROBE), &*http.target, &*http.host),
        other => panic!("{other:?}"),
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(true, "/healthz?full=1", ""), (false, "", "")]);
}

#[test]
fn http2_has_the_same_routes() {
    assert_eq!(told(http2("/orders/17?token=secret"), routes), [pair("/orders/{id}", "")]);
    assert_eq!(told(http2("/orders/17"), |limits| limits.routes = true), [pair("/orders/{id}", "/orders/17")]);
    assert_eq!(told(http2("/orders/17"), |_| {}), [pair("", "/orders/17")]);
}

#[test]
fn each_request_of_a_pipeline_has_its_own() {
    let requests = [get("/a/1"), get("/b/2"), get("/a/3")].concat();
    let told = told(vec![C(requests), S([ok(1), ok(2), ok(3)].concat()), Close(Fin)], routes);
    assert_eq!(told, [pair("/a/{id}", ""), pair("/b/{id}", ""), pair("/a/{id}", "")]);
}

/// `/users/al` of `/users/alice` is no route.
#[test]
fn a_path_that_was_cut_has_none() {
    let target = format!("/users/alice/{}", "x".repeat(100));
    let acts = |seen: usize| vec![SnapC(get(&target), seen), S(ok(0)), Close(Fin)];
    assert_eq!(told(acts(14), routes), [pair("", "")]);
    assert_eq!(told(acts(4 + target.len()), routes), [pair("", "")], "nobody knows that it is whole");
    assert_eq!(told(acts(5 + target.len()), routes), [pair("/users/alice/{id}", "")]);
}

#[test]
fn what_has_no_path_has_no_route() {
    let connect =
        vec![c("CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\n"), s("HTTP/1.1 200 OK\r\n\r\n"), Close(Fin)];
    assert_eq!(told(connect, routes), [pair("", "")]);
    let proxied = vec![c("GET http://anna:secret@shop/a/7 HTTP/1.1\r\nHost: shop\r\n\r\n"), S(ok(0)), Close(Fin)];
    assert_eq!(told(proxied, routes), [pair("/a/{id}", "")]);
    let options = vec![c("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n"), S(ok(0)), Close(Fin)];
    assert_eq!(told(options, routes), [pair("*", "")]);
}
