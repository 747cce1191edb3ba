use crate::Ts;
use std::borrow::Cow;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Http1,
    Dns,
}

impl Protocol {
    /// The name in records and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Dns => "dns",
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A final response was seen, whatever its status.
    Answered,
    /// The flow ended, or the time for an answer passed, without a response.
    Unanswered,
}

/// What a reader of the record should know about its limits. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notes(pub u16);

impl Notes {
    /// The request's head was cut by the capture budget or the snaplen: fields after the cut are missing.
    pub const REQUEST_CUT: Notes = Notes(1);
    /// As above for the response.
    pub const RESPONSE_CUT: Notes = Notes(1 << 1);
    /// Bytes of a body were not captured; sizes and times are the kernel's counts.
    pub const BODY_SKIPPED: Notes = Notes(1 << 2);
    /// Bytes were missing between request and response: paired by position.
    pub const GAP: Notes = Notes(1 << 3);
    /// The connection was joined in the middle.
    pub const JOINED_MIDWAY: Notes = Notes(1 << 4);
    /// No request was seen for this response.
    pub const NO_REQUEST: Notes = Notes(1 << 5);
    /// The response's end was taken from the last byte seen before the flow ended or moved on.
    pub const END_ASSUMED: Notes = Notes(1 << 6);
    /// The protocol was left for another after this exchange (Upgrade, CONNECT).
    pub const UPGRADED: Notes = Notes(1 << 7);
    /// The message breaks its protocol's rules in a way that leaves its meaning clear.
    pub const MALFORMED: Notes = Notes(1 << 8);
    /// The same message had been seen before (DNS retransmission).
    pub const DUPLICATE: Notes = Notes(1 << 9);

    pub const NAMES: [(Notes, &'static str); 10] = [
        (Notes::REQUEST_CUT, "request_cut"),
        (Notes::RESPONSE_CUT, "response_cut"),
        (Notes::BODY_SKIPPED, "body_skipped"),
        (Notes::GAP, "gap"),
        (Notes::JOINED_MIDWAY, "joined_midway"),
        (Notes::NO_REQUEST, "no_request"),
        (Notes::END_ASSUMED, "end_assumed"),
        (Notes::UPGRADED, "upgraded"),
        (Notes::MALFORMED, "malformed"),
        (Notes::DUPLICATE, "duplicate"),
    ];

    #[must_use]
    pub fn has(self, note: Notes) -> bool {
        self.0 & note.0 != 0
    }

    pub fn add(&mut self, note: Notes) {
        self.0 |= note.0;
    }
}

/// One exchange: a request and what became of it. Times are of the bytes on the interface, not of any program.
#[derive(Clone, Debug)]
pub struct L7Record {
    pub protocol: Protocol,
    /// First byte of the request (of the response, where no request was seen).
    pub start: Ts,
    /// First byte of the final response.
    pub response_start: Option<Ts>,
    /// Last byte of the response; of the request, or the time of giving up, where unanswered.
    pub end: Ts,
    /// Application bytes of the request and the response, heads and framing included.
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub outcome: Outcome,
    pub notes: Notes,
    pub detail: Detail,
}

#[derive(Clone, Debug)]
pub enum Detail {
    Http(HttpExchange),
    Dns(DnsExchange),
}

/// Names follow OpenTelemetry's HTTP conventions. Strings are raw bytes made printable (lossy UTF-8), at most 1 KiB each; they are
/// empty when the dissector was told not to keep them (live traffic keeps no paths).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpExchange {
    /// As sent; empty when no request was seen. Registered methods are borrowed, so that a usual exchange allocates nothing.
    pub method: Cow<'static, str>,
    /// Request target as sent (path and query, authority or absolute form).
    pub target: String,
    /// Host header, else the target's authority.
    pub host: String,
    /// Status of the final response.
    pub status: Option<u16>,
    /// "1.1", "1.0", "0.9".
    pub version: &'static str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsExchange {
    pub id: u16,
    pub opcode: u8,
    /// First question's name, dots between labels, no final dot ("" is the root), bytes outside printable ASCII as `\DDD` (RFC 1035 5.1).
    pub name: String,
    /// QTYPE number.
    pub qtype: u16,
    /// RCODE with EDNS's upper bits; `None` when unanswered.
    pub rcode: Option<u16>,
    pub answers: u16,
    /// Address records of the answer, for naming what the pod talks to next.
    pub addresses: Vec<IpAddr>,
    /// Smallest TTL of `addresses`, seconds.
    pub ttl_s: u32,
    pub over_tcp: bool,
}
