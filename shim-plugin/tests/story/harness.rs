//! A scripted performer of the registry's actions: which namespace a pid lives in is given.

use expect_test::Expect;
use flow_model::NetnsId;
use shim_plugin::{
    Action, ContainerRef, Labels, Limits, LinkId, ListedTask, Origin, Registry, Report, TaskEvent, TaskId, TaskState,
};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

pub const NODE: u64 = 1;

#[derive(Clone)]
pub enum Step {
    Event(TaskEvent),
    /// The process is in this namespace from now on; a cookie comes with it when given.
    Lives(u32, u64, Option<u64>),
    /// The kernel tells of this namespace, which has that cookie, before containerd does.
    Alarm(u64, u64),
    /// The process has ended, whoever says so.
    Dies(u32),
    /// Nobody takes a namespace from now on.
    Broken(bool),
    /// The performer does not answer from now on.
    Silent(bool),
    Later(u64),
    /// The operator leaves out these namespaces.
    LeaveOut(&'static [&'static str]),
    /// By the first containerd.
    List(Vec<ListedTask>, Vec<&'static str>),
    /// By that one; its containers are called `@1/default/c1`.
    ListBy(u16, Vec<ListedTask>),
}
pub use Step::*;

/// `c1` of the first containerd in `default`, `ns/c1`, or `@1/ns/c1` of the second.
pub fn of(container: &str) -> ContainerRef {
    let (link, container) = match container.strip_prefix('@').and_then(|rest| rest.split_once('/')) {
        Some((link, rest)) => (link.parse().expect("a number"), rest),
        None => (0, container),
    };
    let (namespace, id) = container.split_once('/').unwrap_or(("default", container));
    ContainerRef::new(LinkId(link), namespace, id)
}
pub fn created(container: &str, pid: u32) -> Step {
    Event(TaskEvent::Created { container: of(container), pid })
}
pub fn started(container: &str, pid: u32) -> Step {
    Event(TaskEvent::Started { container: of(container), pid })
}
pub fn exited(container: &str, pid: u32) -> Step {
    exec_exited(container, container.rsplit('/').next().unwrap_or(container), pid)
}
pub fn exec_exited(container: &str, process: &str, pid: u32) -> Step {
    Event(TaskEvent::Exited { container: of(container), process: process.into(), pid, exit: None })
}
pub fn deleted(container: &str, pid: u32) -> Step {
    Event(TaskEvent::Deleted { container: of(container), process: String::new(), pid, exit: None })
}
pub fn labels(container: &str, labels: &[(&str, &str)]) -> Step {
    let labels: HashMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Event(TaskEvent::Labels { container: of(container), labels: Labels::pick(&labels) })
}
pub fn listed(tasks: &[(&str, u32)]) -> Step {
    List(
        tasks.iter().map(|(container, pid)| ListedTask { container: of(container), pid: Some(*pid) }).collect(),
        vec![],
    )
}
pub fn listed_by(link: u16, tasks: &[(&str, u32)]) -> Step {
    let all = tasks.iter().map(|(container, pid)| ListedTask { container: of(container), pid: Some(*pid) });
    ListBy(link, all.collect())
}
pub fn removed(container: &str) -> Step {
    Event(TaskEvent::Removed { container: of(container) })
}
pub fn away(link: u16) -> Step {
    Event(TaskEvent::Away { link: LinkId(link) })
}
pub fn lives(pid: u32, netns: u64) -> Step {
    Lives(pid, netns, None)
}
pub const POD: [(&str, &str); 4] = [
    ("io.kubernetes.pod.namespace", "shop"),
    ("io.kubernetes.pod.name", "web-0"),
    ("io.kubernetes.pod.uid", "u"),
    ("io.cri-containerd.kind", "sandbox"),
];

/// Runs the steps against a registry whose actions are performed at once, and compares what was done and what is left.
pub fn check(steps: &[Step], expected: Expect) {
    check_within(Limits::default(), steps, expected);
}

pub fn check_within(limits: Limits, steps: &[Step], expected: Expect) {
    tell(Registry::new(limits, Some(netns(NODE))), steps, expected);
}

pub fn tell(registry: Registry, steps: &[Step], expected: Expect) {
    let mut story = Story {
        registry,
        now: Instant::now(),
        homes: HashMap::new(),
        broken: false,
        silent: false,
        told: String::new(),
    };
    for step in steps {
        story.now += Duration::from_millis(1);
        story.take(step.clone());
    }
    story.told.push_str("--\n");
    for view in story.registry.tasks() {
        let state = match &view.state {
            TaskState::Failed { reason, attempts } => format!("failed after {attempts}: {reason}"),
            other => format!("{other:?}"),
        };
        let _ = writeln!(story.told, "{} pid {}: {state}", view.container, view.pid);
    }
    expected.assert_eq(&story.told);
}

pub fn netns(ino: u64) -> NetnsId {
    NetnsId { dev: 4, ino }
}

struct Story {
    registry: Registry,
    now: Instant,
    homes: HashMap<u32, (u64, Option<u64>)>,
    broken: bool,
    silent: bool,
    told: String,
}

impl Story {
    fn take(&mut self, step: Step) {
        let actions = match step {
            Event(event) => self.registry.apply(event, self.now),
            Lives(pid, ino, cookie) => {
                self.homes.insert(pid, (ino, cookie));
                return;
            }
            Broken(broken) => {
                self.broken = broken;
                return;
            }
            Silent(silent) => {
                self.silent = silent;
                return;
            }
            LeaveOut(namespaces) => {
                let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
                self.registry.leave_out(shim_plugin::LeaveOut { namespaces }, self.now)
            }
            Later(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.registry.tick(self.now)
            }
            Alarm(ino, cookie) => {
                match self.registry.early(LinkId(0), netns(ino), Some(cookie), self.now) {
                    Some(slot) if self.broken => self.registry.early_not_taken(slot),
                    Some(slot) => drop(writeln!(self.told, "attach {} to {ino} early", slot.0)),
                    None => {}
                }
                return;
            }
            Dies(pid) => {
                self.homes.remove(&pid);
                return;
            }
            ListBy(link, tasks) => {
                let began = self.now;
                self.now += Duration::from_millis(1);
                let list = TaskEvent::Listed { link: LinkId(link), began, tasks, unread: vec![] };
                self.registry.apply(list, self.now)
            }
            List(tasks, unread) => {
                let began = self.now;
                self.now += Duration::from_millis(1);
                let unread = unread.into_iter().map(Into::into).collect();
                self.registry.apply(TaskEvent::Listed { link: LinkId(0), began, tasks, unread }, self.now)
            }
        };
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            let report = match action {
                Action::FetchLabels { .. } | Action::Tell(_) => continue,
                Action::OpenNetns { task, pid, origin, .. } => {
                    let _ = writeln!(self.told, "open {pid}{}", if origin == Origin::Found { " (found)" } else { "" });
                    match self.homes.get(&pid) {
                        Some((ino, cookie)) => {
                            Report::Opened { task, netns: netns(*ino), cookie: *cookie, began: Some(pid.into()) }
                        }
                        None => Report::OpenFailed { task, reason: "no such process".into() },
                    }
                }
                Action::Attach { slot, netns, name, .. } => {
                    let name = name.map_or("?".into(), |name| name.workload.name.to_string());
                    let _ = writeln!(self.told, "attach {} to {} as {name}", slot.0, netns.ino);
                    if self.broken {
                        Report::NotTaken { slot, reason: "no room".into() }
                    } else {
                        Report::Answered { slot }
                    }
                }
                Action::AttachCgroup { slot, pid, name, .. } => {
                    let name = name.map_or("?".into(), |name| name.workload.name.to_string());
                    let _ = writeln!(self.told, "attach {} to the cgroup of {pid} as {name}", slot.0);
                    continue;
                }
                Action::LookAtProcess { task, pid, .. } => {
                    let gone = !self.homes.contains_key(&pid);
                    let _ = writeln!(self.told, "look at {pid}{}", if gone { ": gone" } else { "" });
                    if !gone {
                        continue;
                    }
                    Report::Gone { task }
                }
                Action::Close { task: TaskId(task) } => {
                    let _ = writeln!(self.told, "close task {task}");
                    continue;
                }
                Action::Identify { slot, name } => {
                    let _ = writeln!(self.told, "slot {} is {}", slot.0, name.workload.name);
                    continue;
                }
                Action::Observe { slot, word } => {
                    let _ = writeln!(self.told, "observe {:?} of {}", word, slot.0);
                    continue;
                }
                Action::Detach { slot, netns, ended } => {
                    let at_once = if ended { "" } else { " at once" };
                    let _ = writeln!(self.told, "detach {} from {}{at_once}", slot.0, netns.ino);
                    continue;
                }
            };
            if !self.silent {
                let next = self.registry.report(report, self.now);
                self.perform(next);
            }
        }
    }
}
