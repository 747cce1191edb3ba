//! What the registry does, told as stories. Namespaces are opened by a scripted performer: `netns` of a pid is given.

use expect_test::{Expect, expect};
use flow_model::NetnsId;
use shim_plugin::{
    Action, ContainerRef, Labels, Limits, ListedTask, Origin, Registry, Report, TaskEvent, TaskId, TaskState,
};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

const HOST: u64 = 1;
/// A process without a cgroup of its own.
const ROOTLESS: u32 = 99;

#[derive(Clone)]
enum Step {
    Event(TaskEvent),
    /// The process is in this namespace from now on; a cookie comes with it when given.
    Lives(u32, u64, Option<u64>),
    /// Opening or attaching fails from now on.
    Broken(bool),
    /// The performer does not answer from now on.
    Silent(bool),
    Later(u64),
    List(Vec<ListedTask>, Vec<&'static str>),
}
use Step::*;

fn of(container: &str) -> ContainerRef {
    let (namespace, id) = container.split_once('/').unwrap_or(("default", container));
    ContainerRef::new(namespace, id)
}
fn created(container: &str, pid: u32) -> Step {
    Event(TaskEvent::Created { container: of(container), pid })
}
fn started(container: &str, pid: u32) -> Step {
    Event(TaskEvent::Started { container: of(container), pid })
}
fn exited(container: &str, pid: u32) -> Step {
    exec_exited(container, container.rsplit('/').next().unwrap_or(container), pid)
}
fn exec_exited(container: &str, process: &str, pid: u32) -> Step {
    Event(TaskEvent::Exited { container: of(container), process: process.into(), pid })
}
fn deleted(container: &str, pid: u32) -> Step {
    Event(TaskEvent::Deleted { container: of(container), process: String::new(), pid })
}
fn labels(container: &str, labels: &[(&str, &str)]) -> Step {
    let labels: HashMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Event(TaskEvent::Labels { container: of(container), labels: Labels::pick(&labels) })
}
fn listed(tasks: &[(&str, u32)]) -> Step {
    List(
        tasks.iter().map(|(container, pid)| ListedTask { container: of(container), pid: Some(*pid) }).collect(),
        vec![],
    )
}
fn lives(pid: u32, netns: u64) -> Step {
    Lives(pid, netns, None)
}
const POD: [(&str, &str); 4] = [
    ("io.kubernetes.pod.namespace", "shop"),
    ("io.kubernetes.pod.name", "web-0"),
    ("io.kubernetes.pod.uid", "u"),
    ("io.cri-containerd.kind", "sandbox"),
];

/// Runs the steps against a registry whose actions are performed at once, and compares what was done and what is left.
fn check(steps: &[Step], expected: Expect) {
    check_within(Limits::default(), steps, expected);
}

fn check_within(limits: Limits, steps: &[Step], expected: Expect) {
    tell(Registry::new(limits, Some(netns(HOST))), steps, expected);
}

fn tell(registry: Registry, steps: &[Step], expected: Expect) {
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
            TaskState::Failed { slot, reason, attempts } => {
                format!("failed {slot:?} after {attempts}: {reason}")
            }
            other => format!("{other:?}"),
        };
        let _ = writeln!(story.told, "{} pid {}: {state}", view.container, view.pid);
    }
    expected.assert_eq(&story.told);
}

fn netns(ino: u64) -> NetnsId {
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
            Later(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.registry.tick(self.now)
            }
            List(tasks, unread) => {
                let began = self.now;
                self.now += Duration::from_millis(1);
                let unread = unread.into_iter().map(Into::into).collect();
                self.registry.apply(TaskEvent::Listed { began, tasks, unread }, self.now)
            }
        };
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            let report = match action {
                Action::FetchLabels { .. } => continue,
                Action::OpenNetns { task, pid, origin, .. } => {
                    let _ = writeln!(self.told, "open {pid}{}", if origin == Origin::Found { " (found)" } else { "" });
                    match self.homes.get(&pid) {
                        Some((ino, cookie)) => Report::Opened { task, netns: netns(*ino), cookie: *cookie },
                        None => Report::OpenFailed { task, reason: "no such process".into() },
                    }
                }
                Action::Attach { slot, netns, name, .. } => {
                    let name = name.map_or("?".into(), |name| name.workload.name.to_string());
                    let _ = writeln!(self.told, "attach {} to {} as {name}", slot.0, netns.ino);
                    if self.broken {
                        Report::AttachFailed { slot, reason: "no memory".into() }
                    } else {
                        Report::Attached { slot, mode: "tcx" }
                    }
                }
                Action::AttachCgroup { slot, pid, name, .. } => {
                    let name = name.map_or("?".into(), |name| name.workload.name.to_string());
                    let _ = writeln!(self.told, "attach {} to the cgroup of {pid} as {name}", slot.0);
                    match pid {
                        ROOTLESS => Report::NotAttachable { slot, reason: "it is in the root".into() },
                        _ if self.broken => Report::AttachFailed { slot, reason: "no memory".into() },
                        _ => Report::Attached { slot, mode: "cgroup" },
                    }
                }
                Action::Close { task: TaskId(task) } => {
                    let _ = writeln!(self.told, "close task {task}");
                    continue;
                }
                Action::Identify { slot, name } => {
                    let _ = writeln!(self.told, "slot {} is {}", slot.0, name.workload.name);
                    continue;
                }
                Action::Detach { slot, netns } => {
                    let _ = writeln!(self.told, "detach {} from {}", slot.0, netns.ino);
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

#[test]
fn a_container_is_attached_when_it_is_created_and_detached_when_it_ends() {
    check(
        &[lives(42, 7), created("c1", 42), started("c1", 42), exited("c1", 42), deleted("c1", 42)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            detach 1 from 7
            --
        "#]],
    );
}

#[test]
fn second_container_of_a_pod_attaches_nothing_and_the_last_one_detaches() {
    check(
        &[lives(42, 7), lives(43, 7), created("pause", 42), created("app", 43), exited("app", 43), exited("pause", 42)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            close task 2
            detach 1 from 7
            --
        "#]],
    );
}

#[test]
fn an_exec_that_ends_is_not_its_container_ending() {
    check(
        &[lives(42, 7), created("c1", 42), exec_exited("c1", "shell", 50)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            --
            default/c1 pid 42: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn a_start_without_create_attaches_too() {
    check(
        &[lives(42, 7), started("c1", 42), created("c1", 42)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            --
            default/c1 pid 42: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn an_exit_before_its_start_leaves_nothing() {
    check(
        &[lives(42, 7), exited("c1", 42), started("c1", 42)],
        expect![[r#"
            --
        "#]],
    );
}

#[test]
fn a_late_exit_of_an_earlier_run_does_not_end_the_next() {
    check(
        &[lives(42, 7), lives(60, 8), created("c1", 42), created("c1", 60), exited("c1", 42), created("c1", 42)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            detach 1 from 7
            open 60
            attach 2 to 8 as ?
            --
            default/c1 pid 60: Attached(Slot(2), "tcx")
        "#]],
    );
}

#[test]
fn the_same_id_in_two_containerd_namespaces_is_two_containers() {
    check(
        &[lives(42, 7), lives(43, 8), created("moby/c1", 42), created("k8s.io/c1", 43), exited("moby/c1", 42)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            attach 2 to 8 as ?
            detach 1 from 7
            --
            k8s.io/c1 pid 43: Attached(Slot(2), "tcx")
        "#]],
    );
}

#[test]
fn a_host_network_container_is_remembered_and_not_attached() {
    check(
        &[lives(42, HOST), created("c1", 42)],
        expect![[r#"
            open 42
            close task 1
            --
            default/c1 pid 42: Host
        "#]],
    );
}

#[test]
fn containers_on_the_hosts_network_are_attached_to_by_their_cgroups_one_by_one() {
    tell(
        Registry::new(Limits::default(), Some(netns(HOST))).observing_host(true),
        &[lives(42, HOST), lives(43, HOST), created("c1", 42), labels("c1", &POD), created("c2", 43), exited("c1", 42)],
        expect![[r#"
            open 42
            close task 1
            attach 1 to the cgroup of 42 as ?
            slot 1 is web-0
            open 43
            close task 2
            attach 2 to the cgroup of 43 as ?
            detach 1 from 1
            --
            default/c2 pid 43: Host
        "#]],
    );
}

#[test]
fn a_cgroup_that_failed_is_tried_again_and_one_that_is_none_is_not() {
    tell(
        Registry::new(Limits::default(), Some(netns(HOST))).observing_host(true),
        &[
            lives(42, HOST),
            lives(ROOTLESS, HOST),
            Broken(true),
            created("c1", 42),
            created("c2", ROOTLESS),
            Broken(false),
            Later(2),
            Later(100),
        ],
        expect![[r#"
            open 42
            close task 1
            attach 1 to the cgroup of 42 as ?
            open 99
            close task 2
            attach 2 to the cgroup of 99 as ?
            attach 1 to the cgroup of 42 as ?
            --
            default/c1 pid 42: Host
            default/c2 pid 99: Host
        "#]],
    );
}

#[test]
fn the_pods_name_comes_from_its_sandbox_even_if_that_is_read_last() {
    let app: Vec<_> = POD[..3].iter().copied().chain([("io.cri-containerd.kind", "container")]).collect();
    check(
        &[
            lives(42, 7),
            lives(43, 7),
            created("pause", 42),
            created("app", 43),
            labels("app", &app),
            labels("pause", &POD),
            labels("app", &app),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            close task 2
            slot 1 is web-0
            slot 1 is web-0
            --
            default/pause pid 42: Attached(Slot(1), "tcx")
            default/app pid 43: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn a_renamed_container_is_identified_again() {
    check(
        &[
            lives(42, 7),
            created("c1", 42),
            labels("c1", &[]),
            labels("c1", &[("nerdctl/name", "web")]),
            labels("c1", &[("nerdctl/name", "web")]),
            labels("c1", &[("nerdctl/name", "shop")]),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is c1
            slot 1 is web
            slot 1 is shop
            --
            default/c1 pid 42: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn a_list_finds_what_events_missed_and_removes_what_ended_unseen() {
    check(
        &[lives(42, 7), lives(43, 8), created("c1", 42), Later(1), listed(&[("c2", 43)])],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            detach 1 from 7
            open 43 (found)
            attach 2 to 8 as ?
            --
            default/c2 pid 43: Attached(Slot(2), "tcx")
        "#]],
    );
}

#[test]
fn a_list_does_not_overrule_events_that_are_newer_than_it() {
    let mut registry = Registry::new(Limits::default(), None);
    let began = Instant::now();
    let later = began + Duration::from_millis(1);
    let _ = registry.apply(TaskEvent::Created { container: of("young"), pid: 42 }, later);
    let _ = registry.apply(TaskEvent::Created { container: of("dead"), pid: 43 }, later);
    let _ = registry.apply(TaskEvent::Exited { container: of("dead"), process: "dead".into(), pid: 43 }, later);
    let tasks = vec![ListedTask { container: of("dead"), pid: Some(43) }];
    let _ = registry.apply(TaskEvent::Listed { began, tasks, unread: vec![] }, later + Duration::from_millis(1));
    let left: Vec<String> = registry.tasks().map(|task| task.container.to_string()).collect();
    assert_eq!(left, ["default/young"]);
}

#[test]
fn nothing_is_concluded_about_a_namespace_that_was_not_read_or_a_task_that_did_not_say() {
    let mute = ListedTask { container: of("moby/mute"), pid: None };
    let stranger = ListedTask { container: of("moby/stranger"), pid: None };
    check(
        &[
            lives(42, 7),
            lives(43, 8),
            created("k8s.io/c1", 42),
            created("moby/mute", 43),
            Later(1),
            List(vec![mute, stranger], vec!["k8s.io"]),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            attach 2 to 8 as ?
            --
            k8s.io/c1 pid 42: Attached(Slot(1), "tcx")
            moby/mute pid 43: Attached(Slot(2), "tcx")
        "#]],
    );
}

#[test]
fn a_failed_open_is_retried_later_and_blocks_nobody() {
    check(
        &[created("bad", 41), lives(42, 7), created("good", 42), Later(1), lives(41, 8), Later(1), Later(1)],
        expect![[r#"
            open 41
            open 42
            attach 1 to 7 as ?
            open 41 (found)
            open 41 (found)
            attach 2 to 8 as ?
            --
            default/bad pid 41: Attached(Slot(2), "tcx")
            default/good pid 42: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn a_failed_attach_is_retried_with_the_same_slot_after_growing_waits() {
    check(
        &[lives(42, 7), Broken(true), created("c1", 42), Later(1), Later(1), Later(1), Broken(false), Later(4)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 42 (found)
            attach 1 to 7 as ?
            open 42 (found)
            attach 1 to 7 as ?
            open 42 (found)
            attach 1 to 7 as ?
            --
            default/c1 pid 42: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn a_performer_that_never_answers_is_given_up_and_asked_again() {
    check(
        &[lives(42, 7), Silent(true), created("c1", 42), Later(31), Silent(false), Later(1)],
        expect![[r#"
            open 42
            open 42 (found)
            attach 1 to 7 as ?
            --
            default/c1 pid 42: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn a_reused_inode_with_another_cookie_is_another_namespace() {
    check(
        &[Lives(42, 7, Some(100)), Lives(43, 7, Some(101)), created("old", 42), created("new", 43)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            detach 1 from 7
            attach 2 to 7 as ?
            --
            default/new pid 43: Attached(Slot(2), "tcx")
        "#]],
    );
}

#[test]
fn without_cookies_a_reused_inode_is_put_right_when_the_end_is_known() {
    check(
        &[lives(42, 7), lives(43, 7), created("old", 42), created("new", 43), Later(1), listed(&[("new", 43)])],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            close task 2
            detach 1 from 7
            open 43 (found)
            attach 2 to 7 as ?
            --
            default/new pid 43: Attached(Slot(2), "tcx")
        "#]],
    );
}

#[test]
fn with_cookies_a_missed_exit_in_a_pod_disturbs_nobody() {
    check(
        &[
            Lives(42, 7, Some(100)),
            Lives(43, 7, Some(100)),
            created("init", 42),
            created("app", 43),
            Later(1),
            listed(&[("app", 43)]),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            close task 2
            --
            default/app pid 43: Attached(Slot(1), "tcx")
        "#]],
    );
}

#[test]
fn found_containers_take_turns_and_a_new_one_does_not_wait_for_them() {
    let limits = Limits { found_in_flight: 2, ..Limits::default() };
    check_within(
        limits,
        &[
            lives(50, 9),
            Silent(true),
            listed(&[("a", 41), ("b", 42), ("c", 43), ("d", 44)]),
            created("new", 50),
            started("b", 42),
        ],
        expect![[r#"
            open 44 (found)
            open 43 (found)
            open 50
            open 42
            --
            default/d pid 44: Discovered
            default/c pid 43: Discovered
            default/b pid 42: Discovered
            default/a pid 41: Discovered
            default/new pid 50: Discovered
        "#]],
    );
}

#[test]
fn containers_beyond_the_limit_are_refused_and_counted() {
    let mut registry = Registry::new(Limits { tasks: 2, ..Limits::default() }, None);
    let now = Instant::now();
    for pid in 1..=5 {
        let _ = registry.apply(TaskEvent::Created { container: of(&format!("c{pid}")), pid }, now);
    }
    assert_eq!((registry.tasks().count(), registry.counts().refused), (2, 3));
}

#[test]
fn what_is_opened_for_a_container_that_is_gone_is_closed() {
    let mut registry = Registry::new(Limits::default(), None);
    let now = Instant::now();
    let _ = registry.apply(TaskEvent::Created { container: of("c1"), pid: 42 }, now);
    let _ = registry.apply(TaskEvent::Exited { container: of("c1"), process: "c1".into(), pid: 42 }, now);
    let actions = registry.report(Report::Opened { task: TaskId(1), netns: netns(7), cookie: None }, now);
    assert!(matches!(&actions[..], [Action::Close { task: TaskId(1) }]), "{actions:?}");
}
