//! HTTP of every version. OpenTelemetry: "Semantic conventions for HTTP metrics".

use super::family::{Cell, Counter, Duration, Family, GivesUp, Label, Seen, error};
use super::value::{Described, Set, Value, words};
use flow_model::{HttpExchange, Outcome, Transport};

/// Whether a status is in IANA's registry "HTTP Status Codes". Others are shown by their class, which
/// is what RFC 9110 section 15 says of them.
#[inline]
fn is_registered(status: u16) -> bool {
    matches!(
        status,
        100..=104 | 200..=208 | 226 | 300..=308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}

/// The methods of RFC 9110 and 5789 and QUERY, case-sensitive as these are.
const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];

/// Place of the route, which is not of the record alone: `crate::routes` knows it.
pub(crate) const ROUTE: usize = 2;

pub(super) static FAMILY: Family = Family {
    name: "http",
    always: true,
    transport: Transport::Tcp,
    labels: &[
        Label { name: "http_request_method", set: Set::Words(&METHODS), over_cap: false, gives_up: GivesUp::Method },
        Label {
            name: "http_response_status_code",
            set: Set::Numbers(100, 599),
            over_cap: true,
            gives_up: GivesUp::Status,
        },
        Label { name: "http_route", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
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
        (Outcome::Answered, Some(status)) if is_registered(status) => Value::Number(status),
        (Outcome::Answered, Some(status @ 100..600)) => Value::Number(status).class(),
        (Outcome::Answered, _) => Value::Other,
        (Outcome::Unanswered | Outcome::OneWay, _) => Value::None,
    };
    // Success as a mesh shows it: answered, and not with a 5xx. OpenTelemetry: the status, where it
    // is an error.
    let said = if let Value::Number(500..) | Value::Class(5) = status { status } else { Value::None };
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
    fn the_route_is_where_it_is_put() {
        assert_eq!(FAMILY.labels[ROUTE].name, "http_route");
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
        let check = |status, code: &str, success| {
            let [_, shown_as, error] = described("GET", Outcome::Answered, Some(status));
            assert_eq!((shown_as, error.is_none()), (shown(code), success), "{status}")
        };
        check(200, "200", true);
        check(404, "404", true);
        check(500, "500", false);
        check(599, "5xx", false);
        assert_eq!(described("GET", Outcome::Unanswered, None)[1..], [None, shown(UNANSWERED)]);
    }

    #[test]
    fn a_status_that_nobody_registered_is_shown_by_its_class() {
        let check = |status, code, error: Option<&str>| {
            assert_eq!(described("GET", Outcome::Answered, Some(status))[1..], [shown(code), error.and_then(shown)]);
        };
        check(299, "2xx", None);
        check(499, "4xx", None);
        check(520, "5xx", Some("5xx"));
        check(511, "511", Some("511"));
        let distinct: std::collections::BTreeSet<_> =
            (100..600).map(|status| described("GET", Outcome::Answered, Some(status))[1].clone()).collect();
        assert_eq!(distinct.len(), 64 + 5, "IANA's, and five classes");
        for status in ["1xx", "5xx", "503"] {
            let set = &FAMILY.labels[1].set;
            assert_eq!(set.show(set.read(status).expect(status)), shown(status), "as it was kept");
        }
        assert!(["6xx", "0xx", "xx", "55xx", "600"].iter().all(|none| FAMILY.labels[1].set.read(none).is_none()));
    }

    #[test]
    fn a_status_that_is_none_is_no_failure() {
        assert_eq!(described("GET", Outcome::Answered, Some(999))[1..], [shown(OTHER), None]);
        assert_eq!(described("GET", Outcome::Answered, None)[1..], [shown(OTHER), None]);
    }
}
