//! What the table takes, in bytes that were asked for.

#[path = "../benches/cluster/cluster.rs"]
mod cluster;
#[path = "../benches/cluster/sys.rs"]
mod sys;

use cluster::Size;
use flow_model::Endpoint;
use k8s_sync::cluster::object::{Change, Object, Pod, Resource};
use k8s_sync::cluster::{Cluster, Limits};
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting::new();

/// One at a time: all bytes are in one count.
static ALONE: Mutex<()> = Mutex::new(());

// A fifth of the size that the budget is for: 30 MiB for 100,000 pods.
#[test]
fn a_pod_takes_300_bytes_with_all_that_belongs_to_it_and_a_list_again_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let large = cluster::LARGE;
    let size = Size { pods: large.pods / 5, services: large.services / 5, nodes: large.nodes / 5, ..large };
    let budget = size.pods as usize * (30 << 20) / 100_000;
    let before = ALLOCATOR.live();
    let mut table = Cluster::new(Limits { pods: 40_000, ..Limits::default() });
    table.follow_node("ip-10-88-0-7.ec2.internal");
    ALLOCATOR.forget_peak();
    size.list(&mut table, 10_000);
    let taken = ALLOCATOR.live() - before;
    assert!(taken <= budget, "{taken} of {budget} bytes");
    assert!(ALLOCATOR.peak() - before <= taken + budget / 20, "{} at a time", ALLOCATOR.peak() - before);

    ALLOCATOR.forget_peak();
    let version = table.names().version();
    size.list(&mut table, 10_100);
    assert_eq!(table.names().version(), version);
    assert!(ALLOCATOR.peak() - before <= taken + budget / 20, "{} at a time", ALLOCATOR.peak() - before);

    // Everything goes, and with it the memory.
    for resource in Resource::ALL {
        table.apply(Change::ListBegun(resource), cluster::moment(10_200));
        table.apply(Change::ListEnded(resource), cluster::moment(10_200));
    }
    for second in [20_000, 20_001] {
        table.forget(cluster::moment(second).mono);
    }
    let left = ALLOCATOR.live() - before;
    assert!(left <= budget / 5, "{left} bytes are left");
}

/// `cargo test -p k8s-sync --test memory -- --nocapture this_nodes` tells the figures.
#[test]
fn of_100_000_pods_only_this_nodes_have_their_probes_and_the_times_of_their_ends_kept() {
    const NODES: u32 = 909;
    const OWN: u32 = 100;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let size = Size { nodes: NODES, ..cluster::LARGE };
    let ends = || Some(cluster::moment(20_000).wall);
    let deleted = |number| Change::Applied(Object::Pod(Pod { deleted_by: ends(), ..size.pod(number) }));
    let taken = |node: Option<u32>| {
        let before = ALLOCATOR.live();
        let mut table = Cluster::new(Limits::default());
        if let Some(node) = node {
            table.follow_node(&Size::node_name(node));
        }
        size.list_of(Resource::Pods, &mut table, 10_000);
        (0..size.pods).for_each(|number| table.apply(deleted(number), cluster::moment(10_100)));
        let bytes = ALLOCATOR.live() - before;
        let names = table.names();
        let with_end = (0..size.pods).filter(|number| names.deleted_by(size.pod(*number).uid).is_some()).count();
        let asked = |number| Endpoint { ip: cluster::address(number), port: 8080 };
        let with_probes = (0..size.pods).filter(|number| names.probes_at(asked(*number)).is_some()).count();
        (bytes, [with_end, with_probes])
    };
    let (without, none) = taken(None);
    let (with, own) = taken(Some(OWN));
    let pods = (OWN..size.pods).step_by(NODES as usize).count();
    assert_eq!((none, own), ([0; 2], [pods; 2]));
    eprintln!(
        "100,000 pods: {:.1} MiB; probes and ends of {pods} of them: {} bytes",
        with as f64 / f64::from(1 << 20),
        with - without
    );
    assert_eq!(pods, 110);
    assert!(with <= 20 << 20, "{with} bytes");
    assert!(with - without <= pods << 10, "{} bytes for {pods} pods", with - without);
}
