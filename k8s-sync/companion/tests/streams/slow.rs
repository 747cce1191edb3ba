//! A node behind a slow network: names come for a long time, and pushes are answered meanwhile.

use crate::bed::{Companion, INSTANCES, TOKEN, wait};
use bytes::Bytes;
use companion::serve::Telling;
use join::names::{Names, Shelf};
use join::{Client, Feed, Link, Me, Token};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Bytes in each tenth of a second, to the agent.
const TENTH: usize = 20_000;
/// 4 MB that cannot be compressed: 20 s.
const NAMES: usize = 2_000;

async fn slow_way_to(companion: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((agent, _)) = listener.accept().await {
            let (mut from_agent, mut to_agent) = agent.into_split();
            let (mut from_companion, mut to_companion) = TcpStream::connect(companion).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_agent, &mut to_companion).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; TENTH];
                while let Ok(count @ 1..) = from_companion.read(&mut bytes).await {
                    if to_agent.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100).mul_f64(count as f64 / TENTH as f64)).await;
                }
            });
        }
    });
    address
}

/// Answers waited behind all that two buffers and a window of 2 MiB held, and the agent took the companion for silent.
#[tokio::test]
async fn pushes_are_answered_while_names_come_slowly() {
    let (companion, stop) = (Companion::new().await, CancellationToken::new());
    let mut shelf = Shelf::new(NAMES);
    for number in 0..NAMES {
        let random: Vec<u8> = (0..64).flat_map(|_| Token::random().unwrap().hash().bytes()).collect();
        shelf.put(Bytes::from(format!("pod-{number}")), random.into());
    }
    shelf.commit();
    shelf.set_complete();
    let telling = Arc::new(Telling::new(Arc::new(Mutex::new(shelf)), 32 << 20));
    companion.push.set_telling(telling.clone());
    tokio::spawn(telling.run(|| Duration::ZERO, stop.clone()));

    let (names, mut told) = Names::new();
    names.want(true);
    let names = Arc::new(names);
    let instance = INSTANCES.fetch_add(1, Relaxed);
    let link = Arc::new(Mutex::new(Link::new(Me::new("0.2.0", instance), "n1", instance)));
    let ticket = companion.ca.ticket(slow_way_to(companion.address).await, TOKEN);
    let feed = Arc::new(Mutex::new(Feed::new(|put| put(b"a", b"1"))));
    let client = Client::new(ticket, link.clone(), feed).with_names(names.clone());
    tokio::spawn(client.run(stop.clone(), Arc::default()));
    tokio::spawn(async move { while told.recv().await.is_some() {} });
    wait("all names have come", || names.counts().0 == NAMES).await;
    let counts = link.lock().counts();
    assert_eq!((counts.dials, counts.cut), (1, 0), "{counts:?} {:?}", link.lock().why());
    assert!(counts.answered >= 3, "{counts:?}");
    stop.cancel();
}
