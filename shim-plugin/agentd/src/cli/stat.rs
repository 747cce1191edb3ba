//! `pilotfish stat`: how each workload does as a server, in Linkerd's columns.

use super::output::{for_people, json, show};
use crate::cli::args::{Rows, WideOutput};
use crate::cli::golden;
use crate::cli::table::Align;
use crate::exit::Failure;
use agent_api::{Client, WorkloadRow};
use std::path::Path;

pub fn run(socket: &Path, rows: &Rows) -> Result<(), Failure> {
    show(rows.watch, || {
        let mut found = Client::new(socket).workloads()?;
        found.retain(|row| rows.namespace.as_ref().is_none_or(|namespace| row.workload.namespace == *namespace));
        match rows.output {
            WideOutput::Json => json(&found),
            output => Ok(page(&for_people(&found)?, output == WideOutput::Wide)),
        }
    })
}

fn page(rows: &[WorkloadRow], wide: bool) -> String {
    let mut columns = vec![("NAME", Align::Left)];
    columns.extend(golden::columns(["LATENCY_P50", "LATENCY_P95", "LATENCY_P99"]));
    columns.push(("TCP_CONN", Align::Right));
    if wide {
        columns.extend([
            ("NAMESPACE", Align::Left),
            ("KIND", Align::Left),
            ("REQUESTS", Align::Right),
            ("FAILURES", Align::Right),
        ]);
    }
    let cells = |row: &WorkloadRow| {
        let WorkloadRow { workload, golden } = row;
        let mut cells = vec![workload.name.clone()];
        cells.extend(golden::cells(golden));
        cells.push(golden.tcp_connections.to_string());
        if wide {
            cells.extend([
                workload.namespace.clone(),
                workload.kind.clone(),
                golden.requests.to_string(),
                golden.failures.to_string(),
            ]);
        }
        cells
    };
    golden::page(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::{Golden, Party};
    use expect_test::expect;

    #[test]
    fn rows_have_linkerds_columns() {
        let row = WorkloadRow {
            workload: Party { name: "api".into(), namespace: "shop".into(), kind: "Deployment".into() },
            golden: Golden {
                requests: 1000,
                failures: 5,
                rps: 33.3,
                success: Some(0.995),
                p50: Some(250e-6),
                p95: Some(1.9e-3),
                p99: Some(12e-3),
                tcp_connections: 4,
                bytes: 0,
            },
        };
        expect![[r#"
            NAME  SUCCESS      RPS  LATENCY_P50  LATENCY_P95  LATENCY_P99  TCP_CONN  NAMESPACE  KIND        REQUESTS  FAILURES
            api    99.50%  33.3rps        250us       1.90ms       12.0ms         4  shop       Deployment      1000         5
        "#]].assert_eq(&page(&[row], true));
    }
}
