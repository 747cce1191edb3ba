//! What a tap is told of one exchange: who, what, how it ended and how long it took. Never a value,
//! a key, a body, a literal of a statement or the query of a target.

use super::path::path;
use crate::families::{ERROR, FamilyId, Value, describe, rcode_name};
use crate::labels::{End, Reporter};
use crate::series::Edge;
use agent_api::{Party, TapExchange};
use flow_model::{Detail, Endpoint, FlowInfo, L7Record, Notes, Outcome, Protocol, Ts};
use std::borrow::Cow;
use std::sync::Arc;

/// Longest target that is told: as long as `flow-model` keeps one.
const LONGEST_TARGET: usize = 1024;
/// Longest operation or status. A method may be any word that a client made up.
const LONGEST_WORD: usize = 255;

/// The status of what succeeded without a word for it.
pub(super) const OK: &str = "ok";
/// The status of what got no answer.
pub(super) const UNANSWERED: &str = "unanswered";
/// The status of what asked for no answer.
const ONE_WAY: &str = "one_way";
/// The status of an answer that was not understood.
const UNKNOWN: &str = "unknown";

/// One exchange, named and cut down to what may be shown.
#[derive(Clone, Debug)]
pub struct Tapped {
    client: End,
    server: End,
    service: Arc<str>,
    reporter: Reporter,
    ends: (Endpoint, Endpoint),
    protocol: Protocol,
    start: Ts,
    end: Ts,
    outcome: Outcome,
    failed: bool,
    operation: Cow<'static, str>,
    target: Cow<'static, str>,
    route: Arc<str>,
    status: Cow<'static, str>,
    request_bytes: u64,
    response_bytes: u64,
    notes: Notes,
}

impl Tapped {
    pub(super) fn new(edge: &Edge, flow: &FlowInfo, record: &L7Record) -> Tapped {
        let (operation, target) = what(record);
        Tapped {
            client: edge.client.clone(),
            server: edge.server.clone(),
            service: edge.service.clone(),
            reporter: edge.reporter,
            ends: flow.client_server(),
            protocol: record.protocol,
            start: record.start,
            end: record.end,
            outcome: record.outcome,
            failed: Judged::of(record).failed,
            operation: clipped(operation, LONGEST_WORD),
            target: clipped(target, LONGEST_TARGET),
            route: if let Detail::Http(http) = &record.detail { http.route.clone() } else { Arc::default() },
            status: clipped(status(record), LONGEST_WORD),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            notes: record.notes,
        }
    }

    /// Bytes that it takes. Names of ends are the edge's.
    pub(super) fn held(&self) -> usize {
        let own = |text: &Cow<'static, str>| if let Cow::Owned(text) = text { text.capacity() } else { 0 };
        size_of::<Tapped>() + own(&self.operation) + own(&self.target) + own(&self.status)
    }

    /// As the agent answers it. `unix_nano` says what a time is since 1970, in nanoseconds.
    pub fn row(&self, unix_nano: impl Fn(Ts) -> u64) -> TapExchange {
        let party = |End { workload, namespace, kind }: &End| Party {
            name: workload.to_string(),
            namespace: namespace.to_string(),
            kind: (*kind).to_owned(),
        };
        let address = |Endpoint { ip, port }: Endpoint| std::net::SocketAddr::new(ip, port).to_string();
        let took = u64::try_from(self.end.since(self.start).as_nanos()).unwrap_or(u64::MAX);
        let notes = Notes::NAMES.iter().filter(|(note, _)| self.notes.has(*note));
        TapExchange {
            start_unix_nano: unix_nano(self.start),
            end_unix_nano: unix_nano(self.end),
            duration_ns: (self.outcome != Outcome::OneWay).then_some(took),
            src: party(&self.client),
            dst: party(&self.server),
            src_address: address(self.ends.0),
            dst_address: address(self.ends.1),
            service: self.service.to_string(),
            reporter: self.reporter.as_str().to_owned(),
            protocol: self.protocol.as_str().to_owned(),
            operation: self.operation.to_string(),
            target: self.target.to_string(),
            route: self.route.to_string(),
            status: self.status.to_string(),
            outcome: self.outcome.as_str().to_owned(),
            failed: self.failed,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            notes: notes.map(|(_, name)| (*name).to_owned()).collect(),
        }
    }
}

/// What golden metrics make of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub family: FamilyId,
    /// It has an `error_type` there.
    pub failed: bool,
}

impl Judged {
    pub(super) fn of(record: &L7Record) -> Judged {
        let (family, described) = describe(record);
        Judged { family, failed: described.value(ERROR) != Value::None }
    }
}

/// What was asked for, and of what.
fn what(record: &L7Record) -> (Cow<'static, str>, Cow<'static, str>) {
    let owned = |text: &str| if text.is_empty() { Cow::Borrowed("") } else { Cow::Owned(text.to_owned()) };
    match &record.detail {
        Detail::Http(http) => (http.method.clone(), owned(path(&http.target))),
        Detail::Dns(dns) => {
            let (family, described) = describe(record);
            let question = family.family().labels.first().and_then(|label| label.set.show(described.value(0)));
            let name = if dns.name.is_empty() { "." } else { &dns.name };
            (question.map_or(Cow::Borrowed(""), |question| Cow::Owned(question.into())), owned(name))
        }
        Detail::Rpc(call) => match &*call.service {
            "" => (owned(&call.method), Cow::Borrowed("")),
            service => (Cow::Owned(format!("{service}/{}", call.method)), Cow::Borrowed("")),
        },
        Detail::Db(operation) => {
            let of = if operation.collection.is_empty() { &operation.namespace } else { &operation.collection };
            (operation.operation.clone(), owned(of))
        }
        Detail::Messaging(operation) => (Cow::Borrowed(operation.operation), owned(&operation.destination)),
        Detail::Tls(handshake) => (Cow::Borrowed("handshake"), owned(&handshake.sni)),
        Detail::Channel(traffic) => (Cow::Borrowed(traffic.opcode), Cow::Borrowed("")),
    }
}

/// The status in the words of its protocol: "503", "NXDOMAIN", "UNAVAILABLE", "WRONGTYPE".
pub(super) fn status(record: &L7Record) -> Cow<'static, str> {
    match (record.outcome, &record.detail) {
        (Outcome::Unanswered, _) => Cow::Borrowed(UNANSWERED),
        (Outcome::OneWay, _) => Cow::Borrowed(ONE_WAY),
        (Outcome::Answered, Detail::Http(http)) => {
            http.status.map_or(Cow::Borrowed(UNKNOWN), |status| Cow::Owned(status.to_string()))
        }
        (Outcome::Answered, Detail::Dns(dns)) => Cow::Borrowed(dns.rcode.map_or(UNKNOWN, rcode_name)),
        (Outcome::Answered, Detail::Rpc(call)) if !call.status.is_empty() => call.status.clone(),
        (Outcome::Answered, _) => {
            let (family, described) = describe(record);
            let error = family.family().errors.show(described.value(ERROR));
            error.map_or(Cow::Borrowed(OK), |error| Cow::Owned(error.into()))
        }
    }
}

fn clipped(text: Cow<'static, str>, most: usize) -> Cow<'static, str> {
    if text.len() <= most {
        return text;
    }
    let kept = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    Cow::Owned(kept.to_owned())
}
