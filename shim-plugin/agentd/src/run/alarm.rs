//! The thread that hears of containers from the kernel, before containerd tells of them, and has
//! their namespaces attached to at once. Each has to be one that a followed containerd makes: its
//! shim says so. Whose it is, and its name, come from containerd later.
//!
//! Without it all works as before, later: where the kernel refuses the programs, where the agent
//! does not see the processes of the whole node, and beside another agent.

use crate::clock;
use crate::run::containers::{Early, EarlyTeller};
use crate::run::descriptors::Descriptors;
use crate::serve::counts::HeardCounts;
use capture_engine::attach::{Priority, Taker, before_all_others};
use capture_engine::kernel::{Alarm, Alarmed};
use flow_model::in_full;
use netns::Netns;
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// `PROC_PID_INIT_INO`: the inode of the pid namespace that the kernel's own numbers are of.
const NODE_PIDS: u64 = 0xefff_fffc;
/// The kernel's own process that all its threads come from.
pub const KTHREADD: u32 = 2;
/// Held while alarms are heard, in the node's namespace: two agents would be at each namespace.
const LOCK: &[u8] = b"pilotfish-alarm";
/// Between two looks whether the agent ends. Tells nothing else.
const LOOK: Duration = Duration::from_secs(5);

/// What it works with.
#[derive(Debug)]
pub struct AlarmParts {
    pub early: shim_plugin::Early,
    pub taker: Taker,
    pub tell: EarlyTeller,
    pub descriptors: Descriptors,
    /// `/proc`, or what stands for it.
    pub proc: PathBuf,
    pub heard: Arc<Mutex<HeardCounts>>,
    /// Where it was loaded already.
    pub loaded: Option<Result<Alarm, String>>,
}

/// Waits until `ready`, then hears alarms until `stop`.
pub async fn begin(parts: AlarmParts, ready: CancellationToken, stop: CancellationToken) {
    ready.cancelled().await;
    let hear = move || match Hearing::begin(parts) {
        Ok(hearing) => hearing.run(&stop),
        Err(reason) => tracing::info!(reason, "containers are met when containerd tells of them"),
    };
    if let Err(error) = thread::Builder::new().name("pf-alarm".to_owned()).spawn(hear) {
        tracing::warn!(%error, "no thread to hear of containers early");
    }
}

struct Hearing {
    alarm: Alarm,
    parts: AlarmParts,
    counts: HeardCounts,
    _lock: UnixDatagram,
}

impl Hearing {
    fn begin(mut parts: AlarmParts) -> Result<Hearing, String> {
        let loaded = parts.loaded.take();
        parts.descriptors.room_for_more_than_namespaces()?;
        let lock = lock().map_err(|_| "another agent hears of containers early".to_owned())?;
        let alarm = loaded.unwrap_or_else(load_for_this_node)?;
        if let Err(errno) = before_all_others() {
            tracing::info!(%errno, "new containers are met at everybody's priority (LimitRTPRIO)");
        }
        Ok(Hearing { alarm, parts, counts: HeardCounts::default(), _lock: lock })
    }

    fn run(mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.alarm.wait(LOOK) {
                return tracing::error!(%error, "containers are met only when containerd tells of them");
            }
            while let Some(alarm) = self.alarm.next_alarm() {
                self.hear(alarm);
            }
            self.counts.kernel = self.alarm.counts();
            *self.parts.heard.lock() = self.counts;
        }
    }

    fn hear(&mut self, alarm: Alarmed) {
        let (heard, since) = (Instant::now(), clock::now());
        let AlarmParts { early, taker, tell, descriptors, proc, .. } = &self.parts;
        let Alarmed { cookie, inode, pid, shim, .. } = alarm;
        // First: the process may be a helper that ends in a moment.
        let netns = Netns::open_pid(pid);
        let started_by = fs::read(proc.join(shim.to_string()).join("cmdline")).unwrap_or_default();
        let follower =
            started_by_shim(&started_by).and_then(|(socket, namespace)| early.follower(Path::new(socket), namespace));
        let Some(link) = follower else {
            self.counts.foreign += 1;
            return;
        };
        let netns = match netns {
            Ok(netns) if netns.id().ino == u64::from(inode) => netns,
            // The next process in that namespace is another occasion.
            Ok(_) | Err(_) => {
                self.counts.vanished += 1;
                self.alarm.forget(cookie);
                return;
            }
        };
        if descriptors.room_with(&netns).is_err() {
            self.counts.idle += 1;
            return;
        }
        let netns = Arc::new(netns);
        let taken = early.attach(link, netns.id(), Some(cookie), |slot| {
            let news = Early { slot, netns: netns.id(), heard, since, pid };
            tell.tell(news) && (taker.attach(slot, netns.clone(), Priority::New).is_ok() || tell.take_back(slot))
        });
        *if taken { &mut self.counts.attached } else { &mut self.counts.idle } += 1;
    }
}

/// Loads what hears of containers and takes it away again: whether it could be had here.
///
/// # Errors
/// Why not, for people.
pub fn try_once() -> Result<(), String> {
    load_for_this_node().map(drop)
}

/// Loads what hears of containers, which is 35 ms of CPU, most of them for the kernel's BTF.
///
/// # Errors
/// Why it cannot be had, for people.
pub fn load_for_this_node() -> Result<Alarm, String> {
    load(&node()?)
}

/// The node's namespace, where this process lives in it.
fn node() -> Result<Netns, String> {
    let own = Netns::current().map_err(|error| in_full(&error))?;
    if !sees_the_node(&own) {
        return Err("the agent does not run in the node's own pid and network namespace".to_owned());
    }
    Ok(own)
}

fn load(node: &Netns) -> Result<Alarm, String> {
    let cookie = node.run(|inside| inside.cookie()).ok().flatten();
    let cookie = cookie.ok_or("the kernel gives network namespaces no cookies (Linux 5.14)")?;
    Alarm::load(cookie).map_err(|error| {
        let all = in_full(&error);
        tracing::debug!(error = all, "what hears of containers cannot be had");
        // It does without: what the verifier had to say to each instruction is for developers.
        all.split(" Verifier output").next().unwrap_or_default().to_owned()
    })
}

/// Whether this is the kernel's own network namespace, and pids are the kernel's own.
fn sees_the_node(own: &Netns) -> bool {
    sees_the_nodes_processes() && Netns::open_pid(KTHREADD).is_ok_and(|first| first.id() == own.id())
}

/// Whether pids are the kernel's own.
pub fn sees_the_nodes_processes() -> bool {
    let pids = fs::metadata("/proc/self/ns/pid").map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    pids.is_ok_and(|inode| inode == NODE_PIDS)
}

/// An abstract name: of one network namespace, and gone with the process.
fn lock() -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(LOCK)?)
}

/// The socket of its containerd and containerd's namespace, as the command line of a shim has them.
fn started_by_shim(command: &[u8]) -> Option<(&str, &str)> {
    let mut words = command.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let (mut socket, mut namespace) = (None, None);
    while let Some(word) = words.next() {
        // Go's flags may have one dash or two, and their value after "=".
        let word = word.trim_start_matches('-');
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let wanted = match name {
            "address" => &mut socket,
            "namespace" => &mut namespace,
            _ => continue,
        };
        *wanted = value.or_else(|| words.next());
    }
    Some((socket?, namespace?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_says_whose_it_is() {
        let line = |text: &str| text.replace(' ', "\0").into_bytes();
        let shim = line("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id c1 -address /run/c.sock ");
        assert_eq!(started_by_shim(&shim), Some(("/run/c.sock", "k8s.io")));
        let other = line("shim --address=/run/c.sock --debug --namespace=moby");
        assert_eq!(started_by_shim(&other), Some(("/run/c.sock", "moby")));
        for wrong in ["", "shim -namespace", "shim -address /run/c.sock", "shim -namespace a -address"] {
            assert_eq!(started_by_shim(&line(wrong)), None, "{wrong}");
        }
        assert_eq!(started_by_shim(b"shim\0-namespace\0\xff\0"), None);
    }
}
