//! Commands to databases and caches. OpenTelemetry: "Semantic conventions for database client
//! metrics".

use super::family::{Cell, Counter, Duration, Family, GivesUp, Label, Seen, error};
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
        Label { name: "db_system_name", set: Set::Words(&SYSTEMS), over_cap: true, gives_up: GivesUp::Nothing },
        Label { name: "db_operation_name", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "db_collection_name", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "db_namespace", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Name },
        Label { name: "db_response_status_code", set: Set::Free(&[]), over_cap: false, gives_up: GivesUp::Status },
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
            help: "Commands to databases and caches that have no duration: they ask for no reply, or to wait for one.",
            cell: Cell::OneWay,
        },
    ],
};

pub(super) fn describe(outcome: Outcome, operation: &DbOperation) -> Described<'_> {
    let DbOperation { system, operation, collection, namespace, code: said } = operation;
    let code = Value::free(said);
    let labels =
        [words(&SYSTEMS, system), Value::free(operation), Value::free(collection), Value::free(namespace), code];
    // The cluster says who has the key: no failure, though it is told by an error.
    let redirected = *system == "redis" && matches!(&**said, "MOVED" | "ASK");
    Described::new(labels, error(outcome, if redirected { Value::None } else { code }))
}
