//! What the kubelet of this node asks its pods for. Of other nodes' pods nothing is kept: their probes
//! are seen elsewhere.

use crate::cluster::object::{Pod, Probe, Uid};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// A node has some hundred pods. Those that are gone stay until others need the room: what was seen
/// of their probes may be told later.
const MOST: usize = 1024;

/// The probes of one pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProbes {
    /// `metadata.uid`
    pub uid: Uid,
    /// As the containers of a static pod call it.
    pub static_uid: Option<Uid>,
    /// Its name.
    pub pod: String,
    /// Those of all its containers.
    pub probes: Vec<Probe>,
    /// Where it is asked.
    pub ips: Vec<IpAddr>,
}

impl PodProbes {
    /// Whether it is the pod of which its containers say that they are.
    #[must_use]
    pub fn is_of(&self, uid: Uid) -> bool {
        self.uid == uid || self.static_uid == Some(uid)
    }
}

#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Name of this node; without one nothing is kept.
    node: OnceLock<Box<str>>,
    /// The latest last.
    pods: Mutex<VecDeque<Arc<PodProbes>>>,
}

impl Probes {
    /// Once, before anything is told.
    pub(super) fn set_node(&self, node: &str) {
        let _ = self.node.set(node.into());
    }

    pub(super) fn see(&self, pod: &Pod) {
        let Pod { uid, static_uid, name, node, ips, probes: Some(probes), .. } = pod else { return };
        if node.as_deref().is_none_or(|node| self.node.get().is_none_or(|own| **own != *node)) {
            return;
        }
        let (uid, static_uid, ips) = (*uid, *static_uid, ips.clone());
        let mut pods = self.pods.lock();
        let known = pods.iter().position(|known| known.uid == uid);
        if known.and_then(|at| pods.get(at)).is_some_and(|known| known.ips == ips && known.probes == *probes) {
            return;
        }
        let probes = PodProbes { uid, static_uid, pod: name.clone(), probes: probes.clone(), ips };
        match known {
            Some(at) => drop(pods.remove(at)),
            None if pods.len() >= MOST => drop(pods.pop_front()),
            None => {}
        }
        pods.push_back(Arc::new(probes));
    }

    /// Pods on the node's own network share their address, and each port is one's.
    pub(super) fn at(&self, ip: IpAddr, port: u16) -> Option<Arc<PodProbes>> {
        let asks = |pod: &&Arc<PodProbes>| pod.ips.contains(&ip) && pod.probes.iter().any(|probe| probe.port == port);
        self.pods.lock().iter().rev().find(asks).cloned()
    }

    pub(super) fn is_told(&self) -> bool {
        !self.pods.lock().is_empty()
    }
}
