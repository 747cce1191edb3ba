//! A cluster's Secret of the nodes that have joined, as the API server would keep it: with versions, and
//! with watches that hear of each change.

use crate::bed::Companion;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use companion::book::{Entry, Pages, Which};
use companion::serve::desk::{Desk, Place, Store};
use futures_util::future::BoxFuture;
use join::{Token, TokenHash};
use k8s_sync::watch::Failed;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub struct Cluster {
    secret: Mutex<(u64, Map<String, Value>)>,
    watching: Mutex<Vec<(Arc<Desk>, Duration)>>,
    /// Requests that the API server got.
    pub reads: AtomicU64,
    pub writes: AtomicU64,
}

pub struct Handle(pub Arc<Cluster>);

impl Store for Handle {
    fn read(&self) -> BoxFuture<'_, Result<Value, Failed>> {
        Box::pin(async {
            self.0.reads.fetch_add(1, Relaxed);
            // Long enough for others to come between.
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(self.0.object())
        })
    }

    fn merge(&self, patch: Value) -> BoxFuture<'_, Result<Value, Failed>> {
        Box::pin(async move {
            self.0.writes.fetch_add(1, Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
            {
                let (version, data) = &mut *self.0.secret.lock();
                if patch["metadata"]["resourceVersion"].as_str() != Some(&version.to_string()) {
                    return Err(Failed::Conflict("the object has been modified".to_owned()));
                }
                for (name, value) in patch["data"].as_object().into_iter().flatten() {
                    match value {
                        Value::Null => drop(data.remove(name)),
                        value => drop(data.insert(name.clone(), value.clone())),
                    }
                }
                *version += 1;
            }
            self.0.changed();
            Ok(self.0.object())
        })
    }
}

impl Cluster {
    pub fn new() -> Arc<Cluster> {
        Arc::default()
    }

    fn object(&self) -> Value {
        let (version, data) = &*self.secret.lock();
        json!({ "metadata": { "resourceVersion": version.to_string() }, "data": data })
    }

    pub fn pages(&self) -> Pages {
        Pages::read(&self.object())
    }

    /// Each watch hears what was there when it was told.
    fn changed(&self) {
        for (desk, lag) in self.watching.lock().iter().cloned() {
            let pages = self.pages();
            tokio::spawn(async move {
                tokio::time::sleep(lag).await;
                desk.set_pages(Some(pages));
            });
        }
    }

    /// A desk whose watch lags so much, for these nodes.
    pub fn desk(self: &Arc<Cluster>, nodes: &[&str], lag: Duration) -> Arc<Desk> {
        let place = Place { namespace: "pilotfish".to_owned(), name: "pilotfish-nodes".to_owned() };
        let desk = Arc::new(Desk::new(place, Handle(self.clone())));
        desk.set_pages(Some(self.pages()));
        desk.set_nodes(nodes.iter().map(|node| ((*node).to_owned(), Which::of_uid(node))).collect());
        self.watching.lock().push((desk.clone(), lag));
        tokio::spawn(desk.clone().run(CancellationToken::new()));
        desk
    }

    /// The companion gives credentials to these nodes from now on.
    pub fn serve(self: &Arc<Cluster>, companion: &Companion, nodes: &[&str], lag: Duration) {
        companion.push.fleet().lock().set_nodes(nodes.iter().map(|node| (*node).to_owned()).collect());
        companion.push.set_desk(self.desk(nodes, lag));
    }

    /// These nodes have joined before.
    pub fn fill(&self, nodes: &[String]) {
        let (_, data) = &mut *self.secret.lock();
        let entry = Entry::Live { hash: Token::random().unwrap().hash(), node: Which::of_uid("before") };
        data.extend(nodes.iter().map(|node| (node.clone(), STANDARD.encode(entry.bytes()).into())));
    }

    /// As an admin does it.
    pub fn end(&self, node: &str) {
        let hash = self.hash(node).expect("a credential");
        {
            let (version, data) = &mut *self.secret.lock();
            data.insert(node.to_owned(), STANDARD.encode(Entry::Ended { hash }.bytes()).into());
            *version += 1;
        }
        self.changed();
    }

    /// Of the credential that a node has.
    pub fn hash(&self, node: &str) -> Option<TokenHash> {
        match self.pages().entries.get(node) {
            Some(Entry::Live { hash, .. }) => Some(*hash),
            _ => None,
        }
    }
}
