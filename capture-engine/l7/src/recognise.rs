//! Finding out what a connection speaks, from the first bytes of its messages.

use crate::aside;
use crate::before::{Before, Misfit};
use crate::candidates::Candidates;
use crate::dissector::Sign;
use crate::head::Head;
use crate::http2;
use crate::input::Bytes;
use crate::protocols::Wire;
use crate::tls;
use flow_model::{Direction, Ts};
use memchr::memchr2_iter;

/// What a message says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Found(Found),
    /// Could still be something; more bytes decide.
    More,
    /// Nothing that is known here. A later message may show what it is, where the connection was joined midway.
    Misfit,
    /// Surely something else: no need to look on.
    Other,
    /// A record of TLS, of a handshake that is under way or over.
    Midway {
        under_way: bool,
    },
}

/// The protocol has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub wire: Wire,
    /// The direction of requests.
    pub client: Direction,
    /// It begins after this many bytes of the message.
    pub after: usize,
}

/// Messages in which nothing fits before a connection is left alone. A connection joined in the
/// middle of a body has one misfit, or two with an interim response; text protocols that greet have
/// told themselves apart by then.
const MISFITS_MAX: u8 = 4;

/// The same, where messages were frames of HTTP/2 that do not tell who asks: what controls a long answer.
const MISFITS_BEFORE_FIELDS: u8 = 64;

/// The same, once encryption was spoken of: what SMTP and IMAP say before they begin it.
const MISFITS_BEFORE_TLS: u8 = 16;

/// The same, once a message held a whole request by a name, of a protocol that shows by its answer: a pipeline that was
/// joined answers what was asked before for a while.
const MISFITS_BEFORE_ANSWER: u8 = 64;

/// A connection whose protocol is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub before: Before,
    misfits: u8,
    /// Somebody spoke of going on encrypted.
    may_encrypt: bool,
    /// A message was frames of HTTP/2.
    may_frame: bool,
    /// A message asked what only an answer can show.
    may_ask: bool,
    /// The message under way did not fit: the rest of it says nothing.
    passing: [bool; 2],
    heads: [Option<Box<Head>>; 2],
}

impl Search {
    /// Looks at captured bytes of `dir`; they are kept while they say `Look::More`, until there are `max`.
    /// `from_start`: the connection was seen to begin.
    #[inline]
    pub(crate) fn bytes(&mut self, dir: Direction, data: Bytes<'_>, from_start: bool, max: usize) -> Look {
        let known = self.heads[dir.index()].as_ref().map_or(0, |head| head.turn);
        let aside = aside::look(&mut self.before, dir, data, max, known);
        self.may_ask |= aside.asks;
        match (self.shown(dir, data, from_start, max), aside.client) {
            (Look::More | Look::Misfit | Look::Other, Some(client)) => self.found_aside(client),
            (look, _) => look,
        }
    }

    /// An answer from `client`'s other end has shown what was kept aside.
    #[cold]
    fn found_aside(&mut self, client: Direction) -> Look {
        if let Some((_, candidates)) = self.before.candidates_mut() {
            self.heads = candidates.heads.each_mut().map(|head| head.take().map(Box::new));
        }
        Look::Found(Found { wire: Wire::Kafka, client, after: 0 })
    }

    fn shown(&mut self, dir: Direction, data: Bytes<'_>, from_start: bool, max: usize) -> Look {
        let Bytes { at, turn, start, bytes, .. } = data;
        let first = from_start && turn == 1;
        let index = dir.index();
        if start {
            if let Some(old) = self.heads[index].take() {
                // The peer answered what was no whole line of anything.
                if self.misfit(dir, old.turn, old.at, &old.bytes) == Look::Other {
                    return Look::Other;
                }
            }
            self.passing[index] = false;
        } else if self.passing[index] {
            return Look::Misfit;
        }
        let look = match &mut self.heads[index] {
            None => look(dir, bytes, first),
            Some(head) => {
                head.bytes.extend_from_slice(bytes);
                look(dir, &head.bytes, first)
            }
        };
        if let (Look::More | Look::Misfit, Some(found)) = (look, self.pair(dir, turn, bytes)) {
            return Look::Found(found);
        }
        match look {
            Look::More if let Some(found) = self.both(dir, bytes) => {
                self.heads[index].get_or_insert_with(|| Box::new(Head::new(at, turn, bytes)));
                Look::Found(found)
            }
            Look::More if self.heads[index].as_ref().map_or(bytes.len(), |head| head.bytes.len()) < max => {
                self.heads[index].get_or_insert_with(|| Box::new(Head::new(at, turn, bytes)));
                Look::More
            }
            // As much as is ever looked at, and no protocol is sure.
            Look::More => {
                let head = self.heads[index].take();
                self.decide(dir, head.map_or_else(|| Head::new(at, turn, bytes), |head| *head))
            }
            Look::Misfit => self.misfit(dir, turn, at, bytes),
            look => look,
        }
    }

    /// What the connection's first message and these bytes, the first of the answer to it, say together.
    fn pair(&self, dir: Direction, turn: u32, response: &[u8]) -> Option<Found> {
        let request = self.heads[dir.reverse().index()].as_ref().filter(|head| (head.turn, turn) == (1, 2))?;
        let (wire, sign) = Wire::recognise_pair(&request.bytes, response)?;
        found(dir, wire, sign)
    }

    /// What the head of `dir`, of which `bytes` are the newest, shows together with that of the other direction.
    fn both(&self, dir: Direction, bytes: &[u8]) -> Option<Found> {
        let other = self.heads[dir.reverse().index()].as_ref()?;
        let own = self.heads[dir.index()].as_ref().map_or(bytes, |head| &head.bytes);
        let (wire, client) = Wire::recognise_both([own, &other.bytes])?;
        Some(Found { wire, client: if client == 0 { dir } else { dir.reverse() }, after: 0 })
    }

    /// Bytes of `dir` are missing: what was kept is all there is of that head.
    pub(crate) fn hole(&mut self, dir: Direction) -> Look {
        match self.heads[dir.index()].take() {
            Some(head) => self.decide(dir, *head),
            None => Look::Misfit,
        }
    }

    /// The heads that are kept, by direction.
    pub(crate) fn heads(&self) -> [Option<&Head>; 2] {
        self.heads.each_ref().map(Option::as_deref)
    }

    /// Lets go of the heads that are kept. Once the protocol shows, they were lost messages.
    pub(crate) fn shed(&mut self) {
        for dir in [Direction::Ingress, Direction::Egress] {
            if let Some(head) = self.take(dir) {
                self.passing[dir.index()] = true;
                self.before.lost(dir, head.turn);
            }
        }
        self.before.forget_candidates();
    }

    /// The head that was kept, once it is known what it is of.
    pub(crate) fn take(&mut self, dir: Direction) -> Option<Box<Head>> {
        self.heads[dir.index()].take()
    }

    pub(crate) fn buffered(&self) -> usize {
        let aside = self.before.candidates().map_or(0, Candidates::buffered);
        aside + self.heads.iter().flatten().map(|head| head.bytes.len()).sum::<usize>()
    }

    /// No more of this head will come.
    fn decide(&mut self, dir: Direction, head: Head) -> Look {
        match Wire::recognise_cut(&head.bytes).and_then(|(wire, sign)| found(dir, wire, sign)) {
            Some(found) => {
                self.heads[dir.index()] = Some(Box::new(head));
                Look::Found(found)
            }
            None => self.misfit(dir, head.turn, head.at, &head.bytes),
        }
    }

    fn misfit(&mut self, dir: Direction, turn: u32, at: Ts, bytes: &[u8]) -> Look {
        self.heads[dir.index()] = None;
        self.passing[dir.index()] = true;
        if self.before.passed().last_missing[dir.reverse().index()] > turn {
            // As much of it as there was said nothing, and its answer was lost.
            self.before.lost(dir, turn);
            return Look::Misfit;
        }
        self.misfits += 1;
        self.may_encrypt |= speaks_of_tls(bytes);
        self.before.misfit(dir, Misfit { turn, at, bytes: bytes.len() as u64, cut: false });
        self.may_frame |= http2::sign::are_frames(bytes);
        let most = match (self.may_frame, self.may_ask, self.may_encrypt) {
            (true, ..) => MISFITS_BEFORE_FIELDS,
            (_, true, _) => MISFITS_BEFORE_ANSWER,
            (.., true) => MISFITS_BEFORE_TLS,
            _ => MISFITS_MAX,
        };
        if self.misfits >= most { Look::Other } else { Look::Misfit }
    }
}

/// `first`: they begin the connection.
fn look(dir: Direction, bytes: &[u8], first: bool) -> Look {
    if is_known_other(bytes) {
        return Look::Other;
    }
    if first
        && let Some((wire, sign)) = Wire::recognise_first(bytes)
        && let Some(found) = found(dir, wire, sign)
    {
        return Look::Found(found);
    }
    if let Some(under_way) = tls::midway(bytes) {
        return Look::Midway { under_way };
    }
    match Wire::recognise(bytes) {
        None => Look::Misfit,
        Some((wire, sign)) => found(dir, wire, sign).map_or(Look::More, Look::Found),
    }
}

/// What a sign in bytes of `dir` says of the connection; `None` while it says nothing.
fn found(dir: Direction, wire: Wire, sign: Sign) -> Option<Found> {
    let (client, after) = match sign {
        Sign::Request { after } => (dir, after),
        Sign::Response => (dir.reverse(), 0),
        Sign::More | Sign::No => return None,
    };
    Some(Found { wire, client, after })
}

/// Whether a text protocol asks for TLS or offers it: SMTP, IMAP, XMPP, POP3 (RFC 2595, 3207, 6120).
fn speaks_of_tls(bytes: &[u8]) -> bool {
    let is_at =
        |at: usize, word: &[u8]| bytes.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word));
    memchr2_iter(b'S', b's', bytes).any(|at| is_at(at, b"STARTTLS") || is_at(at, b"STLS"))
}

/// Protocols that are known by their first bytes, and not read.
fn is_known_other(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SSH-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(dir: Direction, bytes: &[u8]) -> Look {
        super::look(dir, bytes, false)
    }

    fn message(turn: u32, bytes: &[u8]) -> Bytes<'_> {
        Bytes { at: Ts(0), turn, start: true, tail: false, bytes }
    }

    fn request(after: usize) -> Look {
        Look::Found(Found { wire: Wire::Http1, client: Direction::Egress, after })
    }

    #[test]
    fn other_protocols_are_none_of_ours() {
        assert_eq!(look(Direction::Egress, b"SSH-2.0-OpenSSH_9.2\r\n"), Look::Other);
        for bytes in [
            &b"220 mail ESMTP\r\n"[..],
            b"EHLO there\r\n",
            b"J\x00\x00\x00\x0a8.0.36\x00",
            b"OPTIONS rtsp://a RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            b"INVITE sip:a@b SIP/2.0\r\n\r\n",
            b"GNUTELLA CONNECT/0.6\r\n\r\n",
            b"RTSP/1.0 200 OK\r\n\r\n",
            b"SIP/2.0 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
        ] {
            let look = look(Direction::Egress, bytes);
            assert!(matches!(look, Look::Misfit | Look::More), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn records_of_tls_begin_a_handshake_or_are_in_the_middle() {
        let hello = |kind| [&[0x16, 3, 1, 2, 0, kind, 0, 1, 0xfc, 3, 3][..], &[0; 32]].concat();
        let found = |client| Look::Found(Found { wire: Wire::Tls, client, after: 0 });
        assert_eq!(look(Direction::Egress, &hello(1)), found(Direction::Egress));
        assert_eq!(look(Direction::Egress, &hello(2)), found(Direction::Ingress));
        assert_eq!(look(Direction::Egress, &hello(1)[..5]), Look::More);
        for (bytes, under_way) in [
            (&b"\x17\x03\x03\x00\x20"[..], false),
            (b"\x15\x03\x03\x00\x02\x02\x28", false),
            (b"\x14\x03\x03\x00\x01\x01", true),
            (b"\x16\x03\x03\x00\x28\x10\x00\x00\x24", true),
        ] {
            assert_eq!(look(Direction::Egress, bytes), Look::Midway { under_way });
        }
    }

    #[test]
    fn a_text_protocol_may_take_its_time_before_it_encrypts() {
        let dialogue: [&[u8]; 7] = [
            b"220 mail ESMTP\r\n",
            b"EHLO there\r\n",
            b"250-mail\r\n250-StartTLS\r\n250 HELP\r\n",
            b"NOOP\r\n",
            b"250 OK\r\n",
            b"STARTTLS\r\n",
            b"220 ready\r\n",
        ];
        let mut search = Search::default();
        for (turn, bytes) in (1..).zip(dialogue) {
            let dir = if turn % 2 == 1 { Direction::Ingress } else { Direction::Egress };
            let look = search.bytes(dir, message(turn, bytes), true, 4096);
            assert!(matches!(look, Look::Misfit | Look::More), "{look:?}");
        }
        for turn in 8..=64 {
            let look = search.bytes(Direction::Egress, message(turn, b"\xf1\x02\x03\x04 hello \n"), true, 4096);
            if look == Look::Other {
                return;
            }
        }
        panic!("it was looked at for ever");
    }

    #[test]
    fn request_after_a_proxy_header_is_found() {
        let bytes = b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(look(Direction::Egress, bytes), request(38));
        assert_eq!(look(Direction::Egress, &bytes[..20]), Look::More);
    }

    #[test]
    fn a_request_line_decides_before_its_head_is_whole() {
        assert_eq!(look(Direction::Egress, b"GET / HTTP/1.1\r\nHost:"), request(0));
        assert_eq!(look(Direction::Egress, b"GET / HTT"), Look::More);
    }

    #[test]
    fn four_messages_that_fit_nothing_end_the_search() {
        let mut search = Search::default();
        let looks: Vec<_> = (1..=4)
            .map(|turn| search.bytes(Direction::Egress, message(turn, b"\xf1\x02\x03\x04 hello \n"), true, 4096))
            .collect();
        assert_eq!(looks, [Look::Misfit, Look::Misfit, Look::Misfit, Look::Other]);
    }
}
