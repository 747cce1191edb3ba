//! The closed sets that label values come from, and the ends of an edge. What traffic says is mapped into a set with an "other",
//! or it does not become a label.

use flow_model::{FlowInfo, Identity, Outcome, Role, Slot, Unknown};
use std::sync::Arc;

/// Value of a closed set for everything outside it (OpenTelemetry's word for methods).
pub const OTHER: &str = "_OTHER";
/// Workload of both ends of the series that take what did not fit under a family's cap.
pub const OVERFLOW: &str = "_overflow";
/// Workload of an end without a name; its kind says why.
pub const UNKNOWN: &str = "_unknown";
/// `error_type` of an exchange that got no response.
pub const UNANSWERED: &str = "unanswered";

/// From where an exchange was seen. Both ends of a flow on one node are two observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reporter {
    Client,
    Server,
    /// A replayed capture: seen from neither end.
    Capture,
}

impl Reporter {
    pub const ALL: [Reporter; 3] = [Reporter::Client, Reporter::Server, Reporter::Capture];

    /// The role of the flow's pod. Where it is unknown the ports decide, as in `FlowInfo::client_server`.
    #[must_use]
    pub fn of(flow: &FlowInfo) -> Reporter {
        match flow.role {
            _ if flow.slot == Slot(0) => Reporter::Capture,
            Role::Client => Reporter::Client,
            Role::Server => Reporter::Server,
            Role::Unknown if flow.client_server().0 == flow.tuple.local => Reporter::Client,
            Role::Unknown => Reporter::Server,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reporter::Client => "client",
            Reporter::Server => "server",
            Reporter::Capture => "capture",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// One end of an edge, as its label values. Pods of one workload are one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End {
    pub workload: Arc<str>,
    pub namespace: Arc<str>,
    pub kind: &'static str,
}

impl End {
    pub(crate) fn of(identity: &Identity) -> End {
        let unknown = |kind| End { workload: UNKNOWN.into(), namespace: "".into(), kind };
        match identity {
            Identity::Known(w) => {
                End { workload: w.name.clone(), namespace: w.namespace.clone(), kind: w.kind.as_str() }
            }
            Identity::Unknown(Unknown::NotFound) => unknown("NotFound"),
            Identity::Unknown(Unknown::Pending) => unknown("Pending"),
            Identity::Unknown(Unknown::Ambiguous) => unknown("Ambiguous"),
        }
    }

    pub(crate) fn overflow() -> End {
        End { workload: OVERFLOW.into(), namespace: "".into(), kind: "" }
    }
}

/// `http_request_method`: the methods of RFC 9110 and 5789 and QUERY, case-sensitive as these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(u8);

const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];

impl Method {
    pub(crate) const OTHER: Method = Method(METHODS.len() as u8);

    #[must_use]
    pub fn of(sent: &str) -> Method {
        METHODS.iter().position(|m| *m == sent).map_or(Method::OTHER, |i| Method(i as u8))
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        METHODS.get(usize::from(self.0)).copied().unwrap_or(OTHER)
    }
}

/// How an HTTP exchange ended: a status of 100 to 599, another one, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpEnd {
    Status(u16),
    OtherStatus,
    Unanswered,
}

impl HttpEnd {
    #[must_use]
    pub fn of(outcome: Outcome, status: Option<u16>) -> HttpEnd {
        match (outcome, status) {
            (Outcome::Answered, Some(status @ 100..600)) => HttpEnd::Status(status),
            (Outcome::Answered, _) => HttpEnd::OtherStatus,
            (Outcome::Unanswered, _) => HttpEnd::Unanswered,
        }
    }

    /// Success as a mesh shows it: answered, and not with a 5xx.
    #[must_use]
    pub fn is_success(self) -> bool {
        match self {
            HttpEnd::Status(status) => status < 500,
            HttpEnd::OtherStatus => true,
            HttpEnd::Unanswered => false,
        }
    }
}

/// How a DNS exchange ended. RCODEs without a name here are `OtherRcode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsEnd {
    Rcode(u16),
    OtherRcode,
    Unanswered,
}

impl DnsEnd {
    #[must_use]
    pub fn of(outcome: Outcome, rcode: Option<u16>) -> DnsEnd {
        match (outcome, rcode) {
            (Outcome::Answered, Some(rcode)) if rcode_name(rcode).is_some() => DnsEnd::Rcode(rcode),
            (Outcome::Answered, _) => DnsEnd::OtherRcode,
            (Outcome::Unanswered, _) => DnsEnd::Unanswered,
        }
    }

    /// NOERROR and NXDOMAIN are answers to the question; all others, and silence, are failures of the resolver.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, DnsEnd::Rcode(0 | 3))
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DnsEnd::Rcode(rcode) => rcode_name(rcode).unwrap_or(OTHER),
            DnsEnd::OtherRcode => OTHER,
            DnsEnd::Unanswered => UNANSWERED,
        }
    }
}

/// IANA's registry "DNS RCODEs"; those of TSIG and TKEY do not end a lookup.
fn rcode_name(rcode: u16) -> Option<&'static str> {
    Some(match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        _ => return None,
    })
}

/// `dns_question_type`: the types that resolvers are asked for in practice (IANA "Resource Record TYPEs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionType(&'static str);

impl QuestionType {
    pub(crate) const OTHER: QuestionType = QuestionType(OTHER);

    #[must_use]
    pub fn of(qtype: u16) -> QuestionType {
        QuestionType(match qtype {
            1 => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            28 => "AAAA",
            33 => "SRV",
            35 => "NAPTR",
            43 => "DS",
            48 => "DNSKEY",
            52 => "TLSA",
            64 => "SVCB",
            65 => "HTTPS",
            252 => "AXFR",
            255 => "ANY",
            257 => "CAA",
            _ => OTHER,
        })
    }

    /// As it was shown.
    pub(crate) fn named(shown: &str) -> QuestionType {
        // The types are the ones below 258 (`of`); asked once for each series that is restored.
        (0..=257).map(QuestionType::of).find(|known| known.0 == shown).unwrap_or(QuestionType::OTHER)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_outside_the_known_set_share_one_label() {
        assert_eq!(Method::of("GET").as_str(), "GET");
        for sent in ["get", "", "PROPFIND", "GET\n"] {
            assert_eq!(Method::of(sent).as_str(), OTHER);
        }
    }

    #[test]
    fn a_client_error_is_a_success_of_the_server() {
        let check = |status, success| {
            assert_eq!(HttpEnd::of(Outcome::Answered, Some(status)).is_success(), success, "{status}")
        };
        check(200, true);
        check(404, true);
        check(500, false);
        check(599, false);
        assert!(!HttpEnd::of(Outcome::Unanswered, None).is_success());
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_answer_and_servfail_is_not() {
        let check = |rcode, name, success| {
            let end = DnsEnd::of(Outcome::Answered, Some(rcode));
            assert_eq!((end.as_str(), end.is_success()), (name, success));
        };
        check(0, "NOERROR", true);
        check(3, "NXDOMAIN", true);
        check(2, "SERVFAIL", false);
        check(4000, OTHER, false);
    }
}
