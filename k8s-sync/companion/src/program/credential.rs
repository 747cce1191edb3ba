//! `pilotfish-companion join`: what an admin does to one node's credential. One object is changed, and
//! nothing is asked of a companion that runs: it watches that object.

use super::args::JoinArgs;
use super::exit::Failure;
use super::files;
use companion::book::{Changes, Entry, Pages, Which, patch};
use companion::serve::desk::Place;
use join::{Kept, Ticket, is_node_name};
use k8s_sync::access::Sources;
use k8s_sync::watch::{Agent, ApiServer, Failed, Timing};
use serde::Deserialize;
use std::path::PathBuf;

/// Others write meanwhile, too.
const TRIES: usize = 5;

/// What is kept of the cluster's file.
#[derive(Deserialize)]
struct File {
    address: String,
    ca: String,
    server_name: Option<String>,
}

/// # Errors
/// A name that is none, or has a credential already; an API server that does not answer or refuses.
pub fn join(args: &JoinArgs) -> Result<String, Failure> {
    let JoinArgs { reset, node, ticket, namespace, secret, kubeconfig } = args;
    let place = Place { namespace: namespace.clone(), name: secret.clone() };
    let server = server(kubeconfig.clone());
    match (reset, node) {
        (Some(node), _) => run(end(&server, &place, named("--reset", node)?)),
        (None, Some(node)) => {
            let node = named("--node", node)?;
            let text = files::text("--ticket", ticket)?;
            // Before anything is written.
            let file: File = toml::from_str(&text)
                .map_err(|error| Failure::usage(format!("--ticket: {}: {}", ticket.display(), error.message())))?;
            run(make(&server, &place, node, &file))
        }
        (None, None) => Err(Failure::usage("--reset NODE or --node NODE")),
    }
}

fn named<'a>(flag: &str, node: &'a str) -> Result<&'a str, Failure> {
    if is_node_name(node) { Ok(node) } else { Err(Failure::usage(format!("{flag}: {node:?} is no name of a node"))) }
}

fn server(kubeconfig: Option<PathBuf>) -> ApiServer {
    let user_agent = concat!("pilotfish-companion/", env!("CARGO_PKG_VERSION")).to_owned();
    let agent = Agent { user_agent, ..Agent::default() };
    ApiServer::new(Sources::of_this_process(kubeconfig), agent, Timing::default())
}

fn run(work: impl Future<Output = Result<String, Failure>>) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::software(format!("start the runtime: {error}")))?.block_on(work)
}

fn failed(place: &Place, failed: &Failed) -> Failure {
    let text = format!("Secret {}/{}: {failed}", place.namespace, place.name);
    match failed {
        Failed::Forbidden(_) => Failure::no_permission(text),
        Failed::Missing(_) => Failure::usage(format!("{text}: apply the companion's manifests")),
        Failed::NoAnswer(_) | Failed::Conflict(_) | Failed::Refused(_) => Failure::software(text),
    }
}

/// Changes what `decide` says, of the state that it was told. Returns its words.
async fn change(
    server: &ApiServer,
    place: &Place,
    decide: impl Fn(&Pages) -> Result<(Changes, String), Failure>,
) -> Result<String, Failure> {
    let mut last = None;
    for _ in 0..TRIES {
        let secret = server.get(&place.path()).await.map_err(|error| failed(place, &error))?;
        let pages = Pages::read(&secret);
        let (changes, said) = decide(&pages)?;
        if changes.is_empty() {
            return Ok(said);
        }
        match server.merge(&place.path(), &patch(&pages.version, &changes)).await {
            Ok(_) => return Ok(said),
            Err(Failed::Conflict(reason)) => last = Some(Failed::Conflict(reason)),
            Err(error) => return Err(failed(place, &error)),
        }
    }
    Err(last.map_or_else(|| Failure::software("nothing was tried"), |error| failed(place, &error)))
}

async fn end(server: &ApiServer, place: &Place, node: &str) -> Result<String, Failure> {
    change(server, place, |pages| {
        let next = "the next agent that names it and has the join token gets one";
        Ok(match pages.entries.get(node) {
            None | Some(Entry::Ended { .. }) => (Changes::new(), format!("node {node} has no credential: {next}\n")),
            Some(Entry::Live { hash, .. }) => {
                let changes = [(node.to_owned(), Some(Entry::Ended { hash: *hash }))].into();
                (changes, format!("the credential of node {node} is ended: {next}\n"))
            }
            Some(Entry::Unreadable) => {
                let said = format!("what was kept of node {node}, which could not be read, is gone: {next}\n");
                ([(node.to_owned(), None)].into(), said)
            }
        })
    })
    .await
}

async fn make(server: &ApiServer, place: &Place, node: &str, file: &File) -> Result<String, Failure> {
    let kept = Kept::new(node).ok_or_else(|| Failure::software("the system has no random numbers"))?;
    let File { address, ca, server_name } = file;
    let server_name = server_name.as_ref().map(|name| format!("server_name = {name:?}\n")).unwrap_or_default();
    let secret = kept.credential.secret();
    let text = format!(
        "# Of this node alone: whoever has it may push to the companion as this node.\n\
         address = {address:?}\n{server_name}node = {node:?}\ncredential = {secret:?}\nca = '''\n{ca}'''\n"
    );
    // Of the text that an agent reads: what it refuses is no ticket.
    Ticket::read(&text).map_err(|error| Failure::usage(format!("--ticket: {error}")))?;
    change(server, place, |pages| match pages.entries.get(node) {
        None | Some(Entry::Ended { .. }) => {
            let entry = Entry::Live { hash: kept.credential.hash(), node: Which::ANY };
            Ok(([(node.to_owned(), Some(entry))].into(), text.clone()))
        }
        Some(Entry::Live { .. } | Entry::Unreadable) => {
            Err(Failure::usage(format!("--node: {node} has a credential already: --reset {node} ends it")))
        }
    })
    .await
}
