//! What is watched, as bytes: a companion that watches for all tells agents of it.
//!
//! JSON with short names, empty fields left out. A field that a version does not know it passes
//! over; one that is missing has its default.

use crate::cluster::object::{EndpointSlice, Job, Node, Object, Pod, Resource, Service, Uid};
use serde::de::DeserializeOwned;

/// A resource and a uid.
pub type Key = [u8; 17];

/// How an object is called.
#[must_use]
pub fn key(resource: Resource, uid: Uid) -> Key {
    let mut key = [0; 17];
    key[0] = resource as u8;
    key[1..].copy_from_slice(&uid.bits().to_be_bytes());
    key
}

/// `None` for a resource that this version does not have.
#[must_use]
pub fn read_key(key: &[u8]) -> Option<(Resource, Uid)> {
    let (resource, uid) = key.split_first()?;
    let resource = Resource::ALL.into_iter().find(|known| *known as u8 == *resource)?;
    Some((resource, Uid::from_bits(u128::from_be_bytes(uid.try_into().ok()?))))
}

/// Without its uid, which the key has.
#[must_use]
pub fn value(object: &Object) -> Vec<u8> {
    let written = match object {
        Object::Pod(pod) => serde_json::to_vec(pod),
        Object::Service(service) => serde_json::to_vec(service),
        Object::EndpointSlice(slice) => serde_json::to_vec(slice),
        Object::Node(node) => serde_json::to_vec(node),
        Object::Job(job) => serde_json::to_vec(job),
    };
    debug_assert!(written.is_ok(), "plain data is always written");
    written.unwrap_or_default()
}

/// `None` for what is no such object.
#[must_use]
pub fn read(resource: Resource, uid: Uid, value: &[u8]) -> Option<Object> {
    fn of<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
        serde_json::from_slice(value).ok()
    }
    Some(match resource {
        Resource::Pods => Object::Pod(Pod { uid, ..of(value)? }),
        Resource::Services => Object::Service(Service { uid, ..of(value)? }),
        Resource::EndpointSlices => Object::EndpointSlice(EndpointSlice { uid, ..of(value)? }),
        Resource::Nodes => Object::Node(Node { uid, ..of(value)? }),
        Resource::Jobs => Object::Job(Job { uid, ..of(value)? }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::{Controller, Probe, ProbeKind, ServiceEndpoint};
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    fn uid(bits: u128) -> Uid {
        Uid::from_bits(bits)
    }

    fn check(object: &Object) {
        let key = key(object.resource(), object.uid());
        let (resource, uid) = read_key(&key).expect("a key");
        assert_eq!(read(resource, uid, &value(object)).as_ref(), Some(object));
    }

    fn probe() -> Probe {
        Probe { port: 8080, timeout_s: 1, failures: 3, grace_s: 30, ..Probe::default() }
    }

    fn pod() -> Pod {
        Pod {
            uid: uid(u128::MAX - 7),
            static_uid: Some(uid(3)),
            namespace: "shop".into(),
            name: "web-0".into(),
            node: Some("n1".into()),
            ips: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            host_network: true,
            ended: true,
            deleted_by: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(9)),
            started: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(7)),
            controller: Some(Controller { kind: "ReplicaSet".into(), name: "web".into() }),
            template_hash: Some("abc".into()),
            rollout_hash: Some("def".into()),
            ports: vec![80, 443],
            probes: Some(vec![
                Probe { container: "web".into(), kind: ProbeKind::Startup, path: "/up".into(), ..probe() },
                Probe { kind: ProbeKind::Liveness, ..probe() },
                probe(),
            ]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        check(&Object::Pod(pod()));
        check(&Object::Pod(Pod { uid: uid(1), ..Pod::default() }));
        check(&Object::Service(Service {
            uid: uid(2),
            cluster_ips: vec!["10.96.0.1".parse().unwrap()],
            external_name: Some("a.example".into()),
            ..Service::default()
        }));
        let end = ServiceEndpoint { addresses: vec!["10.0.0.7".parse().unwrap()], pod: Some(uid(9)) };
        check(&Object::EndpointSlice(EndpointSlice { uid: uid(3), endpoints: vec![end], ..EndpointSlice::default() }));
        check(&Object::Node(Node { uid: uid(4), name: "n1".into(), ..Node::default() }));
        check(&Object::Job(Job { uid: uid(5), cron_job: Some("nightly".into()), ..Job::default() }));
    }

    #[test]
    fn what_another_version_adds_is_passed_over_and_what_it_leaves_out_has_its_default() {
        let told = br#"{"ns":"shop","n":"web","later":{"x":[1]}}"#;
        let expected = Pod { uid: uid(1), namespace: "shop".into(), name: "web".into(), ..Pod::default() };
        assert_eq!(read(Resource::Pods, uid(1), told), Some(Object::Pod(expected)));
        assert_eq!(read_key(&[9; 17]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_object_or_none(key in proptest::collection::vec(any::<u8>(), 0..20), value in ".{0,60}") {
            if let Some((resource, uid)) = read_key(&key) {
                let _ = read(resource, uid, value.as_bytes());
            }
        }
    }
}
