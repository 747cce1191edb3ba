//! Names of the cluster, down the stream by which agents push.

use crate::bed::{Companion, INSTANCES, TOKEN};
use bytes::Bytes;
use companion::serve::Telling;
use join::names::{Names, Shelf, Told};
use join::{Client, Feed, Link, Me};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// An agent wants names when its first push is due, too: neither makes the other one be left out.
#[tokio::test]
async fn who_wants_names_from_the_beginning_is_told_them() {
    let companion = Companion::new().await;
    let mut shelf = Shelf::new(100);
    shelf.put(Bytes::from_static(b"pod-of-the-cluster"), Bytes::from_static(b"{}"));
    shelf.commit();
    shelf.set_complete();
    let telling = Arc::new(Telling::new(Arc::new(Mutex::new(shelf)), 1 << 20));
    companion.push.set_telling(telling.clone());
    let stop = CancellationToken::new();
    tokio::spawn(telling.run(|| Duration::ZERO, stop.clone()));
    for agent in 0..20 {
        let (names, mut told) = Names::new();
        names.want(true);
        let instance = INSTANCES.fetch_add(1, Relaxed);
        let (node, feed) = (format!("n{agent}"), Feed::new(|put| put(b"a", b"1")));
        let link = Arc::new(Mutex::new(Link::new(Me::new("0.2.0", instance), &node, instance)));
        let ticket = companion.ca.ticket(companion.address, TOKEN);
        let client = Client::new(ticket, link, Arc::new(Mutex::new(feed))).with_names(Arc::new(names));
        tokio::spawn(client.run(stop.clone(), Arc::default()));
        let complete = async {
            while let Some(told) = told.recv().await {
                if told.contains(&Told::Complete) {
                    return;
                }
            }
        };
        assert!(timeout(Duration::from_secs(30), complete).await.is_ok(), "{node}: no names");
    }
    stop.cancel();
}
