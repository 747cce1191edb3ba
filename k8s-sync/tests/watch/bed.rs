//! A cluster, an agent's watches on it, and a table that is nothing but what it was told.

use anyhow::{Context, Result, ensure};
use flow_model::Ts;
use k8s_sync::access::Sources;
use k8s_sync::cluster::Moment;
use k8s_sync::cluster::object::{Change, Object, Resource, Uid};
use k8s_sync::watch::{Agent, Backoff, Config, Handle, Report, Table, Timing, WatchReport, start_with};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, PodSpec, User, kinds};
use tokio_util::sync::CancellationToken;

/// What a condition may take on a machine that does other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What was told, by resource and uid. A list replaces what it did not name when it has ended.
#[derive(Debug, Default)]
pub struct Told {
    pub objects: BTreeMap<(Resource, Uid), Object>,
    listed: BTreeMap<Resource, BTreeSet<Uid>>,
    /// Whether pods were ever fewer than before without a deletion or a list's end.
    pub lists_ended: BTreeMap<Resource, u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Model(Arc<Mutex<Told>>);

impl Model {
    pub fn read<R>(&self, read: impl FnOnce(&Told) -> R) -> R {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Name to first address of every pod.
    pub fn pods(&self) -> BTreeMap<String, Option<IpAddr>> {
        self.read(|told| {
            let pods = told.objects.values().filter_map(|object| match object {
                Object::Pod(pod) => Some((pod.name.clone(), pod.ips.first().copied())),
                _ => None,
            });
            pods.collect()
        })
    }
}

impl Table for Model {
    fn apply(&mut self, change: Change, _: Moment) {
        let told = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::ListBegun(resource) => {
                told.listed.insert(resource, BTreeSet::new());
            }
            Change::Listed(object) => {
                let (resource, uid) = (object.resource(), object.uid());
                told.listed.entry(resource).or_default().insert(uid);
                told.objects.insert((resource, uid), object);
            }
            Change::ListEnded(resource) => {
                let listed = told.listed.remove(&resource).unwrap_or_default();
                told.objects.retain(|(of, uid), _| *of != resource || listed.contains(uid));
                *told.lists_ended.entry(resource).or_default() += 1;
            }
            Change::Applied(object) => {
                told.objects.insert((object.resource(), object.uid()), object);
            }
            Change::Deleted(resource, uid) => {
                told.objects.remove(&(resource, uid));
            }
        }
    }

    fn objects(&self, resource: Resource) -> Option<usize> {
        Some(self.read(|told| told.objects.keys().filter(|(of, _)| *of == resource).count()))
    }

    fn forget(&mut self, _: Ts) {}

    fn save(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(format!("{:?}", self.pods()).as_bytes());
        Ok(())
    }
}

fn clock() -> Moment {
    Moment { mono: Ts(0), wall: SystemTime::now() }
}

/// Times for a test: everything happens, and soon.
pub fn hasty() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        answer: ms(1_500),
        page: ms(3_000),
        silence: ms(5_000),
        unmarked_silence: ms(5_000),
        ping_every: ms(1_000),
        ping_answer: ms(1_000),
        backoff: Backoff { first: ms(100), cap: ms(1_000), long_cap: ms(2_000), ..Backoff::default() },
        first_spread: ms(10),
        blind_spread: ms(1_000),
        ..Timing::default()
    }
}

/// The agent's watches, ended with the drop.
pub struct Watches {
    pub model: Model,
    handle: Option<Handle>,
    stop: CancellationToken,
}

impl Watches {
    pub fn start(kubeconfig: PathBuf, change: impl FnOnce(&mut Config)) -> Result<Watches> {
        let agent = Agent { instance: "watch-test".into(), user_agent: "pilotfish/test".into(), ..Agent::default() };
        let sources = Sources { kubeconfig: Some(kubeconfig), ..Sources::default() };
        let mut config = Config { sources, agent, timing: hasty(), ..Config::default() };
        change(&mut config);
        let (model, stop) = (Model::default(), CancellationToken::new());
        let handle = start_with(config, model.clone(), clock, stop.clone())?;
        Ok(Watches { model, handle: Some(handle), stop })
    }

    pub fn report(&self) -> Report {
        self.handle.as_ref().map(|handle| handle.report(Instant::now())).unwrap_or_default()
    }

    pub fn watch(&self, resource: Resource) -> Result<WatchReport> {
        self.report().watches.into_iter().find(|watch| watch.resource == resource).context("it is watched")
    }

    pub fn pods(&self) -> Result<WatchReport> {
        self.watch(Resource::Pods)
    }

    /// Waits until `holds`; tells how things stand if it never does.
    pub fn until(&self, what: &str, holds: impl Fn(&Report) -> bool) -> Result<()> {
        let held = testbed::until(what, PATIENCE, || holds(&self.report()));
        held.with_context(|| format!("{:#?}", self.report()))
    }

    pub fn until_fresh(&self) -> Result<()> {
        self.until("all is listed and watched", |report| !report.watches.is_empty() && report.is_fresh().is_ok())
    }

    /// Waits until the pods that are known are those that the API server has, with their addresses.
    pub fn until_equal(&self, plane: &ControlPlane) -> Result<()> {
        let equal = testbed::until("the pods are those of the server", PATIENCE, || {
            server_pods(plane).is_ok_and(|pods| pods == self.model.pods())
        });
        equal.with_context(|| format!("{:#?}\n{:?}\n{:?}", self.report(), self.model.pods(), server_pods(plane)))
    }

    /// Ends the thread, and waits for it.
    pub fn end(mut self) -> Result<()> {
        self.stop_and_wait()
    }

    fn stop_and_wait(&mut self) -> Result<()> {
        self.stop.cancel();
        let Some(mut handle) = self.handle.take() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, handle.ended()).await });
        ensure!(matches!(ended, Ok(Ok(_))), "the thread did not end: {ended:?}");
        Ok(())
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let _ = self.stop_and_wait();
    }
}

/// As the administrator sees them.
pub fn server_pods(plane: &ControlPlane) -> Result<BTreeMap<String, Option<IpAddr>>> {
    let pods = plane.client().list(&kinds::POD, None)?;
    let named = pods.iter().map(|pod| {
        let name = pod.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default();
        let ip = pod.pointer("/status/podIP").and_then(|ip| ip.as_str()).and_then(|ip| ip.parse().ok());
        (name.to_owned(), ip)
    });
    Ok(named.collect())
}

/// A plane whose watches close after 5 to 10 s, with a few pods.
pub fn plane(pods: u32) -> Result<ControlPlane> {
    plane_with(pods, &ControlPlaneOptions { min_request_timeout: Some(5), ..ControlPlaneOptions::default() })
}

pub fn plane_with(pods: u32, options: &ControlPlaneOptions) -> Result<ControlPlane> {
    let plane = ControlPlane::start(options)?;
    for n in 0..pods {
        create(&plane, &format!("web-{n}"), address(n))?;
    }
    Ok(plane)
}

pub fn address(n: u32) -> IpAddr {
    IpAddr::from([10, 1, u8::try_from(n / 250).unwrap_or(255), u8::try_from(1 + n % 250).unwrap_or(255)])
}

pub fn create(plane: &ControlPlane, name: &str, ip: IpAddr) -> Result<()> {
    PodSpec::new(name, "node-1", &[ip]).create_running(plane.client())?;
    Ok(())
}

pub fn agent(plane: &ControlPlane) -> Result<PathBuf> {
    plane.kubeconfig(User::Agent)
}

pub fn agent_at(plane: &ControlPlane, server: SocketAddr) -> Result<PathBuf> {
    plane.kubeconfig_at(User::Agent, server)
}
