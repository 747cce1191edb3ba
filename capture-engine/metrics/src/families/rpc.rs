//! Remote procedure calls. OpenTelemetry: "Semantic conventions for RPC metrics"; `rpc_service` is
//! apart from `rpc_method`, as it was there before 1.38, since both come from the connection as
//! they are.

use super::family::{Cell, Counter, Duration, Family, GivesUp, Label, Seen, error};
use super::value::{Described, Set, Value, words, words_or_free};
use flow_model::{Outcome, RpcCall, Transport};

/// OpenTelemetry's values of `rpc.system.name`, and of older versions what it says no more.
const SYSTEMS: [&str; 9] =
    ["grpc", "connectrpc", "dubbo", "jsonrpc", "thrift", "apache_dubbo", "java_rmi", "dotnet_wcf", "onc_rpc"];

/// In the order of their numbers (grpc/grpc `doc/statuscodes.md`).
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What OpenTelemetry counts as an error of a gRPC server, as a 5xx is one of an HTTP server: the
/// caller did nothing wrong.
const GRPC_FAILURES: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

pub(super) static FAMILY: Family = Family {
    name: "rpc",
    always: false,
    transport: Transport::Tcp,
    labels: &[
        Label { name: "rpc_system_name", set: Set::Words(&SYSTEMS), over_cap: true, gives_up: GivesUp::Nothing },
        Label { name: "rpc_service", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "rpc_method", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label {
            name: "rpc_response_status_code",
            set: Set::Free(&GRPC_CODES),
            over_cap: false,
            gives_up: GivesUp::Status,
        },
    ],
    errors: Set::Free(&GRPC_CODES),
    durations: &[
        Duration {
            name: "rpc_client_call_duration_seconds",
            help: "Duration of remote procedure calls, from the first byte of the request to the last of the response, at the client's pod.",
            seen: Seen::AtClient,
        },
        Duration {
            name: "rpc_server_call_duration_seconds",
            help: "Duration of remote procedure calls, from the first byte of the request to the last of the response, at the server's pod.",
            seen: Seen::AtServer,
        },
    ],
    counters: &[
        Counter {
            name: "pilotfish_rpc_request_bytes_total",
            help: "Bytes of the requests of remote procedure calls, framing included.",
            cell: Cell::RequestBytes,
        },
        Counter {
            name: "pilotfish_rpc_response_bytes_total",
            help: "Bytes of the responses of remote procedure calls, framing included.",
            cell: Cell::ResponseBytes,
        },
        Counter {
            name: "pilotfish_rpc_one_way_total",
            help: "Remote procedure calls that ask for no answer; they have no duration.",
            cell: Cell::OneWay,
        },
    ],
};

pub(super) fn describe(outcome: Outcome, call: &RpcCall) -> Described<'_> {
    let RpcCall { system, service, method, status, http_status: _ } = call;
    let (code, failed) = match *system {
        "grpc" if !status.is_empty() => (words(&GRPC_CODES, status), GRPC_FAILURES.contains(&&**status)),
        _ => (words_or_free(&GRPC_CODES, status), !matches!(&**status, "OK" | "0")),
    };
    let said = if failed { code } else { Value::None };
    let labels = [words(&SYSTEMS, system), Value::free(service), Value::free(method), code];
    Described::new(labels, error(outcome, said))
}
