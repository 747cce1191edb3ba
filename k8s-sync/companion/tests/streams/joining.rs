//! Agents that may push.

use crate::bed::{Agent, Companion, Series, wait};
use companion::Standing;

#[tokio::test]
async fn an_agent_pushes_what_it_has_and_what_changes() {
    let companion = Companion::new().await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, crate::bed::TOKEN));
    wait("the first push", || companion.copy("n1") == agent.series()).await;
    agent.set("a", "2");
    agent.set("c", "1");
    agent.series.lock().remove("b");
    wait("the second push", || companion.copy("n1") == agent.series()).await;
    assert_eq!((companion.standing("n1"), agent.why()), (Some(Standing::Live), None));
    assert_eq!(companion.counts().resyncs, 0);
}

#[tokio::test]
async fn a_companion_that_was_restarted_gets_everything_again() {
    let companion = Companion::new().await;
    let ticket = companion.ca.ticket(companion.address, crate::bed::TOKEN);
    let agents = [Agent::join("n1", ticket.clone()), Agent::join("n2", ticket)];
    wait("both", || ["n1", "n2"].iter().all(|node| companion.copy(node).len() == 2)).await;
    let companion = companion.restarted().await;
    agents[1].set("b", "7");
    wait("both again", || companion.copy("n1") == agents[0].series() && companion.copy("n2") == agents[1].series())
        .await;
}

#[tokio::test]
async fn an_agent_that_is_killed_leaves_its_series_and_its_successor_goes_on() {
    let companion = Companion::new().await;
    let ticket = companion.ca.ticket(companion.address, crate::bed::TOKEN);
    let agent = Agent::join("n1", ticket.clone());
    wait("the first push", || companion.copy("n1").len() == 2).await;
    agent.task.abort();
    let _ = agent.task.await;
    assert_eq!(companion.copy("n1").len(), 2);
    let fresh = Series::from([("b".to_owned(), "0".to_owned())]);
    let successor = Agent::counting("n1", ticket, std::sync::Arc::new(parking_lot::Mutex::new(fresh)));
    wait("its successor", || companion.copy("n1") == successor.series()).await;
}

#[tokio::test]
async fn an_agent_that_must_end_says_why() {
    let companion = Companion::new().await;
    let agent = Agent::join("n1", companion.ca.ticket(companion.address, crate::bed::TOKEN));
    wait("the first push", || companion.copy("n1").len() == 2).await;
    *agent.why.lock() = Some((77, "the kernel refuses the program".to_owned()));
    agent.stop.cancel();
    agent.task.await.unwrap();
    let ended = Standing::Ended { code: 77, text: "the kernel refuses the program".to_owned() };
    wait("its reason", || companion.standing("n1").as_ref() == Some(&ended)).await;
}

#[tokio::test]
async fn the_newest_stream_of_a_node_pushes_and_the_older_one_is_told() {
    let companion = Companion::new().await;
    let ticket = companion.ca.ticket(companion.address, crate::bed::TOKEN);
    let first = Agent::join("n1", ticket.clone());
    wait("the first", || companion.copy("n1").len() == 2).await;
    let second = Agent::join("n1", ticket);
    second.set("b", "9");
    wait("the second", || companion.copy("n1").get("b").is_some_and(|b| b == "9")).await;
    wait("the first is told", || {
        first.why().is_some_and(|why| why == "the companion refuses: a newer stream of this node took over")
    })
    .await;
    first.stop.cancel();
}
