//! The attachment with the real programs: both ends of a conversation are counted, each under its
//! own slot, exactly once.

use crate::bench::{PATIENCE, POD};
use crate::place::{Pair, has_clsact, ping_pong, within};
use crate::removed::until;
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Mode, Priority};
use capture_engine::event::FlowKey;
use capture_engine::kernel::{Kernel, KernelConfig, class_of};
use flow_model::{Endpoint, FiveTuple, Slot, Transport};
use netns::Netns;
use std::sync::Arc;
use std::sync::mpsc::channel;

const PEER: Slot = Slot(8);
/// The last one that a filter's class can say, and the first that it cannot.
const LAST_SHARED: Slot = Slot(0xffdf);
const FIRST_OF_ITS_OWN: Slot = Slot(0xffe0);

#[test]
fn the_real_programs_count_each_packet_once_at_either_end_by_either_mechanism() {
    for (mode, slots) in
        [(Mode::Clsact, [POD, PEER]), (Mode::Tcx, [POD, PEER]), (Mode::Clsact, [LAST_SHARED, FIRST_OF_ITS_OWN])]
    {
        let pair = Pair::new();
        let kernel = Arc::new(Kernel::load(&KernelConfig::default()).expect("load the programs: run this as root"));
        let (tell, events) = channel();
        let config = AttachConfig { mode, ..AttachConfig::default() };
        let attacher = Attacher::start(config, Arc::clone(&kernel) as _, move |event| drop(tell.send(event)));
        let attacher = attacher.expect("start");
        for (slot, netns) in slots.into_iter().zip([&pair.pod, &pair.peer]) {
            attacher.attach(slot, Arc::clone(netns), Priority::Urgent).expect("room");
        }
        for _ in 0..2 {
            let event = events.recv_timeout(PATIENCE).expect("an event");
            assert!(matches!(event, AttachEvent::Attached { .. }), "{mode:?}: {event:?}");
        }

        let ports = ping_pong(&pair, 100);
        let end = |last, port| Endpoint { ip: [10, 77, 0, last].into(), port };
        let [pod, peer] = [end(1, ports[0]), end(2, ports[1])];
        for (slot, local, remote) in [(slots[0], pod, peer), (slots[1], peer, pod)] {
            let key = FlowKey { slot, tuple: FiveTuple { transport: Transport::Udp, local, remote } };
            let flow = kernel.sampler().lookup(&key).expect("read the table").expect("the flow is there");
            assert_eq!(flow.counters.packets, [100, 100], "{mode:?} {slot:?}");
        }
        if mode == Mode::Clsact {
            let programs = [&pair.pod, &pair.peer].map(|netns| programs_of(netns));
            let shares = slots.map(|slot| class_of(slot).is_some());
            assert_eq!(programs[0] == programs[1], shares == [true, true], "{programs:?}");
        }
        let stubs = || kernel.programs().expect("programs").iter().map(|program| program.stubs).collect::<Vec<_>>();
        assert_eq!(stubs(), [2, 2], "{mode:?} {slots:?}: one for each interface, whoever shares it");
        assert_eq!(attacher.shutdown(PATIENCE), 0);
        until("no stub is left", || stubs() == [0, 0]);
        assert!(!has_clsact(&pair.pod, "eth0") && !has_clsact(&pair.peer, "eth0"));
    }
}

/// Numbers of the programs that our filters run, as `tc` has them.
fn programs_of(netns: &Netns) -> Vec<String> {
    let shown = ["ingress", "egress"].map(|dir| within(netns, &format!("tc filter show dev eth0 {dir}")));
    let words: Vec<&str> = shown.iter().flat_map(|text| text.split_whitespace()).collect();
    words.windows(2).filter(|pair| pair[0] == "id").map(|pair| pair[1].to_owned()).collect()
}
