//! A node gets a credential of its own with the join token, once.

use crate::bed::{Agent, Companion, Everywhere, TOKEN, wait};
use crate::cluster::Cluster;
use crate::raw;
use bytes::Bytes;
use companion::book::{Pages, Shown, Which};
use companion::serve::desk::{Desk, Place};
use join::message::{Hello, Says};
use join::{Kept, Me, Reason, Token, TokenHash};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const TAKEN: &str = "node \"n1\" has joined with a credential that this agent does not have: if it is this machine, \
                     an admin runs `pilotfish-companion join --reset` for it";

fn disk(node: &str) -> Arc<Mutex<Kept>> {
    Arc::new(Mutex::new(Kept::new(node).unwrap()))
}

fn hash(disk: &Mutex<Kept>) -> TokenHash {
    disk.lock().credential.hash()
}

async fn told(agent: &Agent, words: &str) {
    wait(words, || agent.why().is_some_and(|why| why.ends_with(words))).await;
}

fn refused(companion: &Companion, reason: Reason) -> u64 {
    companion.counts().refused[reason.index()]
}

#[tokio::test]
async fn a_node_gets_one_once_and_another_join_token_does_not_touch_it() {
    let (companion, cluster) = (Companion::new().await, Cluster::new());
    cluster.serve(&companion, &["n1"], NOW);
    let (ticket, disk) = (companion.ca.ticket(companion.address, TOKEN), disk("n1"));
    let agent = Agent::keeping("n1", ticket.clone(), disk.clone());
    wait("it pushes", || companion.copy("n1") == agent.series()).await;
    assert!(agent.link.lock().has_credential() && disk.lock().joined);
    assert_eq!(cluster.hash("n1"), Some(hash(&disk)));
    companion.push.set_token(Token::new("another-token-of-this-cluster").unwrap().hash());
    agent.task.abort();
    let agent = Agent::keeping("n1", ticket.clone(), disk.clone());
    agent.set("a", "5");
    wait("it pushes again", || companion.copy("n1") == agent.series()).await;
    assert_eq!((cluster.writes.load(Relaxed), cluster.reads.load(Relaxed)), (1, 0));
    assert_eq!(companion.counts().refused, [0; Reason::ALL.len()]);
    // Who has not joined needs the new one.
    let late = Agent::keeping("n1", ticket, self::disk("n1"));
    told(&late, "take a new join.toml from it").await;
    agent.stop.cancel();
}

#[tokio::test]
async fn a_second_machine_of_the_name_is_refused_until_an_admin_ends_the_first() {
    let (companion, cluster) = (Companion::new().await, Cluster::new());
    cluster.serve(&companion, &["n1"], NOW);
    let ticket = companion.ca.ticket(companion.address, TOKEN);
    let (disks, old) = ([disk("n1"), disk("n1")], companion.ca.ticket(companion.address, TOKEN));
    let first = Agent::keeping("n1", ticket.clone(), disks[0].clone());
    wait("the first", || companion.copy("n1").len() == 2).await;
    let second = Agent::keeping("n1", ticket.clone(), disks[1].clone());
    told(&second, TAKEN).await;
    // One of a version before has nothing to show but the token.
    let third = Agent::join("n1", old);
    told(&third, TAKEN).await;
    assert_eq!((refused(&companion, Reason::Taken), refused(&companion, Reason::Replaced)), (2, 0));
    assert_eq!((cluster.writes.load(Relaxed), first.why()), (1, None));
    second.task.abort();
    third.task.abort();

    first.task.abort();
    cluster.end("n1");
    let second = Agent::keeping("n1", ticket.clone(), disks[1].clone());
    second.set("b", "9");
    wait("the second", || companion.copy("n1") == second.series()).await;
    let first = Agent::keeping("n1", ticket, disks[0].clone());
    told(&first, TAKEN).await;
    assert_eq!((cluster.hash("n1"), second.why()), (Some(hash(&disks[1])), None));
}

#[tokio::test]
async fn a_credential_that_was_ended_ends_its_stream_and_its_node_gets_another() {
    let (companion, cluster) = (Companion::new().await, Cluster::new());
    cluster.serve(&companion, &["n1"], NOW);
    let (ticket, disk) = (companion.ca.ticket(companion.address, TOKEN), disk("n1"));
    let agent = Agent::keeping("n1", ticket.clone(), disk.clone());
    wait("it pushes", || companion.copy("n1").len() == 2).await;
    let stolen = disk.lock().clone();
    let old = hash(&disk);
    cluster.end("n1");
    wait("it has another", || cluster.hash("n1").is_some_and(|hash| hash != old)).await;
    assert_eq!((cluster.hash("n1"), refused(&companion, Reason::Ended)), (Some(hash(&disk)), 1));
    wait("that is kept", || disk.lock().joined).await;
    agent.set("a", "7");
    wait("it pushes", || companion.copy("n1") == agent.series()).await;
    // Whoever has the old one, and no join token.
    let mut ticket = ticket;
    (ticket.token, ticket.own) = (None, Some(("n1".to_owned(), stolen.credential)));
    let thief = Agent::join("n1", ticket);
    told(&thief, "take a new join.toml from it").await;
    assert_eq!(agent.why(), None);
}

#[tokio::test]
async fn each_replica_takes_what_another_gave_however_late_it_hears() {
    let (first, cluster) = (Companion::new().await, Cluster::new());
    let second = Companion::beside(&first, 2).await;
    cluster.serve(&first, &["n1"], NOW);
    cluster.serve(&second, &["n1"], Duration::from_millis(700));
    first.set_others(&[&second]);
    let agent = Everywhere::keeping("n1", first.ca.ticket(first.address, TOKEN), disk("n1"));
    wait("both", || agent.group.open() == 2).await;
    wait("a push to each", || [&first, &second].iter().all(|one| one.copy("n1").len() == 1)).await;
    assert_eq!((cluster.pages().entries.len(), cluster.writes.load(Relaxed)), (1, 1));
    assert_eq!([refused(&first, Reason::Token), refused(&second, Reason::Token)], [0, 0]);
    agent.stop.cancel();
}

#[tokio::test]
async fn neighbouring_versions_work_together_both_ways() {
    let (companion, cluster) = (Companion::new().await, Cluster::new());
    cluster.serve(&companion, &["n1"], NOW);
    let ticket = companion.ca.ticket(companion.address, TOKEN);
    // An agent of the version before joins by the token alone; its successor gets a credential.
    let old = Agent::join("n1", ticket.clone());
    wait("the old agent", || companion.copy("n1").len() == 2).await;
    assert!(!old.link.lock().has_credential() && cluster.pages().entries.is_empty());
    old.task.abort();
    let disk = disk("n1");
    let new = Agent::keeping("n1", ticket, disk.clone());
    new.set("a", "8");
    wait("the new agent", || companion.copy("n1") == new.series()).await;
    assert_eq!(cluster.hash("n1"), Some(hash(&disk)));
    new.stop.cancel();
    // A companion of the version before knows of no credentials.
    let before = Companion::new().await;
    let agent = Agent::keeping("n1", before.ca.ticket(before.address, TOKEN), disk);
    wait("it pushes by the token", || before.copy("n1") == agent.series()).await;
    assert!(!agent.link.lock().has_credential() && refused(&before, Reason::Token) == 1);
    agent.stop.cancel();
}

#[tokio::test]
async fn a_name_that_is_none_or_unknown_gets_nothing() {
    let (companion, cluster) = (Companion::new().await, Cluster::new());
    cluster.serve(&companion, &["n1"], NOW);
    let long = "n".repeat(254);
    for node in ["n9", "", "N 1", "n1\u{1b}[2J", "n1\0", &long] {
        let agent = Agent::keeping(node, companion.ca.ticket(companion.address, TOKEN), disk(node));
        wait("it is told why", || agent.why().is_some()).await;
        let why = agent.why().unwrap();
        assert!(why.contains("set kubernetes.node") && !why.contains('\u{1b}') && why.len() < 200, "{why}");
        agent.stop.cancel();
    }
    assert_eq!((refused(&companion, Reason::Node), cluster.writes.load(Relaxed)), (6, 0));
}

#[tokio::test]
async fn a_credential_is_of_one_node_alone_and_a_wrong_one_asks_the_api_server_nothing() {
    let (companion, cluster) = (Companion::new().await, Cluster::new());
    cluster.serve(&companion, &["n1", "n2"], NOW);
    let (ticket, disk) = (companion.ca.ticket(companion.address, TOKEN), disk("n1"));
    let agent = Agent::keeping("n1", ticket.clone(), disk.clone());
    wait("it pushes", || disk.lock().joined && companion.copy("n1").len() == 2).await;
    let writes = cluster.writes.load(Relaxed);
    let mut own = ticket.clone();
    (own.token, own.own) = (None, Some(("n2".to_owned(), disk.lock().credential.clone())));
    told(&Agent::join("n2", own.clone()), "the credential is another node's than \"n2\": each node has its own").await;
    for _ in 0..5 {
        own.own = Some(("n1".to_owned(), Token::random().unwrap()));
        let agent = Agent::join("n1", own.clone());
        told(&agent, "take a new join.toml from it").await;
        agent.stop.cancel();
    }
    assert_eq!((refused(&companion, Reason::Token), refused(&companion, Reason::Node)), (5, 1));
    assert_eq!((cluster.writes.load(Relaxed), cluster.reads.load(Relaxed), writes), (1, 0, 1));
    assert_eq!(agent.why(), None);
    // What is no hash is none.
    for length in [1, 31, 33, 4_096] {
        let credential = Bytes::from(vec![7; length]);
        let hello = Hello { credential, ..Me::new("0.2.0", 99).hello("n2") };
        let (welcome, ended) = raw::says(&companion, vec![Says::Hello(hello).into()]).await;
        assert!(welcome.is_some() && ended.is_none(), "{ended:?}");
    }
    assert_eq!(cluster.pages().entries.len(), 1);
}

#[tokio::test]
async fn all_of_a_cluster_join_two_replicas_at_once_and_each_is_written_once() {
    let names: Vec<String> = (0..300).map(|i| format!("n{i}")).collect();
    let nodes: Vec<&str> = names.iter().map(|name| &**name).collect();
    let cluster = Cluster::new();
    let desks = [cluster.desk(&nodes, NOW), cluster.desk(&nodes, Duration::from_millis(20))];
    let mut joining = tokio::task::JoinSet::new();
    for (i, node) in names.iter().enumerate() {
        let hash = Token::random().unwrap().hash();
        let credential = Bytes::copy_from_slice(&hash.bytes());
        let hello = Hello { credential, ..Me::new("0.2.0", i as u64).hello(node.clone()) };
        for desk in desks.clone() {
            let hello = hello.clone();
            joining.spawn(async move { (desk.admit(&hello, Shown::Token).await, hash) });
        }
    }
    while let Some(joined) = joining.join_next().await {
        let (admitted, hash) = joined.unwrap();
        assert_eq!(admitted, Ok(Some(hash)));
    }
    assert_eq!(cluster.pages().entries.len(), 300);
    let counts = desks.map(|desk| desk.counts());
    assert_eq!(counts.map(|counts| counts.failed), [0, 0]);
    let writes = cluster.writes.load(Relaxed);
    assert!(writes < 60, "{writes} writes: {counts:?}");
}

#[tokio::test]
async fn two_machines_of_one_name_at_two_replicas_at_once_do_not_both_get_it() {
    for _ in 0..20 {
        let cluster = Cluster::new();
        let desks = [cluster.desk(&["n1"], NOW), cluster.desk(&["n1"], NOW)];
        let joins = desks.map(|desk| {
            let credential = Bytes::copy_from_slice(&Token::random().unwrap().hash().bytes());
            let hello = Hello { credential, ..Me::new("0.2.0", 1).hello("n1") };
            tokio::spawn(async move { desk.admit(&hello, Shown::Token).await })
        });
        let [a, b] = joins;
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        assert_eq!(a.and(b).unwrap_err().reason, Reason::Taken);
    }
}

#[tokio::test]
async fn where_there_is_no_room_nodes_that_are_gone_make_it_and_else_it_is_refused() {
    let names: Vec<String> = (0..7_710).map(|i| format!("ip-10-{i:011}.eu-west-1.compute.internal")).collect();
    let cluster = Cluster::new();
    cluster.fill(&names);
    let all: Vec<&str> = names.iter().map(|name| &**name).chain(["a-node-more.eu-west-1.compute.internal"]).collect();
    let desk = cluster.desk(&all, NOW);
    let credential = Bytes::copy_from_slice(&Token::random().unwrap().hash().bytes());
    let hello = Hello { credential, ..Me::new("0.2.0", 1).hello(all[7_710]) };
    let refusal = desk.admit(&hello, Shown::Token).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Busy);
    assert_eq!(refusal.text, "Secret pilotfish/pilotfish-nodes has no room for one more node");
    assert_eq!(cluster.writes.load(Relaxed), 0);
    // Some of them are gone.
    desk.set_nodes(all[100..].iter().map(|node| ((*node).to_owned(), Which::of_uid(node))).collect());
    assert!(desk.admit(&hello, Shown::Token).await.is_ok());
    let pages = cluster.pages();
    assert_eq!((pages.entries.len(), pages.entries.contains_key(all[7_710])), (7_710 - 64 + 1, true));
    assert_eq!(cluster.writes.load(Relaxed), 2);
}

#[tokio::test]
async fn before_it_knows_who_has_joined_a_companion_lets_nobody_in_and_says_why() {
    let cluster = Cluster::new();
    let place = Place { namespace: "pilotfish".to_owned(), name: "pilotfish-nodes".to_owned() };
    let hello = Me::new("0.2.0", 1).hello("n1");
    let admit = async |desk: &Desk| desk.admit(&hello, Shown::Token).await.unwrap_err();
    let desk = cluster.desk(&["n1"], NOW);
    desk.set_pages(None);
    let refusal = admit(&desk).await;
    assert_eq!(refusal.reason, Reason::Busy);
    assert_eq!(refusal.text, "Secret pilotfish/pilotfish-nodes is missing: apply the companion's manifests again");
    desk.set_pages(Some(cluster.pages()));
    assert_eq!(desk.admit(&hello, Shown::Token).await, Ok(None));
    assert_eq!(desk.secret(), &place);
    // Nothing was read: it is waited for, and no more.
    let desk = cluster.desk(&["n1"], NOW);
    let unread = Arc::new(Desk::new(place, crate::cluster::Handle(cluster)));
    let late = unread.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        late.set_pages(Some(Pages::default()));
        late.set_nodes([("n1".to_owned(), Which::of_uid("n1"))].into());
    });
    assert_eq!(unread.admit(&hello, Shown::Token).await, Ok(None));
    drop(desk);
}
