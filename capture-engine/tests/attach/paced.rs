//! Background work that is told to wait: what goes before it all the same.

use crate::bench::PATIENCE;
use crate::counting::Counting;
use crate::place::{has_clsact, new_netns, our_filters, within};
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Priority};
use flow_model::{Pace, Slot};
use netns::Netns;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Opened by the test.
#[derive(Debug, Default)]
struct Gate {
    is_open: AtomicBool,
    asked: AtomicU64,
}

impl Pace for Gate {
    fn wait(&self, _waited: Duration) -> Option<Duration> {
        self.asked.fetch_add(1, SeqCst);
        (!self.is_open.load(SeqCst)).then_some(Duration::from_millis(1))
    }
}

fn pod() -> Arc<Netns> {
    let netns = new_netns();
    within(&netns, "ip link add eth0 type veth peer name eth1");
    netns
}

fn attached(events: &Receiver<AttachEvent>) -> Slot {
    loop {
        match events.recv_timeout(PATIENCE).expect("an event") {
            AttachEvent::Attached { slot, .. } => return slot,
            AttachEvent::Failed { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
}

#[test]
fn a_backlog_that_is_told_to_wait_lets_all_others_pass_and_goes_on_when_it_may() {
    let gate = Arc::new(Gate::default());
    let (tell, events) = channel();
    let pace = Some(gate.clone() as Arc<dyn Pace>);
    let config = AttachConfig { pace, ..AttachConfig::default() };
    let attacher =
        Attacher::start(config, Arc::new(Counting::new()), move |event| drop(tell.send(event))).expect("start");
    let (old, new, urgent) = ([pod(), pod()], pod(), pod());
    for (slot, netns) in [Slot(1), Slot(2)].into_iter().zip(&old) {
        attacher.attach(slot, netns.clone(), Priority::Background).expect("room");
    }
    let deadline = Instant::now() + PATIENCE;
    while gate.asked.load(SeqCst) < 3 {
        assert!(Instant::now() < deadline, "nobody asks");
        std::thread::yield_now();
    }
    attacher.attach(Slot(3), new.clone(), Priority::New).expect("room");
    assert_eq!(attached(&events), Slot(3));
    attacher.attach(Slot(4), urgent.clone(), Priority::Urgent).expect("room");
    assert_eq!(attached(&events), Slot(4));
    assert!(old.iter().all(|netns| our_filters(netns, "eth0") == [0, 0]), "the backlog waits");

    // Detaching waits for nobody either.
    attacher.detach(Slot(3));
    let deadline = Instant::now() + PATIENCE;
    while has_clsact(&new, "eth0") {
        assert!(Instant::now() < deadline, "the detached one waits");
        std::thread::yield_now();
    }

    gate.is_open.store(true, SeqCst);
    assert_eq!([attached(&events), attached(&events)], [Slot(1), Slot(2)]);
    assert!(old.iter().all(|netns| our_filters(netns, "eth0") == [1, 1]));
    assert_eq!(attacher.shutdown(PATIENCE), 0);
}

#[test]
fn an_end_does_not_wait_for_a_backlog_that_is_told_to_wait() {
    let config = AttachConfig { pace: Some(Arc::new(Gate::default())), ..AttachConfig::default() };
    let attacher = Attacher::start(config, Arc::new(Counting::new()), drop).expect("start");
    attacher.attach(Slot(1), pod(), Priority::Background).expect("room");
    assert_eq!(attacher.shutdown(PATIENCE), 0);
}
