//! What the audit log tells of lists: the judge of kindness. A list is a first page, or a watch
//! that begins with what exists (`sendInitialEvents`), which costs the server the same; further
//! pages of one list are none of their own.

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

/// How many of each answer; 0 is none yet.
pub(super) fn by_code(requests: &[&Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(format!("{} {}", request.verb, request.code)).or_default() += 1;
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

/// The `length` seconds in which the most requests fall, as those requests.
pub(super) fn busiest<'a>(requests: impl Iterator<Item = &'a Request>, length: f64) -> Result<Vec<&'a Request>> {
    let timed = requests.map(|request| Ok((seconds(&request.received)?, request)));
    let mut timed: Vec<(f64, &Request)> = timed.collect::<Result<_>>()?;
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let within = |at: usize| timed[at..].partition_point(|(time, _)| *time < timed[at].0 + length);
    let best = (0..timed.len()).map(|at| (within(at), at)).max();
    Ok(best.map_or(Vec::new(), |(count, at)| timed[at..at + count].iter().map(|(_, request)| *request).collect()))
}

/// How many those are.
pub(super) fn most_within<'a>(requests: impl Iterator<Item = &'a Request>, length: f64) -> Result<usize> {
    Ok(busiest(requests, length)?.len())
}

/// Of the day, with its fraction: `2026-01-01T10:20:30.123456Z`. No run goes on beyond midnight
/// unnoticed: its rates would be too high.
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
