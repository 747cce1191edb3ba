//! What the reader of a tap wants to be told of.

use super::tapped::{self, Judged, UNANSWERED};
use crate::families::FamilyId;
use crate::labels::Reporter;
use crate::series::Edge;
use flow_model::{Detail, L7Record, Outcome, Protocol};
use std::time::Duration;

/// Names of the parameters, in the order in which they are explained.
const PARAMETERS: [&str; 7] = ["workload", "namespace", "protocol", "status", "slow_ns", "reporter", "limit"];
/// Longest value of a parameter. A name in Kubernetes has at most 253 bytes, and a workload two.
const LONGEST: usize = 1024;

/// Which exchanges, and how many of them. The default is all, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapQuery {
    /// Either end is it.
    workload: Option<Named>,
    /// Either end is in it.
    namespace: Option<Box<str>>,
    /// Seen from there.
    reporter: Option<Reporter>,
    /// Any of these; of none: all.
    spoken: Vec<Spoken>,
    status: Option<Status>,
    /// It took at least so long. `None`: also what has no duration.
    slow: Option<Duration>,
    /// No more than these.
    limit: Option<u64>,
}

/// `api`, or `shop/api`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    namespace: Option<Box<str>>,
    name: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Protocol(Protocol),
    Family(FamilyId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    /// Of HTTP, by its hundreds.
    Class(u16),
    /// What golden metrics count as failed, whatever the protocol.
    Failed,
    Unanswered,
    /// A protocol's own word, whatever its case.
    Exact(Box<str>),
}

impl TapQuery {
    /// Reads parameters with their values.
    ///
    /// # Errors
    /// The text says which one cannot be, and what is allowed.
    pub fn read<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<TapQuery, String> {
        let (mut query, mut seen) = (TapQuery::default(), Vec::new());
        for (name, value) in parameters {
            if !PARAMETERS.contains(&name) {
                return Err(format!("no parameter is called {name:?}; there are {}", PARAMETERS.join(", ")));
            }
            if seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            if value.is_empty() || value.len() > LONGEST {
                return Err(format!("{name} is empty or longer than {LONGEST} bytes"));
            }
            seen.push(name);
            query.set(name, value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "workload" => self.workload = Some(Named::read(value)?),
            "namespace" => self.namespace = Some(value.into()),
            "protocol" => self.spoken = value.split(',').map(Spoken::read).collect::<Result<_, _>>()?,
            "status" => self.status = Some(Status::read(value)?),
            "slow_ns" => {
                let nanos = value.parse().map_err(|_| format!("slow_ns is {value:?}; write whole nanoseconds"))?;
                self.slow = Some(Duration::from_nanos(nanos));
            }
            "reporter" => {
                let found = [Reporter::Client, Reporter::Server].into_iter().find(|known| known.as_str() == value);
                let wrong = || format!("nobody reports as {value:?}; there are client and server");
                self.reporter = Some(found.ok_or_else(wrong)?);
            }
            _ => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                self.limit = Some(limit.ok_or_else(|| format!("limit is {value:?}; write a number from 1"))?);
            }
        }
        Ok(())
    }

    /// How many exchanges are told at most.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether what it asks for may have a path.
    pub(super) fn may_have_paths(&self) -> bool {
        let has = |spoken: &Spoken| match spoken {
            Spoken::Protocol(protocol) => matches!(protocol, Protocol::Http1 | Protocol::Http2),
            Spoken::Family(family) => *family == FamilyId::Http,
        };
        self.spoken.is_empty() || self.spoken.iter().any(has)
    }

    pub(super) fn wants(&self, edge: &Edge, record: &L7Record) -> bool {
        if !self.wants_ends(edge) {
            return false;
        }
        let judged = Judged::of(record);
        (self.spoken.is_empty() || self.spoken.iter().any(|spoken| spoken.is(record, judged.family)))
            && self.status.as_ref().is_none_or(|status| status.is(record, judged.failed))
            && self.slow.is_none_or(|slow| took(record) >= Some(slow))
    }

    pub(super) fn wants_ends(&self, edge: &Edge) -> bool {
        let ends = [&edge.client, &edge.server];
        self.reporter.is_none_or(|reporter| reporter == edge.reporter)
            && self.namespace.as_ref().is_none_or(|wanted| ends.iter().any(|end| *end.namespace == **wanted))
            && self.workload.as_ref().is_none_or(|Named { namespace, name }| {
                let is_in = |end: &str| namespace.as_ref().is_none_or(|wanted| **wanted == *end);
                ends.iter().any(|end| *end.workload == **name && is_in(&end.namespace))
            })
    }
}

/// `None`: nobody waited for an answer.
fn took(record: &L7Record) -> Option<Duration> {
    (record.outcome != Outcome::OneWay).then(|| record.end.since(record.start))
}

impl Named {
    fn read(text: &str) -> Result<Named, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.into()), name),
            None => (None, text),
        };
        if name.is_empty() || name.contains('/') {
            return Err(format!("{text:?} is no workload; write a name like api or shop/api"));
        }
        Ok(Named { namespace, name: name.into() })
    }
}

impl Spoken {
    fn read(text: &str) -> Result<Spoken, String> {
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == text).map(Spoken::Protocol);
        let found = protocol.or_else(|| FamilyId::named(text).map(Spoken::Family));
        found.ok_or_else(|| {
            let protocols = Protocol::ALL.map(Protocol::as_str);
            let families = FamilyId::ALL.map(|family| family.family().name);
            let families: Vec<&str> = families.into_iter().filter(|name| !protocols.contains(name)).collect();
            let (protocols, families) = (protocols.join(", "), families.join(", "));
            format!("no protocol is called {text:?}; there are {protocols}, and for several of them {families}")
        })
    }

    fn is(self, record: &L7Record, family: FamilyId) -> bool {
        match self {
            Spoken::Protocol(protocol) => record.protocol == protocol,
            Spoken::Family(wanted) => family == wanted,
        }
    }
}

impl Status {
    fn read(text: &str) -> Result<Status, String> {
        const WAYS: &str =
            "write a class (5xx), a number (503), a protocol's word (NXDOMAIN, UNAVAILABLE, ok), unanswered or failed";
        let hundreds = |class: &str| class.parse().ok().filter(|class| (1..=5).contains(class));
        match text {
            "failed" => return Ok(Status::Failed),
            UNANSWERED => return Ok(Status::Unanswered),
            _ => {}
        }
        if let Some(class) = text.strip_suffix("xx") {
            let none = || format!("no status is of class {text:?}; {WAYS}");
            return hundreds(class).map(Status::Class).ok_or_else(none);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !(text.len() == 3 && text >= "100") {
            return Err(format!("{text:?} is no status; {WAYS}"));
        }
        Ok(Status::Exact(text.into()))
    }

    fn is(&self, record: &L7Record, failed: bool) -> bool {
        match self {
            Status::Class(class) => match (&record.detail, record.outcome) {
                (Detail::Http(http), Outcome::Answered) => http.status.is_some_and(|status| status / 100 == *class),
                _ => false,
            },
            Status::Failed => failed,
            Status::Unanswered => record.outcome == Outcome::Unanswered,
            Status::Exact(wanted) => tapped::status(record).eq_ignore_ascii_case(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::End;
    use flow_model::{
        ChannelTraffic, DbOperation, DnsExchange, HttpExchange, MessagingOperation, Notes, RpcCall, TlsHandshake, Ts,
    };
    use proptest::prelude::*;

    fn read(text: &str) -> Result<TapQuery, String> {
        TapQuery::read(text.split_whitespace().filter_map(|pair| pair.split_once('=')))
    }

    fn edge(client: &str, server: &str, reporter: Reporter) -> Edge {
        let end = |text: &str| {
            let (namespace, workload) = text.split_once('/').expect("both");
            End { workload: workload.into(), namespace: namespace.into(), kind: "Deployment" }
        };
        Edge::apart(end(client), end(server), "".into(), reporter)
    }

    fn record(protocol: Protocol, outcome: Outcome, took_ns: u64, detail: Detail) -> L7Record {
        L7Record {
            protocol,
            start: Ts(5),
            response_start: None,
            end: Ts(5 + took_ns),
            request_bytes: 10,
            response_bytes: 20,
            outcome,
            notes: Notes::default(),
            detail,
        }
    }

    fn http(status: u16, took_ns: u64) -> L7Record {
        let detail = HttpExchange { method: "GET".into(), status: Some(status), ..HttpExchange::default() };
        record(Protocol::Http1, Outcome::Answered, took_ns, Detail::Http(detail))
    }

    fn redis(code: &str) -> L7Record {
        let detail =
            DbOperation { system: "redis", operation: "GET".into(), code: code.into(), ..DbOperation::default() };
        record(Protocol::Redis, Outcome::Answered, 1000, Detail::Db(detail))
    }

    fn dns(rcode: u16) -> L7Record {
        let detail = DnsExchange { rcode: Some(rcode), ..DnsExchange::default() };
        record(Protocol::Dns, Outcome::Answered, 1000, Detail::Dns(detail))
    }

    fn grpc(status: &'static str) -> L7Record {
        let detail = RpcCall { system: "grpc", status: status.into(), ..RpcCall::default() };
        record(Protocol::Grpc, Outcome::Answered, 1000, Detail::Rpc(detail))
    }

    fn silent() -> L7Record {
        L7Record { outcome: Outcome::Unanswered, ..http(200, 1000) }
    }

    #[test]
    fn each_parameter_leaves_out_what_it_does_not_name() {
        let at = edge("shop/web", "db/redis", Reporter::Server);
        let check = |query: &str, record: &L7Record, expected: bool| {
            assert_eq!(read(query).expect(query).wants(&at, record), expected, "{query}: {record:?}");
        };
        let ok = http(200, 5_000_000);
        for (query, expected) in [
            ("", true),
            ("workload=web", true),
            ("workload=redis", true),
            ("workload=shop/web", true),
            ("workload=db/web", false),
            ("workload=we", false),
            ("namespace=shop", true),
            ("namespace=db", true),
            ("namespace=other", false),
            ("workload=web namespace=db", true),
            ("reporter=server", true),
            ("reporter=client", false),
            ("protocol=http", true),
            ("protocol=http1", true),
            ("protocol=redis,http1", true),
            ("protocol=http2", false),
            ("protocol=db", false),
            ("slow_ns=5000000", true),
            ("slow_ns=5000001", false),
            ("slow_ns=0", true),
            ("status=2xx", true),
            ("status=200", true),
            ("status=5xx", false),
            ("status=failed", false),
            ("limit=1", true),
        ] {
            check(query, &ok, expected);
        }
        check("status=5xx", &http(503, 1), true);
        check("status=failed", &http(503, 1), true);
        check("status=failed", &http(404, 1), false);
        check("status=ok", &redis(""), true);
        check("status=wrongtype", &redis("WRONGTYPE"), true);
        check("status=failed", &redis("WRONGTYPE"), true);
        check("protocol=db", &redis(""), true);
        check("status=nxdomain", &dns(3), true);
        check("status=failed", &dns(3), false);
        check("status=UNAVAILABLE", &grpc("UNAVAILABLE"), true);
        check("status=ok", &grpc("OK"), true);
        check("status=2xx", &grpc("OK"), false);
        check("status=unanswered", &silent(), true);
        check("status=200", &silent(), false);
        check("status=2xx", &silent(), false);
        check("status=failed", &silent(), true);
        check("slow_ns=0", &L7Record { outcome: Outcome::OneWay, ..redis("") }, false);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let check = |query: &str, word: &str| {
            let refused = read(query).expect_err(query);
            assert!(refused.contains(word), "{query}: {refused}");
        };
        check("colour=red", "there are workload, namespace, protocol, status, slow_ns, reporter, limit");
        check("protocol=smtp", "there are http1, dns, tls, redis");
        check("protocol=http1,", "no protocol is called \"\"");
        check("protocol=smtp", "for several of them http, rpc, db");
        check("status=6xx", "a class (5xx)");
        check("status=xx", "a class (5xx)");
        check("status=99", "a number (503)");
        check("status=5000", "a number (503)");
        check("reporter=capture", "client and server");
        check("slow_ns=1ms", "nanoseconds");
        check("limit=0", "a number from 1");
        check("limit=-1", "a number from 1");
        check("workload=a/b/c", "shop/api");
        check("workload=shop/", "shop/api");
        check("workload=", "empty");
        check("limit=1 limit=2", "twice");
        let long = format!("workload={}", "x".repeat(LONGEST + 1));
        check(&long, "longer than");
    }

    #[test]
    fn paths_are_wanted_where_http_is() {
        for (query, expected) in [
            ("", true),
            ("protocol=http", true),
            ("protocol=http2", true),
            ("protocol=redis,http1", true),
            ("protocol=redis", false),
            ("protocol=grpc,dns", false),
            ("protocol=rpc", false),
        ] {
            assert_eq!(read(query).expect(query).may_have_paths(), expected, "{query}");
        }
    }

    fn records() -> impl Strategy<Value = L7Record> {
        let details = prop_oneof![
            (100_u16..600).prop_map(|status| http(status, 0).detail),
            (0_u16..12).prop_map(|rcode| dns(rcode).detail),
            prop::sample::select(vec!["OK", "UNAVAILABLE", "NOT_FOUND", ""]).prop_map(|status| grpc(status).detail),
            prop::sample::select(vec!["", "WRONGTYPE", "ERR"]).prop_map(|code| redis(code).detail),
            Just(Detail::Tls(TlsHandshake::default())),
            Just(Detail::Messaging(MessagingOperation::default())),
            Just(Detail::Channel(ChannelTraffic::default())),
        ];
        let outcomes = prop::sample::select(vec![Outcome::Answered, Outcome::Unanswered, Outcome::OneWay]);
        (prop::sample::select(Protocol::ALL.to_vec()), outcomes, 0_u64..1_000, details)
            .prop_map(|(protocol, outcome, took, detail)| record(protocol, outcome, took, detail))
    }

    fn edges() -> impl Strategy<Value = Edge> {
        let names = || prop::sample::select(vec!["a/web", "a/api", "b/api", "b/db"]);
        let reporters = prop::sample::select(vec![Reporter::Client, Reporter::Server]);
        (names(), names(), reporters).prop_map(|(client, server, reporter)| edge(client, server, reporter))
    }

    proptest! {
        /// Each parameter alone says what it lets pass; together they let pass what each of them does.
        #[test]
        fn parameters_are_joined_by_and(
            at in edges(),
            record in records(),
            parameters in prop::sample::subsequence(
                vec!["workload=api", "namespace=b", "protocol=http,redis", "status=failed", "slow_ns=500", "reporter=server"],
                0..=6,
            ),
        ) {
            let together = read(&parameters.join(" ")).expect("good").wants(&at, &record);
            let each = parameters.iter().all(|parameter| read(parameter).expect("good").wants(&at, &record));
            prop_assert_eq!(together, each);
        }

        #[test]
        fn what_is_told_of_a_record_has_the_status_that_finds_it(at in edges(), record in records()) {
            let status = tapped::status(&record);
            if let Ok(query) = TapQuery::read([("status", &*status)]) {
                prop_assert!(query.wants(&at, &record), "{}", status);
            }
        }

        #[test]
        fn reading_never_fails_in_another_way(name in "\\PC{0,12}", value in "\\PC{0,40}") {
            let _ = TapQuery::read([(name.as_str(), value.as_str())]);
            for name in PARAMETERS {
                let _ = TapQuery::read([(name, value.as_str())]);
            }
        }
    }
}
