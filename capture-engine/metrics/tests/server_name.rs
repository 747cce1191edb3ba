//! Which handshakes name a server, and from when on.

mod common;

use common::*;
use flow_model::{Detail, Endpoint, FlowInfo, L7Record, Outcome, Role, Sink, TlsHandshake};
use golden_metrics::{FlowCache, Golden, Losses};

fn outside(role: Role) -> FlowInfo {
    let mut flow = flow(role);
    flow.tuple.remote = Endpoint { ip: [203, 0, 113, 9].into(), port: 443 };
    flow
}

fn handshake(change: impl FnOnce(&mut L7Record, &mut TlsHandshake)) -> L7Record {
    let mut tls = TlsHandshake { sni: "api.example".into(), version: "1.3", ..TlsHandshake::default() };
    let mut record = http("", Some(200), 3 * MS);
    change(&mut record, &mut tls);
    L7Record { detail: Detail::Tls(tls), ..record }
}

/// Names of servers with a series, after this record.
fn servers(flow: &FlowInfo, record: &L7Record) -> Vec<String> {
    let (mut golden, reader) = Golden::new(two_pods(), CONFIG, &Losses::default());
    golden.exchange(flow, &mut FlowCache::default(), record);
    golden.publish();
    let learnt = golden.names().answers.iter().map(|(_, name)| name.clone());
    let rows = reader.snapshot().edges();
    learnt.chain(rows.iter().map(|row| row.dst.name.clone())).collect()
}

#[test]
fn a_handshake_is_counted_by_the_name_that_it_gives() {
    assert_eq!(servers(&outside(Role::Client), &handshake(|_, _| {})), ["api.example"; 2]);
}

#[test]
fn who_does_not_agree_and_who_is_asked_names_nobody() {
    let refused: [L7Record; 6] = [
        handshake(|record, _| record.outcome = Outcome::Unanswered),
        handshake(|_, tls| tls.version = ""),
        handshake(|_, tls| tls.alert = Some(48)),
        handshake(|_, tls| tls.alert_encrypted = true),
        handshake(|_, tls| tls.sni = "203.0.113.9".into()),
        handshake(|_, tls| tls.sni = "a name".into()),
    ];
    for record in &refused {
        assert_eq!(servers(&outside(Role::Client), record), ["private"]);
    }
    assert_eq!(servers(&flow(Role::Server), &handshake(|_, _| {})), ["api"]);
}

#[test]
fn a_server_that_is_known_keeps_its_name() {
    let seen = servers(&flow(Role::Client), &handshake(|_, _| {}));
    assert_eq!(seen, ["api.example", "api"], "the names decide");
}
