//! Clients of an API server, which is a server at the address that is said to be its.

use crate::room::{Room, brief, number};
use doctor::{Certainty, CheckId, KnowsApiServer, Severity, Thresholds, examine};
use std::time::Duration;

/// Where every room has its API server, and a server that is none.
pub const API_SERVER: &str = "10.96.0.1:443";
const OTHER: &str = "10.96.0.2:443";
const ADDRESSES: &str = "ip addr add 10.96.0.1/32 dev lo && ip addr add 10.96.0.2/32 dev lo";

pub fn knows_api_server() -> KnowsApiServer {
    KnowsApiServer::by(|end| Ok(format!("{}:{}", end.ip, end.port) == API_SERVER))
}

/// Long enough is a moment.
fn quick() -> Thresholds {
    Thresholds { api_lasting: Duration::from_millis(200), ..brief() }
}

fn room(what: &str, server: &str) -> Room {
    Room::new("asks", ADDRESSES, &format!("{what} {server}"))
}

#[test]
fn a_loop_of_requests_is_found_and_a_watch_is_fine() {
    let polls = room("polls", API_SERVER);
    let found = polls.comes_to(CheckId::ApiStorm, quick, |found| number(found, "rate") > 20.0);
    assert_eq!((found.severity, found.certainty), (Severity::Warning, Certainty::Likely), "{found:?}");
    assert_eq!(found.evidence.get("address"), Some(&API_SERVER.to_owned().into()), "{found:?}");
    assert_eq!(number(&found, "pid"), f64::from(polls.holder.id()), "{found:?}");
    // It began just now, as far as a longer time goes.
    polls.finds_nothing(CheckId::ApiStorm, Thresholds { api_lasting: Duration::from_secs(3600), ..quick() });
    // As many events, and a client that makes room for them. The same loop to somebody else.
    room("watches", API_SERVER).finds_nothing(CheckId::ApiStorm, quick());
    room("polls", OTHER).finds_nothing(CheckId::ApiStorm, quick());
}

#[test]
fn a_connection_for_each_request_is_found_and_one_for_all_is_fine() {
    let opens = room("opens", API_SERVER);
    let found = opens.finds(CheckId::ApiStorm, brief());
    assert_eq!((found.severity, found.certainty), (Severity::Warning, Certainty::Measured), "{found:?}");
    assert!(number(&found, "connections") > 120.0 && number(&found, "rate") > 2.0, "{found:?}");
    room("opens", OTHER).finds_nothing(CheckId::ApiStorm, brief());
    let patient = Thresholds { api_lasting: Duration::from_secs(3600), ..brief() };
    room("polls", API_SERVER).finds_nothing(CheckId::ApiStorm, patient);
    // Nobody knows where the API server is: that is not fine.
    let asked = |api_server| doctor::Asked {
        checks: vec![CheckId::ApiStorm],
        only: Some([opens.ino].into()),
        thresholds: brief(),
        api_server,
        ..doctor::Asked::default()
    };
    for api_server in [Err("nobody says".to_owned()), Ok(KnowsApiServer::by(|_| Err("nobody says".to_owned())))] {
        let report = examine(&asked(api_server));
        assert_eq!((report.findings.len(), report.fine.len()), (0, 0), "{report:?}");
        assert_eq!(report.not_made[0].reason, "nobody says");
    }
}
