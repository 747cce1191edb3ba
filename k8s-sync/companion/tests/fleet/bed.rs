//! A fleet without connections: agents that count, their links, and the time.

use companion::{Config, Fleet, Session};
use flow_model::{
    Detail, Endpoint, FiveTuple, FlowInfo, HttpExchange, Identity, L7Record, Names, Notes, Outcome, Protocol, Role,
    Sink, Slot, Transport, Ts, Workload, WorkloadKind,
};
use golden_metrics::{FlowCache, Golden, Losses, Reader};
use join::message::{Figure, Finding, Hurt, Sees, Severity, Value};
use join::{Action, Cut, Link, Me, Source};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everybody is who the address says: 10.0.0.1 asks 10.0.0.2.
#[derive(Debug)]
struct Known {
    /// Until somebody tells more.
    pod: Option<String>,
    /// Who is here, and who is elsewhere: for one exchange.
    between: Option<[String; 2]>,
    version: u64,
    whole: u64,
}

impl Names for Known {
    fn local(&self, slot: Slot) -> Identity {
        if let Some([here, _]) = &self.between {
            return deployment(here);
        }
        match &self.pod {
            Some(pod) => named(pod, WorkloadKind::Pod),
            None if slot == Slot(1) => deployment("api"),
            None => deployment(&format!("api-{}", slot.0)),
        }
    }

    fn remote(&self, _: Slot, _: Endpoint, _: Ts) -> Identity {
        deployment(self.between.as_ref().map_or("web", |[_, there]| there))
    }

    fn service(&self, _: Endpoint, _: Ts) -> Option<Arc<str>> {
        self.pod.is_none().then(|| "api".into())
    }

    fn awaits(&self, _: Slot, _: Endpoint, _: Ts) -> bool {
        false
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn whole(&self) -> u64 {
        self.whole
    }

    fn dns_answer(&mut self, _: Slot, _: &str, _: &[IpAddr], _: u32, _: Ts) {}
}

fn end(last: u8, port: u16) -> Endpoint {
    Endpoint { ip: [10, 0, 0, last].into(), port }
}

fn deployment(name: &str) -> Identity {
    named(name, WorkloadKind::Deployment)
}

fn named(name: &str, kind: WorkloadKind) -> Identity {
    let namespace = "shop".into();
    Identity::Known(Arc::new(Workload { namespace, name: name.into(), kind, pod: "".into() }))
}

/// A process of an agent with its link.
pub struct Agent {
    golden: Golden<Known>,
    reader: Reader,
    source: Source,
    pub link: Link,
    session: Option<Session>,
    /// Of a connection that stays.
    kept: FlowCache,
    pub sees: Sees,
}

impl Agent {
    pub fn new(node: &str, instance: u64) -> Agent {
        let known = Known { pod: None, between: None, version: 0, whole: 0 };
        let (golden, reader) = Golden::new(known, golden_metrics::Config::default(), &Losses::default());
        let link = Link::new(Me::new("0.2.0", instance), node, instance);
        let (source, kept) = (Source::default(), FlowCache::default());
        Agent { golden, reader, source, link, session: None, kept, sees: Sees::All }
    }

    /// One that begins: nobody has told it names.
    pub fn nameless(node: &str, instance: u64) -> Agent {
        let mut agent = Agent::new(node, instance);
        agent.golden.names_mut().pod = Some(format!("api-5d4c-{node}"));
        agent.sees = Sees::Part;
        agent
    }

    /// Some name that is none of its own is another.
    pub fn hears(&mut self) {
        self.golden.names_mut().version += 1;
    }

    /// All names come.
    pub fn hears_all(&mut self) {
        let names = self.golden.names_mut();
        (names.pod, names.version, names.whole) = (None, names.version + 1, names.whole + 1);
        self.sees = Sees::All;
    }

    /// As `answers`, by a connection that was there before.
    pub fn goes_on(&mut self, second: u64, times: u64) {
        let mut cache = std::mem::take(&mut self.kept);
        self.answer(&mut cache, Slot(1), Ts(second * 1_000_000_000), times, 200, 10);
        self.kept = cache;
    }

    /// api answers web, so many times.
    pub fn answers(&mut self, times: u64, status: u16, took_ms: u64) {
        self.answers_as(0, times, status, took_ms);
    }

    /// The same of one of many.
    pub fn answers_as(&mut self, server: u16, times: u64, status: u16, took_ms: u64) {
        let slot = Slot(u32::from(server) + 1);
        self.answer(&mut FlowCache::default(), slot, Ts(1_000_000_000), times, status, took_ms);
    }

    fn answer(&mut self, cache: &mut FlowCache, slot: Slot, start: Ts, times: u64, status: u16, took_ms: u64) {
        let (local, remote) = (end(2, 80), end(1, 40_000));
        let tuple = FiveTuple { transport: Transport::Tcp, local, remote };
        let flow = FlowInfo { slot, tuple, role: Role::Server, opened: Ts(1), joined_midway: false, peer: None };
        self.exchanges(&flow, cache, start, "", times, status, took_ms);
    }

    /// `here` asks `there`, or is asked by it, for what has this route.
    pub fn between(
        &mut self,
        role: Role,
        [here, there]: [&str; 2],
        route: &str,
        times: u64,
        status: u16,
        took_ms: u64,
    ) {
        let (local, remote) = match role {
            Role::Client => (end(2, 40_000), end(1, 80)),
            _ => (end(2, 80), end(1, 40_000)),
        };
        let tuple = FiveTuple { transport: Transport::Tcp, local, remote };
        let flow = FlowInfo { slot: Slot(1), tuple, role, opened: Ts(1), joined_midway: false, peer: None };
        self.golden.names_mut().between = Some([here.to_owned(), there.to_owned()]);
        self.exchanges(&flow, &mut FlowCache::default(), Ts(1_000_000_000), route, times, status, took_ms);
        self.golden.names_mut().between = None;
    }

    #[allow(clippy::too_many_arguments)]
    fn exchanges(
        &mut self,
        flow: &FlowInfo,
        cache: &mut FlowCache,
        start: Ts,
        route: &str,
        times: u64,
        status: u16,
        took_ms: u64,
    ) {
        let end = Ts(start.0 + took_ms * 1_000_000);
        let method = "GET".to_owned().into();
        let detail = HttpExchange { method, route: route.into(), status: Some(status), ..HttpExchange::default() };
        let record = L7Record {
            protocol: Protocol::Http1,
            start,
            response_start: Some(end),
            end,
            request_bytes: 100,
            response_bytes: 1_000,
            outcome: Outcome::Answered,
            notes: Notes::default(),
            detail: Detail::Http(detail),
        };
        (0..times).for_each(|_| self.golden.exchange(flow, cache, &record));
        self.golden.publish();
    }

    /// This is all that it holds for wrong; `since_ms` is by a clock that shows this now.
    pub fn finds(&mut self, now_ms: u64, findings: &[Finding]) {
        self.source.findings_mut().tell(now_ms, &findings.into());
    }

    /// What a copy of it should have, sorted.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        self.reader.snapshot().rows(&mut |key, value| rows.push((key.to_vec(), value.to_vec())));
        rows.sort();
        rows
    }

    /// What is due is sent, and answered.
    pub fn run(&mut self, now: Duration, fleet: &mut Fleet) {
        loop {
            if self.link.is_due(now) {
                let snapshot = self.reader.snapshot();
                self.source.sees(self.sees);
                self.source.refresh(|put| snapshot.rows(put));
            }
            match self.link.poll(now, &self.source) {
                Some(Action::Dial) => {
                    self.session = Some(Session::new(now));
                    self.link.connected(now);
                }
                Some(Action::Send(message)) => {
                    let Some(session) = &mut self.session else { return };
                    match session.received(now, message, fleet) {
                        Ok(Some(answer)) => drop(self.link.received(now, answer)),
                        Ok(None) => {}
                        Err(refusal) => self.cut(now, Cut::Refused(refusal), fleet),
                    }
                }
                Some(Action::Hang(_)) => self.session = None,
                None => return,
            }
        }
    }

    pub fn cut(&mut self, now: Duration, why: Cut, fleet: &mut Fleet) {
        if let Some(session) = self.session.take() {
            session.ended(fleet);
        }
        self.link.cut(now, why);
    }
}

pub fn fleet() -> Fleet {
    fleet_with(Config::default())
}

pub fn fleet_with(config: Config) -> Fleet {
    Fleet::new(Me::new("0.2.0", 1), config)
}

pub fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// That requests of shop/web were cut, held for 90 s when the agent's clock shows 100 s.
pub fn cut(workload: &str, severity: Severity) -> Finding {
    Finding {
        id: "cut-by-exit".to_owned(),
        severity: severity.into(),
        namespace: "shop".to_owned(),
        kind: "Workload".to_owned(),
        workload: workload.to_owned(),
        since_ms: 10_000,
        summary: format!("3 requests to {workload} unanswered"),
        evidence: vec![Figure { name: "requests".to_owned(), value: Some(Value::Count(3)) }],
        hurt: vec![Hurt { client: "shop/web".to_owned(), requests: 3 }],
        remedy: vec!["answer what is under way on SIGTERM".to_owned()],
        ..Finding::default()
    }
}

/// Of a node.
pub fn full() -> Finding {
    Finding {
        id: "conntrack-full".to_owned(),
        severity: Severity::Error.into(),
        kind: "Node".to_owned(),
        workload: "the node's own network".to_owned(),
        since_ms: 40_000,
        summary: "90 % of 65536".to_owned(),
        ..Finding::default()
    }
}
