//! The protocols that are read from TCP connections: a closed list, one line each.

use crate::asked::{Asked, Counted};
use crate::dissector::{Begun, Dissector, Opening, Sign, Used};
use crate::input::{Bytes, Hole};
use crate::{Interest, Limits, MessageEnd, Out, Wires};
use flow_model::{Close, Direction, Ts};

/// Makes the enums of the list and their matches. Dispatch is static: `Out` stays generic. Each
/// dissector is boxed, so that a connection does not grow with another protocol.
macro_rules! protocols {
    ($($(#[$doc:meta])* $name:ident $text:literal: $dissector:ty,)*) => {
        /// What a connection speaks. What a record is of is [`flow_model::Protocol`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Wire {
            $($(#[$doc])* $name,)*
        }

        /// A connection whose protocol is known.
        #[derive(Debug)]
        pub(crate) enum Spoken {
            $($name(Box<$dissector>),)*
        }

        impl Wire {
            /// All of them, in the order of asking.
            pub const ALL: &'static [Wire] = &[$(Wire::$name,)*];

            /// How people call it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Wire::$name => $text,)* }
            }

            /// Asks each protocol in turn: the first that is sure, else the first that needs more bytes.
            pub(crate) fn recognise(head: &[u8]) -> Option<(Wire, Sign)> {
                first_sure([$((Wire::$name, <$dissector>::recognise),)*], head)
            }

            /// As `recognise`, of the first message of a connection that was seen to begin.
            pub(crate) fn recognise_first(head: &[u8]) -> Option<(Wire, Sign)> {
                let signs = [$((Wire::$name, <$dissector>::recognise_first(head)),)*];
                signs.into_iter().find(|(_, sign)| *sign != Sign::No)
            }

            /// As `recognise`, where more bytes of this head will not come.
            pub(crate) fn recognise_cut(head: &[u8]) -> Option<(Wire, Sign)> {
                first_sure([$((Wire::$name, <$dissector>::recognise_cut),)*], head)
            }

            /// As `recognise`, of the connection's first message and the answer to it.
            pub(crate) fn recognise_pair(request: &[u8], response: &[u8]) -> Option<(Wire, Sign)> {
                let signs = [$((Wire::$name, <$dissector>::recognise_pair(request, response)),)*];
                signs.into_iter().find(|(_, sign)| *sign != Sign::No)
            }

            /// Which of two directions asks (0 or 1), where what both say shows a protocol that neither shows alone.
            pub(crate) fn recognise_both(heads: [&[u8]; 2]) -> Option<(Wire, usize)> {
                None$(.or_else(|| Some((Wire::$name, <$dissector>::client_of(heads)?))))*
            }

            pub(crate) fn open<O: Out>(self, opening: &Opening<'_>, out: &mut O) -> Spoken {
                match self {
                    $(Wire::$name => Spoken::$name(Box::new(Dissector::open(opening, out))),)*
                }
            }
        }

        /// The methods of [`Dissector`], handed on.
        impl Spoken {
            pub(crate) fn wire(&self) -> Wire {
                match self { $(Spoken::$name(_) => Wire::$name,)* }
            }

            #[inline]
            pub(crate) fn bytes<O: Out>(
                &mut self, dir: Direction, data: Bytes<'_>, limits: &Limits, out: &mut O,
            ) -> Used {
                match self { $(Spoken::$name(it) => it.bytes(dir, data, limits, out),)* }
            }

            pub(crate) fn hole<O: Out>(&mut self, dir: Direction, hole: Hole, limits: &Limits, out: &mut O) {
                match self { $(Spoken::$name(it) => it.hole(dir, hole, limits, out),)* }
            }

            pub(crate) fn missing<O: Out>(
                &mut self, dir: Direction, turn: u32, at: Ts, limits: &Limits, out: &mut O,
            ) {
                match self { $(Spoken::$name(it) => it.missing(dir, turn, at, limits, out),)* }
            }

            pub(crate) fn counted<O: Out>(&mut self, dir: Direction, asked: Asked, counted: Counted, out: &mut O) {
                match self { $(Spoken::$name(it) => it.counted(dir, asked, counted, out),)* }
            }

            pub(crate) fn uncounted<O: Out>(&mut self, dir: Direction, out: &mut O) {
                match self { $(Spoken::$name(it) => it.uncounted(dir, out),)* }
            }

            pub(crate) fn closed<O: Out>(&mut self, at: Ts, close: Close, limits: &Limits, out: &mut O) {
                match self { $(Spoken::$name(it) => it.closed(at, close, limits, out),)* }
            }

            pub(crate) fn message_begins<O: Out>(&mut self, dir: Direction, begun: Begun, limits: &Limits, out: &mut O) {
                match self { $(Spoken::$name(it) => it.message_begins(dir, begun, limits, out),)* }
            }

            pub(crate) fn message_ended<O: Out>(
                &mut self, dir: Direction, end: &MessageEnd, limits: &Limits, out: &mut O,
            ) {
                match self { $(Spoken::$name(it) => it.message_ended(dir, end, limits, out),)* }
            }

            pub(crate) fn progress<O: Out>(
                &mut self, dir: Direction, so_far: &MessageEnd, unseen: u64, now: Ts, limits: &Limits, out: &mut O,
            ) -> bool {
                match self { $(Spoken::$name(it) => it.progress(dir, so_far, unseen, now, limits, out),)* }
            }

            pub(crate) fn expire<O: Out>(&mut self, now: Ts, out: &mut O) {
                match self { $(Spoken::$name(it) => it.expire(now, out),)* }
            }

            pub(crate) fn client(&self) -> Option<Direction> {
                match self { $(Spoken::$name(it) => it.client(),)* }
            }

            pub(crate) fn next_deadline(&self) -> Option<Ts> {
                match self { $(Spoken::$name(it) => it.next_deadline(),)* }
            }

            pub(crate) fn interest(&self) -> Interest {
                match self { $(Spoken::$name(it) => it.interest(),)* }
            }

            pub(crate) fn header_in(&self, dir: Direction) -> Option<u64> {
                match self { $(Spoken::$name(it) => it.header_in(dir),)* }
            }

            pub(crate) fn reads_on(&self) -> bool {
                match self { $(Spoken::$name(it) => it.reads_on(),)* }
            }

            pub(crate) fn needs_other(&self, dir: Direction) -> bool {
                match self { $(Spoken::$name(it) => it.needs_other(dir),)* }
            }

            pub(crate) fn waits_for_end(&self) -> bool {
                match self { $(Spoken::$name(it) => it.waits_for_end(),)* }
            }

            pub(crate) fn buffered(&self) -> usize {
                match self { $(Spoken::$name(it) => it.buffered(),)* }
            }

            pub(crate) fn shed<O: Out>(&mut self, turn: u32, out: &mut O) {
                match self { $(Spoken::$name(it) => it.shed(turn, out),)* }
            }

            pub(crate) fn held(&self) -> usize {
                match self { $(Spoken::$name(it) => size_of_val(&**it) + it.held(),)* }
            }
        }
    };
}

impl Spoken {
    /// The connection goes on as what its HTTP/1 has agreed on.
    #[cold]
    pub(crate) fn upgrade(&mut self, to: Wire) {
        let Spoken::Http1(http1) = self else { return };
        if to == Wire::WebSocket {
            let (client, certain) = http1.left_by_client();
            *self = Spoken::WebSocket(Box::new(crate::websocket::WebSocket::upgraded(client, certain)));
        } else {
            let (client, upgrade) = http1.upgrade();
            *self = Spoken::Http2(Box::new(crate::http2::Http2::upgraded(client, upgrade)));
        }
    }
}

// In the order of asking: what is sure of the least goes last. HTTP/2 has its preface, and TLS kinds,
// versions and lengths that agree. DNS shows by two messages, or by the first of a connection, which is
// asked before all others: a target of HTTP/1 may hold any byte, but none of its heads has the zeros of
// a DNS header.
protocols! {
    /// HTTP/2, and gRPC over it.
    Http2 "http2": crate::http2::Http2,
    /// Handshakes of TLS.
    Tls "tls": crate::tls::Tls,
    /// PostgreSQL's protocol, version 3.
    Postgres "postgresql": crate::postgres::Postgres,
    /// MySQL's protocol, of MariaDB, too.
    Mysql "mysql": crate::mysql::Mysql,
    /// DNS over TCP.
    Dns "dns": crate::dns::Stream,
    /// HTTP/0.9 to HTTP/1.1.
    Http1 "http1": crate::http1::Http1,
    /// Redis's protocol, versions 2 and 3.
    Redis "redis": crate::redis::Redis,
    /// Kafka's protocol. No message shows it alone: `aside` finds it by a request and its answer.
    Kafka "kafka": crate::kafka::Kafka,
    /// WebSocket. No bytes show it: HTTP/1 tells of it.
    WebSocket "websocket": crate::websocket::WebSocket,
}

impl Wires {
    /// These, and no others.
    #[must_use]
    pub fn only(wires: &[Wire]) -> Wires {
        Wires(wires.iter().fold(0, |set, wire| set | 1 << *wire as u32))
    }

    /// Whether it is read.
    #[must_use]
    pub fn contains(self, wire: Wire) -> bool {
        self.0 & 1 << wire as u32 != 0
    }
}

type Recognise = fn(&[u8]) -> Sign;

fn first_sure<const N: usize>(list: [(Wire, Recognise); N], head: &[u8]) -> Option<(Wire, Sign)> {
    let mut more = None;
    for (wire, recognise) in list {
        match recognise(head) {
            Sign::No => {}
            Sign::More => more = more.or(Some((wire, Sign::More))),
            sign => return Some((wire, sign)),
        }
    }
    more
}
