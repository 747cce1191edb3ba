//! What an exchange was about: a struct for each family of `flow_model::Detail`.

use super::tls::Handshake;
use flow_model::{
    ChannelTraffic, DbOperation, Detail, DnsExchange, HttpExchange, L7Record, MessagingOperation, RpcCall,
};
use serde::Serialize;
use std::net::IpAddr;

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum What<'a> {
    Http(Http<'a>),
    Dns(Dns<'a>),
    Rpc(Rpc<'a>),
    Db(Db<'a>),
    Messaging(Messaging<'a>),
    Tls(Tls<'a>),
    Channel(Channel),
}

#[derive(Debug, Serialize)]
pub(super) struct Http<'a> {
    #[serde(rename = "http.request.method", skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(rename = "url.path", skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(rename = "url.query", skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(rename = "http.request.header.host", skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "network.protocol.version", skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(rename = "http.request.size")]
    request_bytes: u64,
    #[serde(rename = "http.response.size")]
    response_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Dns<'a> {
    #[serde(rename = "dns.question.name")]
    name: &'a str,
    #[serde(rename = "dns.question.type")]
    qtype: Code,
    #[serde(rename = "dns.response.code", skip_serializing_if = "Option::is_none")]
    rcode: Option<Code>,
    #[serde(rename = "dns.id")]
    id: u16,
    #[serde(rename = "dns.opcode")]
    opcode: u8,
    #[serde(rename = "dns.answer_count")]
    answers: u16,
    #[serde(rename = "dns.retries", skip_serializing_if = "is_zero")]
    retries: u16,
    #[serde(rename = "dns.answers", skip_serializing_if = "<[IpAddr]>::is_empty")]
    addresses: &'a [IpAddr],
    #[serde(rename = "dns.request.size")]
    request_bytes: u64,
    #[serde(rename = "dns.response.size")]
    response_bytes: u64,
}

/// Sizes of what was asked and answered, framing included.
#[derive(Debug, Serialize)]
struct Sizes {
    #[serde(rename = "request.size")]
    request: u64,
    #[serde(rename = "response.size")]
    response: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Rpc<'a> {
    #[serde(rename = "rpc.system.name")]
    system: &'a str,
    #[serde(rename = "rpc.service", skip_serializing_if = "str::is_empty")]
    service: &'a str,
    #[serde(rename = "rpc.method", skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(rename = "rpc.response.status_code", skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(flatten)]
    sizes: Sizes,
}

#[derive(Debug, Serialize)]
pub(super) struct Db<'a> {
    #[serde(rename = "db.system.name")]
    system: &'a str,
    #[serde(rename = "db.operation.name", skip_serializing_if = "str::is_empty")]
    operation: &'a str,
    /// What is no statement, but a command of the protocol itself.
    #[serde(rename = "mysql.command", skip_serializing_if = "str::is_empty")]
    command: &'a str,
    #[serde(rename = "db.collection.name", skip_serializing_if = "str::is_empty")]
    collection: &'a str,
    #[serde(rename = "db.namespace", skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(rename = "db.response.status_code", skip_serializing_if = "str::is_empty")]
    code: &'a str,
    #[serde(flatten)]
    sizes: Sizes,
}

#[derive(Debug, Serialize)]
pub(super) struct Messaging<'a> {
    #[serde(rename = "messaging.system")]
    system: &'a str,
    #[serde(rename = "messaging.operation.name", skip_serializing_if = "str::is_empty")]
    operation: &'a str,
    #[serde(rename = "messaging.destination.name", skip_serializing_if = "str::is_empty")]
    destination: &'a str,
    #[serde(rename = "messaging.consumer.group.name", skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(rename = "error.type", skip_serializing_if = "str::is_empty")]
    code: &'a str,
    /// [to the broker, from the broker]
    messages_by_direction: [u32; 2],
    #[serde(flatten)]
    sizes: Sizes,
}

#[derive(Debug, Serialize)]
pub(super) struct Tls<'a> {
    #[serde(flatten)]
    handshake: Handshake<'a>,
    #[serde(flatten)]
    sizes: Sizes,
}

/// Pairs are [client to server, server to client].
#[derive(Debug, Serialize)]
pub(super) struct Channel {
    #[serde(rename = "websocket.opcode", skip_serializing_if = "str::is_empty")]
    opcode: &'static str,
    /// "c2s" by the client, "s2c" by the server.
    #[serde(rename = "websocket.direction")]
    direction: &'static str,
    #[serde(rename = "websocket.close_code", skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
    messages_by_direction: [u64; 2],
    payload_bytes_by_direction: [u64; 2],
}

/// A registered name, or the number.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Code {
    Name(&'static str),
    Number(u16),
}

impl<'a> What<'a> {
    pub(super) fn of(record: &'a L7Record) -> What<'a> {
        let sizes = Sizes { request: record.request_bytes, response: record.response_bytes };
        match &record.detail {
            Detail::Http(http) => What::Http(Http::new(http, record)),
            Detail::Dns(dns) => What::Dns(Dns::new(dns, record)),
            Detail::Rpc(RpcCall { system, service, method, status, http_status }) => {
                What::Rpc(Rpc { system, service, method, status, http_status: *http_status, sizes })
            }
            Detail::Db(DbOperation { system, operation, collection, namespace, code }) => {
                let is_command = *system == "mysql" && operation.starts_with(|first: char| first.is_ascii_lowercase());
                let is_command = is_command && !matches!(&**operation, "other" | "unknown");
                let (operation, command) = if is_command { ("", &**operation) } else { (&**operation, "") };
                What::Db(Db { system, operation, command, collection, namespace, code, sizes })
            }
            Detail::Messaging(MessagingOperation { system, operation, destination, group, code, messages }) => {
                let messages_by_direction = *messages;
                What::Messaging(Messaging { system, operation, destination, group, code, messages_by_direction, sizes })
            }
            Detail::Tls(handshake) => What::Tls(Tls { handshake: Handshake::new(handshake), sizes }),
            Detail::Channel(ChannelTraffic { opcode, close_code, messages, bytes }) => What::Channel(Channel {
                opcode,
                direction: if messages[0] > 0 { "c2s" } else { "s2c" },
                close_code: *close_code,
                messages_by_direction: *messages,
                payload_bytes_by_direction: *bytes,
            }),
        }
    }
}

impl<'a> Dns<'a> {
    fn new(dns: &'a DnsExchange, record: &L7Record) -> Dns<'a> {
        Dns {
            name: if dns.name.is_empty() { "." } else { &dns.name },
            qtype: code(&QTYPES, dns.qtype),
            rcode: dns.rcode.map(|rcode| code(&RCODES, rcode)),
            id: dns.id,
            opcode: dns.opcode,
            answers: dns.answers,
            retries: dns.retries,
            addresses: &dns.addresses,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
        }
    }
}

impl<'a> Http<'a> {
    fn new(http: &'a HttpExchange, record: &L7Record) -> Http<'a> {
        let asked = !http.method.is_empty() || !http.target.is_empty();
        let (path, query) = path_and_query(&http.target);
        Http {
            method: Some(&*http.method).filter(|method| !method.is_empty()),
            path: asked.then_some(path),
            query,
            host: Some(&*http.host).filter(|host| !host.is_empty()),
            status: http.status,
            version: Some(http.version).filter(|version| !version.is_empty()),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
        }
    }
}

fn is_zero(count: &u16) -> bool {
    *count == 0
}

/// RFC 9112 3.2: origin form, absolute form (its scheme and authority left out), authority form (as
/// it is).
fn path_and_query(target: &str) -> (&str, Option<&str>) {
    let target = target.split_once('#').map_or(target, |(before, _)| before);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let path = match path.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => path,
    };
    (path, query)
}

/// IANA's registry of resource record types, those that are met.
const QTYPES: [(u16, &str); 36] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (41, "OPT"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (32769, "DLV"),
];

/// IANA's registry of response codes.
const RCODES: [(u16, &str); 12] = [
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
];

fn code(names: &[(u16, &'static str)], number: u16) -> Code {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => Code::Name(name),
        None => Code::Number(number),
    }
}

fn text(code: Code, prefix: &str) -> String {
    match code {
        Code::Name(name) => name.to_owned(),
        Code::Number(number) => format!("{prefix}{number}"),
    }
}

pub(in crate::replay) fn qtype_text(qtype: u16) -> String {
    text(code(&QTYPES, qtype), "TYPE")
}

pub(in crate::replay) fn rcode_text(rcode: u16) -> String {
    text(code(&RCODES, rcode), "RCODE")
}

#[cfg(test)]
mod tests {
    use super::path_and_query;

    #[test]
    fn path_is_that_of_any_form_of_target() {
        assert_eq!(path_and_query("/a/b?x=1#y"), ("/a/b", Some("x=1")));
        assert_eq!(path_and_query("http://h.example/a?u=http://x/"), ("/a", Some("u=http://x/")));
        assert_eq!(path_and_query("http://h.example"), ("/", None));
        assert_eq!(path_and_query("h.example:443"), ("h.example:443", None));
        assert_eq!(path_and_query("/r?u=a://b"), ("/r", Some("u=a://b")));
    }
}
