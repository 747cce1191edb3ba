//! What is sent over two-way channels, as a WebSocket is. Not of OpenTelemetry, which has nothing
//! for it.
//!
//! A record tells of many messages and of no answer, so there is no duration.

use super::family::{Cell, Counter, Family, GivesUp, Label};
use super::value::{Described, Set, Value, words};
use flow_model::{ChannelTraffic, Protocol, Transport};

const PROTOCOLS: [&str; Protocol::ALL.len()] = {
    let mut names = [""; Protocol::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Protocol::ALL[i].as_str();
        i += 1;
    }
    names
};

const OPCODES: [&str; 5] = ["text", "binary", "close", "ping", "pong"];

/// Codes of closes that RFC 6455 section 7.4 and IANA's registry give a meaning, and the two ranges that are
/// for libraries and for programs.
const CODES: [(u16, &str); 13] = [
    (1000, "1000"),
    (1001, "1001"),
    (1002, "1002"),
    (1003, "1003"),
    (1005, "1005"),
    (1007, "1007"),
    (1008, "1008"),
    (1009, "1009"),
    (1010, "1010"),
    (1011, "1011"),
    (1012, "1012"),
    (1013, "1013"),
    (1014, "1014"),
];

/// Behind those: of libraries and frameworks, of programs.
const CLASSES: [&str; 2] = ["3xxx", "4xxx"];

const CODE_NAMES: [&str; CODES.len() + CLASSES.len()] = {
    let mut names = [""; CODES.len() + CLASSES.len()];
    let mut i = 0;
    while i < CODES.len() {
        names[i] = CODES[i].1;
        i += 1;
    }
    names[CODES.len()] = CLASSES[0];
    names[CODES.len() + 1] = CLASSES[1];
    names
};

fn close_code(code: u16) -> Value<'static> {
    let place = match code {
        3000..=3999 => Some(CODES.len()),
        4000..=4999 => Some(CODES.len() + 1),
        code => CODES.iter().position(|(known, _)| *known == code),
    };
    place.map_or(Value::Other, |place| Value::Word(place as u8))
}

pub(super) static FAMILY: Family = Family {
    name: "channel",
    always: false,
    transport: Transport::Tcp,
    labels: &[
        Label {
            name: "network_protocol_name",
            set: Set::Words(&PROTOCOLS),
            over_cap: true,
            gives_up: GivesUp::Nothing,
        },
        Label { name: "websocket_opcode", set: Set::Words(&OPCODES), over_cap: true, gives_up: GivesUp::Method },
        Label {
            name: "websocket_close_code",
            set: Set::Words(&CODE_NAMES),
            over_cap: false,
            gives_up: GivesUp::Status,
        },
    ],
    errors: Set::Words(&[]),
    durations: &[],
    counters: &[
        Counter {
            name: "pilotfish_channel_client_messages_total",
            help: "Messages that clients sent over two-way channels.",
            cell: Cell::ClientMessages,
        },
        Counter {
            name: "pilotfish_channel_server_messages_total",
            help: "Messages that servers sent over two-way channels.",
            cell: Cell::ServerMessages,
        },
        Counter {
            name: "pilotfish_channel_client_bytes_total",
            help: "Bytes that clients sent over two-way channels, framing included.",
            cell: Cell::RequestBytes,
        },
        Counter {
            name: "pilotfish_channel_server_bytes_total",
            help: "Bytes that servers sent over two-way channels, framing included.",
            cell: Cell::ResponseBytes,
        },
    ],
};

pub(super) fn describe(protocol: Protocol, traffic: &ChannelTraffic) -> Described<'static> {
    let opcode = if traffic.opcode.is_empty() { Value::None } else { words(&OPCODES, traffic.opcode) };
    let code = traffic.close_code.map_or(Value::None, close_code);
    let labels = [words(&PROTOCOLS, protocol.as_str()), opcode, code];
    Described::new(labels, Value::None).carrying(traffic.messages)
}
