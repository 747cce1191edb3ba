//! Several containerds on a node: what each says is said of its own containers only.

use crate::harness::*;
use expect_test::expect;
use shim_plugin::{Limits, LinkId, ListedTask, Registry, Report, TaskEvent, TaskId};
use std::time::{Duration, Instant};

#[test]
fn a_list_of_one_containerd_says_nothing_of_anothers_containers_whatever_they_are_called() {
    check(
        &[
            lives(42, 7),
            lives(43, 8),
            created("c1", 42),
            created("@1/default/c1", 43),
            Later(1),
            listed_by(1, &[("@1/default/c1", 43)]),
            listed_by(0, &[("c1", 42)]),
            exited("@1/default/c1", 43),
            listed_by(1, &[]),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            attach 2 to 8 as ?
            detach 2 from 8
            --
            default/c1 pid 42: Placed(Slot(1))
        "#]],
    );
}

#[test]
fn what_a_containerd_that_is_away_had_ends_with_its_processes_and_with_nothing_else() {
    check(
        &[
            lives(42, 7),
            lives(43, 8),
            lives(44, 9),
            created("@1/k8s.io/pause", 42),
            created("@1/k8s.io/app", 43),
            created("here", 44),
            away(1),
            listed_by(0, &[("here", 44)]),
            Later(4),
            Dies(43),
            Later(1),
            listed_by(0, &[("here", 44)]),
            Later(3),
            Later(2),
            Dies(42),
            Later(5),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            attach 2 to 8 as ?
            open 44
            attach 3 to 9 as ?
            look at 42
            look at 43: gone
            detach 2 from 8
            look at 42
            look at 42: gone
            detach 1 from 7
            --
            default/here pid 44: Placed(Slot(3))
        "#]],
    );
}

#[test]
fn a_containerd_that_is_soon_back_tells_itself_what_ended() {
    check(
        &[
            lives(42, 7),
            lives(43, 8),
            created("stays", 42),
            created("ends", 43),
            away(0),
            Dies(43),
            Later(3),
            listed(&[("stays", 42)]),
            Later(60),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            attach 2 to 8 as ?
            detach 2 from 8
            --
            default/stays pid 42: Placed(Slot(1))
        "#]],
    );
}

#[test]
fn a_namespace_that_two_containerds_name_is_one_attachment_that_ends_with_the_last() {
    check(
        &[
            lives(42, 7),
            lives(43, 7),
            created("c1", 42),
            created("@1/moby/c2", 43),
            exited("c1", 42),
            listed_by(0, &[]),
            exited("@1/moby/c2", 43),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            close task 2
            detach 1 from 7 at once
            open 43 (found)
            attach 2 to 7 as ?
            detach 2 from 7
            --
        "#]],
    );
}

#[test]
fn two_ways_to_one_containerd_attach_to_each_cgroup_once() {
    tell(
        Registry::new(Limits::default(), Some(netns(NODE))).observing_node(true),
        &[
            lives(42, NODE),
            listed_by(0, &[("c1", 42)]),
            listed_by(1, &[("@1/default/c1", 42)]),
            labels("@1/default/c1", &POD),
            away(0),
            exited("@1/default/c1", 42),
            Dies(42),
            Later(6),
        ],
        expect![[r#"
            open 42 (found)
            close task 1
            attach 2147483648 to the cgroup of 42 as ?
            open 42 (found)
            close task 2
            slot 2147483648 is web-0
            look at 42: gone
            detach 2147483648 from 1
            --
        "#]],
    );
}

#[test]
fn a_deleted_container_ends_where_its_process_has_and_the_events_of_its_end_were_lost() {
    check(
        &[
            lives(42, 7),
            lives(43, 8),
            created("c1", 42),
            created("c2", 43),
            removed("strange"),
            removed("c2"),
            Dies(42),
            removed("c1"),
            created("c1", 42),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 43
            attach 2 to 8 as ?
            look at 43
            look at 42: gone
            detach 1 from 7
            --
            default/c2 pid 43: Placed(Slot(2))
        "#]],
    );
}

#[test]
fn the_first_list_of_each_containerd_finds_what_was_there_and_corrects_nothing() {
    let mut registry = Registry::new(Limits::default(), None);
    let began = Instant::now();
    for link in [0, 1] {
        let tasks = vec![ListedTask { container: of(&format!("@{link}/default/c1")), pid: Some(40 + u32::from(link)) }];
        let _ = registry.apply(TaskEvent::Listed { link: LinkId(link), began, tasks, unread: vec![] }, began);
    }
    let counts = registry.counts();
    assert_eq!((counts.found_at_start, counts.corrections), (2, Default::default()));
}

#[test]
fn eight_thousand_processes_are_asked_after_in_turns() {
    let mut registry = Registry::new(Limits::default(), None);
    let mut now = Instant::now();
    for pid in 1..=8000 {
        let _ = registry.apply(TaskEvent::Created { container: of(&format!("c{pid}")), pid }, now);
        let opened = Report::Opened {
            task: TaskId(pid.into()),
            netns: netns(u64::from(pid) + 10),
            cookie: None,
            began: Some(1),
        };
        let _ = registry.report(opened, now);
    }
    let _ = registry.apply(TaskEvent::Away { link: LinkId(0) }, now);
    let mut asked = std::collections::HashMap::<u32, u32>::new();
    for _ in 0..1100 {
        now += Duration::from_secs(1);
        for action in registry.tick(now) {
            if let shim_plugin::Action::LookAtProcess { pid, began, .. } = action {
                assert_eq!(began, Some(1));
                *asked.entry(pid).or_default() += 1;
            }
        }
    }
    assert_eq!(asked.len(), 8000, "each has its turn");
    assert!(asked.values().all(|times| (1..=3).contains(times)), "and nobody two while another waits");
}
