//! Who may not push is told why, in words that say what to do.

use crate::bed::{Agent, Authority, Companion, TOKEN, wait};
use crate::raw;
use companion::serve::ListenerConfig;
use join::{Me, Reason, SERVER_NAME};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn told(agent: &Agent) -> String {
    wait("a reason", || agent.why().is_some()).await;
    agent.why().unwrap()
}

#[tokio::test]
async fn a_wrong_token() {
    let companion = Companion::new().await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, "the-token-of-another-cluster"));
    assert_eq!(
        told(&agent).await,
        "the companion refuses: the join token is not this cluster's, or was changed: \
         take a new join.toml from it"
    );
    assert_eq!(companion.counts().refused[Reason::Token.index()], 1);
    assert!(companion.agents().is_empty());
    assert!(agent.link.lock().deadline() > Duration::from_secs(20), "it waits for people");
}

#[tokio::test]
async fn a_token_that_was_changed_touches_no_open_stream() {
    let companion = Companion::new().await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, TOKEN));
    wait("the first push", || companion.copy("n1").len() == 2).await;
    let other = join::Token::new("another-token-of-this-cluster").unwrap();
    companion.push.set_token(other.hash());
    agent.set("a", "5");
    wait("the next push", || companion.copy("n1") == agent.series()).await;
    let late = Agent::join("n2", companion.ca.ticket(companion.address, TOKEN));
    assert!(told(&late).await.contains("was changed"));
}

#[tokio::test]
async fn another_ca() {
    let companion = Companion::new().await;
    let agent = Agent::join("n1", Authority::new().ticket(companion.address, TOKEN));
    assert_eq!(
        told(&agent).await,
        format!(
            "companion at {}: its certificate is not signed by the CA in join.toml: take a new join.toml \
             from the cluster, or the address is somebody else's",
            companion.address
        )
    );
    // The token was not shown to whoever it is.
    assert_eq!(companion.counts().refused, [0; Reason::ALL.len()]);
}

#[tokio::test]
async fn a_certificate_of_another_name() {
    let companion = Companion::with(Me::new("0.2.0", 1), ListenerConfig::default(), "other.pilotfish.svc").await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, TOKEN));
    assert!(told(&agent).await.ends_with("its certificate has another name than server_name in join.toml"));
}

#[tokio::test]
async fn an_old_agent() {
    let newer = Me { protocols: (2, 3), ..Me::new("0.9.0", 1) };
    let companion = Companion::with(newer, ListenerConfig::default(), SERVER_NAME).await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, TOKEN));
    assert_eq!(
        told(&agent).await,
        "the companion refuses: agent 0.2.0 speaks protocol 1 to 1, companion 0.9.0 speaks 2 to 3: upgrade the agent"
    );
    assert_eq!(companion.counts().refused[Reason::Version.index()], 1);
}

#[tokio::test]
async fn a_node_that_the_cluster_does_not_have() {
    let companion = Companion::new().await;
    companion.push.fleet().lock().set_nodes(["n1".to_owned()].into());
    let agents = ["n1", "n9", "N 1"].map(|node| Agent::join(node, companion.ca.ticket(companion.address, TOKEN)));
    assert!(told(&agents[1]).await.ends_with("the cluster has no node \"n9\": set kubernetes.node to its name there"));
    assert!(told(&agents[2]).await.contains("is no name of a Kubernetes node"));
    wait("the node that it has", || companion.copy("n1").len() == 2).await;
    assert_eq!(companion.counts().refused[Reason::Node.index()], 2);
    // A node that is deleted is not silent: its series end.
    companion.push.fleet().lock().set_nodes(["n2".to_owned()].into());
    assert!(companion.agents().is_empty());
}

#[tokio::test]
async fn nobody_there_and_somebody_who_speaks_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ca = Authority::new();
    let plain = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 1]).await;
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = tcp.read(&mut [0; 4096]).await;
    });
    let agent = Agent::join("n1", ca.ticket(address, TOKEN));
    assert!(told(&agent).await.ends_with("no TLS is spoken there: look at the port in join.toml"));
    plain.await.unwrap();
    let agent = Agent::join("n1", ca.ticket(address, TOKEN));
    assert!(told(&agent).await.contains("cannot connect: "));
}

#[tokio::test]
async fn a_thousand_connections_that_say_nothing_are_ended_and_counted() {
    let config = ListenerConfig { connections: 1_100, patience: Duration::from_millis(300) };
    let companion = Companion::with(Me::new("0.2.0", 1), config, SERVER_NAME).await;
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(companion.address).await.unwrap());
    }
    // And one that has shaken hands.
    let mut shaken = raw::tls(&companion).await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, TOKEN));
    wait("a push meanwhile", || companion.copy("n1").len() == 2).await;
    wait("all are ended", || companion.counts().silent == 1_001).await;
    for tcp in &mut silent {
        assert_eq!(tcp.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
    let mut rest = Vec::new();
    let _ = shaken.read_to_end(&mut rest).await;
    agent.set("a", "3");
    wait("and it goes on", || companion.copy("n1") == agent.series()).await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_counted() {
    let config = ListenerConfig { connections: 3, ..ListenerConfig::default() };
    let companion = Companion::with(Me::new("0.2.0", 1), config, SERVER_NAME).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(TcpStream::connect(companion.address).await.unwrap());
    }
    wait("two are refused", || companion.counts().refused[Reason::Busy.index()] == 2).await;
    // Whoever ends makes room.
    drop(all);
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, TOKEN));
    wait("an agent", || companion.copy("n1") == agent.series()).await;
}
