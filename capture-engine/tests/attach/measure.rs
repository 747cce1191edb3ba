//! The figures of `docs/decisions/0002-attach-clsact-first.md`.

use crate::bench::{Bench, POD};
use crate::place::{new_netns, path, within};
use capture_engine::attach::{AttachEvent, Mode, Priority};
use flow_model::Slot;
use netns::Netns;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `cargo test -p capture-engine --test attach -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure() {
    let root = new_netns();
    let wired = |number| {
        let netns = new_netns();
        within(&netns, &format!("ip link add eth0 type veth peer name v{number} netns {}", path(&root)));
        within(&netns, "ip link set eth0 up");
        netns
    };
    let many: Vec<Arc<Netns>> = (0..500).map(wired).collect();
    let late = wired(500);
    for mode in [Mode::Clsact, Mode::Auto, Mode::Tcx] {
        let bench = Bench::new(mode);
        let mut single: Vec<Duration> = (0..if mode == Mode::Tcx { 60 } else { 1000 })
            .map(|_| {
                bench.attacher.attach(POD, Arc::clone(&many[0]), Priority::Urgent).expect("room");
                let took = bench.wait_attached();
                bench.detach(POD);
                took
            })
            .collect();
        single.sort();
        let at = |share: f64| single[((single.len() - 1) as f64 * share) as usize];
        eprintln!(
            "{mode:?}: one namespace, {} times: p50 {:?} p99 {:?} max {:?}",
            single.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );

        let start = Instant::now();
        for (number, netns) in (1000..).zip(&many) {
            bench.attacher.attach(Slot(number), Arc::clone(netns), Priority::Background).expect("room");
        }
        bench.attacher.attach(POD, Arc::clone(&late), Priority::Urgent).expect("room");
        let mut urgent = None;
        for _ in 0..=many.len() {
            let took = bench.wait("Attached", |event| match event {
                AttachEvent::Attached { slot: POD, took, .. } => Some(Some(took)),
                AttachEvent::Attached { .. } => Some(None),
                _ => None,
            });
            urgent = urgent.or(took);
        }
        eprintln!("{mode:?}: 500 namespaces in {:?}; a new one in between took {urgent:?}", start.elapsed());
        let (start, entries) = (Instant::now(), bench.attacher.counters().entries);
        (1000..).zip(&many).for_each(|(number, _)| bench.attacher.recheck(Slot(number)));
        while bench.attacher.counters().entries < entries + 500 || bench.attacher.backlog() > 0 {
            std::thread::yield_now();
        }
        eprintln!("{mode:?}: 500 looked at again in {:?}", start.elapsed());
        let start = Instant::now();
        assert_eq!(bench.attacher.shutdown(Duration::from_secs(60)), 0);
        eprintln!("{mode:?}: 501 detached in {:?}", start.elapsed());
    }
}
