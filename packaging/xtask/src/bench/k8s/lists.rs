//! What the audit log tells of lists: the judge of kindness. A list is a first page, or a watch that begins with what exists
//! (`sendInitialEvents`), which costs the server the same; further pages of one list are none of their own.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use testbed::cluster::{AGENT_USER, Audit, Mark, Request};

pub(super) fn of_agents(audit: &Audit, since: Mark) -> Result<Vec<Request>> {
    Ok(audit.since(since)?.into_iter().filter(|request| request.user == AGENT_USER).collect())
}

pub(super) fn is_list(request: &Request) -> bool {
    let is_first_page = request.verb == "list" && !request.uri.contains("continue=");
    is_first_page || request.verb == "watch" && request.uri.contains("sendInitialEvents=true")
}

/// A watch that was granted and that the server has ended.
pub(super) fn is_closed_watch(request: &Request) -> bool {
    request.verb == "watch" && request.is_over && request.code == 200
}

/// How many of each resource.
pub(super) fn by_resource<'a>(requests: impl Iterator<Item = &'a Request>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request.resource.clone()).or_default() += 1;
    }
    counts
}

/// How many of each `verb resource`; a path without a resource as itself.
pub(super) fn by_verb(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let what = if request.resource.is_empty() { &request.uri } else { &request.resource };
        *counts.entry(format!("{} {what}", request.verb)).or_default() += 1;
    }
    counts
}

pub(super) fn words(counts: &BTreeMap<String, usize>) -> String {
    let words: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

/// The most requests within any `length` seconds.
pub(super) fn most_within<'a>(requests: impl Iterator<Item = &'a Request>, length: f64) -> Result<usize> {
    let mut times: Vec<f64> = requests.map(|request| seconds(&request.received)).collect::<Result<_>>()?;
    times.sort_by(f64::total_cmp);
    let within = |(at, from): (usize, &f64)| times[at..].partition_point(|time| *time < from + length);
    Ok(times.iter().enumerate().map(within).max().unwrap_or(0))
}

/// Of the day, with its fraction: `2026-01-01T10:20:30.123456Z`. No run goes on beyond midnight unnoticed: its rates would be too high.
fn seconds(time: &str) -> Result<f64> {
    let clock =
        time.split_once('T').map(|(_, clock)| clock.trim_end_matches('Z')).context("a time of the audit log")?;
    let mut parts = clock.split(':').map(str::parse::<f64>);
    let mut next = || parts.next().context("a time of the audit log")?.context("a time of the audit log");
    Ok(next()? * 3600.0 + next()? * 60.0 + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(received: &str) -> Request {
        Request { received: received.into(), ..Request::default() }
    }

    #[test]
    fn the_densest_second_is_found_wherever_it_begins() -> Result<()> {
        let all = ["10:00:00.900000", "10:00:01.100000", "10:00:01.899999", "10:00:03.000000"];
        let all: Vec<Request> = all.iter().map(|clock| at(&format!("2026-01-01T{clock}Z"))).collect();
        assert_eq!((most_within(all.iter(), 1.0)?, most_within(all.iter(), 60.0)?), (3, 4));
        assert_eq!(most_within([].iter(), 1.0)?, 0);
        Ok(())
    }

    #[test]
    fn pages_of_a_list_are_one_list_and_a_streaming_list_is_one_too() {
        let request = |verb: &str, uri: &str| Request { verb: verb.into(), uri: uri.into(), ..Request::default() };
        let all = [
            request("list", "/api/v1/pods?limit=500"),
            request("list", "/api/v1/pods?limit=500&continue=x"),
            request("watch", "/api/v1/pods?watch=1&sendInitialEvents=true"),
            request("watch", "/api/v1/pods?watch=1&resourceVersion=7"),
        ];
        assert_eq!(all.iter().map(is_list).collect::<Vec<_>>(), [true, false, true, false]);
    }
}
