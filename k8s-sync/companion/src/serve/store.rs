//! Where the Secret of the nodes that have joined is.

use futures_util::future::BoxFuture;
use k8s_sync::watch::{ApiServer, Failed};
use serde_json::Value;
use std::sync::Arc;

/// Of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    /// For the API server.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.name)
    }
}

/// Reads and changes the Secret.
pub trait Store: Send + Sync {
    /// As it is now.
    fn read(&self) -> BoxFuture<'_, Result<Value, Failed>>;
    /// Changes it in one state, and in no other. Returns what it is then.
    fn merge(&self, patch: Value) -> BoxFuture<'_, Result<Value, Failed>>;
}

/// The Secret of a cluster.
#[derive(Debug)]
pub struct InCluster {
    /// Who is asked.
    pub server: Arc<ApiServer>,
    /// For which.
    pub place: Place,
}

impl Store for InCluster {
    fn read(&self) -> BoxFuture<'_, Result<Value, Failed>> {
        Box::pin(async { self.server.get(&self.place.path()).await })
    }

    fn merge(&self, patch: Value) -> BoxFuture<'_, Result<Value, Failed>> {
        Box::pin(async move { self.server.merge(&self.place.path(), &patch).await })
    }
}
