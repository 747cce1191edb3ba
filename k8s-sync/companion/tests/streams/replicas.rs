//! Several replicas of one companion: each has every agent.

use crate::bed::{Companion, Everywhere, TOKEN, wait};
use join::Reason;

fn replaced(companions: &[&Companion]) -> u64 {
    companions.iter().map(|companion| companion.counts().refused[Reason::Replaced.index()]).sum()
}

#[tokio::test]
async fn an_agent_pushes_to_each_replica_that_is_ready() {
    let first = Companion::new().await;
    let (second, third) = (Companion::beside(&first, 2).await, Companion::beside(&first, 3).await);
    first.set_others(&[&second]);
    let agent = Everywhere::join("n1", first.ca.ticket(first.address, TOKEN));
    let has = |companion: &Companion| companion.copy("n1") == *agent.series.lock();
    wait("both have it", || has(&first) && has(&second)).await;
    assert_eq!(agent.group.open(), 2);
    // One becomes ready, another is ready no more.
    first.set_others(&[&third]);
    wait("the third has it", || has(&third)).await;
    // With it the stream to the second ended. What is counted before that goes there, too.
    agent.series.lock().insert("a".to_owned(), "2".to_owned());
    wait("both have what is new", || has(&first) && has(&third)).await;
    wait("two streams", || agent.group.open() == 2).await;
    assert!(!has(&second));
    agent.stop.cancel();
    wait("no stream", || agent.group.open() == 0).await;
    assert_eq!(replaced(&[&first, &second, &third]), 0);
    assert!(agent.group.counts().answered >= 4);
}

#[tokio::test]
async fn a_replica_that_tells_of_itself_by_mistake_keeps_one_stream() {
    let first = Companion::new().await;
    first.set_others(&[&first]);
    let agent = Everywhere::join("n1", first.ca.ticket(first.address, TOKEN));
    wait("it was dialled twice", || replaced(&[&first]) == 1).await;
    let pushes = first.counts().pushes;
    wait("one stream goes on", || first.counts().pushes > pushes + 3).await;
    assert_eq!((agent.group.open(), replaced(&[&first])), (1, 1));
    agent.stop.cancel();
}

#[tokio::test]
async fn the_others_go_on_while_the_first_is_away() {
    let first = Companion::new().await;
    let second = Companion::beside(&first, 3).await;
    first.set_others(&[&second]);
    let agent = Everywhere::join("n1", first.ca.ticket(first.address, TOKEN));
    wait("both", || agent.group.open() == 2).await;
    let first = first.restarted().await;
    agent.series.lock().insert("a".to_owned(), "2".to_owned());
    wait("the second heard", || second.copy("n1") == *agent.series.lock()).await;
    wait("the first is back", || first.copy("n1") == *agent.series.lock()).await;
    agent.stop.cancel();
}
