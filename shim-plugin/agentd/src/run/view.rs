//! As whom the program is told the paths of cgroups: as the node, also in a pod. A pod has a cgroup
//! namespace of its own where cgroups are of version 2.

use crate::run::alarm::{KTHREADD, sees_the_nodes_processes};

/// The first process of the node, or of what stands for one.
const INIT: u32 = 1;

/// For this thread and those that it starts. Without the right, paths are told as they are told.
pub fn as_the_node() {
    // A security module may keep us from the first process, and from no thread of the kernel.
    let entered = netns::see_cgroups_as(INIT).or_else(|error| match sees_the_nodes_processes() {
        true => netns::see_cgroups_as(KTHREADD),
        false => Err(error),
    });
    drop(entered);
}
