//! Entering real namespaces. Needs root, and says so instead of skipping.

use netns::{Change, EnterError, IfAddress, InNetns, Netns, OpenError};
use nix::sched::{CloneFlags, unshare};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A new namespace without a name: it lives as long as the handle.
fn new_netns() -> Netns {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
        Netns::current().expect("open the new namespace")
    })
    .join()
    .expect("thread that makes a namespace")
}

/// A process in a namespace of its own.
fn process_in_new_netns() -> (Child, Netns) {
    let ours = Netns::current().expect("own namespace").id();
    let child = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("unshare (util-linux) starts");
    let mut netns = Netns::open_pid(child.id()).expect("the child lives");
    while netns.id() == ours {
        std::thread::yield_now();
        netns = Netns::open_pid(child.id()).expect("the child lives");
    }
    (child, netns)
}

fn end(mut child: Child) {
    child.kill().expect("kill own child");
    child.wait().expect("wait for own child");
}

fn ip(_: &InNetns<'_>, words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().expect("ip (iproute2) starts");
    assert!(done.success(), "ip {words}");
}

#[test]
fn what_runs_inside_sees_the_other_namespace_and_the_caller_keeps_its_own() {
    let ours = Netns::current().expect("own namespace").id();
    let other = new_netns();
    assert_ne!(other.id(), ours);
    let seen = other
        .run(|inside| (Netns::current().expect("inside").id(), inside.links().expect("links").len()))
        .expect("enter");
    assert_eq!(seen, (other.id(), 1), "a new namespace has its loopback and nothing else");
    assert_eq!(Netns::current().expect("own namespace").id(), ours);
}

#[test]
fn a_panic_inside_is_an_error_with_its_message_and_ends_only_its_own_thread() {
    let other = new_netns();
    let outcome = other.run(|_| panic!("bad namespace {}", 7));
    let Err(EnterError::Panicked { message, .. }) = outcome.map(|(): ()| ()) else { panic!("expected an error") };
    assert_eq!(message, "bad namespace 7");
    other.run(|_| ()).expect("the next entry works");
}

#[test]
fn links_and_addresses_are_listed() {
    let other = new_netns();
    other
        .run(|inside| {
            ip(inside, "link add pfa0 mtu 1400 type veth peer name pfa1");
            ip(inside, "link set pfa0 up");
            ip(inside, "link set pfa1 up");
            ip(inside, "address add 10.9.8.7/24 dev pfa0");
            ip(inside, "address add fd00::7/64 dev pfa0 nodad");
            let links = inside.links().expect("links");
            let veth = links.iter().find(|link| link.name == "pfa0").expect("the new link");
            assert_eq!((veth.mtu, veth.kind.as_deref(), veth.up(), veth.loopback()), (1400, Some("veth"), true, false));
            assert!(links.iter().any(|link| link.loopback() && link.name == "lo"));
            assert!(veth.link != 0 && !veth.leads_out(), "both ends are here: {veth:?}");
            let addresses = inside.addresses().expect("addresses");
            let has = |text: &str, prefix| {
                let ip: IpAddr = text.parse().expect("an address");
                addresses.contains(&IfAddress { index: veth.index, ip, prefix, scope: 0, leads_out: false })
            };
            assert!(has("10.9.8.7", 24) && has("fd00::7", 64), "{addresses:?}");
        })
        .expect("enter");
}

#[test]
fn what_is_joined_to_another_namespace_leads_out_and_nothing_else() {
    let (child, other) = process_in_new_netns();
    let pod = new_netns();
    pod.run(|inside| {
        ip(inside, &format!("link add eth0 type veth peer name pfp0 netns {}", child.id()));
        ip(inside, "link add net1 link eth0 type macvlan mode bridge");
        ip(inside, "link add pfa0 type veth peer name pfa1");
        ip(inside, "link add pfb0 type bridge");
        for (n, link) in ["lo", "eth0", "net1", "pfa0", "pfb0"].into_iter().enumerate() {
            ip(inside, &format!("address add 10.9.{n}.7/24 dev {link}"));
        }
        // Made upon the other namespace's: as Multus does it.
        ip(inside, "link add net2 link eth0 type macvlan mode bridge");
        ip(inside, &format!("link set net2 netns {}", child.id()));
        let (links, mut addresses) = (inside.links().expect("links"), inside.addresses().expect("addresses"));
        IfAddress::among(&mut addresses, &links);
        let leads_out: Vec<String> =
            addresses.iter().filter(|address| address.leads_out).map(|address| address.ip.to_string()).collect();
        assert_eq!(leads_out, ["10.9.1.7"], "{links:?}");
    })
    .expect("enter");
    let links = other.run(|inside| inside.links().expect("links")).expect("enter");
    let leads_out: Vec<&str> = links.iter().filter(|link| link.leads_out()).map(|link| link.name.as_str()).collect();
    assert_eq!(leads_out, ["pfp0", "net2"], "{links:?}");
    end(child);
}

#[test]
fn a_watch_opened_inside_tells_outside_what_changes() {
    let other = new_netns();
    let watch = other.run(|inside| inside.watch().expect("watch")).expect("enter");
    let mut changes = Vec::new();
    watch.drain(&mut changes).expect("drain");
    assert_eq!(changes, [], "nothing happened yet");

    other
        .run(|inside| {
            ip(inside, "link add pfa0 type veth peer name pfa1");
            ip(inside, "address add 10.9.8.7/24 dev pfa0");
            ip(inside, "link del pfa0");
        })
        .expect("enter");
    // The kernel queued the news before `ip` ended.
    watch.drain(&mut changes).expect("drain");
    let index = changes
        .iter()
        .find_map(|change| match change {
            Change::Link(link) if link.name == "pfa0" => Some(link.index),
            _ => None,
        })
        .expect("the new link");
    assert!(changes.iter().any(|change| matches!(change, Change::Address(address) if address.index == index)));
    assert!(changes.iter().any(|change| matches!(change, Change::AddressGone(address) if address.index == index)));
    assert!(changes.contains(&Change::LinkGone { index }));
    assert!(watch.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn news_that_found_no_room_is_told_as_missed() {
    let other = new_netns();
    let watch = other.run(|inside| inside.watch().expect("watch")).expect("enter");
    other
        .run(|inside| {
            ip(inside, "link add pfa0 type veth peer name pfa1");
            let script: String = (0..600).map(|n| format!("link set pfa0 mtu {}\n", 1000 + n)).collect();
            let path = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(path.path(), script).expect("write the batch");
            ip(inside, &format!("-batch {}", path.path().display()));
        })
        .expect("enter");
    let mut changes = Vec::new();
    let mut before = usize::MAX;
    while before != changes.len() {
        before = changes.len();
        watch.drain(&mut changes).expect("drain");
    }
    assert!(changes.contains(&Change::Missed), "{} changes, none missed", changes.len());
}

#[test]
fn a_process_that_ended_is_gone() {
    let (child, held) = process_in_new_netns();
    let pid = child.id();
    end(child);
    assert!(matches!(Netns::open_pid(pid), Err(OpenError::Gone { .. })));
    held.run(|_| ()).expect("a held namespace outlives its processes");
}

#[test]
fn a_file_that_is_no_network_namespace_is_refused_by_name() {
    assert!(matches!(
        Netns::open_path(Path::new("/proc/self/ns/mnt")).map(|netns| netns.run(|_| ())),
        Ok(Err(EnterError::SetNs { .. }))
    ));
    assert!(matches!(Netns::open_path(Path::new("/proc/version")), Err(OpenError::NotNetns { .. })));
    assert!(matches!(Netns::open_path(Path::new("/run/netns/pfa-nowhere")), Err(OpenError::Gone { .. })));
}

#[test]
fn a_thousand_targets_killed_mid_entry_leave_our_own_namespace_descriptors_and_threads_alone() {
    let count = |what| std::fs::read_dir(format!("/proc/self/{what}")).expect("procfs").count();
    let ours = Netns::current().expect("own namespace").id();
    let (descriptors, threads) = (count("fd"), count("task"));
    for _ in 0..1000 {
        let (child, netns) = process_in_new_netns();
        let links = netns.run(|inside| {
            end(child);
            inside.links().expect("the namespace is held").len()
        });
        assert_eq!(links.expect("enter"), 1);
        assert_eq!(Netns::current().expect("own namespace").id(), ours);
    }
    // Tests of this file run at the same time and hold a few of their own.
    assert!(count("fd") <= descriptors + 40, "descriptors grew from {descriptors} to {}", count("fd"));
    assert!(count("task") <= threads + 20, "threads grew from {threads} to {}", count("task"));
}

#[test]
fn a_namespace_has_one_cookie_whoever_asks_and_another_one_has_another() {
    let (one, other) = (new_netns(), new_netns());
    let cookie = |netns: &Netns| netns.run(|inside| inside.cookie()).expect("enter");
    // The kernels that this is tested on have it (5.14).
    assert!(cookie(&one).is_some());
    assert_eq!(cookie(&one), cookie(&one));
    assert_ne!(cookie(&one), cookie(&other));
}
