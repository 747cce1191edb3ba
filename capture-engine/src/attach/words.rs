//! What the attacher is told, and what it tells: the nouns that all its files share.

use super::state::AttachState;
use flow_model::{Pace, Slot};
use netns::{IfAddress, Own};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `attach.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Clsact, with TCX where clsact is refused or would not come first (`docs/decisions/0002-attach-clsact-first.md`).
    #[default]
    Auto,
    /// TCX or nothing.
    Tcx,
    /// Clsact or nothing.
    Clsact,
}

/// How a program sits on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// A `bpf_link` for each direction, since Linux 6.6; it ends with the process.
    Tcx,
    /// A filter for each direction below the qdisc clsact; it stays when the process is killed.
    Clsact,
}

impl Mechanism {
    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::Tcx => "tcx",
            Mechanism::Clsact => "clsact",
        }
    }
}

/// Settings of an attacher; they do not change while it runs.
#[derive(Clone, Debug)]
pub struct AttachConfig {
    /// Which mechanisms may be used.
    pub mode: Mode,
    /// Attach to `lo` too.
    pub include_loopback: bool,
    /// Namespaces attached at once; more are refused. Two descriptors each, of 20,000 that a
    /// process may have on some machines.
    pub max_namespaces: usize,
    /// Interfaces per namespace; more are counted (`AttachCounters::over_limit`) and left alone.
    /// Containers that may make interfaces can make any number.
    pub max_interfaces: usize,
    /// Links of a namespace that are read (some 0.7 ms for 1,024); of what is beyond, only what has
    /// our programs is known.
    pub max_links: usize,
    /// What sits on the interfaces of a namespace is looked at again after this time, where no news
    /// told of a change. A look takes about 0.2 ms of CPU.
    pub look_every: Duration,
    /// Longest time that a namespace is kept whose last process has ended, while it has TCP sockets
    /// that are not done. It lives by these anyway.
    pub linger: Duration,
    /// Namespaces that are kept so at once; more are left at once, and counted
    /// (`AttachCounters::ended_full`). Each is looked at four times a second.
    pub max_lingering: usize,
    /// Asked before each look at what existed before, and each that is not urgent.
    pub pace: Option<Arc<dyn Pace>>,
}

impl Default for AttachConfig {
    fn default() -> AttachConfig {
        AttachConfig {
            mode: Mode::Auto,
            include_loopback: false,
            max_namespaces: 4096,
            max_interfaces: 64,
            max_links: 1024,
            look_every: Duration::from_secs(30),
            linger: Duration::from_secs(10),
            max_lingering: 256,
            pace: None,
        }
    }
}

/// An interface that carries our programs in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number of it, within its namespace.
    pub index: u32,
    /// As it was when it was looked at; it may be renamed.
    pub name: String,
    /// The same for both directions.
    pub mechanism: Mechanism,
}

/// What the attachment tells. For one slot, events come one after the other, and nothing follows `Detached`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachEvent {
    /// All interfaces that exist carry their programs (there may be none yet). Once per slot, again after a failure.
    Attached {
        /// As given to `attach`.
        slot: Slot,
        /// All that carry programs.
        interfaces: Arc<[Interface]>,
        /// Of the namespace, loopback's too; as many as a look reads. Ordered by address, and of one
        /// that several interfaces have, those that lead out first.
        addresses: Arc<[IfAddress]>,
        /// What is the namespace's own, and not passed on.
        own: Arc<Own>,
        /// From the call of `attach`.
        took: Duration,
        /// Packets that these interfaces had counted when they had their programs: what was said
        /// before, at most. Without loopback's.
        before: u64,
    },
    /// The set of interfaces changed afterwards.
    Interfaces {
        /// As given to `attach`.
        slot: Slot,
        /// All that carry programs now.
        interfaces: Arc<[Interface]>,
    },
    /// The addresses of the namespace changed afterwards, or whether more is its own than these.
    Addresses {
        /// As given to `attach`.
        slot: Slot,
        /// As they are now, likewise.
        addresses: Arc<[IfAddress]>,
        /// What is its own, from now on.
        own: Arc<Own>,
    },
    /// It will be tried again.
    Failed {
        /// As given to `attach`.
        slot: Slot,
        /// For people.
        reason: String,
    },
    /// Nothing of this slot is left there, and its descriptors are closed.
    Detached {
        /// As given to `attach`; it may be used again.
        slot: Slot,
    },
}

/// One line of `pilotfish status`.
#[derive(Clone, Debug)]
pub struct AttachStatus {
    /// As given to `attach`.
    pub slot: Slot,
    /// Where it stands now.
    pub state: AttachState,
    /// Those that carried programs at the last look.
    pub interfaces: Arc<[Interface]>,
    /// When it was attached first.
    pub attached_at: Option<Instant>,
    /// From the call of `attach` to that.
    pub took: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
    /// Where a packet of this namespace may be counted more than once, a sentence each.
    pub doubts: Arc<[String]>,
}

impl AttachStatus {
    /// Tcx when any interface has it; none while there are no interfaces.
    #[must_use]
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.interfaces.iter().map(|interface| interface.mechanism).min()
    }
}

/// Lists of a namespace that were read in part, each time: it has more than anybody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutLists {
    /// Interfaces that were not read are not attached to.
    pub links: u64,
    /// Addresses that were not read name nobody; the namespace is an end of all it shows.
    pub addresses: u64,
    /// Of the local table: likewise.
    pub routes: u64,
    /// What sits on an interface is then asked for at each.
    pub qdiscs: u64,
    /// Of one direction of an interface. Ours are the first.
    pub filters: u64,
}

impl AddAssign for CutLists {
    fn add_assign(&mut self, more: CutLists) {
        let CutLists { links, addresses, routes, qdiscs, filters } = more;
        self.links += links;
        self.addresses += addresses;
        self.routes += routes;
        self.qdiscs += qdiscs;
        self.filters += filters;
    }
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachCounters {
    /// Entries into namespaces.
    pub entries: u64,
    /// Entries of the lists that those to attach read: links, addresses, routes, qdiscs, filters.
    pub messages: u64,
    /// Entries that ended in a failure.
    pub failures: u64,
    /// Interfaces that went away while being attached.
    pub vanished_interfaces: u64,
    /// Interfaces beyond `max_interfaces`, counted at each look.
    pub over_limit: u64,
    /// Filters of an earlier process that were removed.
    pub swept_filters: u64,
    /// Times the kernel dropped news of links, and all were listed again.
    pub missed_news: u64,
    /// Namespaces that were kept after their last process, because their sockets were not done.
    pub lingered: u64,
    /// Those of them that were left before their sockets were done, because their time was over.
    pub ended_late: u64,
    /// The same for want of room.
    pub ended_full: u64,
    /// Detaches that may have left a filter behind.
    pub failed_detaches: u64,
    /// Interfaces whose programs somebody else had taken away or shadowed, each time it was found.
    pub removed_programs: u64,
    /// Packets that may have passed without them: an upper bound, by the interfaces' own counters
    /// since the last look that found all in place.
    pub unseen_packets: u64,
    /// Packets that interfaces which came after the first look had counted when they had their
    /// programs: what passed before, at most.
    pub late_packets: u64,
    /// Lists that were read in part.
    pub cut: CutLists,
}
