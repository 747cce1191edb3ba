//! Requests that go in circles over several nodes, of what all agents counted lately. Told the time.
//!
//! Failed requests are counted by series. Once they look like a circle, the others of the same kind to its members
//! are counted, too: so a cluster in which little fails keeps little.

mod decide;

use crate::findings::{Severity, Told};
use crate::names::Name;
use decide::{Asked, Loop, Sum, Thresholds, What, Who};
use golden_metrics::{Reporter, Request, RowKey, RowValue};
use hashbrown::HashMap;
use join::message::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const ID: &str = "request-loop";
const STEP: Duration = Duration::from_secs(10);
/// Series of a step: 40 bytes each. So many fail at once where a cluster has other troubles.
const SERIES: usize = 20_000;
/// Circles that are watched. More are a hostile node's.
const WATCHED: usize = 64;
/// Clients that are named.
const CLIENTS: usize = 32;

/// What a series counted in a step: requests, and nanoseconds.
type Counted = HashMap<Name, [u64; 2], foldhash::fast::RandomState>;

#[derive(Debug)]
struct Step {
    began: Duration,
    counted: Counted,
}

/// What looks like a circle.
#[derive(Debug)]
struct Watched {
    since: Duration,
    latest: Loop,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    thresholds: Thresholds,
    steps: VecDeque<Step>,
    watched: BTreeMap<(What, Vec<Who>), Watched>,
    found: Vec<Arc<Told>>,
    /// Counts for which there was no room.
    left_out: u64,
}

impl Loops {
    /// A series went from `was` to `value`. `None`: it began since.
    pub(crate) fn count(&mut self, now: Duration, name: &Name, was: Option<&RowValue>, value: &RowValue) {
        let Some(request) = name.row().and_then(RowKey::request) else { return };
        if !request.failed && !self.is_watched(&request) {
            return;
        }
        let (requests, nanos) = was.map_or_else(|| value.exchanges(), |was| value.since(was).exchanges());
        if requests == 0 {
            return;
        }
        self.pass(now);
        let Some(step) = self.steps.back_mut() else { return };
        if step.counted.len() >= SERIES && !step.counted.contains_key(name) {
            self.left_out += 1;
            return;
        }
        let [all, took] = step.counted.entry(name.clone()).or_default();
        *all = all.saturating_add(requests);
        *took = took.saturating_add(nanos);
    }

    fn is_watched(&self, request: &Request<'_>) -> bool {
        let is_it = |(what, members): &(What, Vec<Who>)| {
            what.iter().map(|word| &**word).eq(request.what) && members.iter().any(|who| who.is(request.server))
        };
        self.watched.keys().any(is_it)
    }

    /// Begins a step where one is due, and forgets what is too old.
    fn pass(&mut self, now: Duration) {
        let window = self.thresholds.window;
        self.steps.retain(|step| now.saturating_sub(step.began) < window);
        if self.steps.back().is_none_or(|step| now.saturating_sub(step.began) >= STEP) {
            self.steps.push_back(Step { began: now, counted: Counted::default() });
        }
    }

    /// To be called about once a period.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.pass(now);
        let mut watched = std::mem::take(&mut self.watched);
        for latest in decide::loops(&self.asked(), &self.thresholds) {
            let key = (latest.what.clone(), latest.members.clone());
            let since = watched.remove(&key).map_or(now, |watched| watched.since);
            if self.watched.len() < WATCHED {
                self.watched.insert(key, Watched { since, latest });
            }
        }
        self.tell(now);
    }

    /// What was asked in the window: of an edge what that end saw that saw more. The other one may have no agent.
    fn asked(&self) -> Asked {
        type ByEdge = BTreeMap<(Who, Who), BTreeMap<Reporter, Sum>>;
        let mut seen: BTreeMap<What, ByEdge> = BTreeMap::new();
        for (name, [requests, nanos]) in self.steps.iter().flat_map(|step| &step.counted) {
            let Some(Request { client, server, reporter, what, failed, unanswered }) =
                name.row().and_then(RowKey::request)
            else {
                continue;
            };
            let sum = Sum {
                requests: *requests,
                failed: if failed { *requests } else { 0 },
                unanswered: if unanswered { *requests } else { 0 },
                nanos: *nanos,
            };
            let edges = seen.entry(what.map(Into::into)).or_default();
            edges.entry((Who::of(client), Who::of(server))).or_default().entry(reporter).or_default().add(sum);
        }
        let most = |by: BTreeMap<Reporter, Sum>| by.into_values().max_by_key(|sum| sum.requests).unwrap_or_default();
        let edges = |edges: BTreeMap<_, _>| edges.into_iter().map(|(ends, by)| (ends, most(by))).collect();
        seen.into_iter().map(|(what, all)| (what, edges(all))).collect()
    }

    /// Of those that have held for long enough: one for each workload that is asked, the worst of it.
    fn tell(&mut self, now: Duration) {
        let mut by_entry: BTreeMap<&Who, (&Watched, usize)> = BTreeMap::new();
        let held = self.thresholds.held;
        for watched in self.watched.values().filter(|watched| now.saturating_sub(watched.since) >= held) {
            let (worst, count) = by_entry.entry(&watched.latest.entry).or_insert((watched, 0));
            *count += 1;
            if watched.latest.rate > worst.latest.rate {
                *worst = watched;
            }
        }
        let before = std::mem::take(&mut self.found);
        let told = |(watched, count): (&Watched, usize)| {
            let told = told(watched, count);
            // Unchanged, it is the same to whoever watches.
            before.iter().find(|before| ***before == told).cloned().unwrap_or_else(|| Arc::new(told))
        };
        self.found = by_entry.into_values().map(told).collect();
    }

    pub(crate) fn found(&self) -> &[Arc<Told>] {
        &self.found
    }

    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// `count`: circles that the others enter by the same workload.
fn told(watched: &Watched, count: usize) -> Told {
    let Watched { since, latest } = watched;
    let Loop { what, members, entry, rate, failed, takes, others, others_take, hurt } = latest;
    let [method, route] = what;
    let from = members.iter().position(|who| who == entry).unwrap_or(0);
    let names = members.iter().cycle().skip(from).take(members.len() + 1).map(Who::text);
    let path = names.collect::<Vec<_>>().join(" -> ");
    // Rounded: a row is no news each time that it is a little more.
    let [rate, others] =
        [rate, others].map(|rate| if *rate >= 10.0 { rate.round() } else { (rate * 10.0).round() / 10.0 });
    let percent = (failed * 100.0).floor();
    let (number, text) = (|of: f64| Value::Number(of), |of: &str| Value::Text(of.to_owned()));
    let millis = |time: &Duration| Value::Number((time.as_secs_f64() * 1e3).round());
    let figures = [
        ("path", text(&path)),
        ("method", text(method)),
        ("route", text(route)),
        ("requests_per_second", number(rate)),
        ("asked_by_others_per_second", number(others)),
        ("failed_percent", number(percent)),
        ("hop_mean_ms", millis(takes)),
        ("others_mean_ms", millis(others_take)),
        ("loops", Value::Count(count as u64)),
    ];
    let mut hurt = hurt.clone();
    hurt.sort_by_key(|(_, failed)| std::cmp::Reverse(*failed));
    hurt.truncate(CLIENTS);
    Told::of_cluster(
        ID,
        Severity::Warning,
        [&entry.namespace, &entry.workload],
        *since,
        format!(
            "{method} {route} goes in a circle: {path}, {rate} a second each, and others ask for {others} a second; \
             {percent} % fail"
        ),
        figures.map(|(name, value)| (name.to_owned(), value)).into(),
        hurt,
        &[
            "one of them asks for what it should answer itself: look at its upstream, Service or virtual IP, which leads back",
            "a limit of hops (Via, Max-Forwards, CDN-Loop) ends a request that comes back",
        ],
    )
}
