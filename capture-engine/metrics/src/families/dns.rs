//! Lookups of names. OpenTelemetry: "Semantic conventions for DNS metrics".

use super::family::{Duration, Family, Label, Seen, error};
use super::value::{Described, Set, Value};
use crate::labels::OTHER;
use flow_model::{DnsExchange, Outcome, Transport};

/// The types that resolvers are asked for in practice (IANA "Resource Record TYPEs").
const QUESTIONS: [(u16, &str); 18] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (43, "DS"),
    (48, "DNSKEY"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];

/// IANA's registry "DNS RCODEs"; those of TSIG and TKEY do not end a lookup.
const RCODES: [(u16, &str); 13] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
    (23, "BADCOOKIE"),
];

const QUESTION_NAMES: [&str; QUESTIONS.len()] = names(&QUESTIONS);
const RCODE_NAMES: [&str; RCODES.len()] = names(&RCODES);

const fn names<const N: usize>(registry: &[(u16, &'static str); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut i = 0;
    while i < N {
        names[i] = registry[i].1;
        i += 1;
    }
    names
}

pub(super) static FAMILY: Family = Family {
    name: "dns",
    always: true,
    transport: Transport::Udp,
    labels: &[
        Label { name: "dns_question_type", set: Set::Words(&QUESTION_NAMES), over_cap: false },
        Label { name: "dns_response_code", set: Set::Words(&RCODE_NAMES), over_cap: true },
    ],
    errors: Set::Words(&RCODE_NAMES),
    durations: &[Duration {
        name: "dns_lookup_duration_seconds",
        help: "Duration of DNS lookups, from the query to its answer.",
        seen: Seen::Anywhere,
    }],
    counters: &[],
};

#[inline]
pub(super) fn describe(outcome: Outcome, dns: &DnsExchange) -> Described<'_> {
    let question = value(&QUESTIONS, dns.qtype);
    let rcode = match outcome {
        Outcome::Answered => dns.rcode.map_or(Value::Other, |rcode| value(&RCODES, rcode)),
        Outcome::Unanswered | Outcome::OneWay => Value::None,
    };
    // NOERROR and NXDOMAIN are answers to the question; all others, and silence, are failures of
    // the resolver.
    let said = if matches!(dns.rcode, Some(0 | 3)) { Value::None } else { rcode };
    Described::new([question, rcode], error(outcome, said))
}

/// The registered name.
pub(crate) fn rcode_name(rcode: u16) -> &'static str {
    RCODES.iter().find(|(known, _)| *known == rcode).map_or(OTHER, |(_, name)| name)
}

#[inline]
fn value(registry: &[(u16, &'static str)], number: u16) -> Value<'static> {
    let place = registry.iter().position(|(known, _)| *known == number);
    place.map_or(Value::Other, |place| Value::Word(place as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::ERROR;

    #[test]
    fn a_name_that_does_not_exist_is_an_answer_and_servfail_is_not() {
        let check = |rcode, name, success| {
            let dns = DnsExchange { rcode: Some(rcode), ..DnsExchange::default() };
            let described = describe(Outcome::Answered, &dns);
            let shown = FAMILY.labels[1].set.show(described.value(1));
            assert_eq!((shown.as_deref(), described.value(ERROR) == Value::None), (Some(name), success));
        };
        check(0, "NOERROR", true);
        check(3, "NXDOMAIN", true);
        check(2, "SERVFAIL", false);
        check(4000, OTHER, false);
    }
}
