//! What the watches of one API server share: its client, the gate, the bucket, the turn to list,
//! the table that they feed.

use super::bucket::Bucket;
use super::decode::Status;
use super::gate::{Answer, Gate};
use super::inlet::Streamed;
use super::jitter::Jitter;
use super::list_watch::{ServerHealth, Verdict};
use super::report::{Asked, Board, Code, Verb};
use super::snapshot::{self, Kept};
use super::transport::{self, chain};
use super::turns::{self, Agents, Census};
use super::{Config, Scope, Table};
use crate::access::{self, Access};
use crate::cluster::Moment;
use crate::cluster::object::{Change, Object, Resource};
use http_body_util::{BodyExt, Limited};
use hyper::http::header::{ACCEPT, RETRY_AFTER};
use hyper::http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{sleep, sleep_until, timeout};

/// Answers that are no list and no stream: a `Status`, the version.
const SMALL_BODY: usize = 16 << 10;

/// Used by one thread; nothing is borrowed across an await.
pub(super) struct Server<T> {
    pub(super) config: Config,
    pub(super) board: Board,
    state: RefCell<State<T>>,
    changed: Notify,
    stopped: Notify,
    clock: fn() -> Moment,
}

struct State<T> {
    gate: Gate<Resource>,
    bucket: Bucket,
    jitter: Jitter,
    census: Census,
    client: Option<(Client, access::Fingerprint)>,
    table: T,
    is_changed: bool,
    scope: Scope,
    has_streaming_lists: bool,
    has_bookmarks: bool,
    nodes_refused: bool,
}

/// Why there was no answer to work with.
pub(super) struct NoAnswer {
    pub(super) reason: String,
}

impl<T: Table> Server<T> {
    pub(super) fn new(config: Config, board: Board, table: T, kept: Kept, clock: fn() -> Moment) -> Server<T> {
        let now = Instant::now();
        let state = State {
            gate: Gate::new(config.timing.backoff, now),
            bucket: Bucket::new(config.burst, config.requests_per_second, now),
            jitter: Jitter::new(),
            census: Census::new(config.node.as_deref(), config.at_least_agents, kept.nodes),
            client: None,
            table,
            is_changed: false,
            scope: config.scope,
            has_streaming_lists: config.streaming_lists,
            has_bookmarks: true,
            nodes_refused: false,
        };
        Server { config, board, state: RefCell::new(state), changed: Notify::new(), stopped: Notify::new(), clock }
    }

    pub(super) fn jitter(&self) -> f64 {
        self.state.borrow_mut().jitter.draw()
    }

    pub(super) fn scope(&self) -> Scope {
        self.state.borrow().scope
    }

    pub(super) fn has_streaming_lists(&self) -> bool {
        self.state.borrow().has_streaming_lists
    }

    /// For as long as this process lives: a server that learns it later is found by the next one.
    pub(super) fn without_streaming_lists(&self, reason: &str) {
        if std::mem::take(&mut self.state.borrow_mut().has_streaming_lists) {
            tracing::info!(reason, "the API server has no streaming lists; listing in pages");
        }
    }

    pub(super) fn has_bookmarks(&self) -> bool {
        self.state.borrow().has_bookmarks
    }

    /// An API server over an old etcd (Debian's 3.4) ends every watch that asks for them.
    pub(super) fn without_bookmarks(&self) {
        self.state.borrow_mut().has_bookmarks = false;
    }

    /// From now on only pods of this agent's node. False where its node has no name.
    pub(super) fn narrow(&self, reason: String) -> bool {
        let can = self.config.node.is_some();
        if can {
            self.state.borrow_mut().scope = Scope::Node;
            tracing::warn!(reason, "only pods of this node are watched");
        }
        self.board.change(|report| {
            report.scope = self.scope().as_str();
            report.scope_reason = Some(reason);
        });
        can
    }

    pub(super) fn apply(&self, change: Change) {
        let state = &mut *self.state.borrow_mut();
        match &change {
            Change::ListBegun(Resource::Nodes) => state.census.list_begun(),
            Change::Listed(Object::Node(node)) | Change::Applied(Object::Node(node)) => {
                state.census.seen(node.uid, &node.name);
            }
            Change::ListEnded(Resource::Nodes) => {
                state.census.list_ended();
                self.changed.notify_waiters();
            }
            Change::Deleted(Resource::Nodes, uid) => state.census.gone(*uid),
            _ => {}
        }
        state.is_changed = true;
        state.table.apply(change, (self.clock)());
    }

    /// Takes in what a companion tells, as far as this agent's scope goes.
    pub(super) fn streamed(&self, streamed: Streamed) {
        match streamed {
            Streamed::Changes(changes) => {
                let is_ours = |change: &Change| match change {
                    Change::Listed(Object::Pod(pod)) | Change::Applied(Object::Pod(pod)) => {
                        self.scope() == Scope::Cluster || self.config.node.is_none() || pod.node == self.config.node
                    }
                    _ => true,
                };
                changes.into_iter().filter(is_ours).for_each(|change| self.apply(change));
            }
            Streamed::Age(age) => self.board.heard(Instant::now(), age),
        }
    }

    /// The watches were given up in the middle of whatever they did.
    pub(super) fn begin_anew(&self) {
        let state = &mut *self.state.borrow_mut();
        state.gate = Gate::new(self.config.timing.backoff, Instant::now());
        state.client = None;
    }

    /// The table as it is kept on disk, if it changed since it was last taken.
    pub(super) fn snapshot(&self) -> Option<io::Result<Vec<u8>>> {
        let state = &mut *self.state.borrow_mut();
        let kept = || Kept { nodes: state.census.nodes().clone() };
        std::mem::take(&mut state.is_changed).then(|| snapshot::encode(&kept(), |out| state.table.save(out)))
    }

    pub(super) fn forget(&self) {
        self.state.borrow_mut().table.forget((self.clock)().mono);
    }

    /// What the table says that it has, else what was counted.
    pub(super) fn objects(&self, resource: Resource, counted: u64) -> u64 {
        let known = self.state.borrow().table.objects(resource);
        known.map_or(counted, |known| u64::try_from(known).unwrap_or(u64::MAX))
    }

    pub(super) fn snapshot_failed(&self) {
        self.state.borrow_mut().is_changed = true;
    }

    /// This process did nothing for so long. Its connections may lead nowhere by now, and pings
    /// would take half a minute to tell.
    pub(super) fn was_stopped(&self, held: Duration) {
        tracing::info!(?held, "the agent was stopped for a while; watching over a new connection");
        self.state.borrow_mut().client = None;
        self.stopped.notify_waiters();
    }

    /// Until `was_stopped` is called after this.
    pub(super) fn stopped(&self) -> Notified<'_> {
        self.stopped.notified()
    }

    /// Waits until the server is one that answers; probes it if it is this watch's part to.
    pub(super) async fn open(&self, who: Resource) {
        loop {
            let changed = self.changed.notified();
            let answer = self.state.borrow_mut().gate.ask(who, Instant::now());
            match answer {
                Answer::Go => return,
                Answer::Probe => self.probe(who).await,
                Answer::AfterProbe => changed.await,
                Answer::NotBefore(at) => {
                    tokio::select! {
                        () = sleep_until(at.into()) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    /// Any answer that is no server's fault will do; a version costs it nothing.
    async fn probe(&self, who: Resource) {
        let failed = match self.request(Verb::Get, Asked::Version, "/version", "application/json").await {
            Err(NoAnswer { reason }) => Some((reason, None)),
            Ok(response) => {
                let (code, retry_after) = (response.status(), retry_after(&response));
                let body = self.small_body(response).await;
                let is_failing = code.is_server_error() || matches!(code.as_u16(), 401 | 429);
                is_failing.then(|| (refusal(code, &Status::of_body(code.as_u16(), &body)), retry_after))
            }
        };
        match failed {
            None => {
                self.state.borrow_mut().gate.proven(who);
                self.board.connected();
                tracing::info!("the API server answers");
            }
            Some((reason, retry_after)) => {
                self.state.borrow_mut().client = None;
                self.failed(who, retry_after, &reason);
            }
        }
        self.changed.notify_waiters();
    }

    fn failed(&self, who: Resource, retry_after: Option<Duration>, reason: &str) {
        let now = Instant::now();
        let (since, is_new) = {
            let state = &mut *self.state.borrow_mut();
            let was_fine = state.gate.in_trouble_since().is_none();
            let jitter = state.jitter.draw();
            state.gate.failed(who, now, retry_after, jitter);
            (state.gate.in_trouble_since(), was_fine)
        };
        if is_new {
            tracing::warn!(reason, resource = who.as_str(), "the API server does not answer; names are kept");
        }
        if let Some(since) = since {
            self.board.unreachable(since, reason);
        }
    }

    /// What an attempt of `who` says of the server as a whole.
    pub(super) fn judged(&self, who: Resource, verdict: Verdict, reason: &str) {
        if verdict.reread {
            self.state.borrow_mut().client = None;
        }
        if let ServerHealth::Fails { retry_after } = verdict.server {
            self.failed(who, retry_after, reason);
            self.changed.notify_waiters();
        }
    }

    /// Waits for this agent's turn to make its list of `who`. False where the server went away meanwhile.
    pub(super) async fn turn(&self, who: Resource) -> bool {
        let index = Resource::ALL.iter().position(|resource| *resource == who).unwrap_or(0);
        let (index, lists) = (u32::try_from(index).unwrap_or(0), u32::try_from(Resource::ALL.len()).unwrap_or(5));
        if !self.config.in_turn {
            return self.state.borrow().gate.is_open();
        }
        if who != Resource::Nodes {
            self.counted().await;
        }
        let agents = self.state.borrow().census.agents();
        let jitter = self.jitter();
        let wait = match agents {
            Some(agents) => turns::wait(agents, index, lists, wall(), jitter),
            // Nothing is known of the cluster yet. The nodes are asked for first, by which the
            // others learn how long to wait.
            None if who == Resource::Nodes => self.config.timing.first_spread.mul_f64(jitter),
            None => self.config.timing.blind_spread.mul_f64(jitter),
        };
        self.board.change(|report| {
            report.last_list_wait = wait;
            report.agents = agents.map_or(0, |Agents { count, .. }| count);
        });
        sleep(wait).await;
        self.state.borrow().gate.is_open()
    }

    /// Waits until it is known how many nodes there are, or that it will not be.
    async fn counted(&self) {
        let known = async {
            loop {
                let changed = self.changed.notified();
                {
                    let state = self.state.borrow();
                    if state.census.agents().is_some() || state.nodes_refused {
                        return;
                    }
                }
                changed.await;
            }
        };
        // A server that answers everybody but the watch of nodes must not stop the others.
        let _ = timeout(self.config.timing.blind_spread, known).await;
    }

    pub(super) fn nodes_refused(&self) {
        self.state.borrow_mut().nodes_refused = true;
        self.changed.notify_waiters();
    }

    /// Sends a GET and waits for the head of its answer. The only place where anything is sent.
    async fn send(&self, uri: &str, accept: &str) -> Result<Response<Body>, (Code, NoAnswer)> {
        let wait = self.state.borrow_mut().bucket.take(Instant::now());
        if !wait.is_zero() {
            self.board.change(|report| report.throttled += 1);
            sleep(wait).await;
        }
        let none = |reason| (Code::NoConnection, NoAnswer { reason });
        let client = self.client().map_err(none)?;
        let request = Request::get(uri).header(ACCEPT, accept).body(Body::empty());
        let request = request.map_err(|error| none(chain(&error)))?;
        match timeout(self.config.timing.answer, client.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(none(chain(&error))),
            Err(_) => {
                let reason = format!("no answer within {} s", self.config.timing.answer.as_secs_f32());
                Err((Code::TimedOut, NoAnswer { reason }))
            }
        }
    }

    /// As `send`, and counted.
    pub(super) async fn request(
        &self,
        verb: Verb,
        resource: Asked,
        uri: &str,
        accept: &str,
    ) -> Result<Response<Body>, NoAnswer> {
        let result = self.send(uri, accept).await;
        let code = match &result {
            Ok(response) => Code::Status(response.status().as_u16()),
            Err((code, _)) => *code,
        };
        self.board.requested(verb, resource, code);
        result.map_err(|(_, none)| none)
    }

    /// The client, made anew if any of the files behind it is another one by now.
    fn client(&self) -> Result<Client, String> {
        let state = &mut *self.state.borrow_mut();
        if let Some((client, fingerprint)) = &state.client
            && fingerprint.is_current()
        {
            return Ok(client.clone());
        }
        state.client = None;
        let access = access::find(&self.config.sources).map_err(|error| chain(&error))?;
        self.show(&access);
        let agent = &self.config.agent;
        let client = transport::client(&access, agent, &self.config.timing).map_err(|error| chain(&error))?;
        state.client = Some((client.clone(), access.fingerprint));
        Ok(client)
    }

    /// ServerHealth where the API server is.
    pub(super) fn show(&self, access: &Access) {
        self.board.change(|report| {
            report.server = Some(access.url());
            report.source = Some(access.place.clone());
            report.credentials_read += 1;
            report.scope = self.config.scope.as_str();
        });
    }

    async fn small_body(&self, response: Response<Body>) -> Vec<u8> {
        let body = Limited::new(response.into_body(), SMALL_BODY).collect();
        match timeout(self.config.timing.answer, body).await {
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// The whole body of a page, up to `bound` bytes.
    pub(super) async fn page_body(&self, response: Response<Body>, bound: usize) -> Result<Vec<u8>, String> {
        let body = Limited::new(response.into_body(), bound).collect();
        match timeout(self.config.timing.page, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(error)) => Err(chain(error.as_ref())),
            Err(_) => Err(format!("no end within {} s", self.config.timing.page.as_secs_f32())),
        }
    }

    /// What a refusal says: for people, and for `ListWatch`.
    pub(super) async fn refused(&self, response: Response<Body>) -> (String, Status, Option<Duration>) {
        let (code, retry_after) = (response.status(), retry_after(&response));
        let body = self.small_body(response).await;
        let status = Status::of_body(code.as_u16(), &body);
        (refusal(code, &status), status, retry_after)
    }
}

pub(super) fn refusal(code: StatusCode, status: &Status) -> String {
    match status.message.as_str() {
        "" => format!("answered {code}"),
        message => format!("answered {}: {message}", code.as_u16()),
    }
}

/// Seconds, as the API server writes it; never a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
