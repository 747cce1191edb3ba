//! A companion on loopback with a CA of its own, and agents that join it.

use companion::serve::{Certificate, Listener, ListenerConfig, Push};
use companion::{AgentRow, Config, Fleet, FleetCounts, Standing};
use join::{Client, Feed, Group, Kept, Link, Me, Purse, Ticket, Token, Wallet};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "the-token-of-this-cluster";

/// Signs certificates.
#[derive(Clone)]
pub struct Authority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(Arc::new(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()))
    }

    /// A `join.toml`.
    pub fn ticket(&self, address: SocketAddr, token: &str) -> Ticket {
        let ca = self.0.pem();
        let text = format!("address = \"{address}\"\ntoken = \"{token}\"\nca = '''\n{ca}'''\n");
        Ticket::read(&text).unwrap()
    }

    /// Of an agent that is a pod.
    pub fn ticket_of_pod(&self, address: SocketAddr, file: &Path) -> Ticket {
        let ca = self.0.pem();
        Ticket::read(&format!("address = \"{address}\"\ntoken_file = {file:?}\nca = '''\n{ca}'''\n")).unwrap()
    }

    fn server(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &**self.0).unwrap().pem(), key.serialize_pem())
    }
}

pub struct Companion {
    pub ca: Authority,
    pub push: Arc<Push>,
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub const PERIOD: Duration = Duration::from_secs(1);

impl Companion {
    pub async fn new() -> Companion {
        let config = ListenerConfig::default();
        Companion::with(Me::new("0.2.0", 1), config, "companion.pilotfish.svc").await
    }

    pub async fn with(me: Me, config: ListenerConfig, name: &str) -> Companion {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Companion::on(listener, me, config, name, Authority::new())
    }

    /// Another replica, which the same tickets are for.
    pub async fn beside(other: &Companion, instance: u64) -> Companion {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (me, config) = (Me::new("0.2.0", instance), ListenerConfig::default());
        Companion::on(listener, me, config, "companion.pilotfish.svc", other.ca.clone())
    }

    /// As the EndpointSlices of its Service say.
    pub fn set_others(&self, others: &[&Companion]) {
        let others = others.iter().map(|other| other.address.to_string()).collect();
        self.push.fleet().lock().set_replicas(others);
    }

    fn on(listener: TcpListener, me: Me, config: ListenerConfig, name: &str, ca: Authority) -> Companion {
        let fleet = Fleet::new(me, Config { period: PERIOD, ..Config::default() });
        let push = Arc::new(Push::new(Arc::new(Mutex::new(fleet)), Token::new(TOKEN).unwrap().hash()));
        let (certificate, key) = ca.server(name);
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let certificate = Certificate::new(&certificate, &key).unwrap();
        let task = Listener::new(certificate, push.clone(), config).unwrap().run(listener, stop.clone());
        let task = tokio::spawn(task);
        Companion { ca, push, address, stop, task }
    }

    /// Another process at the same address.
    pub async fn restarted(self) -> Companion {
        let Companion { ca, push: _, address, stop, task } = self;
        stop.cancel();
        task.await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let config = ListenerConfig::default();
        Companion::on(listener, Me::new("0.2.0", 2), config, "companion.pilotfish.svc", ca)
    }

    pub fn counts(&self) -> FleetCounts {
        self.push.fleet().lock().counts()
    }

    pub fn agents(&self) -> Vec<AgentRow> {
        self.push.fleet().lock().agents(self.push.now())
    }

    pub fn standing(&self, node: &str) -> Option<Standing> {
        self.agents().into_iter().find(|agent| agent.node == node).map(|agent| agent.standing)
    }

    /// The series of a node.
    pub fn copy(&self, node: &str) -> Series {
        let fleet = self.push.fleet().lock();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fleet.series(node).map(|(name, value)| (text(name.key()), text(value))).collect()
    }
}

pub type Series = BTreeMap<String, String>;

pub struct Agent {
    pub series: Arc<Mutex<Series>>,
    pub link: Arc<Mutex<Link>>,
    pub stop: CancellationToken,
    pub why: Arc<Mutex<Option<(u8, String)>>>,
    pub task: JoinHandle<()>,
}

/// Each process has another instance.
pub static INSTANCES: AtomicU64 = AtomicU64::new(1_000);

impl Agent {
    pub fn join(node: &str, ticket: Ticket) -> Agent {
        let series = Series::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]);
        Agent::counting(node, ticket, Arc::new(Mutex::new(series)))
    }

    pub fn counting(node: &str, ticket: Ticket, series: Arc<Mutex<Series>>) -> Agent {
        let purse = Purse::of(&ticket);
        Agent::showing(node, ticket, purse, series)
    }

    /// With a credential on this disk.
    pub fn keeping(node: &str, ticket: Ticket, disk: Arc<Mutex<Kept>>) -> Agent {
        let series = Series::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]);
        let purse = purse(&ticket, disk);
        Agent::showing(node, ticket, purse, Arc::new(Mutex::new(series)))
    }

    fn showing(node: &str, ticket: Ticket, purse: Purse, series: Arc<Mutex<Series>>) -> Agent {
        let instance = INSTANCES.fetch_add(1, Relaxed);
        let link = Arc::new(Mutex::new(Link::new(Me::new("0.2.0", instance), node, instance)));
        let walked = series.clone();
        let feed = Feed::new(move |put| {
            walked.lock().iter().for_each(|(name, value)| put(name.as_bytes(), value.as_bytes()));
        });
        let (stop, why) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
        let client = Client::new(ticket, link.clone(), Arc::new(Mutex::new(feed))).showing(purse);
        let task = tokio::spawn(client.run(stop.clone(), why.clone()));
        Agent { series, link, stop, why, task }
    }

    pub fn set(&self, name: &str, value: &str) {
        self.series.lock().insert(name.to_owned(), value.to_owned());
    }

    pub fn series(&self) -> Series {
        self.series.lock().clone()
    }

    /// Why it does not push.
    pub fn why(&self) -> Option<String> {
        self.link.lock().why().map(ToString::to_string)
    }
}

fn purse(ticket: &Ticket, disk: Arc<Mutex<Kept>>) -> Purse {
    let wallet = Wallet::new(ticket, Some(disk.lock().clone()));
    Purse::new(wallet, move |kept| {
        *disk.lock() = kept.clone();
        Ok(())
    })
}

/// An agent that pushes to all replicas.
pub struct Everywhere {
    pub group: Arc<Group>,
    pub series: Arc<Mutex<Series>>,
    pub stop: CancellationToken,
}

impl Everywhere {
    pub fn join(node: &str, ticket: Ticket) -> Everywhere {
        let purse = Purse::of(&ticket);
        Everywhere::showing(node, ticket, purse)
    }

    /// With a credential on this disk.
    pub fn keeping(node: &str, ticket: Ticket, disk: Arc<Mutex<Kept>>) -> Everywhere {
        let purse = purse(&ticket, disk);
        Everywhere::showing(node, ticket, purse)
    }

    fn showing(node: &str, ticket: Ticket, purse: Purse) -> Everywhere {
        let instance = INSTANCES.fetch_add(1, Relaxed);
        let series = Arc::new(Mutex::new(Series::from([("a".to_owned(), "1".to_owned())])));
        let walked = series.clone();
        let feed = Feed::new(move |put| {
            walked.lock().iter().for_each(|(name, value)| put(name.as_bytes(), value.as_bytes()));
        });
        let group = Arc::new(Group::new(Me::new("0.2.0", instance), node, instance, feed));
        let (stop, pushes) = (CancellationToken::new(), group.clone());
        let stopped = stop.clone();
        tokio::spawn(async move { pushes.run(ticket, purse, stopped, Arc::default()).await });
        Everywhere { group, series, stop }
    }
}

/// Until it is so, for a minute at most.
pub async fn wait(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}
