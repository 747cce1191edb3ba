//! Namespaces that the kernel tells of before containerd tells of their tasks.

use crate::harness::*;
use expect_test::expect;
use flow_model::Slot;
use shim_plugin::{Action, Limits, LinkId, ListedTask, Registry, Report, TaskEvent};
use std::time::{Duration, Instant};

fn at_home(pid: u32, ino: u64, cookie: u64) -> Step {
    Lives(pid, ino, Some(cookie))
}

#[test]
fn what_was_attached_early_is_its_containers_when_containerd_tells_of_it() {
    check(
        &[
            listed(&[]),
            Alarm(7, 70),
            at_home(42, 7, 70),
            at_home(43, 7, 70),
            created("k8s.io/pause", 42),
            labels("k8s.io/pause", &POD),
            created("k8s.io/app", 43),
            Later(60),
            exited("k8s.io/app", 43),
            exited("k8s.io/pause", 42),
        ],
        expect![[r#"
            attach 1 to 7 early
            open 42
            close task 1
            slot 1 is web-0
            open 43
            close task 2
            detach 1 from 7
            --
        "#]],
    );
}

#[test]
fn a_name_that_is_known_by_then_is_given_at_once() {
    check(
        &[listed(&[]), created("c1", 42), labels("c1", &[]), Alarm(7, 70), at_home(42, 7, 70), Later(1)],
        expect![[r#"
            open 42
            attach 1 to 7 early
            open 42 (found)
            close task 1
            slot 1 is c1
            --
            default/c1 pid 42: Attaching(Slot(1))
        "#]],
    );
}

#[test]
fn who_never_gets_a_container_is_let_go_of_and_may_come_back() {
    check(
        &[listed(&[]), Alarm(7, 70), Later(4), Later(1), Alarm(7, 70), at_home(42, 7, 70), created("c1", 42)],
        expect![[r#"
            attach 1 to 7 early
            detach 1 from 7 at once
            attach 2 to 7 early
            open 42
            close task 1
            --
            default/c1 pid 42: Attaching(Slot(2))
        "#]],
    );
}

#[test]
fn the_nodes_namespace_and_known_ones_are_not_attached_early() {
    check(
        &[
            listed(&[]),
            at_home(42, 7, 70),
            created("c1", 42),
            Alarm(7, 70),
            Alarm(NODE, 1),
            Alarm(8, 80),
            Alarm(8, 80),
            Later(60),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            attach 2 to 8 early
            detach 2 from 8 at once
            --
            default/c1 pid 42: Placed(Slot(1))
        "#]],
    );
}

#[test]
fn one_that_nobody_took_leaves_the_way_to_containerds_news() {
    check(
        &[listed(&[]), Broken(true), Alarm(7, 70), Broken(false), at_home(42, 7, 70), created("c1", 42)],
        expect![[r#"
            open 42
            attach 2 to 7 as ?
            --
            default/c1 pid 42: Placed(Slot(2))
        "#]],
    );
}

#[test]
fn nothing_is_new_while_older_containers_wait_for_their_turn() {
    check(
        &[Alarm(7, 70), Silent(true), listed(&[("c1", 42)]), Alarm(8, 80), Silent(false), Later(31), Alarm(8, 80)],
        expect![[r#"
            open 42 (found)
            attach 1 to 8 early
            --
            default/c1 pid 42: failed after 1: no answer
        "#]],
    );
}

#[test]
fn a_storm_of_namespaces_is_bounded_counted_and_over_when_it_is_over() {
    let mut registry = Registry::new(Limits::default(), None);
    let mut now = Instant::now();
    let listed = TaskEvent::Listed { link: LinkId(0), began: now, tasks: vec![], unread: vec![] };
    assert!(registry.apply(listed, now).is_empty());
    for round in 1..=3u64 {
        let given: Vec<Slot> = (0..1000)
            .filter_map(|n| registry.early(LinkId(0), netns(round * 10_000 + n), Some(round * 10_000 + n), now))
            .collect();
        assert_eq!(given.len(), 64);
        assert_eq!(registry.counts().early_full, round * (1000 - 64));
        assert_eq!(registry.gauges().namespaces, 64);
        assert!(registry.needs_tick());
        now += Duration::from_secs(5);
        let gone = registry.tick(now);
        assert!(gone.iter().all(|action| matches!(action, Action::Detach { slot, .. } if given.contains(slot))));
        assert_eq!((gone.len(), registry.gauges().namespaces), (64, 0));
        assert_eq!(registry.counts().early_unowned, round * 64);
        assert!(!registry.needs_tick());
    }
}

#[test]
fn only_what_ran_before_the_agent_asked_is_old() {
    let (mut registry, mut now) = (Registry::new(Limits::default(), None), Instant::now());
    let mut is_old = |event: TaskEvent, ino: u64| {
        now += Duration::from_secs(1);
        let mut told = None;
        for action in registry.apply(event, now) {
            let Action::OpenNetns { task, .. } = action else { continue };
            let opened = Report::Opened { task, netns: netns(ino), cookie: Some(ino), began: None };
            for action in registry.report(opened, now) {
                if let Action::Attach { is_old, .. } = action {
                    told = Some(is_old);
                }
            }
        }
        told
    };
    let began = Instant::now();
    let list = |tasks: &[(&str, u32)]| {
        let tasks = tasks.iter().map(|(id, pid)| ListedTask { container: of(id), pid: Some(*pid) });
        TaskEvent::Listed { link: LinkId(0), began, tasks: tasks.collect(), unread: vec![] }
    };
    assert_eq!(is_old(list(&[("c1", 42)]), 1), Some(true));
    assert_eq!(is_old(TaskEvent::Created { container: of("c2"), pid: 43 }, 2), Some(false));
    // containerd was away, and comes back with one more.
    assert_eq!(is_old(TaskEvent::Away { link: LinkId(0) }, 0), None);
    assert_eq!(is_old(list(&[("c1", 42), ("c2", 43), ("c3", 44)]), 3), Some(false));
}
