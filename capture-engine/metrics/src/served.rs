//! What the workloads of one node answered by HTTP lately, for whoever scales by it.
//!
//! A rate is what was counted divided by the time in which it was counted, and both are the agent's:
//! a push says what came since the push before. So a node whose push is late makes no rate smaller,
//! and neither does one that has told for less than the whole window. A sum over nodes is then a sum
//! of rates.

use crate::cluster::stats;
use crate::families::FamilyId;
use crate::histogram::HistogramSnapshot;
use crate::labels::Reporter;
use crate::rows::{EdgeName, Of, RowKey, RowValue};
use crate::view::{Name, Stats};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Of gRPC: its calls are requests of HTTP/2.
const SYSTEM: (&str, &str) = ("rpc_system_name", "grpc");

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answering {
    /// A workload, whatever it was asked by.
    Workload {
        /// Of it.
        namespace: String,
        /// As in the table: Deployment, StatefulSet ..
        kind: &'static str,
        /// Of it.
        name: String,
    },
    /// Whatever is behind a Service, as far as it was asked by that.
    Service {
        /// Of it, and of what is behind it.
        namespace: String,
        /// Of it.
        name: String,
    },
}

/// What is known of a series of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// It is one of those that are asked for.
    Yes,
    /// It may be: it does not say by which Service it was asked.
    Perhaps,
    /// It is of somebody else.
    No,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    server: Name,
    service: Arc<str>,
}

#[derive(Debug)]
struct Slot {
    from: Duration,
    to: Duration,
    counted: BTreeMap<Place, Stats>,
}

/// See the module.
#[derive(Debug)]
pub struct Served {
    step: Duration,
    window: Duration,
    /// The latest push; what comes is counted since.
    told: Option<Duration>,
    /// The first push that nobody knows the time of.
    begun: Duration,
    coming: BTreeMap<Place, Stats>,
    slots: VecDeque<Slot>,
}

/// What a node counted in its window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    /// Requests.
    pub per_second: f64,
    /// Of those that were answered.
    pub latency: HistogramSnapshot,
}

impl Rate {
    /// Both together.
    pub fn add(&mut self, other: &Rate) {
        self.per_second += other.per_second;
        self.latency.add(&other.latency);
    }
}

impl RowKey {
    /// The ends, if it is a series of HTTP requests as who answered saw them.
    fn answered(&self) -> Option<&EdgeName> {
        let is_http = match self.of {
            Of::Exchanges(FamilyId::Http) => true,
            Of::Exchanges(FamilyId::Rpc) => self.label(SYSTEM.0) == Some(SYSTEM.1),
            _ => false,
        };
        self.edge.as_ref().filter(|edge| is_http && edge.reporter == Reporter::Server)
    }

    /// Whether it counts HTTP requests that `answering` answered, as itself saw them.
    #[must_use]
    pub fn counts_for(&self, answering: &Answering) -> Belongs {
        let Some(EdgeName { server, service, .. }) = self.answered() else { return Belongs::No };
        match answering {
            Answering::Workload { namespace, kind, name } => {
                let is_it = *server.namespace == **namespace && server.kind == *kind && *server.workload == **name;
                if is_it { Belongs::Yes } else { Belongs::No }
            }
            Answering::Service { namespace, name } if *server.namespace == **namespace => match &**service {
                "" => Belongs::Perhaps,
                service if service == name => Belongs::Yes,
                _ => Belongs::No,
            },
            Answering::Service { .. } => Belongs::No,
        }
    }

    /// Kind and name of who answered.
    #[must_use]
    pub fn server(&self) -> Option<(&'static str, &str)> {
        self.edge.as_ref().map(|edge| (edge.server.kind, &*edge.server.workload))
    }
}

impl Served {
    /// Looks back over `window`, in steps.
    #[must_use]
    pub fn new(step: Duration, window: Duration) -> Served {
        Served { step, window, told: None, begun: Duration::ZERO, coming: BTreeMap::new(), slots: VecDeque::new() }
    }

    /// A series went from `was` to `value`. `None`: it began since.
    pub fn count(&mut self, key: &RowKey, was: Option<&RowValue>, value: &RowValue) {
        let Some(EdgeName { server, service, .. }) = key.answered() else { return };
        let value = was.map_or_else(|| value.clone(), |was| value.since(was));
        let stats = Stats { tcp_open: 0, bytes: [0; 2], ..stats(key, &value) };
        if stats != Stats::default() {
            let place = Place { server: Name::of(server), service: service.clone() };
            self.coming.entry(place).or_default().add(&stats);
        }
    }

    /// A push is complete. `watched`: what it added was counted since the push before.
    pub fn pushed(&mut self, now: Duration, watched: bool) {
        let coming = std::mem::take(&mut self.coming);
        match self.told.replace(now).filter(|_| watched) {
            None => {
                self.begun = now;
                self.slots.clear();
            }
            // An agent that begins gets its filters and names meanwhile: it may not see all of it yet.
            Some(from) if from.saturating_sub(self.begun) < self.step / 2 => {}
            Some(from) => match self.slots.back_mut().filter(|slot| slot.to.saturating_sub(slot.from) < self.step) {
                Some(slot) => {
                    slot.to = now;
                    coming.iter().for_each(|(place, stats)| slot.counted.entry(place.clone()).or_default().add(stats));
                }
                None => self.slots.push_back(Slot { from, to: now, counted: coming }),
            },
        }
        // As short as it can be without being shorter than the window.
        while self.slots.get(1).is_some_and(|second| now.saturating_sub(second.from) >= self.window) {
            self.slots.pop_front();
        }
    }

    /// Nobody knows any more what is of late.
    pub fn forget(&mut self) {
        (self.told, self.coming) = (None, BTreeMap::new());
        self.slots.clear();
    }

    /// What it answered. `None` while nothing was counted between two pushes.
    #[must_use]
    pub fn rate(&self, answering: &Answering) -> Option<Rate> {
        rate(self.slots.iter(), Duration::ZERO, answering)
    }

    /// What it answered of late, for a node that pushes no more: less from step to step, as what its pods
    /// are asked elsewhere grows there, and a step later, since that is told by pushes. `None` when it
    /// is over.
    #[must_use]
    pub fn left(&self, now: Duration, answering: &Answering) -> Option<Rate> {
        let slots = self.slots.iter().filter(|slot| now.saturating_sub(slot.to) < self.window + self.step);
        rate(slots, self.window, answering)
    }

    /// Whether something is left.
    #[must_use]
    pub fn is_of_late(&self, now: Duration) -> bool {
        self.slots.back().is_some_and(|slot| now.saturating_sub(slot.to) < self.window + self.step)
    }
}

/// Of slots in their order, over the time that they cover and no less than `least`.
fn rate<'a>(slots: impl Iterator<Item = &'a Slot>, least: Duration, answering: &Answering) -> Option<Rate> {
    let (mut covers, mut sum) = (None, Stats::default());
    for Slot { from, to, counted } in slots {
        covers = Some((covers.map_or(*from, |(first, _)| first), *to));
        let of = counted.iter().filter(|(place, _)| place.is_of(answering));
        of.for_each(|(_, stats)| sum.add(stats));
    }
    let span = covers.map(|(from, to): (Duration, Duration)| to.saturating_sub(from).max(least).as_secs_f64());
    let span = span.filter(|span| *span > 0.0)?;
    Some(Rate { per_second: sum.requests as f64 / span, latency: sum.latency })
}

impl Place {
    fn is_of(&self, answering: &Answering) -> bool {
        let (of, who, is) = self.server.parts();
        match answering {
            Answering::Workload { namespace, kind, name } => of == namespace && who == name && is == *kind,
            Answering::Service { namespace, name } => of == namespace && *self.service == **name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::End;
    use crate::rows::Numbers;
    use crate::series::Edge;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Duration {
        secs(100 + seconds)
    }

    /// Its agent has told nothing yet, and is past its beginning.
    fn begun(now: u64) -> Served {
        let mut served = Served::new(secs(10), secs(60));
        served.pushed(at(now) - secs(10), false);
        served.pushed(at(now), true);
        served
    }

    fn key(family: &str, service: &str, reporter: Reporter, labels: &[(&str, &str)]) -> RowKey {
        let end = |workload: &str| End { workload: workload.into(), namespace: "shop".into(), kind: "Deployment" };
        let edge = Edge::apart(end("web"), end("api"), service.into(), reporter);
        let mut bytes = Vec::new();
        crate::rows::write_key(&mut bytes, family, Some(&edge), labels.iter().copied());
        RowKey::read(&bytes).unwrap()
    }

    fn http(service: &str) -> RowKey {
        let labels = [("http_request_method", "GET"), ("http_response_status_code", "200")];
        key("http", service, Reporter::Server, &labels)
    }

    /// So many requests of 10 ms.
    fn value(count: u64) -> RowValue {
        let histogram = crate::histogram::Histogram::default();
        (0..count).for_each(|_| histogram.observe(10_000_000));
        RowValue { histogram: histogram.snapshot(), numbers: Numbers::default() }
    }

    fn api() -> Answering {
        Answering::Workload { namespace: "shop".into(), kind: "Deployment", name: "api".into() }
    }

    fn service(name: &str) -> Answering {
        Answering::Service { namespace: "shop".into(), name: name.into() }
    }

    fn per_second(served: &Served, answering: &Answering) -> Option<u64> {
        served.rate(answering).map(|rate| rate.per_second.round() as u64)
    }

    #[test]
    fn a_rate_is_what_was_counted_by_the_time_in_which_it_was() {
        let mut served = begun(5);
        assert_eq!(served.rate(&api()), None);
        let mut total = 0;
        for (n, now) in [15, 26, 35, 47, 55, 65, 75, 86, 95, 105].into_iter().enumerate() {
            let before = if n == 0 { 5 } else { [15, 26, 35, 47, 55, 65, 75, 86, 95][n - 1] };
            let more = 7 * (now - before);
            served.count(&http("api"), Some(&value(total)), &value(total + more));
            total += more;
            served.pushed(at(now), true);
            assert_eq!(per_second(&served, &api()), Some(7), "{now}");
        }
        let span = served.slots.back().unwrap().to - served.slots.front().unwrap().from;
        assert!((secs(60)..=secs(80)).contains(&span), "{span:?}");
        // Half as much from now on.
        for now in [115, 125, 135, 145, 155, 165, 175, 185] {
            served.count(&http("api"), Some(&value(total)), &value(total + 35));
            total += 35;
            served.pushed(at(now), true);
        }
        assert_eq!(per_second(&served, &api()), Some(4));
    }

    #[test]
    fn what_nobody_knows_the_time_of_is_no_rate() {
        let mut served = begun(0);
        served.count(&http(""), None, &value(100));
        served.pushed(at(10), true);
        assert_eq!(per_second(&served, &api()), Some(10));
        // A long silence, or another process of the agent.
        served.count(&http(""), None, &value(50_000));
        served.pushed(at(90), false);
        assert_eq!(served.rate(&api()), None);
        served.pushed(at(100), true);
        assert_eq!(served.rate(&api()), None);
        served.pushed(at(110), true);
        assert_eq!(per_second(&served, &api()), Some(0));
        served.forget();
        served.pushed(at(120), true);
        assert_eq!(served.rate(&api()), None);
    }

    #[test]
    fn what_is_left_of_a_node_that_is_gone_grows_less() {
        let mut served = begun(0);
        for now in (10..=60).step_by(10) {
            served.count(&http(""), None, &value(60));
            served.pushed(at(now), true);
        }
        let left = |now| served.left(at(now), &api()).map(|rate| rate.per_second.round() as u64);
        assert_eq!([60, 85, 100, 129].map(left), [Some(6), Some(5), Some(3), Some(1)]);
        assert_eq!((left(130), served.is_of_late(at(129)), served.is_of_late(at(130))), (None, true, false));
    }

    #[test]
    fn what_an_agent_counts_while_it_begins_is_not_told() {
        let mut served = Served::new(secs(10), secs(60));
        served.pushed(at(0), false);
        for now in 1..=5 {
            served.pushed(at(now), true);
            assert_eq!(served.rate(&api()), None, "{now}");
        }
        served.count(&http(""), None, &value(9));
        served.pushed(at(6), true);
        assert_eq!(per_second(&served, &api()), Some(9));
    }

    #[test]
    fn a_push_that_was_cut_counts_with_the_next() {
        let mut served = begun(0);
        served.count(&http(""), None, &value(30));
        served.count(&http(""), Some(&value(30)), &value(60));
        served.pushed(at(20), true);
        assert_eq!(per_second(&served, &api()), Some(3));
    }

    #[test]
    fn only_what_was_asked_of_it_by_http_counts() {
        let mut served = begun(0);
        let grpc = [("rpc_system_name", "grpc"), ("rpc_service", "shop.Cart"), ("rpc_method", "Add")];
        let (grpc, client) = (key("rpc", "api", Reporter::Server, &grpc), key("http", "api", Reporter::Client, &[]));
        let tls = key("tls", "api", Reporter::Server, &[]);
        for (key, count) in [(http("api"), 100), (http(""), 20), (grpc, 50), (client, 9_000), (tls, 9_000)] {
            served.count(&key, None, &value(count));
        }
        served.pushed(at(10), true);
        assert_eq!(per_second(&served, &api()), Some(17));
        assert_eq!(per_second(&served, &service("api")), Some(15));
        assert_eq!(per_second(&served, &service("other")), Some(0));
        let p95 = served.rate(&api()).and_then(|rate| rate.latency.quantile(0.95)).unwrap();
        assert!((0.0095..0.0105).contains(&p95), "{p95}");
        assert_eq!(http("").counts_for(&service("api")), Belongs::Perhaps);
        assert_eq!(http("b").counts_for(&service("api")), Belongs::No);
        assert_eq!(http("api").counts_for(&service("api")), Belongs::Yes);
        assert_eq!(key("http", "api", Reporter::Client, &[]).counts_for(&api()), Belongs::No);
        assert_eq!(http("b").server(), Some(("Deployment", "api")));
    }

    /// The window is no shorter than a push.
    #[test]
    fn an_agent_that_pushes_seldom_keeps_one_push() {
        let mut served = begun(0);
        for push in 1..5 {
            served.count(&http(""), None, &value(300));
            served.pushed(at(push * 300), true);
        }
        assert_eq!((served.slots.len(), per_second(&served, &api())), (1, Some(1)));
    }
}
