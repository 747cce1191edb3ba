//! What is sent over two-way channels, as a WebSocket is. Not of OpenTelemetry, which has nothing
//! for it.
//!
//! A record tells of many messages and of no answer, so there is no duration.

use super::family::{Cell, Counter, Family, Label};
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

pub(super) static FAMILY: Family = Family {
    name: "channel",
    always: false,
    transport: Transport::Tcp,
    labels: &[Label { name: "network_protocol_name", set: Set::Words(&PROTOCOLS), over_cap: true }],
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
    let labels = [words(&PROTOCOLS, protocol.as_str())];
    Described::new(labels, Value::None).carrying(traffic.messages)
}
