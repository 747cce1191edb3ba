//! A container that is being made waits for as few answers of the kernel as there can be, and what
//! is there all the same is found.

use crate::bench::{Bench, one_interface};
use crate::place::{Pair, foreign_filter, our_filters, within};
use capture_engine::attach::{Mechanism, Mode, Priority};

const EITHER: [Priority; 2] = [Priority::New, Priority::Background];

#[test]
fn a_new_namespace_is_not_asked_what_sits_on_its_interfaces() {
    let listed = EITHER.map(|priority| {
        let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
        assert!(one_interface("eth0", Mechanism::Clsact)(&bench.attach_as(&pair.pod, priority)));
        assert_eq!(our_filters(&pair.pod, "eth0"), [1, 1]);
        bench.attacher.counters().messages
    });
    assert!(listed[0] < listed[1], "{listed:?}");
}

#[test]
fn whose_qdisc_is_there_already_is_asked_for_what_sits_on_it() {
    for priority in EITHER {
        let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
        within(&pair.pod, "tc qdisc add dev eth0 clsact");
        foreign_filter(&pair.pod, "ingress", 1, 0);
        let interfaces = bench.attach_as(&pair.pod, priority);
        assert!(one_interface("eth0", Mechanism::Tcx)(&interfaces), "{priority:?}: {interfaces:?}");
        assert_eq!(our_filters(&pair.pod, "eth0"), [0, 0]);
        let counters = bench.attacher.counters();
        assert_eq!((counters.removed_programs, counters.failures), (0, 0), "{priority:?}");
    }
}
