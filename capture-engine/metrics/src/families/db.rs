//! Commands to databases and caches. OpenTelemetry: "Semantic conventions for database client
//! metrics".

use super::family::{Cell, Counter, Duration, Family, Label, Seen, error};
use super::value::{Described, Set, Value, words};
use flow_model::{DbOperation, Outcome, Transport};

/// OpenTelemetry's values of `db.system.name` for what speaks a protocol of its own, and the usual
/// ones that it does not list.
const SYSTEMS: [&str; 26] = [
    "aerospike",
    "cassandra",
    "clickhouse",
    "cockroachdb",
    "couchbase",
    "couchdb",
    "elasticsearch",
    "etcd",
    "firebirdsql",
    "hbase",
    "hive",
    "ibm.db2",
    "influxdb",
    "mariadb",
    "memcached",
    "microsoft.sql_server",
    "mongodb",
    "mysql",
    "neo4j",
    "opensearch",
    "oracle.db",
    "postgresql",
    "redis",
    "scylladb",
    "trino",
    "valkey",
];

pub(super) static FAMILY: Family = Family {
    name: "db",
    always: false,
    transport: Transport::Tcp,
    labels: &[
        Label { name: "db_system_name", set: Set::Words(&SYSTEMS), over_cap: true },
        Label { name: "db_operation_name", set: Set::Free(&[]), over_cap: false },
        Label { name: "db_collection_name", set: Set::Free(&[]), over_cap: false },
        Label { name: "db_namespace", set: Set::Free(&[]), over_cap: false },
        Label { name: "db_response_status_code", set: Set::Free(&[]), over_cap: false },
    ],
    errors: Set::Free(&[]),
    durations: &[Duration {
        name: "db_client_operation_duration_seconds",
        help: "Duration of commands to databases and caches, from the first byte of the command to the last of its reply.",
        seen: Seen::Anywhere,
    }],
    counters: &[
        Counter {
            name: "pilotfish_db_request_bytes_total",
            help: "Bytes of commands to databases and caches, framing included.",
            cell: Cell::RequestBytes,
        },
        Counter {
            name: "pilotfish_db_response_bytes_total",
            help: "Bytes of the replies of databases and caches, framing included.",
            cell: Cell::ResponseBytes,
        },
        Counter {
            name: "pilotfish_db_one_way_total",
            help: "Commands to databases and caches that ask for no reply; they have no duration.",
            cell: Cell::OneWay,
        },
    ],
};

pub(super) fn describe(outcome: Outcome, operation: &DbOperation) -> Described<'_> {
    let DbOperation { system, operation, collection, namespace, code } = operation;
    let code = Value::free(code);
    let labels =
        [words(&SYSTEMS, system), Value::free(operation), Value::free(collection), Value::free(namespace), code];
    Described::new(labels, error(outcome, code))
}
