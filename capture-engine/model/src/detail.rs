//! What an exchange was about: a struct for each family of OpenTelemetry's semantic conventions,
//! whose attribute each field names.
//!
//! Strings are raw bytes made printable (lossy UTF-8). One that was not sent, or that the dissector
//! does not tell, is empty. Names that repeat on a connection are shared, and words of a protocol
//! are borrowed, so that a usual exchange allocates nothing for them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// At most 96 bytes: what would be larger goes into a `Box` (`record.rs` has the test).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// HTTP/1 and HTTP/2.
    Http(HttpExchange),
    /// A DNS query and its response.
    Dns(DnsExchange),
    /// gRPC, Thrift, JSON-RPC.
    Rpc(RpcCall),
    /// A command to a database or a cache.
    Db(DbOperation),
    /// Something that went to or came from a message broker.
    Messaging(MessagingOperation),
    /// The handshake only: what follows it is encrypted.
    Tls(TlsHandshake),
    /// A two-way channel, reported in shares while it is open.
    Channel(ChannelTraffic),
}

/// Strings are at most 1 KiB each; they are empty when the dissector was told not to keep them
/// (live traffic keeps no paths, but while somebody taps it, and those of a kubelet's probes, which are
/// in the pods' specs).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpExchange {
    /// As sent; empty when no request was seen. Registered methods are borrowed, so that a usual
    /// exchange allocates nothing.
    pub method: Cow<'static, str>,
    /// Request target as sent (path and query, authority or absolute form).
    pub target: Box<str>,
    /// Host header, else the target's authority.
    pub host: Box<str>,
    /// `http.route`, as the path alone tells it: `/users/{id}`. Kept without the strings above; empty
    /// where routes are not wanted, and where no path was seen.
    pub route: Arc<str>,
    /// Status of the final response.
    pub status: Option<u16>,
    /// "2", "1.1", "1.0", "0.9".
    pub version: &'static str,
}

/// One question and what was answered (RFC 1035 section 4.1). Numbers are in host byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsExchange {
    /// ID of the header; a response repeats that of its query.
    pub id: u16,
    /// OPCODE of the header (4 bits): 0 is a standard query.
    pub opcode: u8,
    /// First question's name, dots between labels, no final dot ("" is the root), bytes outside
    /// printable ASCII as `\DDD` (RFC 1035 5.1).
    pub name: String,
    /// QTYPE number.
    pub qtype: u16,
    /// RCODE with EDNS's upper bits; `None` when unanswered.
    pub rcode: Option<u16>,
    /// Records of the answer section as its header counts them (ANCOUNT), of whatever type; 0 when
    /// unanswered.
    pub answers: u16,
    /// Address records of the answer, for naming what the pod talks to next.
    pub addresses: Vec<IpAddr>,
    /// Smallest TTL of `addresses`, seconds.
    pub ttl_s: u32,
    /// Times that the query was sent again before this came of it.
    pub retries: u16,
    /// Whether the query came over TCP (RFC 7766), not UDP.
    pub over_tcp: bool,
}

/// A remote procedure call. Names at most 255 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcCall {
    /// `rpc.system.name`: "grpc", "thrift", "jsonrpc".
    pub system: &'static str,
    /// `rpc.service`, with its package ("shop.Cart").
    pub service: Arc<str>,
    /// `rpc.method`, without its service ("AddItem").
    pub method: Arc<str>,
    /// `rpc.response.status_code` as the system writes it: gRPC's names ("OK", "UNAVAILABLE"), a
    /// number elsewhere ("-32601"). Empty when unanswered, and for success in systems that have no
    /// word for it.
    pub status: Cow<'static, str>,
    /// Status of the HTTP response that carries the answer, where it was seen.
    pub http_status: Option<u16>,
}

/// A command to a database or cache and its reply. Names at most 255 bytes each; never a value, a
/// key or a literal of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbOperation {
    /// `db.system.name`: "postgresql", "redis".
    pub system: &'static str,
    /// `db.operation.name`: the command or the statement's first word, in capitals where case does
    /// not matter ("SELECT").
    pub operation: Cow<'static, str>,
    /// `db.collection.name`: table, collection, keyspace.
    pub collection: Arc<str>,
    /// `db.namespace`: the database that the connection uses.
    pub namespace: Arc<str>,
    /// `db.response.status_code` of an error ("23505", "WRONGTYPE"); empty on success and when
    /// unanswered.
    pub code: Box<str>,
}

/// What a client asked of a broker, or a broker sent to a client. Names at most 255 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagingOperation {
    /// `messaging.system`: "kafka", "nats".
    pub system: &'static str,
    /// `messaging.operation.name`, the system's word ("produce", "publish", "fetch").
    pub operation: &'static str,
    /// `messaging.destination.name`: topic, queue, subject.
    pub destination: Arc<str>,
    /// `messaging.consumer.group.name`.
    pub group: Arc<str>,
    /// `error.type`: the broker's code of an error; empty on success and when unanswered.
    pub code: Box<str>,
    /// Messages that were carried, by the way they went: `[to the broker, from the broker]`.
    pub messages: [u32; 2],
}

/// One handshake; the record's times are those of its first and last byte. Strings at most 255
/// bytes each; nothing of certificates, keys, session identifiers and tickets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsHandshake {
    /// `tls.client.server_name`: the name that the client asked for (SNI, RFC 6066). With `ech` it may
    /// be the outer one.
    pub sni: Arc<str>,
    /// `tls.next_protocol`: what ALPN (RFC 7301) settled on ("h2"); empty where the server's choice
    /// cannot be seen.
    pub alpn: Box<str>,
    /// `tls.protocol.version`: "1.2", "1.3"; of drafts of 1.3 the number ("0x7f17"). Empty where no
    /// ServerHello was seen.
    pub version: &'static str,
    /// The fatal alert that ended it (RFC 8446 section 6.2), else `None`.
    pub alert: Option<u8>,
    /// An alert ended it that nobody outside can read.
    pub alert_encrypted: bool,
    /// `tls.cipher`: number of the cipher suite that the server chose.
    pub cipher: Option<u16>,
    /// `tls.curve`: number of the group (RFC 8446 section 4.2.7) in which the keys were agreed on, where
    /// it was seen.
    pub group: Option<u16>,
    /// `tls.resumed`: it went on with an older session.
    pub resumed: bool,
    /// The server asked for another ClientHello (HelloRetryRequest).
    pub retried: bool,
    /// The client may have hidden another ClientHello in the one that was seen (ECH); browsers say so
    /// where they hide nothing, too.
    pub ech: bool,
    /// What the client had to offer, where the dissector was told to keep it.
    pub offer: Option<Box<TlsOffer>>,
}

/// What a ClientHello offers, reserved values (GREASE, RFC 8701) left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOffer {
    /// Names of ALPN.
    pub protocols: Vec<Box<str>>,
    /// Numbers of versions, highest preference first.
    pub versions: Vec<u16>,
    /// Numbers of groups.
    pub groups: Vec<u16>,
}

/// What was sent over a two-way channel, as a WebSocket is, since its last record. Indices: `[by
/// the client, by the server]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelTraffic {
    /// What kind of message it was: of WebSocket "text", "binary", "close", "ping", "pong".
    pub opcode: &'static str,
    /// Of a close why, as the protocol numbers it; of WebSocket 1005 where the close says nothing.
    pub close_code: Option<u16>,
    /// Messages that were complete.
    pub messages: [u64; 2],
    /// Their payload; `L7Record` has the bytes with framing.
    pub bytes: [u64; 2],
}
