//! What the containerd side counts: the registry for all links together, each link for itself.

use serde::Serialize;
use std::iter::Sum;

/// What happened since the start, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events that told nothing new.
    pub duplicates: u64,
    /// Events about a run that had ended or been replaced already.
    pub stale: u64,
    /// Exits and deletes of execs, which end no task.
    pub exec_exits: u64,
    /// Tasks that `Limits::tasks` kept out (each time one was seen).
    pub refused: u64,
    /// Namespaces that could not be opened (each time it was tried).
    pub open_failures: u64,
    /// Namespaces that whoever attaches did not take (each time it was asked).
    pub not_taken: u64,
    /// Actions that nobody answered within 30 s.
    pub unanswered: u64,
    /// Namespaces whose inode was found to belong to another namespace.
    pub netns_reused: u64,
    /// Tasks that the first list of their containerd brought.
    pub found_at_start: u64,
    /// Tasks whose process was found gone: their containerd was away, or had lost the events.
    pub found_gone: u64,
    /// Namespaces that were attached before containerd told of a task there.
    pub early: u64,
    /// Those of them that no task came to, and that were let go of.
    pub early_unowned: u64,
    /// Namespaces that were not attached early because too many waited for their tasks.
    pub early_full: u64,
    /// Tasks that a list showed otherwise than the events had.
    pub corrections: Corrections,
}

/// What later lists had to put right: the drift that lost events left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Corrections {
    /// Tasks that a later list brought and no event had told of.
    pub missed_starts: u64,
    /// Tasks that a list had no more, or whose namespace's inode belongs to another by now.
    pub missed_exits: u64,
    /// The container ran again with another pid.
    pub replaced: u64,
}

/// What came over the connection to containerd, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounts {
    /// Events received, of the namespaces that are looked at.
    pub events: EventCounts,
    /// Events dropped because whoever performs the actions did not keep up. Each causes a
    /// reconcile.
    pub events_lost: u64,
    /// Connections that were lost after they had been live.
    pub reconnects: u64,
    /// Attempts to connect, subscribe or list that failed.
    pub failures: u64,
    /// Lists that the registry took in, the first of each connection among them.
    pub reconciles: u64,
    /// containerd's namespaces that a list left out because they could not be read.
    pub unread_namespaces: u64,
    /// Labels asked for and not read (also for containers that were gone by then).
    pub labels_unread: u64,
    /// Files of Docker's that were to be read for a container's name and could not be, at each try.
    pub docker_unread: u64,
}

impl Sum for LinkCounts {
    fn sum<I: Iterator<Item = LinkCounts>>(all: I) -> LinkCounts {
        all.fold(LinkCounts::default(), |sum, one| {
            let LinkCounts {
                events,
                events_lost,
                reconnects,
                failures,
                reconciles,
                unread_namespaces,
                labels_unread,
                docker_unread,
            } = one;
            LinkCounts {
                events: sum.events.plus(events),
                events_lost: sum.events_lost + events_lost,
                reconnects: sum.reconnects + reconnects,
                failures: sum.failures + failures,
                reconciles: sum.reconciles + reconciles,
                unread_namespaces: sum.unread_namespaces + unread_namespaces,
                labels_unread: sum.labels_unread + labels_unread,
                docker_unread: sum.docker_unread + docker_unread,
            }
        })
    }
}

/// Events by topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// `/tasks/create`.
    pub create: u64,
    /// `/tasks/start`.
    pub start: u64,
    /// `/tasks/exit`, of execs too.
    pub exit: u64,
    /// `/tasks/delete`.
    pub delete: u64,
    /// `/containers/update`: labels.
    pub update: u64,
    /// `/containers/delete`.
    pub remove: u64,
    /// `/tasks/oom`.
    pub oom: u64,
    /// Execs, pauses: nothing to do.
    pub other: u64,
    /// Events whose content is not what their topic says; counted by topic as well.
    pub undecodable: u64,
}

impl EventCounts {
    /// Events of all topics.
    #[must_use]
    pub fn all(self) -> u64 {
        // Those that could not be decoded are among the others.
        let EventCounts { create, start, exit, delete, update, remove, oom, other, undecodable: _ } = self;
        create + start + exit + delete + update + remove + oom + other
    }

    fn plus(self, one: EventCounts) -> EventCounts {
        let EventCounts { create, start, exit, delete, update, remove, oom, other, undecodable } = one;
        EventCounts {
            create: self.create + create,
            start: self.start + start,
            exit: self.exit + exit,
            delete: self.delete + delete,
            update: self.update + update,
            remove: self.remove + remove,
            oom: self.oom + oom,
            other: self.other + other,
            undecodable: self.undecodable + undecodable,
        }
    }
}

/// Tasks by state, and namespaces with a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskGauges {
    /// [`TaskState::Discovered`](crate::TaskState::Discovered) tasks.
    pub discovered: usize,
    /// [`TaskState::Attaching`](crate::TaskState::Attaching) tasks.
    pub attaching: usize,
    /// [`TaskState::Placed`](crate::TaskState::Placed) tasks. Those of one pod share a slot and
    /// count each.
    pub placed: usize,
    /// [`TaskState::Failed`](crate::TaskState::Failed) tasks.
    pub failed: usize,
    /// [`TaskState::Node`](crate::TaskState::Node) tasks.
    pub node: usize,
    /// [`TaskState::LeftOut`](crate::TaskState::LeftOut) tasks.
    pub left_out: usize,
    /// Network namespaces with a slot; the node's is none of them.
    pub namespaces: usize,
}
