//! A node of two pods, and what may be seen on it.
#![allow(dead_code)]

use flow_model::{
    Detail, DnsExchange, Endpoint, FiveTuple, FlowInfo, HttpExchange, Identity, L7Record, Names, Notes, Outcome,
    Protocol, Role, Slot, Transport, Ts, Unknown, Workload, WorkloadKind,
};
use golden_metrics::{Config, Golden, Losses, Reader};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub const CONFIG: Config =
    Config { max_series: 100, expiry: Duration::from_secs(900), publish_every: Duration::from_millis(100) };

pub const MS: u64 = 1_000_000;
pub const CLIENT: Slot = Slot(1);
pub const SERVER: Slot = Slot(2);

/// Names as a test sets them.
#[derive(Debug, Default)]
pub struct Table {
    pub local: HashMap<Slot, Identity>,
    pub remote: HashMap<IpAddr, Identity>,
    /// `remote` knows nothing of what was before.
    pub since: Ts,
    pub version: u64,
    /// How often all names came at once.
    pub whole: u64,
    /// Better news may come of those that `remote` knows nothing of.
    pub awaits: bool,
    pub services: HashMap<Endpoint, &'static str>,
    /// Questions about a remote end.
    pub asked: Cell<usize>,
    pub answers: Vec<(Slot, String)>,
}

impl Names for Table {
    fn local(&self, slot: Slot) -> Identity {
        self.local.get(&slot).cloned().unwrap_or(Identity::Unknown(Unknown::Pending))
    }

    fn remote(&self, _: Slot, remote: Endpoint, at: Ts) -> Identity {
        self.asked.set(self.asked.get() + 1);
        let held = self.remote.get(&remote.ip).filter(|_| at >= self.since);
        held.cloned().unwrap_or_else(|| named("private", "", WorkloadKind::Address))
    }

    fn service(&self, server: Endpoint, at: Ts) -> Option<Arc<str>> {
        self.services.get(&server).filter(|_| at >= self.since).map(|name| (*name).into())
    }

    fn awaits(&self, _: Slot, _: Endpoint, _: Ts) -> bool {
        self.awaits
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn whole(&self) -> u64 {
        self.whole
    }

    fn dns_answer(&mut self, slot: Slot, name: &str, _: &[IpAddr], _: u32, _: Ts) {
        self.answers.push((slot, name.to_owned()));
    }

    fn server_name(&mut self, slot: Slot, name: &str, ip: IpAddr, _: Ts, _: Ts) {
        self.answers.push((slot, name.to_owned()));
        self.remote.entry(ip).or_insert_with(|| named(name, "", WorkloadKind::External));
        self.version += 1;
    }
}

pub fn named(name: &str, namespace: &str, kind: WorkloadKind) -> Identity {
    Identity::Known(Arc::new(Workload { namespace: namespace.into(), name: name.into(), kind, pod: "".into() }))
}

pub fn deployment(name: &str) -> Identity {
    named(name, "shop", WorkloadKind::Deployment)
}

/// web (10.0.0.1, slot 1) and api (10.0.0.2, slot 2), known everywhere.
pub fn two_pods() -> Table {
    let mut table = Table::default();
    for (slot, ip, name) in [(CLIENT, [10, 0, 0, 1], "web"), (SERVER, [10, 0, 0, 2], "api")] {
        table.local.insert(slot, deployment(name));
        table.remote.insert(ip.into(), deployment(name));
    }
    table
}

pub fn end(last: u8, port: u16) -> Endpoint {
    Endpoint { ip: [10, 0, 0, last].into(), port }
}

/// web's connection to api, as seen at `role`'s end.
pub fn flow(role: Role) -> FlowInfo {
    let (client, server) = (end(1, 40_000), end(2, 8080));
    let (slot, local, remote) = match role {
        Role::Server => (SERVER, server, client),
        Role::Client | Role::Unknown => (CLIENT, client, server),
    };
    let tuple = FiveTuple { transport: Transport::Tcp, local, remote };
    FlowInfo { slot, tuple, role, opened: Ts(1), joined_midway: false, peer: None }
}

pub fn http(method: &str, status: Option<u16>, took_ns: u64) -> L7Record {
    let start = Ts(1_000 * MS);
    L7Record {
        protocol: Protocol::Http1,
        start,
        response_start: status.map(|_| start),
        end: Ts(start.0 + took_ns),
        request_bytes: 100,
        response_bytes: 1_000,
        outcome: if status.is_some() { Outcome::Answered } else { Outcome::Unanswered },
        notes: Notes::default(),
        detail: Detail::Http(HttpExchange { method: method.to_owned().into(), status, ..HttpExchange::default() }),
    }
}

pub fn dns(qtype: u16, rcode: Option<u16>, took_ns: u64) -> L7Record {
    let detail = DnsExchange {
        name: "api.shop".into(),
        qtype,
        rcode,
        addresses: vec![[10, 0, 0, 2].into()],
        ttl_s: 5,
        ..DnsExchange::default()
    };
    L7Record { protocol: Protocol::Dns, detail: Detail::Dns(detail), ..http("", rcode, took_ns) }
}

/// What counts, and what reads it.
pub struct Node {
    pub golden: Golden<Table>,
    pub reader: Reader,
    pub losses: Losses,
}
