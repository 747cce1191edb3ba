//! What 0.1.0 kept (formats 1 and 2): a list for each protocol, and totals by the place that a
//! protocol or a reason had in its array.

use super::row::{ExchangeRow, Row, SavedEdge};
use super::words::ByName;
use crate::families::{Cell, rcode_name};
use crate::histogram::HistogramSnapshot;
use crate::labels::{ERROR_TYPE, OTHER, Reporter, UNANSWERED};
use serde::Deserialize;
use std::collections::BTreeMap;

/// In the order of their cells.
pub(super) const PROTOCOLS: [&str; 2] = ["http1", "dns"];
pub(super) const REASONS: [&str; 5] = ["ring_full", "gap", "unfinished", "joined_midway", "limit"];

#[derive(Debug, Deserialize)]
struct Http {
    edge: SavedEdge,
    method: String,
    end: HttpEnd,
    duration: HistogramSnapshot,
    request_bytes: u64,
    response_bytes: u64,
}

#[derive(Debug, Deserialize)]
enum HttpEnd {
    Status(u16),
    OtherStatus,
    Unanswered,
}

#[derive(Debug, Deserialize)]
struct Dns {
    edge: SavedEdge,
    question: String,
    end: DnsEnd,
    duration: HistogramSnapshot,
}

#[derive(Debug, Deserialize)]
enum DnsEnd {
    Rcode(u16),
    OtherRcode,
    Unanswered,
}

pub(super) fn http(text: &str) -> serde_json::Result<Row> {
    let Http { edge, method, end, duration, request_bytes, response_bytes } = serde_json::from_str(text)?;
    let (status, error) = match end {
        HttpEnd::Status(status @ 500..) => (status.to_string(), status.to_string()),
        HttpEnd::Status(status) => (status.to_string(), String::new()),
        HttpEnd::OtherStatus => (OTHER.to_owned(), String::new()),
        HttpEnd::Unanswered => (String::new(), UNANSWERED.to_owned()),
    };
    let labels = labels([("http_request_method", method), ("http_response_status_code", status), (ERROR_TYPE, error)]);
    let cells = [(Cell::RequestBytes.as_str(), request_bytes), (Cell::ResponseBytes.as_str(), response_bytes)].into();
    Ok(Row::Exchanges(ExchangeRow { edge, labels, duration, cells }))
}

pub(super) fn dns(text: &str) -> serde_json::Result<Row> {
    let Dns { edge, question, end, duration } = serde_json::from_str(text)?;
    let (rcode, error) = match end {
        DnsEnd::Rcode(rcode @ (0 | 3)) => (rcode_name(rcode), ""),
        DnsEnd::Rcode(rcode) => (rcode_name(rcode), rcode_name(rcode)),
        DnsEnd::OtherRcode => (OTHER, OTHER),
        DnsEnd::Unanswered => ("", UNANSWERED),
    };
    let rcode = [("dns_response_code", rcode.to_owned()), (ERROR_TYPE, error.to_owned())];
    let labels = labels([("dns_question_type", question)].into_iter().chain(rcode));
    Ok(Row::Exchanges(ExchangeRow { edge, labels, duration, cells: BTreeMap::new() }))
}

fn labels(all: impl IntoIterator<Item = (&'static str, String)>) -> BTreeMap<String, String> {
    let there = all.into_iter().filter(|(_, value)| !value.is_empty());
    there.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Counts as they are kept now, or as `[reporter][N]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Counts<const N: usize>
where
    [u64; N]: serde::de::DeserializeOwned,
{
    Now(ByName),
    Then([[u64; N]; 3]),
}

impl<const N: usize> Counts<N>
where
    [u64; N]: serde::de::DeserializeOwned,
{
    pub(super) fn by_name(self, names: [&str; N]) -> ByName {
        let named = |counts: [u64; N]| names.iter().map(|name| (*name).to_owned()).zip(counts).collect();
        match self {
            Counts::Now(by_name) => by_name,
            Counts::Then(counts) => {
                Reporter::ALL.iter().zip(counts).map(|(r, counts)| (r.as_str().to_owned(), named(counts))).collect()
            }
        }
    }
}
