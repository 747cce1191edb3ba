//! Generated conversations of Redis: what both ends say, and what a reader must find.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use super::support::Found;
use flow_model::{Detail, L7Record, Outcome};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Reply {
    Status,
    Number(u32),
    Error(u8),
    Value(usize),
    Values(Vec<usize>),
    Map(usize),
    Null,
}

#[derive(Clone, Debug)]
pub struct Exchange {
    pub value: Option<usize>,
    pub inline: bool,
    pub reply: Reply,
    /// Something is pushed before the reply.
    pub pushed: bool,
    /// Sent together with the one before it.
    pub pipelined: bool,
}

pub fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        3 => Just(Reply::Status),
        2 => any::<u32>().prop_map(Reply::Number),
        2 => (0u8..26).prop_map(Reply::Error),
        3 => (0usize..200).prop_map(Reply::Value),
        1 => (3000usize..20_000).prop_map(Reply::Value),
        2 => prop::collection::vec(0usize..100, 0..6).prop_map(Reply::Values),
        1 => (0usize..4).prop_map(Reply::Map),
        1 => Just(Reply::Null),
    ]
}

pub fn exchange() -> impl Strategy<Value = Exchange> {
    let value =
        prop_oneof![4 => Just(None), 3 => (0usize..300).prop_map(Some), 1 => (3000usize..20_000).prop_map(Some)];
    (value, prop::bool::weighted(0.2), reply(), prop::bool::weighted(0.1), prop::bool::weighted(0.5))
        .prop_map(|(value, inline, reply, pushed, pipelined)| Exchange { value, inline, reply, pushed, pipelined })
}

/// What a record has to say. The error says which of the exchanges it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub operation: String,
    pub code: String,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// A value that looks like commands and replies.
pub fn value(length: usize) -> Vec<u8> {
    let mut bytes = format!("${length}\r\n").into_bytes();
    bytes.extend(b"\r\n*1\r\n$4\r\nPING\r\n+OK\r\n$-1\r\n".iter().cycle().take(length));
    bytes.extend(b"\r\n");
    bytes
}

pub fn response(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Status => b"+OK\r\n".to_vec(),
        Reply::Number(number) => format!(":{number}\r\n").into_bytes(),
        Reply::Error(letter) => format!("-E{} said of a key\r\n", char::from(b'A' + letter)).into_bytes(),
        Reply::Value(length) => value(*length),
        Reply::Values(lengths) => {
            let head = format!("*{}\r\n", lengths.len()).into_bytes();
            [head, lengths.iter().flat_map(|length| value(*length)).collect()].concat()
        }
        Reply::Map(pairs) => [format!("%{pairs}\r\n").into_bytes(), b"+a\r\n:1\r\n".repeat(*pairs)].concat(),
        Reply::Null => b"$-1\r\n".to_vec(),
    }
}

pub const COMMANDS: [&str; 6] = ["GET", "SET", "HSET", "lpush", "ZADD", "Incr"];

/// Messages of the flow, client first.
pub fn conversation(exchanges: &[Exchange]) -> (Vec<Vec<u8>>, Vec<Fact>) {
    let (mut messages, mut facts): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
    for (number, Exchange { value: body, inline, reply, pushed, pipelined }) in exchanges.iter().enumerate() {
        let name = COMMANDS[number % COMMANDS.len()];
        let request = match (body, *inline && number > 0) {
            (_, true) => format!("{name} key {number}\r\n").into_bytes(),
            (None, _) => format!("*2\r\n${}\r\n{name}\r\n$1\r\nk\r\n", name.len()).into_bytes(),
            (Some(length), _) => {
                [format!("*3\r\n${}\r\n{name}\r\n$1\r\nk\r\n", name.len()).into_bytes(), value(*length)].concat()
            }
        };
        let response = response(reply);
        facts.push(Fact {
            operation: name.to_uppercase(),
            code: if let Reply::Error(letter) = reply {
                format!("E{}", char::from(b'A' + letter))
            } else {
                String::new()
            },
            request_bytes: request.len() as u64,
            response_bytes: response.len() as u64,
        });
        let push: &[u8] = if *pushed { b">3\r\n+message\r\n+ch\r\n$2\r\nhi\r\n" } else { b"" };
        let response = [push, &response].concat();
        match messages.len() {
            length if *pipelined && length >= 2 => {
                messages[length - 2].extend(request);
                messages[length - 1].extend(response);
            }
            _ => messages.extend([request, response]),
        }
    }
    (messages, facts)
}

pub fn fact(record: &L7Record) -> Fact {
    let Detail::Db(db) = &record.detail else { panic!("{record:?}") };
    assert!(record.start <= record.end, "{record:?}");
    Fact {
        operation: db.operation.to_string(),
        code: db.code.to_string(),
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
    }
}

/// No record has a command with another's reply: an error tells of which it was by its word, a reply by its length.
pub fn assert_none_wrong(found: &Found, facts: &[Fact]) {
    for record in found.records.iter().filter(|record| record.outcome == Outcome::Answered) {
        let seen = fact(record);
        let fits = |fact: &&Fact| fact.operation == seen.operation && fact.code == seen.code;
        assert!(facts.iter().any(|fact| fits(&fact)), "{seen:?} of {facts:?}");
    }
}

/// Each exchange can be told from all others: by its command and its error.
pub fn distinct(exchanges: &mut [Exchange]) {
    for (number, exchange) in exchanges.iter_mut().enumerate() {
        exchange.reply = Reply::Error((number / COMMANDS.len() % 26) as u8);
    }
}
