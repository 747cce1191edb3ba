//! `pilotfish edges`: who calls whom.

use super::output::{for_people, json, show};
use crate::cli::args::{Rows, WideOutput};
use crate::cli::golden;
use crate::cli::table::Align;
use crate::exit::Failure;
use agent_api::{Client, EdgeRow};
use std::path::Path;

pub fn run(socket: &Path, rows: &Rows) -> Result<(), Failure> {
    show(rows.watch, || {
        let mut found = Client::new(socket).edges()?;
        found.retain(|row| {
            let of = |namespace: &String| row.src.namespace == *namespace || row.dst.namespace == *namespace;
            rows.namespace.as_ref().is_none_or(of)
        });
        match rows.output {
            WideOutput::Json => json(&found),
            WideOutput::Wide => Ok(page(&for_people(&found)?, true)),
            WideOutput::Table => Ok(page(&for_people(&once(found))?, false)),
        }
    })
}

/// Where both ends of an edge were seen on this node, the short table shows what the server saw:
/// once, though clients may have reached it by several Services.
fn once(rows: Vec<EdgeRow>) -> Vec<EdgeRow> {
    let server_saw = |edge: &EdgeRow| {
        rows.iter().any(|other| {
            other.reporter == "server"
                && other.src == edge.src
                && other.dst == edge.dst
                && other.protocol == edge.protocol
        })
    };
    rows.iter().filter(|row| row.reporter == "server" || !server_saw(row)).cloned().collect()
}

fn page(rows: &[EdgeRow], wide: bool) -> String {
    let mut columns = ["SRC", "DST", "SRC_NS", "DST_NS"].map(|title| (title, Align::Left)).to_vec();
    columns.extend(golden::columns(["P50", "P95", "P99"]));
    if wide {
        columns.extend([
            ("PROTOCOL", Align::Left),
            ("REPORTER", Align::Left),
            ("SRC_KIND", Align::Left),
            ("DST_KIND", Align::Left),
            ("SERVICE", Align::Left),
            ("REQUESTS", Align::Right),
            ("FAILURES", Align::Right),
            ("TCP_CONN", Align::Right),
        ]);
    }
    let cells = |row: &EdgeRow| {
        let EdgeRow { src, dst, service, protocol, reporter, golden } = row;
        let mut cells = [&src.name, &dst.name, &src.namespace, &dst.namespace].map(String::clone).to_vec();
        cells.extend(golden::cells(golden));
        if wide {
            cells.extend([
                protocol.clone(),
                reporter.clone(),
                src.kind.clone(),
                dst.kind.clone(),
                if service.is_empty() { "-".to_owned() } else { service.clone() },
                golden.requests.to_string(),
                golden.failures.to_string(),
                golden.tcp_connections.to_string(),
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

    fn edge(src: &str, dst: &str, reporter: &str) -> EdgeRow {
        let party = |name: &str| Party { name: name.into(), namespace: "shop".into(), kind: "Pod".into() };
        let golden = Golden { requests: 20, rps: 2.0, success: Some(1.0), p50: Some(80e-6), ..Golden::default() };
        let service = if dst == "api" { "api".into() } else { String::new() };
        EdgeRow {
            src: party(src),
            dst: party(dst),
            service,
            protocol: "http".into(),
            reporter: reporter.into(),
            golden,
        }
    }

    #[test]
    fn an_edge_seen_at_both_ends_is_one_line() {
        let rows =
            vec![edge("web", "api", "client"), edge("web", "api", "server"), edge("api", "example.com", "client")];
        expect![[r#"
            SRC  DST          SRC_NS  DST_NS  SUCCESS     RPS     P50  P95  P99
            web  api          shop    shop    100.00%  2.0rps  80.0us    -    -
            api  example.com  shop    shop    100.00%  2.0rps  80.0us    -    -
        "#]]
        .assert_eq(&page(&once(rows.clone()), false));
        expect![[r#"
            SRC  DST          SRC_NS  DST_NS  SUCCESS     RPS     P50  P95  P99  PROTOCOL  REPORTER  SRC_KIND  DST_KIND  SERVICE  REQUESTS  FAILURES  TCP_CONN
            web  api          shop    shop    100.00%  2.0rps  80.0us    -    -  http      client    Pod       Pod       api            20         0         0
            web  api          shop    shop    100.00%  2.0rps  80.0us    -    -  http      server    Pod       Pod       api            20         0         0
            api  example.com  shop    shop    100.00%  2.0rps  80.0us    -    -  http      client    Pod       Pod       -              20         0         0
        "#]].assert_eq(&page(&rows, true));
    }
}
