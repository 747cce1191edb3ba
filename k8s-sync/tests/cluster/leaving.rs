//! By when pods of this node are to be gone.

use crate::bed::{Bed, pod, uid, wall};
use k8s_sync::cluster::object::{Pod, Resource};

fn leaving(number: u32, node: &str, by: u64) -> Pod {
    Pod { deleted_by: Some(wall(by)), node: Some(node.to_owned()), ..pod(number, "web", "10.0.0.5") }
}

#[test]
fn it_is_known_of_pods_of_this_node_alone_and_for_a_while_after_they_are_gone() {
    let mut bed = Bed::new();
    bed.cluster.follow_node("n1");
    bed.apply(pod(1, "web", "10.0.0.1")).apply(leaving(2, "n1", 30)).apply(leaving(3, "n2", 30));
    let by = |bed: &Bed, number| bed.cluster.names().deleted_by(uid(number));
    assert_eq!([1, 2, 3, 4].map(|number| by(&bed, number)), [None, Some(wall(30)), None, None]);
    // Somebody was in a hurry.
    bed.apply(leaving(2, "n1", 10));
    assert_eq!(by(&bed, 2), Some(wall(10)));
    bed.delete(Resource::Pods, 2);
    assert_eq!(by(&bed, 2), Some(wall(10)), "its containers' ends may be told later");
    bed.apply(Pod { static_uid: Some(uid(77)), ..leaving(5, "n1", 40) });
    assert_eq!(by(&bed, 77), Some(wall(40)), "as its containers call it");
    for number in 100..1_200 {
        bed.apply(leaving(number, "n1", 50));
    }
    assert_eq!((by(&bed, 2), by(&bed, 1_199)), (None, Some(wall(50))), "bounded");
}

#[test]
fn nothing_is_kept_where_the_node_has_no_name() {
    let mut bed = Bed::new();
    bed.apply(leaving(2, "n1", 30));
    assert_eq!(bed.cluster.names().deleted_by(uid(2)), None);
}
