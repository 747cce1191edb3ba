//! Namespaces that are attached before containerd tells of a task in them. They wait for such a
//! task; one that never gets any is let go of.

use crate::action::Action;
use crate::config::Config;
use crate::container::LinkId;
use crate::registry::Registry;
use crate::status::SharedStatus;
use flow_model::{NetnsId, Slot};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Namespaces that wait for a task at once. A node makes some tens of containers a second, and
/// containerd tells of each within a moment.
const MOST: usize = 64;
/// The start of a container with a network of Docker takes 0.1 s, and many times that on a node
/// with too much to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attaches namespaces in which a container is being made. From any thread; clones share all.
#[derive(Clone, Debug)]
pub struct Early {
    pub(crate) config: Arc<Config>,
    pub(crate) shared: Arc<SharedStatus>,
}

impl Early {
    /// Who follows what runs below a shim that was started by the containerd behind `socket`, for
    /// its namespace `namespace`.
    #[must_use]
    pub fn follower(&self, socket: &Path, namespace: &str) -> Option<LinkId> {
        let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let is_it = |ours: &Path| ours == socket || identity(ours).is_some_and(|own| Some(own) == identity(socket));
        let all = self.shared.ids().zip(&self.config.sockets);
        let mut followers = all.filter(|(_, ours)| is_it(ours)).map(|(link, _)| link);
        followers.next().filter(|_| self.config.wants(namespace))
    }

    /// Gives the namespace a slot and calls `attach` with it, unless it has one, is the node's, or
    /// too many wait for their tasks. Nothing is asked of the namespace meanwhile, so that `attach`
    /// comes before any action about the slot. It says whether it took the namespace, and does not
    /// wait for anything.
    pub fn attach(&self, link: LinkId, netns: NetnsId, cookie: Option<u64>, attach: impl FnOnce(Slot) -> bool) -> bool {
        let mut registry = self.shared.registry.lock();
        let Some(slot) = registry.early(link, netns, cookie, Instant::now()) else { return false };
        let taken = attach(slot);
        if !taken {
            registry.early_not_taken(slot);
        }
        drop(registry);
        self.shared.early.notify_one();
        taken
    }
}

impl Registry {
    /// A slot for a namespace in which a container of `link` is being made, at `now`. Its task is to
    /// follow. None while containers wait that ran before they were heard of: it may be one of
    /// theirs, and nothing new.
    #[must_use]
    pub fn early(&mut self, link: LinkId, netns: NetnsId, cookie: Option<u64>, now: Instant) -> Option<Slot> {
        let waits = !self.listed_before.contains(&link) || !self.found.is_empty() || !self.in_flight.is_empty();
        if waits || self.node == Some(netns) || self.slots.find(netns, cookie).is_some() {
            return None;
        }
        if self.early.len() >= MOST {
            self.counts.early_full += 1;
            return None;
        }
        let slot = self.slots.open_early(netns, cookie, now)?;
        self.early.insert(slot, now);
        self.counts.early += 1;
        Some(slot)
    }

    /// Nobody took the namespace of this slot, which never comes back.
    pub fn early_not_taken(&mut self, slot: Slot) {
        if self.early.remove(&slot).is_some() {
            self.slots.remove(slot);
            self.counts.not_taken += 1;
        }
    }

    /// Lets go of those that waited long enough.
    pub(crate) fn end_early(&mut self, now: Instant, out: &mut Vec<Action>) {
        // Slot numbers grow with time, so that the first is the oldest.
        while let Some(oldest) = self.early.first_entry()
            && now.saturating_duration_since(*oldest.get()) >= PATIENCE
        {
            let slot = *oldest.key();
            oldest.remove();
            self.counts.early_unowned += 1;
            if let Some(gone) = self.slots.remove(slot) {
                out.push(Action::Detach { slot, netns: gone.netns, ended: false });
            }
        }
    }
}
