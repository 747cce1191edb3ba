//! A fleet without connections: agents that count, their links, and the time.

use companion::{Config, Fleet, Session};
use flow_model::{
    Detail, Endpoint, FiveTuple, FlowInfo, HttpExchange, Identity, L7Record, Names, Notes, Outcome, Protocol, Role,
    Sink, Slot, Transport, Ts, Workload, WorkloadKind,
};
use golden_metrics::{FlowCache, Golden, Losses, Reader};
use join::{Action, Cut, Link, Me, Source};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everybody is who the address says: 10.0.0.1 asks 10.0.0.2.
#[derive(Debug)]
struct Known;

impl Names for Known {
    fn local(&self, slot: Slot) -> Identity {
        if slot == Slot(1) { deployment("api") } else { deployment(&format!("api-{}", slot.0)) }
    }

    fn remote(&self, _: Slot, _: Endpoint, _: Ts) -> Identity {
        deployment("web")
    }

    fn service(&self, _: Endpoint, _: Ts) -> Option<Arc<str>> {
        Some("api".into())
    }

    fn awaits(&self, _: Slot, _: Endpoint, _: Ts) -> bool {
        false
    }

    fn version(&self) -> u64 {
        0
    }

    fn dns_answer(&mut self, _: Slot, _: &str, _: &[IpAddr], _: u32, _: Ts) {}
}

fn deployment(name: &str) -> Identity {
    let (namespace, kind) = ("shop".into(), WorkloadKind::Deployment);
    Identity::Known(Arc::new(Workload { namespace, name: name.into(), kind, pod: "".into() }))
}

/// A process of an agent with its link.
pub struct Agent {
    golden: Golden<Known>,
    reader: Reader,
    source: Source,
    pub link: Link,
    session: Option<Session>,
}

impl Agent {
    pub fn new(node: &str, instance: u64) -> Agent {
        let (golden, reader) = Golden::new(Known, golden_metrics::Config::default(), &Losses::default());
        let link = Link::new(Me::new("0.2.0", instance), node, instance);
        Agent { golden, reader, source: Source::default(), link, session: None }
    }

    /// api answers web, so many times.
    pub fn answers(&mut self, times: u64, status: u16, took_ms: u64) {
        self.answers_as(0, times, status, took_ms);
    }

    /// The same of one of many.
    pub fn answers_as(&mut self, server: u16, times: u64, status: u16, took_ms: u64) {
        let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(2, 80), remote: end(1, 40_000) };
        let (slot, role, opened) = (Slot(u32::from(server) + 1), Role::Server, Ts(1));
        let flow = FlowInfo { slot, tuple, role, opened, joined_midway: false, peer: None };
        let (start, end) = (Ts(1_000_000_000), Ts(1_000_000_000 + took_ms * 1_000_000));
        let method = "GET".to_owned().into();
        let detail = HttpExchange { method, status: Some(status), ..HttpExchange::default() };
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
        let mut cache = FlowCache::default();
        (0..times).for_each(|_| self.golden.exchange(&flow, &mut cache, &record));
        self.golden.publish();
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
