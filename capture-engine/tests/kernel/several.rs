//! One packet that passes several interfaces of a pod is counted once: the attacher's choice with
//! the real programs, on every kind of interface that this kernel has. The virtual machines of
//! `cargo xtask kernel-test` have them all.

use crate::bed::{Bed, sh};
use crate::frames::{load, until};
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Priority};
use capture_engine::event::Sample;
use capture_engine::kernel::{Kernel, KernelConfig};
use flow_model::Slot;
use netns::Netns;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u16 = 50;

/// What a pod gets (its last line leaves `top`, the interface with the address), what its peer gets,
/// and where it is to be counted.
struct Scene {
    kind: &'static str,
    pod: &'static str,
    peer: &'static str,
    counted_at: &'static [&'static str],
}

const SCENES: [Scene; 6] = [
    Scene {
        kind: "bridge",
        pod: "ip link add top type bridge; ip link set eth0 master top",
        peer: "",
        counted_at: &["eth0"],
    },
    Scene {
        kind: "macvlan",
        pod: "ip link add link eth0 name top type macvlan mode bridge",
        peer: "",
        counted_at: &["eth0"],
    },
    Scene {
        kind: "vlan",
        pod: "ip link add link eth0 name top type vlan id 7",
        peer: "ip link add link eth0 name top type vlan id 7",
        counted_at: &["eth0"],
    },
    Scene {
        kind: "bond",
        pod: "ip link add top type bond mode active-backup miimon 10; ip link set eth0 down; ip link set eth0 master top",
        peer: "",
        counted_at: &["eth0"],
    },
    Scene {
        kind: "bond",
        pod: "ip link add bond7 type bond mode active-backup miimon 10; ip link set eth0 down; \
              ip link set eth0 master bond7; ip link set eth0 up; ip link set bond7 up; \
              ip link add link bond7 name top type vlan id 7",
        peer: "ip link add link eth0 name top type vlan id 7",
        counted_at: &["eth0"],
    },
    Scene {
        kind: "ipvlan",
        pod: "ip link add link eth0 name top type ipvlan mode l2",
        peer: "",
        counted_at: &["eth0"],
    },
];

fn path(netns: &Netns) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd())
}

/// Whether the kernel has such interfaces.
fn has(netns: &Netns, kind: &str) -> bool {
    let below = if ["bridge", "bond"].contains(&kind) { "" } else { "link eth0" };
    let id = if kind == "vlan" { "id 1" } else { "" };
    let words = format!("ip link add {below} name probe type {kind} {id} && ip link del probe");
    let target = format!("--net={}", path(netns));
    let output = Command::new("nsenter").args([&target, "sh", "-c", &words]).output().expect("nsenter");
    let said = String::from_utf8_lossy(&output.stderr);
    let unknown = ["Unknown device type", "not supported"].iter().any(|words| said.contains(words));
    assert!(output.status.success() || unknown, "{kind}: {said}");
    output.status.success()
}

fn lay_out(scene: &Scene, bed: &Bed) {
    for (netns, script, address) in [(&bed.pod, scene.pod, "10.78.0.1/24"), (&bed.peer, scene.peer, "10.78.0.2/24")] {
        let top = if script.is_empty() { "eth0" } else { "top" };
        let make = if script.is_empty() { ":" } else { script };
        sh(&format!(
            "nsenter --net={} sh -ec '{make}; ip link set eth0 up; ip link set {top} up; ip address add {address} dev {top}'",
            path(netns)
        ));
    }
}

/// Datagrams there and back, each sent again until it is answered where `patient`.
fn talk(bed: &Bed, port: u16, rounds: u16, patient: bool) {
    let open =
        |netns: &Netns, address| netns.run(|_| UdpSocket::bind((address, port)).expect("bind")).expect("a thread");
    let (pod, peer) = (open(&bed.pod, "10.78.0.1"), open(&bed.peer, "10.78.0.2"));
    let wait = if patient { Duration::from_millis(200) } else { PATIENCE };
    for socket in [&pod, &peer] {
        socket.set_read_timeout(Some(wait)).expect("timeout");
    }
    let mut buffer = [0; 64];
    for _ in 0..rounds {
        until("an answer", || {
            pod.send_to(b"there", ("10.78.0.2", port)).is_ok()
                && peer.recv_from(&mut buffer).is_ok()
                && peer.send_to(b"back", ("10.78.0.1", port)).is_ok()
                && pod.recv_from(&mut buffer).is_ok()
        });
    }
}

fn flows(kernel: &Kernel, port: u16) -> Vec<Sample> {
    let mut sampler = kernel.sampler();
    let mut found = Vec::new();
    loop {
        let page = sampler.turn(1024).expect("a page");
        found.extend(page.samples().filter(|sample| sample.key.tuple.local.port == port));
        if page.last {
            return found;
        }
    }
}

#[test]
fn each_packet_is_counted_once_whichever_interfaces_it_passes() {
    let mut missing = Vec::new();
    for scene in SCENES {
        let bed = Bed::new();
        if !has(&bed.pod, scene.kind) {
            missing.push(scene.kind);
            continue;
        }
        lay_out(&scene, &bed);
        let kernel = Arc::new(load(&KernelConfig { ring_bytes: 1 << 20, flows: 256, ..Default::default() }));
        let (tell, events) = channel();
        let attacher =
            Attacher::start(AttachConfig::default(), Arc::clone(&kernel) as _, move |event| drop(tell.send(event)));
        let attacher = attacher.expect("start");
        let netns = Arc::new(Netns::open_path(Path::new(&path(&bed.pod))).expect("open"));
        attacher.attach(Slot(7), netns, Priority::Urgent).expect("room");
        match events.recv_timeout(PATIENCE).expect("an event") {
            AttachEvent::Attached { interfaces, .. } => {
                let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
                assert_eq!(names, scene.counted_at, "{}", scene.pod);
            }
            other => panic!("{other:?}"),
        }
        // Until carrier and neighbours are there.
        talk(&bed, 7000, 1, true);
        talk(&bed, 7001, ROUNDS, false);
        let seen: Vec<[u64; 2]> = flows(&kernel, 7001).iter().map(|flow| flow.counters.packets).collect();
        assert_eq!(seen, [[u64::from(ROUNDS); 2]], "{}", scene.pod);
        assert_eq!(attacher.shutdown(PATIENCE), 0);
    }
    // A kernel that is built without modules may lack some; one with modules has them all.
    missing.dedup();
    eprintln!("this kernel has no {missing:?}");
    let allowed: &[&str] = if Path::new("/proc/modules").exists() { &[] } else { &["vlan", "bond", "ipvlan"] };
    assert!(missing.iter().all(|kind| allowed.contains(kind)), "{missing:?}");
}
