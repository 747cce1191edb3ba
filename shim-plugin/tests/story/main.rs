//! What the registry does, told as stories.

mod early;
mod harness;
mod leave;
mod links;
mod news;

use expect_test::expect;
use harness::*;
use shim_plugin::{Action, Limits, LinkId, ListedTask, Registry, Report, TaskEvent, TaskId};
use std::time::{Duration, Instant};

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
            default/c1 pid 42: Placed(Slot(1))
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
            default/c1 pid 42: Placed(Slot(1))
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
            default/c1 pid 60: Placed(Slot(2))
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
            k8s.io/c1 pid 43: Placed(Slot(2))
        "#]],
    );
}

#[test]
fn a_container_on_the_nodes_network_is_remembered_and_not_attached() {
    check(
        &[lives(42, NODE), created("c1", 42)],
        expect![[r#"
            open 42
            close task 1
            --
            default/c1 pid 42: Node
        "#]],
    );
}

#[test]
fn containers_on_the_nodes_network_are_attached_to_by_their_cgroups_one_by_one() {
    tell(
        Registry::new(Limits::default(), Some(netns(NODE))).observing_node(true),
        &[lives(42, NODE), lives(43, NODE), created("c1", 42), labels("c1", &POD), created("c2", 43), exited("c1", 42)],
        expect![[r#"
            open 42
            close task 1
            attach 2147483648 to the cgroup of 42 as ?
            slot 2147483648 is web-0
            open 43
            close task 2
            attach 2147483649 to the cgroup of 43 as ?
            detach 2147483648 from 1
            --
            default/c2 pid 43: Node
        "#]],
    );
}

#[test]
fn a_cgroup_is_asked_for_once_for_whoever_attaches_keeps_trying() {
    let mut registry = Registry::new(Limits::default(), Some(netns(NODE))).observing_node(true);
    let now = Instant::now();
    let _ = registry.apply(TaskEvent::Created { container: of("c1"), pid: 42 }, now);
    let asked = registry.report(Report::Opened { task: TaskId(1), netns: netns(NODE), cookie: None, began: None }, now);
    assert!(matches!(&asked[..], [Action::Close { .. }, Action::AttachCgroup { pid: 42, .. }]), "{asked:?}");
    assert!(!registry.needs_tick());
    for seconds in [2, 31, 100] {
        assert_eq!(registry.tick(now + Duration::from_secs(seconds)).len(), 0);
    }
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
            default/pause pid 42: Placed(Slot(1))
            default/app pid 43: Placed(Slot(1))
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
            default/c1 pid 42: Placed(Slot(1))
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
            default/c2 pid 43: Placed(Slot(2))
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
    let _ =
        registry.apply(TaskEvent::Exited { container: of("dead"), process: "dead".into(), pid: 43, exit: None }, later);
    let tasks = vec![ListedTask { container: of("dead"), pid: Some(43) }];
    let _ = registry
        .apply(TaskEvent::Listed { link: LinkId(0), began, tasks, unread: vec![] }, later + Duration::from_millis(1));
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
            k8s.io/c1 pid 42: Placed(Slot(1))
            moby/mute pid 43: Placed(Slot(2))
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
            default/bad pid 41: Placed(Slot(2))
            default/good pid 42: Placed(Slot(1))
        "#]],
    );
}

#[test]
fn a_namespace_that_is_not_taken_is_opened_again_after_growing_waits_under_another_slot() {
    check(
        &[lives(42, 7), Broken(true), created("c1", 42), Later(1), Later(1), Later(1), Broken(false), Later(4)],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 42 (found)
            attach 2 to 7 as ?
            open 42 (found)
            attach 3 to 7 as ?
            open 42 (found)
            attach 4 to 7 as ?
            --
            default/c1 pid 42: Placed(Slot(4))
        "#]],
    );
}

#[test]
fn why_a_namespace_is_not_taken_is_told_until_its_last_task_ends_and_is_then_forgotten() {
    let told = [lives(42, 7), lives(43, 7), Broken(true), created("pause", 42), Later(1), created("app", 43)];
    check(
        &told,
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 42 (found)
            attach 2 to 7 as ?
            open 43
            attach 3 to 7 as ?
            --
            default/pause pid 42: failed after 2: no room
            default/app pid 43: failed after 1: no room
        "#]],
    );
    let ended = [exited("pause", 42), exited("app", 43), Later(100)];
    check(
        &[told.as_slice(), &ended].concat(),
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            open 42 (found)
            attach 2 to 7 as ?
            open 43
            attach 3 to 7 as ?
            --
        "#]],
    );
}

#[test]
fn an_attach_without_an_answer_gives_its_turn_to_others_and_is_not_asked_for_again() {
    let mut registry = Registry::new(Limits { found_in_flight: 1, ..Limits::default() }, None);
    let began = Instant::now();
    let tasks = [("a", 41), ("b", 42)].map(|(id, pid)| ListedTask { container: of(id), pid: Some(pid) }).to_vec();
    let _ = registry.apply(TaskEvent::Listed { link: LinkId(0), began, tasks, unread: vec![] }, began);
    // The higher pid goes first.
    let asked = registry.report(Report::Opened { task: TaskId(1), netns: netns(7), cookie: None, began: None }, began);
    assert!(matches!(&asked[..], [Action::Attach { .. }]), "{asked:?}");
    assert_eq!(registry.tick(began + Duration::from_secs(29)).len(), 0);
    let asked = registry.tick(began + Duration::from_secs(31));
    assert!(matches!(&asked[..], [Action::OpenNetns { pid: 41, .. }]), "{asked:?}");
    assert_eq!(registry.counts().unanswered, 1);
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
            default/c1 pid 42: Placed(Slot(1))
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
            default/new pid 43: Placed(Slot(2))
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
            detach 1 from 7 at once
            open 43 (found)
            attach 2 to 7 as ?
            --
            default/new pid 43: Placed(Slot(2))
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
            default/app pid 43: Placed(Slot(1))
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
    let _ = registry.apply(TaskEvent::Exited { container: of("c1"), process: "c1".into(), pid: 42, exit: None }, now);
    let actions = registry.report(Report::Opened { task: TaskId(1), netns: netns(7), cookie: None, began: None }, now);
    assert!(matches!(&actions[..], [Action::Close { task: TaskId(1) }]), "{actions:?}");
}

#[test]
fn who_gave_a_shared_namespace_its_name_and_ends_leaves_it_to_those_who_stay() {
    let named = |container, name| labels(container, &[("nerdctl/name", name)]);
    check(
        &[
            Lives(42, 7, Some(70)),
            Lives(43, 7, Some(70)),
            Lives(44, 7, Some(70)),
            created("web", 42),
            named("web", "web"),
            created("side", 43),
            created("third", 44),
            named("side", "side"),
            exited("web", 42),
            // It runs again, in a namespace of its own.
            Lives(52, 8, Some(80)),
            created("web", 52),
            named("web", "web"),
            named("third", "third"),
            exited("side", 43),
            named("third", "renamed"),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web
            open 43
            close task 2
            open 44
            close task 3
            slot 1 is side
            open 52
            attach 2 to 8 as ?
            slot 2 is web
            slot 1 is third
            slot 1 is renamed
            --
            default/third pid 44: Placed(Slot(1))
            default/web pid 52: Placed(Slot(2))
        "#]],
    );
}

#[test]
fn a_name_that_is_read_late_replaces_that_of_one_who_is_gone() {
    check(
        &[
            Lives(42, 7, Some(70)),
            Lives(43, 7, Some(70)),
            created("web", 42),
            labels("web", &[("nerdctl/name", "web")]),
            created("side", 43),
            exited("web", 42),
            labels("side", &[("nerdctl/name", "side")]),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web
            open 43
            close task 2
            slot 1 is side
            --
            default/side pid 43: Placed(Slot(1))
        "#]],
    );
}

#[test]
fn a_pods_name_is_the_same_without_its_sandbox_and_nothing_is_said_of_it() {
    let app = [POD[0], POD[1], POD[2], ("io.kubernetes.container.name", "app")];
    check(
        &[
            Lives(42, 7, Some(70)),
            Lives(43, 7, Some(70)),
            created("pause", 42),
            labels("pause", &POD),
            created("app", 43),
            labels("app", &app),
            exited("pause", 42),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web-0
            open 43
            close task 2
            --
            default/app pid 43: Placed(Slot(1))
        "#]],
    );
}
