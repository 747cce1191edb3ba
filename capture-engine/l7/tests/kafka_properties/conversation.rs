//! Generated conversations with a broker: what both ends say, and what a reader must find.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use super::kf::*;
use super::support::Found;
use flow_model::{Detail, L7Record, Outcome};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Ask {
    Metadata,
    Produce(usize),
    /// Nobody answers it.
    OneWay(usize),
    Fetch(usize),
    Heartbeat,
}

/// How the client numbers its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    ByOne,
    /// Upwards, since it counts for other brokers, too.
    Jumps,
    Same,
    /// Some numbers again and again.
    Repeat,
}

#[derive(Clone, Debug)]
pub struct Exchange {
    pub ask: Ask,
    /// Sent together with the one before it.
    pub pipelined: bool,
    pub jump: i32,
}

pub fn exchange() -> impl Strategy<Value = Exchange> {
    let size = || prop_oneof![4 => 0usize..300, 1 => 600usize..20_000];
    let ask = prop_oneof![
        3 => Just(Ask::Metadata),
        3 => size().prop_map(Ask::Produce),
        1 => size().prop_map(Ask::OneWay),
        3 => size().prop_map(Ask::Fetch),
        2 => Just(Ask::Heartbeat),
    ];
    (ask, prop::bool::weighted(0.5), 1..50).prop_map(|(ask, pipelined, jump)| Exchange { ask, pipelined, jump })
}

pub fn numbers() -> impl Strategy<Value = Numbers> {
    prop_oneof![Just(Numbers::ByOne), Just(Numbers::Jumps), Just(Numbers::Same), Just(Numbers::Repeat)]
}

/// What a record has to say. Names tell of which request it is, and codes of which answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub name: String,
    pub code: String,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// Messages of the flow, client first, and what is in them in the order of asking.
pub fn conversation(exchanges: &[Exchange], numbers: Numbers, first: i32) -> (Vec<Vec<u8>>, Vec<Fact>) {
    let (mut messages, mut facts): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
    let mut id = first;
    for (number, Exchange { ask, pipelined, jump }) in exchanges.iter().enumerate() {
        id = match numbers {
            Numbers::ByOne => id.wrapping_add(1),
            Numbers::Jumps => id.wrapping_add(*jump),
            Numbers::Same => first,
            Numbers::Repeat => (number % 6) as i32,
        };
        let (topic, error) = (format!("t{number}"), 140 + (number % 26) as i16);
        let (request, response) = match ask {
            Ask::Metadata => (metadata(id, &topic), metadata_is(id, &topic, error)),
            Ask::Produce(bytes) => (produce(id, &topic, -1, *bytes), produced(id, &topic, error)),
            Ask::OneWay(bytes) => (produce(id, &topic, 0, *bytes), Vec::new()),
            Ask::Fetch(bytes) => (fetch(id, &topic, 0), fetched(id, &topic, error, *bytes)),
            Ask::Heartbeat => (heartbeat(id, &topic), beaten(id, error)),
        };
        facts.push(Fact {
            name: topic,
            code: if response.is_empty() { String::new() } else { error.to_string() },
            request_bytes: request.len() as u64,
            response_bytes: response.len() as u64,
        });
        match messages.len() {
            // What nobody answers ends no message.
            length if length >= 2 && (*pipelined || messages[length - 1].is_empty()) => {
                messages[length - 2].extend(request);
                messages[length - 1].extend(response);
            }
            _ => messages.extend([request, response]),
        }
    }
    (messages, facts)
}

pub fn fact(record: &L7Record) -> Fact {
    let Detail::Messaging(it) = &record.detail else { panic!("{record:?}") };
    assert!(record.start <= record.end, "{record:?}");
    Fact {
        name: format!("{}{}", it.destination, it.group),
        code: it.code.to_string(),
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
    }
}

/// In the order of asking: what nobody answers is told at once.
pub fn in_order(found: &Found) -> Vec<Fact> {
    let mut facts: Vec<Fact> = found.records.iter().map(fact).collect();
    facts.sort_by_key(|fact| fact.name.get(1..).map_or(0, |number| number.parse::<u32>().unwrap()));
    facts
}

/// No record has a request with another's answer, and none is there twice.
pub fn assert_none_wrong(found: &Found, facts: &[Fact]) {
    let mut names = std::collections::BTreeSet::new();
    for record in &found.records {
        let seen = fact(record);
        // Of a request whose middle was lost the name may not have been seen, nor of an answer the code.
        if seen.name.is_empty() || seen.code.is_empty() && record.outcome == Outcome::Answered {
            assert!(record.notes.0 != 0, "{record:?}");
            continue;
        }
        assert!(names.insert(seen.name.clone()), "{} is told twice", seen.name);
        let truth = facts.iter().find(|fact| fact.name == seen.name);
        let truth = truth.unwrap_or_else(|| panic!("{seen:?} of {facts:?}"));
        match record.outcome {
            Outcome::Answered => assert_eq!(&seen, truth),
            Outcome::OneWay => assert_eq!((truth.response_bytes, &truth.code[..]), (0, "")),
            Outcome::Unanswered => {}
        }
    }
}
