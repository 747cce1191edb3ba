//! What the table takes, in bytes that were asked for.

#[path = "../benches/cluster/cluster.rs"]
mod cluster;
#[path = "../benches/cluster/sys.rs"]
mod sys;

use cluster::Size;
use k8s_sync::cluster::object::{Change, Resource};
use k8s_sync::cluster::{Cluster, Limits};

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting::new();

// A fifth of the size that the budget is for: 30 MiB for 100,000 pods.
#[test]
fn a_pod_takes_300_bytes_with_all_that_belongs_to_it_and_a_list_again_nothing() {
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
