//! The attachment with the real programs: both ends of a conversation are counted, each under its
//! own slot, exactly once.

use crate::bench::{PATIENCE, POD};
use crate::place::{Pair, has_clsact, ping_pong};
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Mode, Priority};
use capture_engine::event::FlowKey;
use capture_engine::kernel::{Kernel, KernelConfig};
use flow_model::{Endpoint, FiveTuple, Slot, Transport};
use std::sync::Arc;
use std::sync::mpsc::channel;

const PEER: Slot = Slot(8);

#[test]
fn the_real_programs_count_each_packet_once_at_either_end_by_either_mechanism() {
    for mode in [Mode::Clsact, Mode::Tcx] {
        let pair = Pair::new();
        let kernel = Arc::new(Kernel::load(&KernelConfig::default()).expect("load the programs: run this as root"));
        let (tell, events) = channel();
        let config = AttachConfig { mode, ..AttachConfig::default() };
        let attacher = Attacher::start(config, Arc::clone(&kernel) as _, move |event| drop(tell.send(event)));
        let attacher = attacher.expect("start");
        for (slot, netns) in [(POD, &pair.pod), (PEER, &pair.peer)] {
            attacher.attach(slot, Arc::clone(netns), Priority::Urgent).expect("room");
        }
        for _ in 0..2 {
            let event = events.recv_timeout(PATIENCE).expect("an event");
            assert!(matches!(event, AttachEvent::Attached { .. }), "{mode:?}: {event:?}");
        }

        let ports = ping_pong(&pair, 100);
        let end = |last, port| Endpoint { ip: [10, 77, 0, last].into(), port };
        let [pod, peer] = [end(1, ports[0]), end(2, ports[1])];
        for (slot, local, remote) in [(POD, pod, peer), (PEER, peer, pod)] {
            let key = FlowKey { slot, tuple: FiveTuple { transport: Transport::Udp, local, remote } };
            let flow = kernel.sampler().lookup(&key).expect("read the table").expect("the flow is there");
            assert_eq!(flow.counters.packets, [100, 100], "{mode:?} {slot:?}");
        }
        assert_eq!(attacher.shutdown(PATIENCE), 0);
        assert!(!has_clsact(&pair.pod, "eth0") && !has_clsact(&pair.peer, "eth0"));
    }
}
