//! One check of the API server, for `pilotfish check`: where it is, whether it answers, and what it
//! refuses. Rights are found out by using them: a list of one object costs the server less than a
//! review of access, which would be a POST.

use super::decode::Status;
use super::request::Query;
use super::server::refusal;
use super::transport::{self, chain};
use super::{Config, Scope};
use crate::access::{self, NoAccess};
use crate::cluster::object::Resource;
use http_body_util::{BodyExt, Limited};
use hyper::http::Request;
use hyper::http::header::ACCEPT;
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;

/// One object of any kind, or a refusal: an object in etcd has at most 1.5 MiB.
const LARGEST_BODY: usize = 4 << 20;

/// What the API server answered for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    /// The list was answered: the agent may read this resource.
    Allowed,
    /// An answer, but not this one.
    Refused(String),
    /// Nobody is asked any more after that.
    NoAnswer(String),
}

/// Where the API server is, and what the agent may read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessCheck {
    /// Where it was said where the API server is: a path, or "service account".
    pub place: String,
    /// Of the API server.
    pub url: String,
    /// `insecure-skip-tls-verify`
    pub is_unverified: bool,
    /// In the order of `Resource::ALL`; ends with the first `NoAnswer`.
    pub answers: Vec<(Resource, ReadAnswer)>,
}

/// Finds the API server as the watches would, and asks for one object of each kind that they watch.
///
/// # Errors
/// Nothing says where an API server is, or what says so cannot be used.
pub async fn check_access(config: &Config) -> Result<AccessCheck, NoAccess> {
    // One provider of primitives for all of TLS; that another part has set it already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let access = access::find(&config.sources)?;
    let mut answers = Vec::new();
    match transport::client(&access, &config.agent, &config.timing) {
        Err(error) => answers.extend(Resource::ALL.first().map(|first| (*first, ReadAnswer::NoAnswer(chain(&error))))),
        Ok(client) => {
            for resource in Resource::ALL {
                let node = (resource == Resource::Pods && config.scope == Scope::Node).then(|| config.node.clone());
                let answer = ask(&client, &Query { resource, node: node.flatten() }, config).await;
                let is_over = matches!(answer, ReadAnswer::NoAnswer(_));
                answers.push((resource, answer));
                if is_over {
                    break;
                }
            }
        }
    }
    Ok(AccessCheck { url: access.url(), place: access.place, is_unverified: access.is_unverified, answers })
}

async fn ask(client: &Client, query: &Query, config: &Config) -> ReadAnswer {
    let request = Request::get(query.page(1, None)).header(ACCEPT, query.accept(true)).body(Body::empty());
    let request = match request {
        Ok(request) => request,
        Err(error) => return ReadAnswer::NoAnswer(chain(&error)),
    };
    let response = match timeout(config.timing.answer, client.send(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return ReadAnswer::NoAnswer(chain(&error)),
        Err(_) => return ReadAnswer::NoAnswer(format!("no answer within {} s", config.timing.answer.as_secs_f32())),
    };
    let code = response.status();
    let body = Limited::new(response.into_body(), LARGEST_BODY).collect();
    match timeout(config.timing.page, body).await {
        Ok(Ok(_)) if code.is_success() => ReadAnswer::Allowed,
        Ok(Ok(body)) => ReadAnswer::Refused(refusal(code, &Status::of_body(code.as_u16(), &body.to_bytes()))),
        Ok(Err(error)) => ReadAnswer::NoAnswer(chain(error.as_ref())),
        Err(_) => ReadAnswer::NoAnswer("its answer does not end".to_owned()),
    }
}
