//! What clients and brokers send each other. OpenTelemetry: "Semantic conventions for messaging
//! client metrics".

use super::family::{Cell, Counter, Duration, Family, GivesUp, Label, Seen, error};
use super::value::{Described, Set, Value, words};
use flow_model::{MessagingOperation, Outcome, Transport};

/// OpenTelemetry's values of `messaging.system` for what speaks a protocol of its own, and the
/// usual ones that it does not list.
const SYSTEMS: [&str; 9] = ["activemq", "amqp", "kafka", "mqtt", "nats", "pulsar", "rabbitmq", "rocketmq", "stomp"];

pub(super) static FAMILY: Family = Family {
    name: "messaging",
    always: false,
    transport: Transport::Tcp,
    labels: &[
        Label { name: "messaging_system", set: Set::Words(&SYSTEMS), over_cap: true, gives_up: GivesUp::Nothing },
        Label { name: "messaging_operation_name", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "messaging_destination_name", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "messaging_consumer_group_name", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
    ],
    errors: Set::Free(&[]),
    durations: &[Duration {
        name: "messaging_client_operation_duration_seconds",
        help: "Duration of what clients ask of brokers, from the first byte of the request to the last of the answer.",
        seen: Seen::Anywhere,
    }],
    counters: &[
        Counter {
            name: "messaging_client_sent_messages_total",
            help: "Messages that clients sent to brokers.",
            cell: Cell::ClientMessages,
        },
        Counter {
            name: "messaging_client_consumed_messages_total",
            help: "Messages that brokers delivered to clients.",
            cell: Cell::ServerMessages,
        },
        Counter {
            name: "pilotfish_messaging_request_bytes_total",
            help: "Bytes that clients sent to brokers in these operations, framing included.",
            cell: Cell::RequestBytes,
        },
        Counter {
            name: "pilotfish_messaging_response_bytes_total",
            help: "Bytes that brokers sent to clients in these operations, framing included.",
            cell: Cell::ResponseBytes,
        },
        Counter {
            name: "pilotfish_messaging_one_way_total",
            help: "Operations of messaging that have no duration: they ask for no answer, or to wait for one.",
            cell: Cell::OneWay,
        },
    ],
};

pub(super) fn describe(outcome: Outcome, operation: &MessagingOperation) -> Described<'_> {
    let MessagingOperation { system, operation, destination, group, code, messages } = operation;
    let labels = [words(&SYSTEMS, system), Value::free(operation), Value::free(destination), Value::free(group)];
    let error = error(outcome, Value::free(code));
    Described::new(labels, error).carrying(messages.map(u64::from))
}
