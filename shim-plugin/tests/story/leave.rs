//! Who is left out: by the operator's word, or by a pod's own.

use crate::harness::*;
use expect_test::{Expect, expect};
use shim_plugin::{OBSERVE, Registry};

const QUIET: [(&str, &str); 5] = [POD[0], POD[1], POD[2], POD[3], (OBSERVE, "false")];
const APP: [(&str, &str); 4] = [POD[0], POD[1], POD[2], ("io.cri-containerd.kind", "container")];

#[test]
fn a_pod_that_says_so_is_let_go_of_and_its_containers_with_it() {
    check(
        &[
            lives(42, 7),
            lives(43, 7),
            created("pause", 42),
            labels("pause", &QUIET),
            created("app", 43),
            labels("app", &APP),
            exited("pause", 42),
            Alarm(7, 0),
            exited("app", 43),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web-0
            detach 1 from 7 at once
            open 43
            close task 2
            open 43 (found)
            close task 2
            --
        "#]],
    );
}

#[test]
fn on_the_nodes_network_each_container_is_its_pods() {
    let registry = Registry::new(Default::default(), Some(netns(NODE))).observing_node(true);
    tell(
        registry,
        &[
            lives(42, NODE),
            lives(43, NODE),
            created("app", 43),
            labels("app", &APP),
            created("pause", 42),
            labels("pause", &QUIET),
            exited("pause", 42),
            labels("app", &APP),
        ],
        expect![[r#"
            open 43
            close task 1
            attach 2147483648 to the cgroup of 43 as ?
            slot 2147483648 is web-0
            open 42
            close task 2
            attach 2147483649 to the cgroup of 42 as ?
            slot 2147483649 is web-0
            detach 2147483648 from 1 at once
            detach 2147483649 from 1 at once
            --
            default/app pid 43: LeftOut { why: Label, on_node: true, first: true }
        "#]],
    );
}

#[test]
fn what_the_operator_leaves_out_is_let_go_of_and_taken_up_again() {
    check(
        &[
            lives(42, 7),
            lives(43, 8),
            created("pause", 42),
            labels("pause", &POD),
            created("c1", 43),
            labels("c1", &[]),
            LeaveOut(&["shop", "nobody"]),
            LeaveOut(&["shop", "default"]),
            LeaveOut(&["default"]),
        ],
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web-0
            open 43
            attach 2 to 8 as ?
            slot 2 is c1
            detach 1 from 7 at once
            detach 2 from 8 at once
            open 42 (found)
            attach 3 to 7 as web-0
            --
            default/pause pid 42: Placed(Slot(3))
            default/c1 pid 43: LeftOut { why: Namespace, on_node: false, first: true }
        "#]],
    );
}

fn says(word: &'static str, expected: Expect) {
    let labelled = [POD[0], POD[1], POD[2], POD[3], (OBSERVE, word)];
    check(&[lives(42, 7), created("pause", 42), labels("pause", &labelled)], expected);
}

#[test]
fn a_pod_that_wants_its_connections_counted_alone_stays_attached() {
    says(
        "tcp",
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web-0
            observe Tcp of 1
            --
            default/pause pid 42: Placed(Slot(1))
        "#]],
    );
}

#[test]
fn a_word_that_means_nothing_is_told_of_and_changes_nothing() {
    says(
        "FALSE",
        expect![[r#"
            open 42
            attach 1 to 7 as ?
            slot 1 is web-0
            observe Unclear of 1
            --
            default/pause pid 42: Placed(Slot(1))
        "#]],
    );
}
