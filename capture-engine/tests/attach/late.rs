//! What a namespace said before it was attached is counted, by its interfaces' own counters.

use crate::bench::{Bench, PATIENCE, POD};
use crate::place::{Pair, our_filters, ping_pong, within};
use capture_engine::attach::{AttachEvent, Mode, Priority};
use std::net::UdpSocket;
use std::sync::Arc;

fn attach_and_tell(bench: &Bench, pair: &Pair) -> u64 {
    bench.attacher.attach(POD, Arc::clone(&pair.pod), Priority::New).expect("room");
    bench.wait("Attached", |event| match event {
        AttachEvent::Attached { before, .. } => Some(before),
        _ => None,
    })
}

#[test]
fn packets_before_the_attachment_are_counted_and_those_after_are_not() {
    for mode in [Mode::Auto, Mode::Tcx] {
        let (pair, bench) = (Pair::new(), Bench::new(mode));
        // Of loopback, which nobody looks at.
        within(&pair.pod, "ip link set lo up");
        let talk_to_itself = || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
            let own = socket.local_addr().expect("address");
            (0..1000).for_each(|_| assert_eq!(socket.send_to(&[0; 8], own).expect("send"), 8));
        };
        pair.pod.run(|_| talk_to_itself()).expect("enter");
        ping_pong(&pair, 100);
        let before = attach_and_tell(&bench, &pair);
        assert!((200..600).contains(&before), "{mode:?}: {before} of 200, and what the kernel itself says");
        ping_pong(&pair, 500);
        assert_eq!(bench.attacher.counters().late_packets, 0, "{mode:?}");
        bench.detach(POD);
    }
}

#[test]
fn what_is_put_back_is_counted_as_removed_and_not_as_late() {
    let (pair, bench) = (Pair::new(), Bench::new(Mode::Auto));
    attach_and_tell(&bench, &pair);
    ping_pong(&pair, 100);
    within(&pair.pod, "tc qdisc del dev eth0 clsact");
    let deadline = std::time::Instant::now() + PATIENCE;
    while our_filters(&pair.pod, "eth0") != [1, 1] {
        assert!(std::time::Instant::now() < deadline, "not put back");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(bench.attacher.counters().late_packets, 0);
    bench.detach(POD);
}
