//! `pilotfish stat`: how each workload does as a server, in Linkerd's columns.

use super::output::{for_people, json, show};
use crate::cli::args::{Rows, StatArgs, StatBy, WideOutput};
use crate::cli::golden;
use crate::cli::table::Align;
use crate::exit::Failure;
use agent_api::{By, Client, PartRow, WorkloadRow};
use std::path::Path;
use std::thread;
use std::time::Duration;

const LATENCIES: [&str; 3] = ["LATENCY_P50", "LATENCY_P95", "LATENCY_P99"];
/// For an agent that begins to keep rates with the first question.
const FIRST_SPAN: Duration = Duration::from_secs(2);

pub fn run(socket: &Path, args: &StatArgs) -> Result<(), Failure> {
    let StatArgs { rows, by } = args;
    match by {
        Some(by) => run_by(socket, rows, *by),
        None => run_whole(socket, rows),
    }
}

fn run_whole(socket: &Path, rows: &Rows) -> Result<(), Failure> {
    show(rows.watch, || {
        let mut found = Client::new(socket).workloads()?;
        found.retain(|row| rows.has(&row.workload));
        match rows.output {
            WideOutput::Json => json(&found),
            output => Ok(page(&for_people(&found)?, output == WideOutput::Wide)),
        }
    })
}

fn run_by(socket: &Path, rows: &Rows, by: StatBy) -> Result<(), Failure> {
    let by = match by {
        StatBy::Route => By::Route,
        StatBy::Operation => By::Operation,
        StatBy::Status => By::Status,
    };
    show(rows.watch, || {
        let client = Client::new(socket);
        let mut found = client.parts(by)?;
        if found.span_ms.is_none() {
            thread::sleep(FIRST_SPAN);
            found = client.parts(by)?;
        }
        let mut found = found.rows;
        found.retain(|row| rows.has(&row.workload));
        match rows.output {
            WideOutput::Json => json(&found),
            output => Ok(page_by(by, &busiest_first(for_people(&found)?), output == WideOutput::Wide)),
        }
    })
}

/// Within a workload: the rows of an agent come sorted by it.
fn busiest_first(mut rows: Vec<PartRow>) -> Vec<PartRow> {
    rows.sort_by(|a, b| {
        let busy = |row: &PartRow| (row.golden.rps, row.golden.requests);
        let by_rate = busy(b).0.total_cmp(&busy(a).0).then(busy(b).1.cmp(&busy(a).1));
        a.workload.cmp(&b.workload).then(by_rate)
    });
    rows
}

fn page_by(by: By, rows: &[PartRow], wide: bool) -> String {
    let title = match by {
        By::Route => "ROUTE",
        By::Operation => "OPERATION",
        By::Status => "STATUS",
    };
    let mut columns = ["NAME", "PROTOCOL", title].map(|title| (title, Align::Left)).to_vec();
    columns.extend(golden::columns(LATENCIES));
    if wide {
        columns.extend([("NAMESPACE", Align::Left), ("KIND", Align::Left)]);
        columns.extend(["REQUESTS", "FAILURES"].map(|title| (title, Align::Right)));
    }
    let cells = |row: &PartRow| {
        let PartRow { workload, protocol, value, golden } = row;
        let mut cells = vec![workload.name.clone(), protocol.clone(), value.clone()];
        cells.extend(golden::cells(golden));
        if wide {
            cells.extend([workload.namespace.clone(), workload.kind.clone()]);
            cells.extend([golden.requests, golden.failures].map(|count| count.to_string()));
        }
        cells
    };
    golden::page(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn page(rows: &[WorkloadRow], wide: bool) -> String {
    let mut columns = vec![("NAME", Align::Left)];
    columns.extend(golden::columns(LATENCIES));
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

    #[test]
    fn parts_of_a_workload_are_told_the_busiest_first() {
        let row = |name: &str, value: &str, rps| PartRow {
            workload: Party { name: name.into(), namespace: "shop".into(), kind: "Deployment".into() },
            protocol: "http".into(),
            value: value.into(),
            golden: Golden { requests: 10, rps, success: Some(1.0), p50: Some(250e-6), ..Golden::default() },
        };
        let rows =
            vec![row("api", "/", 0.5), row("api", "/users/{id}", 20.0), row("api", "/*", 0.5), row("web", "/", 90.0)];
        let rows = busiest_first(rows);
        expect![[r#"
            NAME  PROTOCOL  ROUTE        SUCCESS      RPS  LATENCY_P50  LATENCY_P95  LATENCY_P99
            api   http      /users/{id}  100.00%  20.0rps        250us            -            -
            api   http      /            100.00%   0.5rps        250us            -            -
            api   http      /*           100.00%   0.5rps        250us            -            -
            web   http      /            100.00%  90.0rps        250us            -            -
        "#]]
        .assert_eq(&page_by(By::Route, &rows, false));
        assert!(
            page_by(By::Status, &rows, true).lines().next().is_some_and(|line| line.ends_with("REQUESTS  FAILURES"))
        );
    }
}
