//! While somebody looks at the map agents push at another pace.

use crate::bed::{Agent, Companion, PERIOD, TOKEN, wait};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn agents_are_asked_for_another_pace_and_for_their_own_again() {
    let companion = Companion::new().await;
    let first = Agent::join("n1", companion.ca.ticket(companion.address, TOKEN));
    let pushes = || companion.counts().pushes;
    wait("it pushes", || pushes() >= 2).await;
    // The longest that an agent takes: after a push that was due it is quiet.
    companion.push.set_pace(Some(Duration::from_secs(300)));
    assert_eq!(companion.push.pace(), Duration::from_secs(300));
    sleep(PERIOD * 2).await;
    let before = pushes();
    sleep(PERIOD * 3).await;
    assert!(pushes() <= before + 1, "{before} {}", pushes());
    // Who joins meanwhile is asked the same.
    let second = Agent::join("n2", companion.ca.ticket(companion.address, TOKEN));
    wait("n2 has pushed", || companion.agents().len() == 2 && second.link.lock().counts().answered >= 1).await;
    companion.push.set_pace(None);
    assert_eq!(companion.push.pace(), PERIOD);
    let before = pushes();
    wait("both push as before", || pushes() >= before + 6).await;
    assert_eq!([first.why(), second.why()], [None, None]);
    first.stop.cancel();
    second.stop.cancel();
}
