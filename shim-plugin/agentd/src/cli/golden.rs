//! The columns of golden metrics, as `stat` and `edges` show them.

use crate::cli::table::{Align, latency, rate, share, table};
use agent_api::Golden;

/// `latencies` are the titles of the median, the 95th and the 99th percentile.
pub fn columns([p50, p95, p99]: [&'static str; 3]) -> [(&'static str, Align); 5] {
    ["SUCCESS", "RPS", p50, p95, p99].map(|title| (title, Align::Right))
}

pub fn cells(golden: &Golden) -> [String; 5] {
    let Golden { success, rps, p50, p95, p99, .. } = golden;
    let time = |seconds: &Option<f64>| latency(seconds.map(|seconds| (seconds * 1e9).round() as u64));
    [share(*success), rate(*rps), time(p50), time(p95), time(p99)]
}

pub fn page(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    match rows {
        [] => "No traffic was counted yet.\n".to_owned(),
        rows => table(columns, rows),
    }
}
