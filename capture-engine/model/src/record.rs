//! One exchange as a dissector reports it: when it was, how it ended, and what it was about
//! (`detail.rs`).

use crate::{Detail, Ts};

/// What a record was dissected from. Several protocols may share a family of `Detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1, 1.0 and 0.9 (RFC 9112).
    Http1,
    /// DNS over UDP or TCP (RFC 1035).
    Dns,
    /// Handshakes of TLS 1.0 to 1.3 and SSL 3.0 (RFC 8446, 5246, 6101).
    Tls,
    /// Redis's protocol, versions 2 and 3.
    Redis,
    /// HTTP/2 (RFC 9113) that carries no gRPC.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// PostgreSQL's protocol, version 3.
    Postgresql,
    /// WebSocket (RFC 6455), behind the HTTP/1 that agrees on it.
    Websocket,
    /// MySQL's protocol, version 10 of its handshake, as MariaDB speaks it, too.
    Mysql,
    /// Kafka's protocol.
    Kafka,
}

impl Protocol {
    /// Each protocol once, at its `index`.
    pub const ALL: [Protocol; 10] = [
        Protocol::Http1,
        Protocol::Dns,
        Protocol::Tls,
        Protocol::Redis,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Postgresql,
        Protocol::Websocket,
        Protocol::Mysql,
        Protocol::Kafka,
    ];

    /// Its place in `ALL`, and in every array that has a cell for each protocol.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in records and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Dns => "dns",
            Protocol::Tls => "tls",
            Protocol::Redis => "redis",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Postgresql => "postgresql",
            Protocol::Websocket => "websocket",
            Protocol::Mysql => "mysql",
            Protocol::Kafka => "kafka",
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
    /// A message that asks for no answer (NATS publish, Kafka `acks=0`, a JSON-RPC notification).
    /// No failure, and it has no latency: `end` is its last byte.
    OneWay,
}

impl Outcome {
    /// The name in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Unanswered => "unanswered",
            Outcome::OneWay => "one_way",
        }
    }
}

/// What a reader of the record should know about its limits. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notes(pub u16);

impl Notes {
    /// The request's head was cut by the capture budget or the snaplen: fields after the cut are
    /// missing.
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
    /// The request asks to wait until there is something to tell (Redis's BLPOP): how long it took says
    /// nothing of the server.
    pub const WAITED: Notes = Notes(1 << 10);
    /// A kubelet's probe, as the request's User-Agent has it: anybody may write that.
    pub const PROBE: Notes = Notes(1 << 11);

    /// Each note with its name in records, in the order of the bits.
    pub const NAMES: [(Notes, &'static str); 12] = [
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
        (Notes::WAITED, "waited"),
        (Notes::PROBE, "probe"),
    ];

    /// Whether any bit of `note` is set.
    #[must_use]
    pub fn has(self, note: Notes) -> bool {
        self.0 & note.0 != 0
    }

    /// Sets the bits of `note`.
    pub fn add(&mut self, note: Notes) {
        self.0 |= note.0;
    }
}

/// One exchange: a request and what became of it. Times are of the bytes on the interface, not of
/// any program.
#[derive(Clone, Debug)]
pub struct L7Record {
    /// What it was dissected from.
    pub protocol: Protocol,
    /// First byte of the request (of the response, where no request was seen).
    pub start: Ts,
    /// First byte of the final response.
    pub response_start: Option<Ts>,
    /// Last byte of the response; of the request, or the time of giving up, where unanswered.
    pub end: Ts,
    /// Application bytes of the request and the response, heads and framing included.
    pub request_bytes: u64,
    /// The same of the response; 0 where there was none.
    pub response_bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What limits the fields above and `detail`; empty for a record that is whole.
    pub notes: Notes,
    /// What it was about.
    pub detail: Detail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_protocol_is_its_place_in_the_list() {
        assert_eq!(Protocol::ALL.map(Protocol::index), std::array::from_fn(|i| i));
    }

    /// Records are moved between the dissector and the sink: what one family needs must not be paid
    /// by all.
    #[test]
    fn a_record_is_as_large_as_its_largest_usual_detail() {
        assert_eq!(size_of::<Detail>(), 96);
        assert_eq!(size_of::<L7Record>(), 152);
    }
}
