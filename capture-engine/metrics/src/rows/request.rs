//! What a series of requests says of them, for who compares edges with each other.

use super::{Of, RowKey, RowValue};
use crate::families::FamilyId;
use crate::labels::{ERROR_TYPE, End, OTHER, Reporter, UNANSWERED};
use crate::rows::EdgeName;

/// Requests of HTTP or of an RPC with the same labels, as one end of their edge saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks.
    pub client: &'a End,
    /// Who is asked.
    pub server: &'a End,
    /// At which end they were seen.
    pub reporter: Reporter,
    /// Method and route of HTTP, service and method of an RPC.
    pub what: [&'a str; 2],
    /// They got no answer, or one that says that there is none: of HTTP from 400 on.
    pub failed: bool,
    /// They got none.
    pub unanswered: bool,
}

impl RowKey {
    /// `None` where it counts something else, or does not say what they ask for: without a route, or with
    /// one that stands for all that had no room.
    #[must_use]
    pub fn request(&self) -> Option<Request<'_>> {
        let (names, status, is_fine): (_, _, fn(&str) -> bool) = match self.of {
            Of::Exchanges(FamilyId::Http) => {
                (["http_request_method", "http_route"], "http_response_status_code", |status| {
                    matches!(status.as_bytes().first(), Some(b'1'..=b'3'))
                })
            }
            Of::Exchanges(FamilyId::Rpc) => {
                (["rpc_service", "rpc_method"], "rpc_response_status_code", |status| matches!(status, "OK" | "0"))
            }
            _ => return None,
        };
        let EdgeName { client, server, reporter, service: _ } = self.edge.as_ref()?;
        let [first, second] = names.map(|name| self.label(name).filter(|value| *value != OTHER));
        let error = self.label(ERROR_TYPE);
        Some(Request {
            client,
            server,
            reporter: *reporter,
            what: [first?, second?],
            failed: error.is_some() || self.label(status).is_some_and(|status| !is_fine(status)),
            unanswered: error == Some(UNANSWERED),
        })
    }
}

impl RowValue {
    /// Exchanges, and how long they took together in nanoseconds.
    #[must_use]
    pub fn exchanges(&self) -> (u64, u64) {
        (self.histogram.count, self.histogram.sum_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::write_key;
    use crate::series::Edge;

    fn read(family: &str, labels: &[(&str, &str)]) -> Option<([String; 2], bool, bool)> {
        let end = |workload: &str| End { workload: workload.into(), namespace: "shop".into(), kind: "Deployment" };
        let edge = Edge::apart(end("web"), end("api"), "".into(), Reporter::Server);
        let mut bytes = Vec::new();
        write_key(&mut bytes, family, Some(&edge), labels.iter().copied());
        let key = RowKey::read(&bytes).expect("a key");
        let request = key.request()?;
        assert_eq!((&*request.client.workload, &*request.server.workload), ("web", "api"));
        Some((request.what.map(str::to_owned), request.failed, request.unanswered))
    }

    #[test]
    fn what_is_asked_and_whether_it_failed() {
        let http = |status: &[(&'static str, &'static str)], error: &[(&'static str, &'static str)]| {
            let all = [&[("http_request_method", "GET")], status, &[("http_route", "/items/{id}")], error].concat();
            read("http", &all).map(|(_, failed, unanswered)| (failed, unanswered))
        };
        let status = |code| [("http_response_status_code", code)];
        assert_eq!(http(&status("200"), &[]), Some((false, false)));
        assert_eq!(http(&status("302"), &[]), Some((false, false)));
        assert_eq!(http(&status("431"), &[]), Some((true, false)));
        assert_eq!(http(&status("4xx"), &[]), Some((true, false)));
        assert_eq!(http(&status("508"), &[("error_type", "508")]), Some((true, false)));
        assert_eq!(http(&[], &[("error_type", "unanswered")]), Some((true, true)));
        let call = [("rpc_system_name", "grpc"), ("rpc_service", "shop.Cart"), ("rpc_method", "Add")];
        let call = |code: &'static str| [&call[..], &[("rpc_response_status_code", code)]].concat();
        let said = |failed| Some((["shop.Cart".to_owned(), "Add".to_owned()], failed, false));
        assert_eq!(read("rpc", &call("OK")), said(false));
        assert_eq!(read("rpc", &call("NOT_FOUND")), said(true));
    }

    #[test]
    fn who_does_not_say_what_is_asked_for_is_not_compared() {
        assert_eq!(read("http", &[("http_request_method", "GET"), ("http_response_status_code", "200")]), None);
        let other = [("http_request_method", "GET"), ("http_response_status_code", "200"), ("http_route", OTHER)];
        assert_eq!(read("http", &other), None);
        assert_eq!(read("tcp", &[]), None);
    }
}
