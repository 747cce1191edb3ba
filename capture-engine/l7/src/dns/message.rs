use super::name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// Addresses kept of one answer; more than any resolver uses.
const MAX_ADDRESSES: usize = 32;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;

const OPCODE_UPDATE: u8 = 5;
const OPCODE_DSO: u8 = 6;

/// What an exchange needs of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// ID of the header; a response repeats that of its query.
    pub id: u16,
    /// QR of the header: false for a query.
    pub response: bool,
    /// OPCODE of the header (4 bits): 0 is a standard query.
    pub opcode: u8,
    /// With EDNS's upper bits (RFC 6891 6.1.3) where the OPT record was captured.
    pub rcode: u16,
    /// Counts as the header gives them.
    pub questions: u16,
    /// Records of the answer section, of whatever type (ANCOUNT).
    pub answers: u16,
    /// First question (in an UPDATE: the zone). Empty and 0 where there is none. Form as in
    /// [`flow_model::DnsExchange::name`].
    pub name: String,
    /// QTYPE of that question; 0 where there is none.
    pub qtype: u16,
    /// QCLASS of that question (1 is IN); 0 where there is none.
    pub qclass: u16,
    /// A and AAAA records of a response's answer section, as far as they were captured; bounded.
    pub addresses: Vec<IpAddr>,
    /// Smallest TTL of `addresses`, seconds; 0 without any.
    pub ttl_s: u32,
    /// Everything that the header announces was there, nothing behind it.
    pub whole: bool,
}

#[derive(Clone, Copy)]
struct Header {
    id: u16,
    response: bool,
    opcode: u8,
    zero: bool,
    rcode: u8,
    counts: [u16; 4],
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        let [id0, id1, hi, lo, counts @ ..] = bytes.first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h] = *counts;
        Some(Header {
            id: u16::from_be_bytes([*id0, *id1]),
            response: hi & 0x80 != 0,
            opcode: hi >> 3 & 15,
            zero: lo & 0x40 == 0,
            rcode: lo & 15,
            counts: [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes),
        })
    }

    /// QUERY, IQUERY, STATUS, NOTIFY, UPDATE, DSO (IANA's list of opcodes).
    fn known_opcode(&self) -> bool {
        matches!(self.opcode, 0..=2 | 4..=6)
    }
}

/// Whether `bytes`, on any port, are surely a DNS message or the captured beginning of one.
/// Everything that can be checked is: the header's fixed bits and one question of a known class.
/// About one random datagram in 2^36 passes.
#[must_use]
pub fn looks_like_message(bytes: &[u8]) -> bool {
    look(bytes) == Look::Message
}

/// What the first bytes of something say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It begins as messages do, up to its question.
    Message,
    /// So far it does. The question goes on.
    More,
    Other,
}

pub(super) fn look(bytes: &[u8]) -> Look {
    let Some(header) = Header::read(bytes) else { return Look::More };
    let [questions, answers, authorities, additionals] = header.counts;
    if !header.zero || !matches!(header.opcode, 0 | 4 | OPCODE_UPDATE) || questions != 1 {
        return Look::Other;
    }
    // A query carries no error. An UPDATE's other sections are part of the request; IXFR and NOTIFY put an SOA there.
    if !header.response && (header.rcode != 0 || header.opcode == 0 && (answers > 0 || authorities > 1)) {
        return Look::Other;
    }
    let Some(at) = name::skip(bytes, HEADER) else {
        return if name::is_cut(bytes, HEADER) { Look::More } else { Look::Other };
    };
    if is_netbios_name(bytes) || name::read(bytes, HEADER).is_none() {
        return Look::Other;
    }
    let Some([qtype, qclass]) = u16_pair(bytes, at) else { return Look::More };
    // IN, CH, HS, NONE (UPDATE), ANY.
    if qtype == 0 || !matches!(qclass, 1 | 3 | 4 | 254 | 255) {
        return Look::Other;
    }
    // The first record's owner is a name too, where it was captured: in a query with EDNS the root,
    // else mostly a pointer.
    let records = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
    let named = records == 0 || bytes.get(at + 4).is_none_or(|len| matches!(len >> 6, 0 | 3));
    if named { Look::Message } else { Look::Other }
}

/// Whether a header has no bits that only responses set: AA, TC, RA (RFC 1035 section 4.1.1). A NOTIFY has AA
/// (RFC 1996 section 3.8).
pub(super) fn asks_plainly(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, hi, lo, ..] if hi & 0x82 == 0 && lo & 0x80 == 0 && (hi & 4 == 0 || hi >> 3 & 15 == 4))
}

/// Reads a message, or what is there of one. Lenient: for flows that are DNS by their port or by
/// what came before. `None` when the header or the first question makes no sense.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let header = Header::read(bytes)?;
    let [questions, answers, authorities, additionals] = header.counts;
    if !header.known_opcode() {
        return None;
    }
    let mut message = Message {
        id: header.id,
        response: header.response,
        opcode: header.opcode,
        rcode: u16::from(header.rcode),
        questions,
        answers,
        name: String::new(),
        qtype: 0,
        qclass: 0,
        addresses: Vec::new(),
        ttl_s: 0,
        whole: false,
    };
    let mut at = HEADER;
    if questions == 0 {
        // Without a question: an error's bare header, a transfer's later messages, or DSO (RFC 8490).
        if !header.response && header.opcode != OPCODE_DSO {
            return None;
        }
    } else {
        let (text, end) = name::read(bytes, at)?;
        let [qtype, qclass] = u16_pair(bytes, end)?;
        (message.name, message.qtype, message.qclass) = (text, qtype, qclass);
        at = end + 4;
    }
    message.whole = sections(bytes, at, &mut message, [answers, authorities, additionals]).is_some();
    Some(message)
}

/// Walks what follows the first question. `None` when the bytes end or break before the counts are met, or go on after.
fn sections(bytes: &[u8], mut at: usize, message: &mut Message, counts: [u16; 3]) -> Option<()> {
    // Each turn of these loops moves at least 5 bytes on, so the message's length bounds them, not its counts.
    for _ in 1..message.questions {
        at = name::skip(bytes, at)? + 4;
        if at > bytes.len() {
            return None;
        }
    }
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let found = record(bytes, at)?;
            at = found.end;
            if found.kind == TYPE_OPT {
                message.rcode |= (found.ttl >> 24 << 4) as u16;
            }
            let address = if section == 0 && message.response { found.address() } else { None };
            if let Some(ip) = address.filter(|_| message.addresses.len() < MAX_ADDRESSES) {
                message.ttl_s = if message.addresses.is_empty() { found.ttl } else { message.ttl_s.min(found.ttl) };
                message.addresses.push(ip);
            }
        }
    }
    (at == bytes.len()).then_some(())
}

/// Records behind the question of an UPDATE that is cut, as far as they came; `None` where one of them is of no
/// type or class.
pub(super) fn records_of_update(bytes: &[u8]) -> Option<u32> {
    let header = Header::read(bytes).filter(|header| header.opcode == OPCODE_UPDATE)?;
    let [_, counts @ ..] = header.counts;
    let mut at = name::skip(bytes, HEADER)? + 4;
    let mut read = 0;
    for _ in 0..counts.map(u32::from).iter().sum::<u32>() {
        let Some(found) = record(bytes, at) else { break };
        if found.kind == 0 || !matches!(found.class, 1 | 3 | 4 | 254 | 255) {
            return None;
        }
        (at, read) = (found.end, read + 1);
    }
    Some(read)
}

struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
    end: usize,
}

fn record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let at = name::skip(bytes, at)?;
    let fixed: [u8; 10] = *bytes.get(at..)?.first_chunk()?;
    let [t0, t1, c0, c1, l0, l1, l2, l3, n0, n1] = fixed;
    let end = at + 10 + usize::from(u16::from_be_bytes([n0, n1]));
    let data = bytes.get(at + 10..end)?;
    let [kind, class] = [[t0, t1], [c0, c1]].map(u16::from_be_bytes);
    Some(Record { kind, class, ttl: u32::from_be_bytes([l0, l1, l2, l3]), data, end })
}

impl Record<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self.kind {
            TYPE_A => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(self.data).ok()?))),
            TYPE_AAAA => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(self.data).ok()?))),
            _ => None,
        }
    }
}

fn u16_pair(bytes: &[u8], at: usize) -> Option<[u16; 2]> {
    let [a, b, c, d] = *bytes.get(at..)?.first_chunk()?;
    Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
}

/// NetBIOS name service (RFC 1001 14.1): one label of 32 half-bytes, each written as a letter from A to P.
fn is_netbios_name(bytes: &[u8]) -> bool {
    let label = bytes.get(HEADER + 1..HEADER + 33);
    bytes.get(HEADER) == Some(&32) && label.is_some_and(|label| label.iter().all(|byte| (b'A'..=b'P').contains(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &[u8]) -> Vec<u8> {
        [b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", name, b"\x00\x01\x00\x01"].concat()
    }

    #[test]
    fn plain_query_is_read() {
        let bytes = query(b"\x03www\x07example\x00");
        assert!(looks_like_message(&bytes));
        let message = parse(&bytes).unwrap();
        assert_eq!(
            (message.id, message.response, message.name.as_str(), message.qtype),
            (0x1234, false, "www.example", 1)
        );
        assert!(message.whole);
    }

    #[test]
    fn answer_gives_addresses_smallest_ttl_and_edns_rcode() {
        let bytes = [
            b"\x12\x34\x81\x80\x00\x01\x00\x02\x00\x00\x00\x01\x01a\x00\x00\x01\x00\x01".as_slice(),
            b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01",
            b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x02",
            b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00",
        ]
        .concat();
        let message = parse(&bytes).unwrap();
        assert_eq!(message.addresses, [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
        assert_eq!((message.ttl_s, message.rcode, message.whole), (30, 16, true));
        assert!(looks_like_message(&bytes));
        for cut in 12 + 7..bytes.len() {
            assert!(looks_like_message(&bytes[..cut]), "cut at {cut}");
            assert!(!parse(&bytes[..cut]).unwrap().whole);
        }
    }

    #[test]
    fn counts_that_are_too_large_leave_the_first_question() {
        let mut bytes = query(b"\x01a\x00");
        bytes[5] = 10;
        let message = parse(&bytes).unwrap();
        assert_eq!((message.questions, message.name.as_str(), message.whole), (10, "a", false));
    }

    #[test]
    fn header_alone_is_a_response_but_no_query() {
        assert!(parse(b"\x12\x34\x81\x81\x00\x00\x00\x00\x00\x00\x00\x00").is_some());
        assert!(parse(b"\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00").is_none());
    }

    #[test]
    fn neighbours_are_not_taken_for_dns() {
        let netbios = query(b"\x20ENEBFDFEFIACACACACACACACACACACAA\x00");
        assert!(!looks_like_message(&netbios));
        for other in [
            b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP".as_slice(),
            b"\x04\x00\x28\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\xc3\x00\x00\x00\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\x00\x00\x44\x9e\x00\x00",
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n",
            b"<34>Oct 11 22:14:15 host su: failed",
            b"",
        ] {
            assert!(!looks_like_message(other), "{other:?}");
        }
    }
}
