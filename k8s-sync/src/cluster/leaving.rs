//! By when pods of this node are to be gone. Of other nodes' pods nothing is kept: nobody here sees
//! how they end.

use crate::cluster::object::{Pod, Uid};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::SystemTime;

/// A node has some hundred pods. Those that are gone stay until others need the room: their
/// containers' ends may be told later.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Name of this node; without one nothing is kept.
    node: OnceLock<Box<str>>,
    pods: Mutex<VecDeque<(Uid, SystemTime)>>,
}

impl Leaving {
    /// Once, before anything is told.
    pub(super) fn set_node(&self, node: &str) {
        let _ = self.node.set(node.into());
    }

    pub(super) fn see(&self, pod: &Pod) {
        let Some(by) = pod.deleted_by else { return };
        if pod.node.as_deref().is_none_or(|node| self.node.get().is_none_or(|own| **own != *node)) {
            return;
        }
        let mut pods = self.pods.lock();
        for uid in pod.static_uid.into_iter().chain([pod.uid]) {
            pods.retain(|(known, _)| *known != uid);
            if pods.len() >= MOST {
                pods.pop_front();
            }
            pods.push_back((uid, by));
        }
    }

    pub(super) fn by(&self, uid: Uid) -> Option<SystemTime> {
        self.pods.lock().iter().find(|(known, _)| *known == uid).map(|(_, by)| *by)
    }
}
