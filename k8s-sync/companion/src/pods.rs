//! Pods of namespace `shop`, for the tests of those who are told where pods run.

use k8s_sync::cluster::object::{Controller, Pod, Uid};

pub(crate) fn uid(n: u32) -> Uid {
    Uid::parse(&format!("{n:032x}")).unwrap()
}

/// Number `n`, of a kind of controller and its name.
pub(crate) fn pod(n: u32, controller: (&str, &str), node: &str) -> Pod {
    let controller = Some(Controller { kind: controller.0.into(), name: controller.1.into() });
    let (namespace, name) = ("shop".into(), format!("pod-{n}"));
    let template_hash = Some("5d4c".into());
    Pod { uid: uid(n), namespace, name, controller, template_hash, node: Some(node.into()), ..Pod::default() }
}

/// Of Deployment `web`.
pub(crate) fn web(n: u32, node: &str) -> Pod {
    pod(n, ("ReplicaSet", "web-5d4c"), node)
}
