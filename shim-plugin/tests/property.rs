//! Random scripts of a node's life, seen through a stream that drops, doubles and reorders events,
//! with a performer that answers late or with failures: whatever happened, the lists of the node's
//! two containerds make the registry equal to the node, each for its own containers; and where one
//! is away for good, its containers end with their processes.

use flow_model::{NetnsId, Slot};
use proptest::prelude::*;
use shim_plugin::{
    Action, ContainerRef, Labels, LeaveOut, Limits, LinkId, ListedTask, OBSERVE, Registry, Report, TaskEvent, TaskId,
    TaskState,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

const LINKS: u16 = 2;
const NODE: NetnsId = NetnsId { dev: 4, ino: 1 };

#[derive(Clone, Debug)]
enum Turn {
    /// A container starts in a pod (its namespace); what of its two events arrives, and how often.
    Start {
        container: u8,
        pod: u8,
        create: u8,
        start: u8,
    },
    Stop {
        container: u8,
        exit: u8,
    },
    ExecExit {
        container: u8,
    },
    /// Of its pod, or none.
    Labels {
        container: u8,
        any: bool,
    },
    /// The operator leaves out these pods' namespaces, by bits, and no others.
    LeaveOut {
        pods: u8,
    },
    /// The record of a container is deleted, which says nothing of its process.
    Removed {
        container: u8,
    },
    /// A containerd does not answer any more, until its next list.
    Away {
        link: u16,
    },
    /// The event that waits at this place of the stream arrives.
    Deliver {
        place: u8,
    },
    /// The action that was asked for first is performed, or fails.
    Perform {
        fails: bool,
    },
    Tick {
        seconds: u8,
    },
    List {
        link: u16,
    },
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => (0..6u8, 0..4u8, 0..3u8, 0..3u8)
            .prop_map(|(container, pod, create, start)| Turn::Start { container, pod, create, start }),
        3 => (0..6u8, 0..3u8).prop_map(|(container, exit)| Turn::Stop { container, exit }),
        1 => (0..6u8).prop_map(|container| Turn::ExecExit { container }),
        2 => (0..6u8, prop::bool::weighted(0.8)).prop_map(|(container, any)| Turn::Labels { container, any }),
        1 => (0..16u8).prop_map(|pods| Turn::LeaveOut { pods }),
        1 => (0..6u8).prop_map(|container| Turn::Removed { container }),
        1 => (0..LINKS).prop_map(|link| Turn::Away { link }),
        6 => (0..8u8).prop_map(|place| Turn::Deliver { place }),
        6 => prop::bool::weighted(0.2).prop_map(|fails| Turn::Perform { fails }),
        1 => (0..40u8).prop_map(|seconds| Turn::Tick { seconds }),
        2 => (0..LINKS).prop_map(|link| Turn::List { link }),
    ];
    prop::collection::vec(turn, 0..120)
}

/// A namespace as it is, and the inode that it has as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Namespace {
    number: u64,
    ino: u64,
}

/// The truth, and the performer of the actions with its own view of what is attached.
struct Node {
    registry: Registry,
    now: Instant,
    cookies: bool,
    running: BTreeMap<u8, (u32, Namespace)>,
    namespace_of: HashMap<u32, Namespace>,
    pod_namespace: HashMap<u8, Namespace>,
    opened: HashMap<TaskId, Namespace>,
    last: u32,
    stream: Vec<TaskEvent>,
    asked: std::collections::VecDeque<Action>,
    attached: HashMap<Slot, Namespace>,
    /// Attached by their cgroup, with the process that it was asked for.
    cgroups: HashMap<Slot, u32>,
    slots_seen: HashSet<Slot>,
    /// Bits of pods.
    excluded: u8,
}

/// Ids repeat across the two containerds.
fn container(number: u8) -> ContainerRef {
    ContainerRef::new(LinkId(u16::from(number) % LINKS), "k8s.io", id(number))
}

fn id(number: u8) -> String {
    format!("c{}", u16::from(number) / LINKS)
}

impl Node {
    fn new(limits: Limits, cookies: bool) -> Node {
        Node {
            registry: Registry::new(limits, Some(NODE)).observing_node(true),
            now: Instant::now(),
            cookies,
            opened: HashMap::new(),
            running: BTreeMap::new(),
            namespace_of: HashMap::new(),
            pod_namespace: HashMap::new(),
            last: 100,
            stream: Vec::new(),
            asked: Default::default(),
            attached: HashMap::new(),
            cgroups: HashMap::new(),
            slots_seen: HashSet::new(),
            excluded: 0,
        }
    }

    fn take(&mut self, turn: Turn) {
        self.now += Duration::from_millis(1);
        match turn {
            Turn::Start { container: number, pod, create, start } => {
                if self.running.contains_key(&number) {
                    return;
                }
                self.last += 1;
                let pid = self.last;
                // Pod 0 is on the node's network; another pod's namespace lives as long as one of its containers.
                let in_use: HashSet<u64> = self.running.values().map(|(_, netns)| netns.ino).collect();
                let free = (NODE.ino + 1..).find(|ino| !in_use.contains(ino)).expect("numbers do not end");
                let fresh = Namespace { number: pid.into(), ino: if pod == 0 { NODE.ino } else { free } };
                let netns = *self.pod_namespace.entry(pod).or_insert(fresh);
                self.running.insert(number, (pid, netns));
                self.namespace_of.insert(pid, netns);
                self.publish(create, TaskEvent::Created { container: container(number), pid });
                self.publish(start, TaskEvent::Started { container: container(number), pid });
            }
            Turn::Stop { container: number, exit } => {
                let Some((pid, netns)) = self.running.remove(&number) else { return };
                self.namespace_of.remove(&pid);
                if !self.running.values().any(|(_, other)| *other == netns) {
                    self.pod_namespace.retain(|_, other| *other != netns);
                }
                self.publish(
                    exit,
                    TaskEvent::Exited { container: container(number), process: id(number), pid, exit: None },
                );
            }
            Turn::ExecExit { container: number } => {
                self.publish(
                    1,
                    TaskEvent::Exited { container: container(number), process: "exec".into(), pid: 7, exit: None },
                );
            }
            Turn::Labels { container: number, any } => {
                let labels = if any { self.labels(number) } else { Labels::default() };
                self.publish(1, TaskEvent::Labels { container: container(number), labels });
            }
            Turn::LeaveOut { pods } => {
                self.excluded = pods;
                let namespaces = (0..4).filter(|pod| pods & 1 << pod != 0).map(|pod| format!("n{pod}")).collect();
                let actions = self.registry.leave_out(LeaveOut { namespaces }, self.now);
                self.asked.extend(actions);
            }
            Turn::Removed { container: number } => {
                self.publish(1, TaskEvent::Removed { container: container(number) });
            }
            Turn::Away { link } => {
                let actions = self.registry.apply(TaskEvent::Away { link: LinkId(link) }, self.now);
                self.asked.extend(actions);
            }
            Turn::Deliver { place } => {
                if !self.stream.is_empty() {
                    let event = self.stream.remove(usize::from(place) % self.stream.len());
                    let actions = self.registry.apply(event, self.now);
                    self.asked.extend(actions);
                }
            }
            Turn::Perform { fails } => self.perform(fails),
            Turn::Tick { seconds } => {
                self.now += Duration::from_secs(seconds.into());
                let actions = self.registry.tick(self.now);
                self.asked.extend(actions);
            }
            Turn::List { link } => self.list(LinkId(link)),
        }
        self.check_invariants();
    }

    /// The pod that runs in a namespace.
    fn pod_of(&self, netns: Namespace) -> Option<u8> {
        self.pod_namespace.iter().find(|(_, of)| **of == netns).map(|(pod, _)| *pod)
    }

    fn labels(&self, number: u8) -> Labels {
        let Some(pod) = self.running.get(&number).and_then(|(_, netns)| self.pod_of(*netns)) else {
            return Labels::default();
        };
        let kind = if number.is_multiple_of(3) { "sandbox" } else { "container" };
        let word = ["true", "false", "tcp", "no word"][usize::from(pod)];
        let uid = format!("{pod}");
        let namespace = format!("n{pod}");
        let all = [
            ("io.kubernetes.pod.namespace", &*namespace),
            ("io.kubernetes.pod.name", "web"),
            ("io.kubernetes.pod.uid", &*uid),
            ("io.cri-containerd.kind", kind),
            (OBSERVE, word),
        ];
        Labels::pick(&all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Whether what runs in this pod is to be attached to, once all labels are known.
    fn is_observed(&self, netns: Namespace) -> bool {
        self.pod_of(netns).is_some_and(|pod| pod != 1 && self.excluded & 1 << pod == 0)
    }

    fn publish(&mut self, copies: u8, event: TaskEvent) {
        self.stream.extend((0..copies).map(|_| event.clone()));
    }

    /// Tasks that are known of a containerd.
    fn known(&self, link: impl Fn(LinkId) -> bool) -> BTreeMap<ContainerRef, u32> {
        let tasks = self.registry.tasks().filter(|task| link(task.container.link));
        tasks.map(|task| (task.container, task.pid)).collect()
    }

    fn truth(&self, link: LinkId) -> BTreeMap<ContainerRef, u32> {
        let all = self.running.iter().map(|(number, (pid, _))| (container(*number), *pid));
        all.filter(|(container, _)| container.link == link).collect()
    }

    fn list(&mut self, link: LinkId) {
        let began = self.now;
        let alive = |(container, pid)| ListedTask { container, pid: Some(pid) };
        let tasks = self.truth(link).into_iter().map(alive).collect();
        let others = self.known(|other| other != link);
        self.now += Duration::from_millis(1);
        let actions = self.registry.apply(TaskEvent::Listed { link, began, tasks, unread: vec![] }, self.now);
        self.asked.extend(actions);
        assert_eq!(self.known(|other| other == link), self.truth(link), "after a list the registry equals it");
        assert_eq!(self.known(|other| other != link), others, "a list is its containerd's and no other's");
    }

    fn perform(&mut self, fails: bool) {
        let Some(action) = self.asked.pop_front() else { return };
        let report = match action {
            Action::OpenNetns { task, pid, .. } => match self.namespace_of.get(&pid) {
                Some(of) if !fails => {
                    self.opened.insert(task, *of);
                    let cookie = self.cookies.then_some(of.number);
                    let began = self.cookies.then_some(pid.into());
                    Report::Opened { task, netns: NetnsId { dev: 4, ino: of.ino }, cookie, began }
                }
                _ => Report::OpenFailed { task, reason: "gone".into() },
            },
            Action::Attach { slot, netns, task, .. } => {
                assert_ne!(netns, NODE);
                let netns = self.opened[&task];
                let mut others = self.attached.iter().filter(|(other, _)| **other != slot);
                assert!(others.all(|(_, other)| *other != netns), "never two attachments for one namespace");
                self.slots_seen.insert(slot);
                assert!(!self.attached.contains_key(&slot), "a slot is asked for once");
                if fails {
                    Report::NotTaken { slot, reason: "no room".into() }
                } else {
                    self.attached.insert(slot, netns);
                    Report::Answered { slot }
                }
            }
            Action::AttachCgroup { slot, pid, .. } => {
                self.slots_seen.insert(slot);
                assert!(self.cgroups.insert(slot, pid).is_none(), "a slot is asked for once");
                return;
            }
            Action::Detach { slot, netns, ended: _ } => {
                assert!(self.cgroups.remove(&slot).is_none() || netns == NODE, "cgroups are of the node");
                assert!(self.slots_seen.contains(&slot), "what is detached was attached or tried");
                let was = self.attached.remove(&slot);
                assert!(was.is_none_or(|was| was.ino == netns.ino));
                return;
            }
            Action::LookAtProcess { task, pid, .. } => match self.namespace_of.contains_key(&pid) {
                true => return,
                false => Report::Gone { task },
            },
            Action::Close { .. }
            | Action::Identify { .. }
            | Action::Observe { .. }
            | Action::Tell(_)
            | Action::FetchLabels { .. } => return,
        };
        let actions = self.registry.report(report, self.now);
        self.asked.extend(actions);
    }

    /// Every container's labels arrive.
    fn all_labels(&mut self) {
        for number in self.running.keys().copied().collect::<Vec<_>>() {
            let event = TaskEvent::Labels { container: container(number), labels: self.labels(number) };
            let actions = self.registry.apply(event, self.now);
            self.asked.extend(actions);
        }
    }

    fn settle(&mut self) {
        self.tick_and_perform();
        assert!(!self.registry.needs_tick());
    }

    fn tick_and_perform(&mut self) {
        // Ten rounds of retries are plenty: each performs everything that was asked for, without failures.
        for _ in 0..10 {
            while !self.asked.is_empty() {
                self.perform(false);
            }
            self.now += Duration::from_secs(61);
            let actions = self.registry.tick(self.now);
            self.asked.extend(actions);
        }
        self.asked.retain(|action| !matches!(action, Action::LookAtProcess { .. }));
        assert!(self.asked.is_empty(), "nothing is asked for ever: {:?}", self.asked);
    }

    fn check_invariants(&self) {
        let placed: Vec<Slot> = self
            .registry
            .tasks()
            .filter_map(|task| match task.state {
                TaskState::Placed(slot) => Some(slot),
                _ => None,
            })
            .collect();
        for slot in placed {
            assert!(self.attached.contains_key(&slot), "what is shown as placed is with whoever attaches");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_repair_everything_and_attachments_balance(turns in turns(), in_flight in 1..4usize, cookies: bool) {
        let mut node = Node::new(Limits { tasks: 64, found_in_flight: in_flight }, cookies);
        for turn in turns {
            node.take(turn);
        }
        node.stream.clear();
        // Longer than any event is late.
        node.now += Duration::from_secs(61);
        (0..LINKS).for_each(|link| node.list(LinkId(link)));
        node.all_labels();
        node.settle();
        let wanted: HashSet<Namespace> = node
            .running
            .values()
            .map(|(_, netns)| *netns)
            .filter(|netns| netns.ino != NODE.ino && node.is_observed(*netns))
            .collect();
        let attached: HashSet<Namespace> = node.attached.values().copied().collect();
        prop_assert_eq!(node.attached.len(), attached.len());
        prop_assert_eq!(attached, wanted, "each namespace with a container is attached, and no other");
        let wanted: BTreeSet<u32> =
            node.running.values().filter(|(_, netns)| netns.ino == NODE.ino && node.is_observed(*netns)).map(|(pid, _)| *pid).collect();
        let cgroups: BTreeSet<u32> = node.cgroups.values().copied().collect();
        prop_assert_eq!(node.cgroups.len(), cgroups.len());
        prop_assert_eq!(cgroups, wanted, "each container of the node's namespace has its cgroup attached");

        for (number, (pid, _)) in std::mem::take(&mut node.running) {
            let event = TaskEvent::Exited { container: container(number), process: id(number), pid, exit: None };
            let actions = node.registry.apply(event, node.now);
            node.asked.extend(actions);
        }
        node.settle();
        prop_assert!(node.attached.is_empty() && node.cgroups.is_empty(), "attach and detach balance");
        prop_assert_eq!(node.registry.tasks().count(), 0);
    }

    /// One containerd is gone for good, after any beginning; the other lists on.
    #[test]
    fn what_a_removed_containerd_had_ends_with_its_processes(turns in turns(), stops in prop::collection::vec(0..6u8, 0..6), cookies: bool) {
        let (stays, gone) = (LinkId(0), LinkId(1));
        let mut node = Node::new(Limits { tasks: 64, found_in_flight: 4 }, cookies);
        for turn in turns {
            node.take(turn);
        }
        node.stream.clear();
        node.now += Duration::from_secs(61);
        let actions = node.registry.apply(TaskEvent::Away { link: gone }, node.now);
        node.asked.extend(actions);
        for number in stops {
            node.take(Turn::Stop { container: number, exit: 0 });
        }
        let followed = node.known(|link| link == gone);
        node.list(stays);
        node.all_labels();
        node.tick_and_perform();
        let truth = node.truth(gone);
        let expected: BTreeMap<_, _> =
            followed.into_iter().filter(|(container, pid)| truth.get(container) == Some(pid)).collect();
        prop_assert_eq!(node.known(|link| link == gone), expected, "exactly those whose process lives are kept");
        let known: HashSet<u32> = node.registry.tasks().map(|task| task.pid).collect();
        let lives = |(pid, netns): &&(u32, Namespace)| known.contains(pid) && netns.ino != NODE.ino;
        let in_pods = node.running.values().filter(lives).filter(|(_, netns)| node.is_observed(*netns));
        let wanted: HashSet<Namespace> = in_pods.map(|(_, netns)| *netns).collect();
        let attached: HashSet<Namespace> = node.attached.values().copied().collect();
        prop_assert_eq!(attached, wanted, "what lives is attached, and nothing else");
    }
}
