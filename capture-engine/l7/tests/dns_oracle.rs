//! `l7::dns::parse` against hickory-proto: messages that it built, and the same with bytes changed.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use l7::dns::{looks_like_message, parse};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn names() -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..6)
        .prop_map(|labels| Name::from_labels(labels).expect("at most 120 bytes"))
}

fn rdata() -> impl Strategy<Value = RData> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| RData::A(A(Ipv4Addr::from(ip)))),
        any::<[u8; 16]>().prop_map(|ip| RData::AAAA(AAAA(Ipv6Addr::from(ip)))),
        names().prop_map(|name| RData::CNAME(CNAME(name))),
        "[a-z ]{0,40}".prop_map(|text| RData::TXT(TXT::new(vec![text]))),
    ]
}

fn kinds() -> impl Strategy<Value = RecordType> {
    prop_oneof![
        Just(RecordType::A),
        Just(RecordType::AAAA),
        Just(RecordType::MX),
        Just(RecordType::HTTPS),
        Just(RecordType::ANY)
    ]
}

prop_compose! {
    fn messages()(
        id: u16, response: bool, rcode in 0u16..24, name in names(), kind in kinds(), edns: bool,
        answers in prop::collection::vec((names(), any::<u32>(), rdata()), 0..6),
    ) -> Message {
        let kind_of = if response { MessageType::Response } else { MessageType::Query };
        let mut message = Message::new();
        message.set_id(id).set_message_type(kind_of).set_op_code(OpCode::Query);
        message.add_query(Query::query(name, kind));
        if edns {
            let mut extension = Edns::new();
            extension.set_max_payload(1232);
            message.set_edns(extension);
        }
        if response {
            let most = if edns { 24 } else { 16 };
            message.set_response_code(ResponseCode::from_low_and_high(rcode % most));
            message.add_answers(answers.into_iter().map(|(name, ttl, data)| Record::from_rdata(name, ttl, data)));
        }
        message
    }
}

trait FromWhole {
    fn from_low_and_high(code: u16) -> Self;
}

impl FromWhole for ResponseCode {
    fn from_low_and_high(code: u16) -> Self {
        ResponseCode::from((code >> 4) as u8, (code & 15) as u8)
    }
}

/// RFC 1035 5.1's form of a name, from the oracle's labels.
fn text(name: &Name) -> String {
    let label = |label: &[u8]| {
        let byte = |&byte: &u8| match byte {
            b'.' | b'\\' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\{byte:03}"),
        };
        label.iter().map(byte).collect::<String>()
    };
    name.iter().map(label).collect::<Vec<_>>().join(".")
}

fn agree(ours: &l7::dns::Message, theirs: &Message) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.id, theirs.id());
    prop_assert_eq!(ours.response, theirs.message_type() == MessageType::Response);
    if let Some(query) = theirs.queries().first() {
        prop_assert_eq!(&ours.name, &text(query.name()));
        prop_assert_eq!(ours.qtype, u16::from(query.query_type()));
    }
    let addresses: Vec<(IpAddr, u32)> =
        theirs.answers().iter().filter_map(|record| record.data().ip_addr().map(|ip| (ip, record.ttl()))).collect();
    if ours.whole && ours.response {
        prop_assert_eq!(&ours.addresses, &addresses.iter().map(|(ip, _)| *ip).collect::<Vec<_>>());
        prop_assert_eq!(ours.ttl_s, addresses.iter().map(|(_, ttl)| *ttl).min().unwrap_or(0));
    }
    Ok(())
}

proptest! {
    #[test]
    fn reads_what_the_oracle_wrote(message in messages()) {
        let bytes = message.to_vec().unwrap();
        let ours = parse(&bytes).expect("a whole message");
        prop_assert!(ours.whole);
        prop_assert!(looks_like_message(&bytes));
        prop_assert_eq!(usize::from(ours.answers), message.answers().len());
        prop_assert_eq!(ours.rcode, u16::from(message.response_code()));
        agree(&ours, &message)?;
    }

    #[test]
    fn agrees_where_the_oracle_reads_damaged_bytes(message in messages(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = message.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let ours = parse(&bytes);
        if let (Ok(theirs), Some(ours)) = (Message::from_vec(&bytes), &ours) {
            agree(ours, &theirs)?;
        }
    }
}
