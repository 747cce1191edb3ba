//! HTTP of every version. OpenTelemetry: "Semantic conventions for HTTP metrics".

use super::family::{Cell, Counter, Duration, Family, Label, Seen, error};
use super::value::{Described, Set, Value, words};
use flow_model::{HttpExchange, Outcome, Transport};

/// The methods of RFC 9110 and 5789 and QUERY, case-sensitive as these are.
const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];

pub(super) static FAMILY: Family = Family {
    name: "http",
    always: true,
    transport: Transport::Tcp,
    labels: &[
        Label { name: "http_request_method", set: Set::Words(&METHODS), over_cap: false },
        Label { name: "http_response_status_code", set: Set::Numbers(100, 599), over_cap: true },
    ],
    errors: Set::Numbers(500, 599),
    durations: &[
        Duration {
            name: "http_client_request_duration_seconds",
            help: "Duration of HTTP requests, from the first byte of the request to the last of the response, at the client's pod.",
            seen: Seen::AtClient,
        },
        Duration {
            name: "http_server_request_duration_seconds",
            help: "Duration of HTTP requests, from the first byte of the request to the last of the response, at the server's pod.",
            seen: Seen::AtServer,
        },
    ],
    counters: &[
        Counter {
            name: "pilotfish_http_request_bytes_total",
            help: "Bytes of HTTP requests, heads and framing included.",
            cell: Cell::RequestBytes,
        },
        Counter {
            name: "pilotfish_http_response_bytes_total",
            help: "Bytes of HTTP responses, heads and framing included.",
            cell: Cell::ResponseBytes,
        },
    ],
};

#[inline]
pub(super) fn describe(outcome: Outcome, http: &HttpExchange) -> Described<'_> {
    let status = match (outcome, http.status) {
        (Outcome::Answered, Some(status @ 100..600)) => Value::Number(status),
        (Outcome::Answered, _) => Value::Other,
        (Outcome::Unanswered | Outcome::OneWay, _) => Value::None,
    };
    // Success as a mesh shows it: answered, and not with a 5xx. OpenTelemetry: the status, where it
    // is an error.
    let said = if let Value::Number(500..) = status { status } else { Value::None };
    Described::new([words(&METHODS, &http.method), status], error(outcome, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::ERROR;
    use crate::labels::{OTHER, UNANSWERED};

    /// Method, status and error, as they are shown.
    fn described(method: &str, outcome: Outcome, status: Option<u16>) -> [Option<Box<str>>; 3] {
        let http = HttpExchange { method: method.to_owned().into(), status, ..HttpExchange::default() };
        let described = describe(outcome, &http);
        let [method, status] = [0, 1].map(|place| FAMILY.labels[place].set.show(described.value(place)));
        [method, status, FAMILY.errors.show(described.value(ERROR))]
    }

    fn shown(text: &str) -> Option<Box<str>> {
        Some(text.into())
    }

    #[test]
    fn methods_outside_the_known_set_share_one_label() {
        let method = |sent| {
            let [method, ..] = described(sent, Outcome::Answered, Some(200));
            method
        };
        assert_eq!(method("GET"), shown("GET"));
        for sent in ["get", "", "PROPFIND", "GET\n"] {
            assert_eq!(method(sent), shown(OTHER));
        }
    }

    #[test]
    fn a_client_error_is_a_success_of_the_server() {
        let check = |status, success| {
            let [_, code, error] = described("GET", Outcome::Answered, Some(status));
            assert_eq!((code, error.is_none()), (shown(&status.to_string()), success), "{status}")
        };
        check(200, true);
        check(404, true);
        check(500, false);
        check(599, false);
        assert_eq!(described("GET", Outcome::Unanswered, None)[1..], [None, shown(UNANSWERED)]);
    }

    #[test]
    fn a_status_that_is_none_is_no_failure() {
        assert_eq!(described("GET", Outcome::Answered, Some(999))[1..], [shown(OTHER), None]);
        assert_eq!(described("GET", Outcome::Answered, None)[1..], [shown(OTHER), None]);
    }
}
