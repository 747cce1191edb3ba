//! What the demo says at its end.

use agent_api::{EdgeRow, Party};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// What the HPA has made of `api`.
#[derive(Debug)]
pub struct Scaled {
    pub from: u64,
    pub to: u64,
    /// Since all workloads were there.
    pub after: Duration,
}

#[derive(Debug, Default)]
pub struct Report {
    /// By node: what its agent saw.
    pub edges: BTreeMap<String, Vec<EdgeRow>>,
    /// Requests that the companion made of the API server, by `verb resource`; agents make none.
    pub api_requests: BTreeMap<String, usize>,
    pub scaled: Option<Scaled>,
    /// What is held for wrong, beyond remarks.
    pub findings: Vec<String>,
    /// What kubectl showed last.
    pub tables: String,
    pub leftovers: Vec<String>,
    pub error: Option<String>,
}

impl Report {
    fn rows(&self) -> impl Iterator<Item = &EdgeRow> {
        self.edges.values().flatten()
    }

    /// Ends of edges that are told as an address where a name belongs. A few are to be expected:
    /// what came before the first names.
    fn unnamed(&self) -> usize {
        let is_address = |end: &Party| end.kind == "Address" || end.name.parse::<IpAddr>().is_ok();
        self.rows().map(|row| [&row.src, &row.dst].into_iter().filter(|end| is_address(end)).count()).sum()
    }

    pub fn requests(&self) -> u64 {
        self.rows().map(|row| row.golden.requests).sum()
    }

    pub fn to_json(&self) -> Value {
        let Report { edges, api_requests, scaled, findings, tables: _, leftovers, error } = self;
        let scaled = scaled.as_ref().map(
            |Scaled { from, to, after }| json!({"workload": "api", "from": from, "to": to, "after_s": after.as_secs()}),
        );
        json!({
            "edges": edges,
            "edges_seen": self.rows().count(),
            "ends_without_name": self.unnamed(),
            "exchanges_reported": self.requests(),
            "api_requests": api_requests,
            "scaled": scaled,
            "findings": findings,
            "cleaned_up": leftovers.is_empty(),
            "leftovers": leftovers,
            "error": error,
        })
    }

    pub fn summary(&self) -> String {
        let mut text = format!(
            "\n{}\n\n  seen      {} exchanges on {} edges, {} ends of them without a name\n",
            self.tables,
            self.requests(),
            self.rows().count(),
            self.unnamed()
        );
        if let Some(Scaled { from, to, after }) = &self.scaled {
            text += &format!("  scaled    api from {from} to {to} pods after {} s\n", after.as_secs());
        }
        match self.findings.as_slice() {
            [] => text += "  findings  none above info\n",
            some => text += &format!("  findings  {}\n", some.join("\n            ")),
        }
        let requests: Vec<String> = self.api_requests.iter().map(|(what, count)| format!("{count} {what}")).collect();
        if !requests.is_empty() {
            text += &format!("  asked     the API server, by the companion alone: {}\n", requests.join(", "));
        }
        match self.leftovers.as_slice() {
            [] => text += "  cleaned   everything that the demo made is gone\n",
            some => text += &format!("  left      {}\n", some.join("\n            ")),
        }
        if let Some(error) = &self.error {
            text += &format!("  failed    {error}\n");
        }
        text
    }
}
