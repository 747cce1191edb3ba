//! What a history hears of the runs of containers.

use crate::harness::{Step, created, deleted, exited, labels, listed, listed_by, lives, netns, of, started};
use flow_model::Slot;
use shim_plugin::{Action, ExitStatus, LinkId, Registry, Report, Run, TaskEvent, TaskNews};
use std::time::{Duration, Instant, SystemTime};

/// Events of one node, and what is told of them.
struct Story {
    registry: Registry,
    now: Instant,
    homes: Vec<(u32, u64)>,
    told: Vec<String>,
}

impl Story {
    fn new() -> Story {
        let registry = Registry::new(shim_plugin::Limits::default(), None);
        Story { registry, now: Instant::now(), homes: Vec::new(), told: Vec::new() }
    }

    fn take(mut self, steps: &[Step]) -> Story {
        for step in steps {
            self.now += Duration::from_millis(1);
            let event = match step.clone() {
                Step::Event(event) => event,
                Step::Lives(pid, ino, _) => {
                    self.homes.push((pid, ino));
                    continue;
                }
                Step::List(tasks, _) => self.list(LinkId(0), tasks),
                Step::ListBy(link, tasks) => self.list(LinkId(link), tasks),
                _ => unreachable!("no part of these stories"),
            };
            let actions = self.registry.apply(event, self.now);
            self.perform(actions);
        }
        self
    }

    fn list(&mut self, link: LinkId, tasks: Vec<shim_plugin::ListedTask>) -> TaskEvent {
        let began = self.now;
        self.now += Duration::from_millis(1);
        TaskEvent::Listed { link, began, tasks, unread: vec![] }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            let report = match action {
                Action::OpenNetns { task, pid, .. } => {
                    let home = self.homes.iter().rev().find(|(of, _)| *of == pid).map_or(u64::from(pid), |home| home.1);
                    Report::Opened { task, netns: netns(home), cookie: None, began: None }
                }
                Action::Tell(news) => {
                    self.told.push(shown(&news));
                    continue;
                }
                Action::Detach { slot, .. } => {
                    self.told.push(format!("detach {}", slot.0));
                    continue;
                }
                _ => continue,
            };
            let next = self.registry.report(report, self.now);
            self.perform(next);
        }
    }
}

fn shown(news: &TaskNews) -> String {
    let run = |run: &Run| {
        let name = run.name.as_ref().map_or("?".into(), |name| name.workload.name.to_string());
        let slot = run.slot.map_or("no slot".into(), |Slot(slot)| format!("slot {slot}"));
        format!("{} pid {} as {name}, {slot} of {}", run.container.id, run.pid, run.sharing)
    };
    match news {
        TaskNews::Began(began) => format!("began {}", run(began)),
        TaskNews::Named { name, .. } => format!("named {} {}", name.workload.name, name.container),
        TaskNews::OutOfMemory { container, run: of, .. } => {
            format!("oom {}: {}", container.id, of.as_ref().map_or("over".into(), run))
        }
        TaskNews::Ended { run: ended, exit } => {
            format!("ended {}: {:?}", run(ended), exit.map(|exit| exit.code))
        }
    }
}

fn exited_with(container: &str, pid: u32, code: u32) -> Step {
    let exit = Some(ExitStatus { code, at: Some(SystemTime::UNIX_EPOCH) });
    Step::Event(TaskEvent::Exited { container: of(container), process: of(container).id.to_string(), pid, exit })
}

fn oom(container: &str) -> Step {
    Step::Event(TaskEvent::OutOfMemory { container: of(container), at: None })
}

#[test]
fn a_run_begins_once_and_ends_with_its_status_before_its_namespace_is_let_go_of() {
    let steps = [
        listed(&[]),
        created("c1", 42),
        started("c1", 42),
        started("c1", 42),
        oom("c1"),
        exited_with("c1", 42, 137),
        deleted("c1", 42),
        oom("c1"),
    ];
    assert_eq!(
        Story::new().take(&steps).told,
        [
            "began c1 pid 42 as ?, slot 1 of 1",
            "oom c1: c1 pid 42 as ?, slot 1 of 1",
            "ended c1 pid 42 as ?, slot 1 of 1: Some(137)",
            "detach 1",
            "oom c1: over",
        ]
    );
}

#[test]
fn what_ran_before_the_agent_did_not_begin_and_its_end_is_told() {
    let steps = [listed(&[("old", 7)]), exited("old", 7)];
    assert_eq!(Story::new().take(&steps).told, ["ended old pid 7 as ?, slot 1 of 1: None", "detach 1"]);
}

#[test]
fn a_start_and_an_end_whose_events_were_lost_are_told_by_the_list() {
    let steps = [listed_by(0, &[]), listed_by(0, &[("c1", 42)]), listed_by(0, &[])];
    assert_eq!(
        Story::new().take(&steps).told,
        ["began c1 pid 42 as ?, no slot of 0", "ended c1 pid 42 as ?, slot 1 of 1: None", "detach 1"]
    );
}

#[test]
fn those_who_share_a_pods_network_are_counted_and_its_sandbox_is_not() {
    let pod = |kind: &'static str, container: &'static str| {
        [
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.uid", "u"),
            ("io.cri-containerd.kind", kind),
            ("io.kubernetes.container.name", container),
        ]
    };
    let steps = [
        listed(&[]),
        lives(1, 9),
        lives(2, 9),
        lives(3, 9),
        created("pause", 1),
        labels("pause", &pod("sandbox", "")),
        created("app", 2),
        labels("app", &pod("container", "app")),
        created("side", 3),
        labels("side", &pod("container", "side")),
        exited_with("side", 3, 0),
        exited_with("app", 2, 1),
        exited_with("pause", 1, 0),
    ];
    assert_eq!(
        Story::new().take(&steps).told,
        [
            "named web-0 ",
            "named web-0 app",
            "named web-0 side",
            "ended side pid 3 as web-0, slot 1 of 2: Some(0)",
            "ended app pid 2 as web-0, slot 1 of 1: Some(1)",
            "ended pause pid 1 as web-0, slot 1 of 0: Some(0)",
            "detach 1",
        ]
    );
}
