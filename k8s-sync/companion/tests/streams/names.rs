//! Names of the cluster, down the stream by which agents push.

use crate::bed::{Companion, INSTANCES, TOKEN, wait};
use bytes::Bytes;
use companion::serve::Telling;
use join::names::{Names, Shelf, Told};
use join::{Client, Feed, Link, Me};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// An agent that wants names, and where they come out.
fn agent(companion: &Companion, node: &str, stop: &CancellationToken) -> Receiver<Vec<Told>> {
    let (names, told) = Names::new();
    names.want(true);
    let instance = INSTANCES.fetch_add(1, Relaxed);
    let feed = Feed::new(|put| put(b"a", b"1"));
    let link = Arc::new(Mutex::new(Link::new(Me::new("0.2.0", instance), node, instance)));
    let ticket = companion.ca.ticket(companion.address, TOKEN);
    let client = Client::new(ticket, link, Arc::new(Mutex::new(feed))).with_names(Arc::new(names));
    tokio::spawn(client.run(stop.clone(), Arc::default()));
    told
}

async fn is_complete(told: &mut Receiver<Vec<Told>>, patience: Duration) -> bool {
    let complete = async {
        while let Some(told) = told.recv().await {
            if told.contains(&Told::Complete) {
                return;
            }
        }
    };
    timeout(patience, complete).await.is_ok()
}

fn telling(companion: &Companion, shelf: &Arc<Mutex<Shelf>>, stop: &CancellationToken) -> Arc<Telling> {
    let telling = Arc::new(Telling::new(shelf.clone(), 1 << 20));
    companion.push.set_telling(telling.clone());
    tokio::spawn(telling.clone().run(|| Duration::ZERO, stop.clone()));
    telling
}

/// An agent wants names when its first push is due, too: neither makes the other one be left out.
#[tokio::test]
async fn who_wants_names_from_the_beginning_is_told_them() {
    let companion = Companion::new().await;
    let mut shelf = Shelf::new(100);
    shelf.put(Bytes::from_static(b"pod-of-the-cluster"), Bytes::from_static(b"{}"));
    shelf.commit();
    shelf.set_complete();
    let stop = CancellationToken::new();
    telling(&companion, &Arc::new(Mutex::new(shelf)), &stop);
    for number in 0..20 {
        let node = format!("n{number}");
        let mut told = agent(&companion, &node, &stop);
        assert!(is_complete(&mut told, Duration::from_secs(30)).await, "{node}: no names");
    }
    stop.cancel();
}

/// It waited for the next beat, ten seconds at most, where something had been told of before.
#[tokio::test]
async fn who_asked_before_everything_was_listed_is_told_when_it_is() {
    let (companion, stop) = (Companion::new().await, CancellationToken::new());
    let shelf = Arc::new(Mutex::new(Shelf::new(100)));
    let telling = telling(&companion, &shelf, &stop);
    let mut told = agent(&companion, "n1", &stop);
    wait("it has asked", || telling.counts().streams == 1).await;
    shelf.lock().put(Bytes::from_static(b"pod-of-the-cluster"), Bytes::from_static(b"{}"));
    wait("the first lists have come", || telling.counts().names == 1).await;
    assert!(!is_complete(&mut told, Duration::from_secs(1)).await);
    shelf.lock().set_complete();
    assert!(is_complete(&mut told, Duration::from_secs(5)).await, "no names");
    stop.cancel();
}
