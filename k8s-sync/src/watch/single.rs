//! One object by its name, for the companion alone: read, and changed where nobody has changed it
//! meanwhile; and what is asked by making an object that is not kept, as a review. Agents never write;
//! their requests go another way.

use super::decode::Status;
use super::follow::ApiServer;
use super::transport::chain;
use http_body_util::{BodyExt, Limited};
use hyper::http::header::{ACCEPT, CONTENT_TYPE};
use hyper::http::{Method, Request};
use kube::client::Body;
use serde_json::Value;
use tokio::time::timeout;

/// An object in etcd has at most 1.5 MiB by default, and base64 makes four bytes of three.
const LARGEST: usize = 4 << 20;

/// Why an object was not read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Nobody answered in time, or nothing that makes sense.
    #[error("{0}")]
    NoAnswer(String),
    /// Somebody changed it first (409).
    #[error("it was changed meanwhile: {0}")]
    Conflict(String),
    /// There is none (404).
    #[error("{0}")]
    Missing(String),
    /// This account may not (401, 403).
    #[error("{0}")]
    Forbidden(String),
    /// Another refusal.
    #[error("{0}")]
    Refused(String),
}

impl ApiServer {
    /// The object at `path`, as `/api/v1/namespaces/n/secrets/s`.
    ///
    /// # Errors
    /// With what the API server said.
    pub async fn get(&self, path: &str) -> Result<Value, Failed> {
        self.ask(Request::get(path), Vec::new()).await
    }

    /// Merges `patch` into the object at `path` (RFC 7396). Where the patch has the `resourceVersion` of
    /// an older state, nothing is changed.
    ///
    /// # Errors
    /// As `get`; `Conflict` where somebody else was faster.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Failed> {
        let request = Request::builder().method(Method::PATCH).uri(path);
        self.ask(request.header(CONTENT_TYPE, "application/merge-patch+json"), patch.to_string().into_bytes()).await
    }

    /// Makes `object` below `path`. Returns it as the API server has it then.
    ///
    /// # Errors
    /// As `get`.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, Failed> {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.ask(request, object.to_string().into_bytes()).await
    }

    async fn ask(&self, request: hyper::http::request::Builder, body: Vec<u8>) -> Result<Value, Failed> {
        let client = self.client().map_err(Failed::NoAnswer)?;
        let request = request.header(ACCEPT, "application/json").body(Body::from(body));
        let request = request.map_err(|error| Failed::NoAnswer(chain(&error)))?;
        let patience = self.timing.answer;
        let late = || Failed::NoAnswer(format!("no answer within {} s", patience.as_secs_f32()));
        let answered = timeout(patience, async {
            let response = client.send(request).await.map_err(|error| Failed::NoAnswer(chain(&error)))?;
            let code = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| Failed::NoAnswer(chain(error.as_ref())))?.to_bytes();
            Ok((code, body))
        });
        let (code, body) = answered.await.map_err(|_| late())??;
        if code.is_success() {
            return serde_json::from_slice(&body).map_err(|_| Failed::NoAnswer("an answer that is none".to_owned()));
        }
        let reason = super::server::refusal(code, &Status::of_body(code.as_u16(), &body));
        Err(match code.as_u16() {
            401 => {
                self.forget();
                Failed::Forbidden(reason)
            }
            403 => Failed::Forbidden(reason),
            404 => Failed::Missing(reason),
            409 => Failed::Conflict(reason),
            _ => Failed::Refused(reason),
        })
    }
}
