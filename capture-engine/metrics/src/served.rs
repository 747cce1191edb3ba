//! What the workloads of one node answered by HTTP lately, for whoever scales by it.
//!
//! A rate is what was counted divided by the time in which it was counted, and both are the agent's:
//! a push says what came since the push before. So a node whose push is late makes no rate smaller,
//! and neither does one that has told for less than the whole window. A sum over nodes is then a sum
//! of rates. What an agent counted while it saw a part of its node is no rate at all: it says what it
//! sees with each push, and what was counted since then is of that.

use crate::cluster::stats;
use crate::families::FamilyId;
use crate::histogram::HistogramSnapshot;
use crate::labels::Reporter;
use crate::rows::{EdgeName, Of, RowKey, RowValue};
use crate::view::{Name, Stats};
use flow_model::WorkloadKind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// An agent that does not say what it sees: by then it has its filters and names, and has asked for
/// the names of each connection again (`ends::KNOWN_CAP`).
const UNSAID: Duration = Duration::from_secs(45);
/// What a pod is called while nobody knows its controller.
const POD: &str = WorkloadKind::Pod.as_str();
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

/// What an agent counts from now on, of all that runs on its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sees {
    /// It does not say.
    #[default]
    Unsaid,
    /// Only a part.
    Part,
    /// All, without names of the cluster.
    Nameless,
    /// All.
    All,
}

#[derive(Debug)]
struct Slot {
    from: Duration,
    to: Duration,
    /// By an agent that had the names of the cluster.
    is_named: bool,
    counted: BTreeMap<Place, Stats>,
}

/// See the module.
#[derive(Debug)]
pub struct Served {
    step: Duration,
    window: Duration,
    /// The latest push, and what the agent saw then; what comes is counted since.
    told: Option<(Duration, Sees)>,
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
    pub fn pushed(&mut self, now: Duration, watched: bool, sees: Sees) {
        let counted = std::mem::take(&mut self.coming);
        let before = self.told.replace((now, sees)).filter(|_| watched);
        if before.is_none() {
            self.begun = now;
        }
        let Some((from, is_named)) = before.and_then(|(from, saw)| Some((from, self.is_named(from, saw, sees)?)))
        else {
            self.slots.clear();
            return;
        };
        let is_open = |slot: &&mut Slot| slot.to.saturating_sub(slot.from) < self.step && slot.is_named == is_named;
        match self.slots.back_mut().filter(is_open) {
            Some(slot) => {
                slot.to = now;
                counted.iter().for_each(|(place, stats)| slot.counted.entry(place.clone()).or_default().add(stats));
            }
            None => self.slots.push_back(Slot { from, to: now, is_named, counted }),
        }
        // As short as it can be without being shorter than the window.
        while self.slots.get(1).is_some_and(|second| now.saturating_sub(second.from) >= self.window) {
            self.slots.pop_front();
        }
    }

    /// Whether what was counted since `from` is under the names of the cluster; `None`: it is not all.
    fn is_named(&self, from: Duration, saw: Sees, sees: Sees) -> Option<bool> {
        match (saw, sees) {
            (Sees::Part, _) | (_, Sees::Part) => None,
            (Sees::Unsaid, _) => (from.saturating_sub(self.begun) >= UNSAID).then_some(true),
            (Sees::Nameless, _) => Some(false),
            (Sees::All, _) => Some(true),
        }
    }

    /// What the agent saw when it pushed last.
    #[must_use]
    pub fn sees(&self) -> Option<Sees> {
        self.told.map(|(_, sees)| sees)
    }

    /// Nobody knows any more what is of late.
    pub fn forget(&mut self) {
        (self.told, self.coming) = (None, BTreeMap::new());
        self.slots.clear();
    }

    /// What it answered. `pods` are those of a controller that are known to be meant, by their names:
    /// they are counted under these until the agent hears of the controller, and then under no Service.
    /// `None` while nothing was counted between two pushes, or without the names that are needed.
    #[must_use]
    pub fn rate(&self, answering: &Answering, pods: &BTreeSet<String>) -> Option<Rate> {
        let has_names = matches!(answering, Answering::Workload { .. }) || self.slots.iter().all(|slot| slot.is_named);
        // A second or two, while pushes are that frequent, are too few to scale by.
        let covers = self.slots.iter().map(|slot| slot.to.saturating_sub(slot.from)).sum::<Duration>();
        let slots = self.slots.iter().filter(|_| has_names && covers >= self.step * 3 / 4);
        rate(slots, Duration::ZERO, answering, pods)
    }

    /// What it answered of late, for a node that pushes no more: less from step to step, as what its pods
    /// are asked elsewhere grows there, and a step later, since that is told by pushes. `None` when it
    /// is over.
    #[must_use]
    pub fn left(&self, now: Duration, answering: &Answering) -> Option<Rate> {
        let slots = self.slots.iter().filter(|slot| now.saturating_sub(slot.to) < self.window + self.step);
        rate(slots, self.window, answering, &BTreeSet::new())
    }

    /// Whether something is left.
    #[must_use]
    pub fn is_of_late(&self, now: Duration) -> bool {
        self.slots.back().is_some_and(|slot| now.saturating_sub(slot.to) < self.window + self.step)
    }
}

/// Of slots in their order, over the time that they cover and no less than `least`.
fn rate<'a>(
    slots: impl Iterator<Item = &'a Slot>,
    least: Duration,
    answering: &Answering,
    pods: &BTreeSet<String>,
) -> Option<Rate> {
    let (mut covers, mut sum) = (None, Stats::default());
    for Slot { from, to, counted, is_named: _ } in slots {
        covers = Some((covers.map_or(*from, |(first, _)| first), *to));
        let of = counted.iter().filter(|(place, _)| place.is_of(answering) || place.is_a_pod(answering, pods));
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

    fn is_a_pod(&self, answering: &Answering, pods: &BTreeSet<String>) -> bool {
        let (of, who, is) = self.server.parts();
        let (Answering::Workload { namespace, .. } | Answering::Service { namespace, .. }) = answering;
        let may_be = matches!(answering, Answering::Workload { .. }) || self.service.is_empty();
        may_be && is == POD && of == namespace && pods.contains(who)
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

    /// Its agent has told nothing yet, and sees all.
    fn begun(now: u64) -> Served {
        let mut served = Served::new(secs(10), secs(60));
        served.pushed(at(now), false, Sees::All);
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
        served.rate(answering, &none()).map(|rate| rate.per_second.round() as u64)
    }

    #[test]
    fn a_rate_is_what_was_counted_by_the_time_in_which_it_was() {
        let mut served = begun(5);
        assert_eq!(served.rate(&api(), &none()), None);
        let mut total = 0;
        for (n, now) in [15, 26, 35, 47, 55, 65, 75, 86, 95, 105].into_iter().enumerate() {
            let before = if n == 0 { 5 } else { [15, 26, 35, 47, 55, 65, 75, 86, 95][n - 1] };
            let more = 7 * (now - before);
            served.count(&http("api"), Some(&value(total)), &value(total + more));
            total += more;
            served.pushed(at(now), true, Sees::All);
            assert_eq!(per_second(&served, &api()), Some(7), "{now}");
        }
        let span = served.slots.back().unwrap().to - served.slots.front().unwrap().from;
        assert!((secs(60)..=secs(80)).contains(&span), "{span:?}");
        // Half as much from now on.
        for now in [115, 125, 135, 145, 155, 165, 175, 185] {
            served.count(&http("api"), Some(&value(total)), &value(total + 35));
            total += 35;
            served.pushed(at(now), true, Sees::All);
        }
        assert_eq!(per_second(&served, &api()), Some(4));
    }

    #[test]
    fn what_nobody_knows_the_time_of_is_no_rate() {
        let mut served = begun(0);
        served.count(&http(""), None, &value(100));
        served.pushed(at(10), true, Sees::All);
        assert_eq!(per_second(&served, &api()), Some(10));
        // A long silence, or another process of the agent.
        served.count(&http(""), None, &value(50_000));
        served.pushed(at(90), false, Sees::All);
        assert_eq!(served.rate(&api(), &none()), None);
        served.pushed(at(100), true, Sees::All);
        assert_eq!(per_second(&served, &api()), Some(0));
        served.forget();
        served.pushed(at(120), true, Sees::All);
        assert_eq!(served.rate(&api(), &none()), None);
    }

    #[test]
    fn what_is_left_of_a_node_that_is_gone_grows_less() {
        let mut served = begun(0);
        for now in (10..=60).step_by(10) {
            served.count(&http(""), None, &value(60));
            served.pushed(at(now), true, Sees::All);
        }
        let left = |now| served.left(at(now), &api()).map(|rate| rate.per_second.round() as u64);
        assert_eq!([60, 85, 100, 129].map(left), [Some(6), Some(5), Some(3), Some(1)]);
        assert_eq!((left(130), served.is_of_late(at(129)), served.is_of_late(at(130))), (None, true, false));
    }

    fn none() -> BTreeSet<String> {
        BTreeSet::new()
    }

    #[test]
    fn what_an_agent_counts_while_it_sees_a_part_is_not_told() {
        let mut served = begun(0);
        served.count(&http(""), None, &value(70));
        served.pushed(at(10), true, Sees::All);
        assert_eq!(per_second(&served, &api()), Some(7));
        // Its containerd is away: pods that begin now are not seen. What it counted is no rate before it
        // has seen all for a push.
        for (now, sees) in [(20, Sees::Part), (30, Sees::Part), (40, Sees::All)] {
            served.count(&http(""), None, &value(1));
            served.pushed(at(now), true, sees);
            assert_eq!((served.rate(&api(), &none()), served.sees()), (None, Some(sees)), "{now}");
        }
        served.count(&http(""), None, &value(70));
        served.pushed(at(50), true, Sees::All);
        assert_eq!(per_second(&served, &api()), Some(7));
    }

    #[test]
    fn an_agent_that_does_not_say_what_it_sees_is_waited_for() {
        let mut served = Served::new(secs(10), secs(60));
        for now in [0, 10, 20, 30, 40, 50] {
            served.pushed(at(now), now > 0, Sees::Unsaid);
            assert_eq!(served.rate(&api(), &none()), None, "{now}");
        }
        served.count(&http(""), None, &value(90));
        served.pushed(at(60), true, Sees::Unsaid);
        assert_eq!(per_second(&served, &api()), Some(9));
    }

    /// As after a start, or in the first seconds of a pod.
    #[test]
    fn a_pod_that_is_counted_under_its_own_name_counts_for_its_workload() {
        let pod = |service: &str| {
            let end = |workload: &str, kind| End { workload: workload.into(), namespace: "shop".into(), kind };
            let (client, server) = (end("web", "Deployment"), end("api-5d4c-x", POD));
            let edge = Edge::apart(client, server, service.into(), Reporter::Server);
            let mut bytes = Vec::new();
            crate::rows::write_key(&mut bytes, "http", Some(&edge), std::iter::empty());
            RowKey::read(&bytes).unwrap()
        };
        let mut served = begun(0);
        served.count(&pod(""), None, &value(80));
        served.count(&pod("other"), None, &value(30));
        served.count(&http("api"), None, &value(20));
        served.pushed(at(10), true, Sees::All);
        let (theirs, others) = ([String::from("api-5d4c-x")].into(), [String::from("db-0")].into());
        let told = |served: &Served, answering: &Answering, pods: &BTreeSet<String>| {
            served.rate(answering, pods).map(|rate| rate.per_second)
        };
        assert_eq!(told(&served, &api(), &theirs), Some(13.0));
        assert_eq!(told(&served, &service("api"), &theirs), Some(10.0));
        assert_eq!(told(&served, &api(), &others), Some(2.0));
        // Without names nobody knows what was asked by the Service.
        served.pushed(at(20), true, Sees::Nameless);
        served.count(&pod(""), None, &value(130));
        served.pushed(at(30), true, Sees::Nameless);
        assert_eq!(told(&served, &service("api"), &theirs), None);
        assert_eq!(told(&served, &api(), &theirs).map(f64::round), Some(9.0));
        for now in (40..=100).step_by(10) {
            assert_eq!(told(&served, &service("api"), &theirs), None, "{now}");
            served.pushed(at(now), true, Sees::All);
        }
        assert_eq!(told(&served, &service("api"), &theirs), Some(0.0));
    }

    #[test]
    fn a_push_that_was_cut_counts_with_the_next() {
        let mut served = begun(0);
        served.count(&http(""), None, &value(30));
        served.count(&http(""), Some(&value(30)), &value(60));
        served.pushed(at(20), true, Sees::All);
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
        served.pushed(at(10), true, Sees::All);
        assert_eq!(per_second(&served, &api()), Some(17));
        assert_eq!(per_second(&served, &service("api")), Some(15));
        assert_eq!(per_second(&served, &service("other")), Some(0));
        let p95 = served.rate(&api(), &none()).and_then(|rate| rate.latency.quantile(0.95)).unwrap();
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
            served.pushed(at(push * 300), true, Sees::All);
        }
        assert_eq!((served.slots.len(), per_second(&served, &api())), (1, Some(1)));
    }
}
