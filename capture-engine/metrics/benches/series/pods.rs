//! A node of pods with names of their own: each makes 14 HTTP series, 3 of DNS, 2 of TCP and 1 of
//! UDP, on three edges.

use crate::common::{MS, Table, dns, http, named};
use flow_model::{
    Close, Detail, Endpoint, FiveTuple, FlowDelta, FlowInfo, Role, Sink, Slot, Transport, Ts, WorkloadKind,
};
use golden_metrics::{Config, FlowCache, Golden, Losses, Reader};

pub const EDGES_PER_POD: usize = 3;
/// Of each series: enough to fill most of the buckets between the fastest and the slowest.
const REQUESTS: u64 = 100;
const ENDS: [(&str, u16); 7] =
    [("GET", 200), ("GET", 304), ("GET", 404), ("GET", 500), ("POST", 201), ("POST", 503), ("DELETE", 204)];

const CALLER: [u8; 4] = [10, 255, 0, 1];
const CALLED: [u8; 4] = [10, 255, 0, 2];
const RESOLVER: [u8; 4] = [10, 255, 0, 3];

#[derive(Debug)]
pub struct Pods {
    count: usize,
    golden: Golden<Table>,
    pub reader: Reader,
}

impl Pods {
    pub fn new(count: usize) -> Pods {
        let mut names = Table::default();
        for (ip, name) in [(CALLER, "frontend"), (CALLED, "inventory"), (RESOLVER, "kube-dns")] {
            names.remote.insert(ip.into(), named(name, "shop", WorkloadKind::Deployment));
        }
        for pod in 0..count {
            let name = named(&format!("checkout-service-{pod:05}"), "shop", WorkloadKind::Deployment);
            names.local.insert(slot(pod), name);
        }
        let config = Config { max_series: 1_000_000, ..Config::default() };
        let (golden, reader) = Golden::new(names, config, &Losses::default());
        Pods { count, golden, reader }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// What each pod does. The flows are over at the end of it.
    pub fn traffic(&mut self) {
        for pod in 0..self.count {
            self.http(&flow(pod, Role::Server, Transport::Tcp, CALLER));
            self.http(&flow(pod, Role::Client, Transport::Tcp, CALLED));
            let resolver = flow(pod, Role::Client, Transport::Udp, RESOLVER);
            let mut cache = FlowCache::default();
            for i in 0..REQUESTS {
                for (qtype, rcode) in [(1, 0), (28, 0), (1, 3)] {
                    let mut record = dns(qtype, Some(rcode), took(i, 200_000));
                    // The names of this bench keep each answer.
                    if let Detail::Dns(dns) = &mut record.detail {
                        dns.addresses.clear();
                    }
                    self.golden.exchange(&resolver, &mut cache, &record);
                }
            }
            let datagrams = FlowDelta { bytes: [8_000, 16_000], packets: [300, 300], ..FlowDelta::default() };
            self.golden.flow(&resolver, &mut cache, &datagrams);
        }
        self.golden.publish();
    }

    fn http(&mut self, flow: &FlowInfo) {
        let mut cache = FlowCache::default();
        let opened = FlowDelta { opened: true, bytes: [60, 60], packets: [1, 1], ..FlowDelta::default() };
        for i in 0..REQUESTS / 5 {
            let rtt = FlowDelta { handshake_rtt_ns: Some(took(i * 5, 40_000)), ..opened };
            self.golden.flow(flow, &mut cache, &rtt);
        }
        for i in 0..REQUESTS {
            for (n, (method, status)) in ENDS.into_iter().enumerate() {
                let fastest = (n as u64 + 1) * MS / 2;
                self.golden.exchange(flow, &mut cache, &http(method, Some(status), took(i, fastest)));
            }
        }
        self.golden.flow(flow, &mut cache, &FlowDelta { closed: Some(Close::Fin), ..FlowDelta::default() });
    }
}

/// Log-uniform from `fastest` to ten times that, from a fixed sequence.
fn took(i: u64, fastest: u64) -> u64 {
    let step = i * 37 % REQUESTS;
    (fastest as f64 * 10f64.powf(step as f64 / REQUESTS as f64)) as u64
}

fn slot(pod: usize) -> Slot {
    Slot(pod as u32 + 1)
}

fn flow(pod: usize, role: Role, transport: Transport, remote: [u8; 4]) -> FlowInfo {
    let own = Endpoint { ip: [10, (pod >> 16) as u8, (pod >> 8) as u8, pod as u8].into(), port: 8080 };
    let tuple = FiveTuple { transport, local: own, remote: Endpoint { ip: remote.into(), port: 80 } };
    FlowInfo { slot: slot(pod), tuple, role, opened: Ts(1), joined_midway: false, peer: None }
}
