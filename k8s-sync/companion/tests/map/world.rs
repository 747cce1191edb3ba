//! A cluster without machines: agents that have counted what they are told to, and a companion that
//! shows its map on loopback.

pub use crate::people::People;
use companion::map::Guard;
use companion::serve::{Map, Push};
use companion::{Config, Fleet, Session};
use flow_model::{
    Close, Detail, Endpoint, FiveTuple, FlowDelta, FlowInfo, HttpExchange, L7Record, LossReason, Notes, Outcome,
    Protocol, Role, Sink, Slot, Transport, Ts, WorkloadKind,
};
use golden_metrics::{FlowCache, Golden, Loss, Losses, Reader};
use join::{Action, Link, Me, Source, Token};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A process of an agent, its link, and the companion's end of it.
pub struct Agent {
    golden: Golden<People>,
    reader: Reader,
    source: Source,
    link: Link,
    session: Option<Session>,
    ring: Loss,
    /// Connections stay open for as long as their caches live.
    open: Vec<FlowCache>,
}

impl Agent {
    pub fn new(node: &str, instance: u64, people: &People) -> Agent {
        let losses = Losses::default();
        let ring = losses.place("kernel", "ring_full", "message heads");
        let (golden, reader) = Golden::new(people.clone(), golden_metrics::Config::default(), &losses);
        let link = Link::new(Me::new("0.2.0", instance), node, instance);
        Agent { golden, reader, source: Source::default(), link, session: None, ring, open: Vec::new() }
    }

    fn flow(client: usize, server: usize) -> FlowInfo {
        let address = |of: usize| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + of as u32));
        let end = |of, port| Endpoint { ip: address(of), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(client, 40_000), remote: end(server, 80) };
        let slot = Slot(client as u32 + 1);
        FlowInfo { slot, tuple, role: Role::Client, opened: Ts(1), joined_midway: false, peer: None }
    }

    /// `client` asks `server` so many times.
    pub fn asks(&mut self, (client, server): (usize, usize), times: u64, status: u16, took_us: u64) {
        let (start, end) = (Ts(1_000_000_000), Ts(1_000_000_000 + took_us * 1_000));
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
        let (flow, mut cache) = (Agent::flow(client, server), FlowCache::default());
        (0..times).for_each(|_| self.golden.exchange(&flow, &mut cache, &record));
    }

    /// A connection that stays open, with a little of everything.
    pub fn connects(&mut self, (client, server): (usize, usize)) {
        let (flow, mut cache) = (Agent::flow(client, server), FlowCache::default());
        let delta = FlowDelta {
            // Received, then sent.
            bytes: [90_000, 1_500],
            retransmits: [1, 3],
            zero_windows: [2, 0],
            handshake_rtt_ns: Some(400_000),
            opened: true,
            ..FlowDelta::default()
        };
        self.golden.flow(&flow, &mut cache, &delta);
        self.open.push(cache);
        let (mut reset, delta) = (FlowCache::default(), FlowDelta { opened: true, ..FlowDelta::default() });
        self.golden.flow(&flow, &mut reset, &delta);
        self.golden.flow(&flow, &mut reset, &FlowDelta { closed: Some(Close::Reset), ..FlowDelta::default() });
    }

    pub fn loses(&mut self, (client, server): (usize, usize), exchanges: u64, heads: u64) {
        let (flow, mut cache) = (Agent::flow(client, server), FlowCache::default());
        self.golden.exchanges_lost(&flow, &mut cache, LossReason::Gap, exchanges);
        self.ring.add(heads);
    }

    /// What is due is sent, and answered.
    pub fn run(&mut self, push: &Push) {
        let (now, mut fleet) = (push.now(), push.fleet().lock());
        self.golden.publish();
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
                    if let Some(answer) = session.received(now, message, &mut fleet).expect("a session") {
                        self.link.received(now, answer);
                    }
                }
                Some(Action::Hang(why)) => panic!("{why}"),
                None => return,
            }
        }
    }
}

/// A companion with its map.
pub struct World {
    pub push: Arc<Push>,
    pub map: Arc<Map>,
    pub address: SocketAddr,
    runtime: Runtime,
    stop: CancellationToken,
}

impl World {
    /// Nodes that agents never join from are absent.
    pub fn new(nodes: &[&str]) -> World {
        let config = Config { period: Duration::from_secs(1), ..Config::default() };
        let mut fleet = Fleet::new(Me::new("0.2.0", 1), config);
        fleet.set_nodes(nodes.iter().map(|node| (*node).to_owned()).collect());
        let token = Token::new("the-token-of-this-cluster").expect("a token").hash();
        let push = Arc::new(Push::new(Arc::new(Mutex::new(fleet)), token));
        let map = Arc::new(Map::new(push.clone(), Guard { any_address: false }));
        let (runtime, stop) = (Runtime::new().expect("a runtime"), CancellationToken::new());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(map.clone().run(listener, stop.clone()));
        World { push, map, address, runtime, stop }
    }

    /// `agents` push; before each round `counts` tells them what they saw. Until `stop`.
    pub fn goes_on(&self, mut agents: Vec<Agent>, mut counts: impl FnMut(u64, &mut [Agent]) + Send + 'static) {
        let (push, stop) = (self.push.clone(), self.stop.clone());
        self.runtime.spawn(async move {
            for round in 0.. {
                if stop.is_cancelled() {
                    return;
                }
                counts(round, &mut agents);
                agents.iter_mut().for_each(|agent| agent.run(&push));
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const HOSTILE: &str = "<img src=x onerror=globalThis.pwned=1>";

/// A shop on two of three nodes, with failures, losses, and names that are markup.
pub fn shop() -> World {
    let deployment = |ns: &str, name: &str| (ns.to_owned(), name.to_owned(), WorkloadKind::Deployment);
    let names = [
        deployment("ingress", "gateway"),
        deployment("shop", "web"),
        deployment("shop", "cart"),
        deployment("shop", "reviews"),
        deployment("pay", "ledger"),
        ("pay".to_owned(), "ledger-db".to_owned(), WorkloadKind::StatefulSet),
        deployment("\"><script>globalThis.pwned=1</script>", HOSTILE),
        (String::new(), "api.example.com".to_owned(), WorkloadKind::External),
    ];
    let people = People::new(names);
    let world = World::new(&["node-1", "node-2", "node-3"]);
    let agents = vec![Agent::new("node-1", 11, &people), Agent::new("node-2", 12, &people)];
    let [gateway, web, cart, reviews, ledger, db, hostile, outside] = [0, 1, 2, 3, 4, 5, 6, 7];
    world.goes_on(agents, move |round, agents| {
        for agent in agents {
            agent.asks((gateway, web), 40, 200, 9_000 + round % 7 * 500);
            agent.asks((web, cart), 15, 200, 2_000);
            agent.asks((web, reviews), 9, 200, 60_000);
            agent.asks((web, reviews), 2, 503, 900_000);
            agent.asks((cart, ledger), 4, 200, 12_000);
            agent.asks((cart, ledger), u64::from(round % 4 == 0), 404, 700);
            agent.asks((ledger, db), 12, 200, 800);
            agent.asks((ledger, outside), 3, 200, 180_000);
            agent.asks((hostile, cart), 1, 200, 1_000);
            if round < 40 {
                for edge in [(gateway, web), (web, cart), (web, reviews), (cart, ledger)] {
                    agent.connects(edge);
                }
            }
            agent.loses((cart, ledger), 1, 2);
        }
    });
    world
}
