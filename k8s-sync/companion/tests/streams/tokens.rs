//! An agent that is a pod joins by the token that the kubelet writes for it.

use crate::bed::{Agent, Companion, TOKEN, wait};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use companion::serve::{Reviewer, Reviews};
use companion::{Ran, Wanted};
use futures_util::future::BoxFuture;
use join::Reason;
use k8s_sync::cluster::object::{Object, Pod, Uid};
use k8s_sync::watch::Failed;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tempfile::TempDir;

const AGENT: &str = "system:serviceaccount:pilotfish:pilotfish-agent";
/// Of a pod on n1.
const POD: &str = "0b6e3a1e-5f0c-4f6e-9d2a-3c1b5a7d9e10";

/// What the API server answers: by the number of the token.
#[derive(Clone, Default)]
struct Issuer {
    taken: Arc<Mutex<BTreeMap<String, Value>>>,
    asked: Arc<AtomicU64>,
    is_away: Arc<Mutex<bool>>,
}

impl Issuer {
    /// A token that says so, and that the API server takes. `node`: it says so, as those of 1.30 do.
    fn issue(&self, number: u64, audience: &str, node: Option<&str>) -> String {
        let claims = json!({
            "aud": [audience], "sub": AGENT, "jti": number, "kubernetes.io": { "pod": { "uid": POD } },
        });
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln{number:04}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut extra = json!({ "authentication.kubernetes.io/pod-uid": [POD] });
        if let Some(node) = node {
            extra["authentication.kubernetes.io/node-name"] = json!([node]);
        }
        let user = json!({ "username": AGENT, "extra": extra });
        let status = json!({ "authenticated": true, "audiences": [audience], "user": user });
        self.taken.lock().insert(token.clone(), status);
        token
    }

    fn revoke(&self, token: &str) {
        self.taken.lock().remove(token);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

impl Reviewer for Issuer {
    fn review(&self, question: Value) -> BoxFuture<'_, Result<Value, Failed>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Relaxed);
            assert_eq!(question["spec"]["audiences"], json!(["pilotfish"]));
            if *self.is_away.lock() {
                return Err(Failed::NoAnswer("connection refused".to_owned()));
            }
            let token = question["spec"]["token"].as_str().unwrap();
            let none = json!({ "error": "the token was invalidated" });
            Ok(json!({ "status": self.taken.lock().get(token).cloned().unwrap_or(none) }))
        })
    }
}

struct World {
    companion: Companion,
    issuer: Issuer,
    directory: TempDir,
}

impl World {
    /// Where a stream is asked about again so often.
    async fn new(again: Duration) -> World {
        let (companion, issuer) = (Companion::new().await, Issuer::default());
        let ran = Arc::new(Mutex::new(Ran::default()));
        let pod = Pod { uid: Uid::parse(POD).unwrap(), node: Some("n1".into()), ..Pod::default() };
        ran.lock().put(&Object::Pod(pod));
        ran.lock().set_complete();
        let (audience, namespace) = ("pilotfish".into(), "pilotfish".into());
        let wanted = Wanted { audience, namespace, account: "pilotfish-agent".into() };
        companion.push.set_reviews(Arc::new(Reviews::new(wanted, issuer.clone(), ran).asking_every(again)));
        World { companion, issuer, directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, token: &str) {
        std::fs::write(self.directory.path().join("token"), token).unwrap();
    }

    fn agent(&self, node: &str) -> Agent {
        let file = self.directory.path().join("token");
        Agent::join(node, self.companion.ca.ticket_of_pod(self.companion.address, &file))
    }

    fn refused(&self, reason: Reason) -> u64 {
        self.companion.counts().refused[reason.index()]
    }

    fn outcome(&self, outcome: &str) -> u64 {
        let metrics = self.companion.push.reviews().unwrap().metrics();
        let is_it = |metric: &&golden_metrics::SelfMetric| metric.labels.iter().any(|(_, value)| value == outcome);
        metrics.iter().find(is_it).unwrap().value as u64
    }
}

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn told(agent: &Agent, words: &str) {
    wait(words, || agent.why().is_some_and(|why| why.contains(words))).await;
}

#[tokio::test]
async fn it_is_asked_about_once_a_stream_and_its_node_is_the_pods() {
    let world = World::new(HOUR).await;
    for (number, node) in [(1, Some("n1")), (2, None)] {
        world.write(&world.issuer.issue(number, "pilotfish", node));
        let agent = world.agent("n1");
        wait("it pushes", || world.companion.copy("n1") == agent.series()).await;
        agent.set("a", &format!("5{number}"));
        wait("it pushes again", || world.companion.copy("n1") == agent.series()).await;
        assert!(!agent.link.lock().has_credential());
        assert_eq!((world.issuer.asked(), world.outcome("taken")), (number, number));
        agent.task.abort();
    }
    // It cannot be another one.
    let other = world.agent("n2");
    told(&other, "the agent's pod is on node \"n1\": set kubernetes.node to that").await;
    assert!(world.refused(Reason::Node) > 0 && world.companion.standing("n2").is_none());
    // Who has the join token joins as before.
    let agent = Agent::join("n3", world.companion.ca.ticket(world.companion.address, TOKEN));
    wait("it pushes", || world.companion.copy("n3") == agent.series()).await;
}

#[tokio::test]
async fn what_is_refused_says_why_and_is_not_asked_about_again() {
    let world = World::new(HOUR).await;
    world.write(&world.issuer.issue(1, "another", Some("n1")));
    let agent = world.agent("n1");
    told(&agent, "not for the audience \"pilotfish\"").await;
    assert_eq!((world.issuer.asked(), world.refused(Reason::Token)), (0, 1));
    agent.task.abort();
    let revoked = world.issuer.issue(2, "pilotfish", Some("n1"));
    world.issuer.revoke(&revoked);
    world.write(&revoked);
    for _ in 0..2 {
        let agent = world.agent("n1");
        told(&agent, "the API server does not take the token: the token was invalidated").await;
        agent.task.abort();
    }
    assert_eq!((world.issuer.asked(), world.outcome("refused")), (1, 2));
    // Nobody needs to look for a file that has none.
    world.write("no token at all, but something else");
    let agent = world.agent("n1");
    told(&agent, "has no token of a service account").await;
    assert_eq!(world.companion.agents().len(), 0);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let world = World::new(HOUR).await;
    *world.issuer.is_away.lock() = true;
    world.write(&world.issuer.issue(1, "pilotfish", Some("n1")));
    let agent = world.agent("n1");
    told(&agent, "the API server says nothing of the token: connection refused").await;
    assert_eq!(world.outcome("failed"), world.refused(Reason::Busy));
    *world.issuer.is_away.lock() = false;
    wait("it pushes", || world.companion.copy("n1") == agent.series()).await;
}

#[tokio::test]
async fn a_token_that_ends_ends_its_stream_and_the_next_one_is_shown() {
    let world = World::new(Duration::from_secs(1)).await;
    let (first, second) = (world.issuer.issue(1, "pilotfish", None), world.issuer.issue(2, "pilotfish", None));
    world.write(&first);
    let agent = world.agent("n1");
    wait("it is asked about again", || world.issuer.asked() > 2).await;
    assert!(agent.link.lock().is_open() && agent.why().is_none());
    // The API server is away for a while: the stream stays.
    *world.issuer.is_away.lock() = true;
    wait("it was asked in vain", || world.outcome("failed") > 0).await;
    agent.set("a", "7");
    wait("it pushes", || world.companion.copy("n1") == agent.series()).await;
    agent.task.abort();
    *world.issuer.is_away.lock() = false;
    let agent = world.agent("n1");
    wait("it pushes again", || agent.link.lock().is_open()).await;
    world.write(&second);
    world.issuer.revoke(&first);
    let asked = world.issuer.asked();
    wait("it shows the other one", || world.issuer.asked() > asked + 2 && agent.link.lock().is_open()).await;
    agent.set("a", "8");
    wait("it pushes", || world.companion.copy("n1") == agent.series()).await;
    // Nobody was refused: it ended, and came back.
    assert_eq!(world.refused(Reason::Token), 0);
}
