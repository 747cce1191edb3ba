//! Objects as rows for a person: `meta.k8s.io/v1 Table`. Cells of priority 1 are those of `-o wide`.

use super::finding;
use super::kind::Kind;
use super::objects::{Object, Row, why};
use golden_metrics::Nodes;
use serde_json::{Value, json};

/// The table; `named` with its columns, `whole` with the objects and not only what they are called.
pub(super) fn of(kind: Kind, objects: &[Object], version: u64, (named, whole): (bool, bool)) -> Value {
    let column = |(name, kind, priority): (&str, &str, u8)| {
        let format = if name == "Name" { "name" } else { "" };
        json!({ "name": name, "type": kind, "format": format, "description": name, "priority": priority })
    };
    let columns: Vec<Value> = columns(kind).iter().copied().map(column).collect();
    let rows: Vec<Value> = objects.iter().map(|object| row(object, version, whole)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": { "resourceVersion": version.to_string() },
        "columnDefinitions": if named { columns } else { Vec::new() }, "rows": rows,
    })
}

fn columns(kind: Kind) -> &'static [(&'static str, &'static str, u8)] {
    match kind {
        Kind::WorkloadTraffic => &[
            ("Name", "string", 0),
            ("Success", "string", 0),
            ("RPS", "string", 0),
            ("P50", "string", 0),
            ("P95", "string", 0),
            ("P99", "string", 0),
            ("Nodes", "string", 0),
            ("TCP-Conn", "integer", 1),
            ("Kind", "string", 1),
        ],
        Kind::Edge => &[
            ("Name", "string", 0),
            ("Client", "string", 0),
            ("Server", "string", 0),
            ("Server-NS", "string", 0),
            ("Success", "string", 0),
            ("RPS", "string", 0),
            ("P95", "string", 0),
            ("Protocol", "string", 0),
            ("Nodes", "string", 0),
            ("P50", "string", 1),
            ("P99", "string", 1),
            ("Service", "string", 1),
            ("TCP-Conn", "integer", 1),
        ],
        Kind::NodeAgent => &[
            ("Name", "string", 0),
            ("State", "string", 0),
            ("Version", "string", 0),
            ("Series", "integer", 0),
            ("Reason", "string", 0),
        ],
        Kind::Finding => &finding::COLUMNS,
    }
}

fn row(object: &Object, version: u64, whole: bool) -> Value {
    let Nodes { live, all } = object.nodes;
    let nodes = format!("{live}/{all}");
    let cells = match &object.row {
        Row::Workload(row) => {
            let golden = &row.golden;
            json!([
                object.name,
                percent(golden.success),
                rate(golden.rps),
                time(golden.p50),
                time(golden.p95),
                time(golden.p99),
                nodes,
                golden.tcp_connections,
                row.workload.kind,
            ])
        }
        Row::Edge(row) => {
            let golden = &row.golden;
            json!([
                object.name,
                row.src.name,
                row.dst.name,
                row.dst.namespace,
                percent(golden.success),
                rate(golden.rps),
                time(golden.p95),
                row.protocol,
                nodes,
                time(golden.p50),
                time(golden.p99),
                row.service,
                golden.tcp_connections,
            ])
        }
        Row::Agent(row) => json!([object.name, row.standing.word(), row.version, row.series, why(row)]),
        Row::Finding(row, since_ms) => finding::cells(&object.name, row, version.saturating_sub(*since_ms)),
    };
    let object = match whole {
        true => object.json(version),
        false => {
            let metadata = object.metadata(version);
            json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
        }
    };
    json!({ "cells": cells, "object": object })
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2}%", share * 100.0))
}

fn rate(rps: f64) -> String {
    if rps >= 10.0 { format!("{rps:.0}") } else { format!("{rps:.1}") }
}

/// Three digits, in the unit that fits.
fn time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    match seconds {
        s if s < 1e-3 => format!("{:.0}us", s * 1e6),
        s if s < 1e-2 => format!("{:.1}ms", s * 1e3),
        s if s < 1.0 => format!("{:.0}ms", s * 1e3),
        s => format!("{s:.1}s"),
    }
}
