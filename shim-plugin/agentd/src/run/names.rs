//! The task that hands the names which the companion tells to the thread that keeps names.

use crate::serve::companion::Joining;
use join::names::Told;
use k8s_sync::cluster::object::{Change, Resource};
use k8s_sync::cluster::wire;
use k8s_sync::watch::{Inlet, Streamed};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_millis(500);

/// Until `stop` is cancelled, or nobody keeps names any more.
#[tracing::instrument(name = "names", skip_all)]
pub async fn run(joining: Arc<Joining>, inlet: Inlet, stop: CancellationToken) {
    let Some((names, mut told)) = joining.names.clone().zip(joining.told.lock().take()) else { return };
    let mut reading = Reading::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {
                let is_there = joining.group.first().lock().tells_names();
                inlet.set_there(is_there);
                names.want(inlet.is_wanted());
            }
            Some(messages) = told.recv() => {
                for streamed in reading.read(messages) {
                    if !inlet.tell(streamed).await {
                        return;
                    }
                }
                joining.names_unread.store(reading.unread, Relaxed);
            }
        }
    }
}

/// Makes what a companion tells what watches tell.
#[derive(Debug, Default)]
struct Reading {
    is_listing: bool,
    /// Names of another version.
    unread: u64,
}

impl Reading {
    fn read(&mut self, told: Vec<Told>) -> Vec<Streamed> {
        let (mut changes, mut age) = (Vec::new(), None);
        for told in told {
            match told {
                Told::Begun => {
                    self.is_listing = true;
                    changes.extend(Resource::ALL.map(Change::ListBegun));
                }
                Told::Put(key, value) => {
                    let object = wire::read_key(&key).and_then(|(resource, uid)| wire::read(resource, uid, &value));
                    match object {
                        Some(object) if self.is_listing => changes.push(Change::Listed(object)),
                        Some(object) => changes.push(Change::Applied(object)),
                        None => self.unread += 1,
                    }
                }
                Told::Gone(key) => match wire::read_key(&key) {
                    Some((resource, uid)) => changes.push(Change::Deleted(resource, uid)),
                    None => self.unread += 1,
                },
                Told::Complete => {
                    self.is_listing = false;
                    changes.extend(Resource::ALL.map(Change::ListEnded));
                }
                Told::Age(seconds) => age = Some(Duration::from_secs(seconds.into())),
            }
        }
        let changes = (!changes.is_empty()).then_some(Streamed::Changes(changes));
        changes.into_iter().chain(age.map(Streamed::Age)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use k8s_sync::cluster::object::{Node, Object, Uid};

    fn put(object: &Object) -> Told {
        let key = wire::key(object.resource(), object.uid());
        Told::Put(Bytes::copy_from_slice(&key), wire::value(object).into())
    }

    #[test]
    fn the_first_names_are_a_list_and_what_follows_are_changes() {
        let uid = Uid::parse("0f3ac1ee8d2b4a769c630d1f2a3b4c5d").expect("a uid");
        let node = Object::Node(Node { uid, name: "n1".to_owned(), addresses: Vec::new() });
        let mut reading = Reading::default();
        let first = reading.read(vec![Told::Begun, put(&node), Told::Complete, Told::Age(7)]);
        let mut expected: Vec<Change> = Resource::ALL.map(Change::ListBegun).to_vec();
        expected.push(Change::Listed(node.clone()));
        expected.extend(Resource::ALL.map(Change::ListEnded));
        assert_eq!(first, [Streamed::Changes(expected), Streamed::Age(Duration::from_secs(7))]);
        let gone = Told::Gone(Bytes::copy_from_slice(&wire::key(Resource::Nodes, uid)));
        let then = reading.read(vec![put(&node), gone]);
        assert_eq!(then, [Streamed::Changes(vec![Change::Applied(node), Change::Deleted(Resource::Nodes, uid)])]);
        // A kind of a later version, and an object that is none.
        let later = Told::Put(Bytes::from_static(&[9; 17]), Bytes::from_static(b"{}"));
        let none = Told::Put(Bytes::copy_from_slice(&wire::key(Resource::Nodes, uid)), Bytes::from_static(b"?"));
        assert!(reading.read(vec![later, none]).is_empty());
        assert_eq!(reading.unread, 2);
    }
}
