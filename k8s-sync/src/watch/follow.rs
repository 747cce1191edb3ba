//! A few objects that are followed by name, for whoever is no agent: a list, and a watch from there
//! on. Shares with the watches of agents when to list, when to watch and how long to wait.
//!
//! Asks by GET alone, and whoever reads what is known waits for nothing.

use super::config::{Agent, Timing};
use super::decode::{Line, Lines, Status};
use super::jitter::Jitter;
use super::list_watch::{ListWatch, Outcome, ServerHealth, Step};
use super::request::encode;
use super::transport::{self, chain};
use crate::access::{self, Fingerprint, Sources};
use http_body_util::{BodyExt, Limited};
use hyper::http::header::ACCEPT;
use hyper::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Objects of a page of a list.
const PAGE: usize = 500;
/// Of a page. One of 500 nodes without their status has about 1 MB.
const LARGEST_PAGE: usize = 32 << 20;
/// An object in etcd has at most 1.5 MiB by default.
const LONGEST_LINE: usize = 4 << 20;
/// A server that fails as a whole is asked no sooner than this.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// And no later, whatever it says.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How to reach the API server, for all that is followed.
pub struct ApiServer {
    sources: Sources,
    agent: Agent,
    pub(super) timing: Timing,
    client: Mutex<Option<(Client, Fingerprint)>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Connects with the first request.
    #[must_use]
    pub fn new(sources: Sources, agent: Agent, timing: Timing) -> ApiServer {
        // One provider of primitives for all of TLS; that another part has set it already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        ApiServer { sources, agent, timing, client: Mutex::new(None) }
    }

    /// The client, made anew if any of the files behind it is another one by now.
    pub(super) fn client(&self) -> Result<Client, String> {
        let mut client = self.client.lock();
        if let Some((client, fingerprint)) = &*client
            && fingerprint.is_current()
        {
            return Ok(client.clone());
        }
        *client = None;
        let access = access::find(&self.sources).map_err(|error| chain(&error))?;
        let made = transport::client(&access, &self.agent, &self.timing).map_err(|error| chain(&error))?;
        *client = Some((made.clone(), access.fingerprint));
        Ok(made)
    }

    pub(super) fn forget(&self) {
        *self.client.lock() = None;
    }
}

/// What is followed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// For people and metrics, as `nodes`.
    pub resource: &'static str,
    /// Of the collection, as `/api/v1/nodes`.
    pub path: String,
    /// A selector by its name, as `fieldSelector`, and what it says.
    pub selector: Option<(&'static str, String)>,
    /// Names and labels alone: the server leaves the rest out.
    pub only_metadata: bool,
    /// More are not kept.
    pub most: usize,
}

impl Followed {
    fn begin(&self) -> String {
        let mut uri = format!("{}?", self.path);
        if let Some((name, says)) = &self.selector {
            uri.push_str(name);
            uri.push('=');
            encode(&mut uri, says);
            uri.push('&');
        }
        uri
    }

    fn page(&self, next: Option<&str>) -> String {
        let mut uri = format!("{}limit={PAGE}", self.begin());
        if let Some(next) = next {
            uri.push_str("&continue=");
            encode(&mut uri, next);
        }
        uri
    }

    fn watch(&self, version: &str) -> String {
        let mut uri = format!("{}watch=1&allowWatchBookmarks=true&resourceVersion=", self.begin());
        encode(&mut uri, version);
        uri
    }

    fn accept(&self, is_list: bool) -> &'static str {
        match (self.only_metadata, is_list) {
            (true, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            (true, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            (false, _) => "application/json",
        }
    }
}

/// What was asked and what became of it, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowCounts {
    /// Complete lists.
    pub lists: u64,
    /// Watches that began.
    pub watches: u64,
    /// Attempts and streams that failed.
    pub failures: u64,
    /// Objects that were not kept because there were too many, or that made no sense.
    pub left_out: u64,
}

/// How it stands, for whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct FollowReport {
    /// Since the start.
    pub counts: FollowCounts,
    /// Objects that are known; `None` before the first list.
    pub known: Option<usize>,
    /// Why nothing comes at the moment.
    pub trouble: Option<String>,
}

/// Follows until `stop` is cancelled. `keep` says what is kept of an object; `tell` hears of all of
/// them, by name, once they are known and whenever what is kept of one is another.
#[derive(Debug)]
pub struct Follow<T> {
    api: Arc<ApiServer>,
    what: Followed,
    keep: fn(&Value) -> Option<T>,
    report: Arc<Mutex<FollowReport>>,
    objects: BTreeMap<String, T>,
    list_watch: ListWatch,
    jitter: Jitter,
    /// This server marks the time: silence means something.
    has_bookmarks: bool,
}

/// What became of an attempt, and why, for people.
struct After(Outcome, String);

impl<T: PartialEq> Follow<T> {
    /// For the objects of `what`.
    #[must_use]
    pub fn new(api: Arc<ApiServer>, what: Followed, keep: fn(&Value) -> Option<T>) -> Follow<T> {
        Follow {
            api,
            what,
            keep,
            report: Arc::default(),
            objects: BTreeMap::new(),
            list_watch: ListWatch::new(),
            jitter: Jitter::new(),
            has_bookmarks: false,
        }
    }

    /// How it stands, while it runs.
    #[must_use]
    pub fn report(&self) -> Arc<Mutex<FollowReport>> {
        self.report.clone()
    }

    /// See the type.
    pub async fn run(mut self, stop: CancellationToken, mut tell: impl FnMut(&BTreeMap<String, T>)) {
        let work = async {
            loop {
                let step = self.list_watch.step();
                let After(outcome, reason) = match step {
                    Step::List => self.list(&mut tell).await,
                    Step::Watch { version } => self.watch(&version, &mut tell).await,
                };
                self.note(&outcome, &reason);
                let jitter = self.jitter.draw();
                let verdict = self.list_watch.after(outcome, jitter);
                if verdict.reread {
                    self.api.forget();
                }
                let wait = match verdict.server {
                    ServerHealth::Fine => verdict.wait,
                    ServerHealth::Fails { retry_after } => verdict.wait.max(retry_after.unwrap_or(LEAST_WAIT)),
                };
                sleep(wait.min(LONGEST_WAIT)).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Failures are counted and shown; the end of a stream in order is none.
    fn note(&self, outcome: &Outcome, reason: &str) {
        let mut report = self.report.lock();
        match outcome {
            Outcome::Listed { .. } => report.trouble = None,
            Outcome::Ended { lived, .. } if *lived >= super::list_watch::SHORT => {}
            _ => {
                report.counts.failures += 1;
                if report.trouble.replace(reason.to_owned()).is_none() {
                    tracing::warn!(resource = self.what.resource, reason, "watch failed; it goes on");
                }
            }
        }
    }

    async fn start(&self, uri: &str, is_list: bool) -> Result<Response<Body>, After> {
        let no_answer = |reason: String| After(Outcome::NoAnswer, reason);
        let client = self.api.client().map_err(no_answer)?;
        let request = Request::get(uri).header(ACCEPT, self.what.accept(is_list)).body(Body::empty());
        let request = request.map_err(|error| no_answer(chain(&error)))?;
        let patience = self.api.timing.answer;
        let response = timeout(patience, client.send(request)).await;
        let response = response.map_err(|_| no_answer(format!("no answer within {} s", patience.as_secs_f32())))?;
        let response = response.map_err(|error| no_answer(chain(&error)))?;
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let body = timeout(patience, Limited::new(response.into_body(), 16 << 10).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let status = Status::of_body(code.as_u16(), &body);
        let reason = super::server::refusal(code, &status);
        Err(After(Outcome::Refused { code: code.as_u16(), retry_after: None }, reason))
    }

    async fn list(&mut self, tell: &mut impl FnMut(&BTreeMap<String, T>)) -> After {
        let (mut listed, mut next, begun) = (BTreeMap::new(), None::<String>, Instant::now());
        // A list that does not end has told more objects than there may be.
        for _ in 0..=self.what.most / PAGE {
            let response = match self.start(&self.what.page(next.as_deref()), true).await {
                Ok(response) => response,
                Err(After(Outcome::Refused { code: 410, .. }, reason)) if next.is_some() => {
                    return After(Outcome::Gone { lived: begun.elapsed() }, reason);
                }
                Err(after) => return after,
            };
            let broken = |reason| After(Outcome::Broken { lived: begun.elapsed(), received: false }, reason);
            let body = timeout(self.api.timing.page, Limited::new(response.into_body(), LARGEST_PAGE).collect()).await;
            let body = match body {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(error)) => return broken(chain(error.as_ref())),
                Err(_) => return broken("a page did not end in time".to_owned()),
            };
            let page: Value = serde_json::from_slice(&body).unwrap_or_default();
            let version = text(&page, "resourceVersion");
            let (Some(items), Some(version)) = (page["items"].as_array(), version) else {
                return After(Outcome::Nonsense, "a list that is none".to_owned());
            };
            for item in items {
                self.put(&mut listed, item);
            }
            next = text(&page, "continue");
            if next.is_none() {
                self.objects = listed;
                self.known(|counts| counts.lists += 1);
                tell(&self.objects);
                return After(Outcome::Listed { version }, String::new());
            }
        }
        After(Outcome::Nonsense, format!("there are more than {} {}", self.what.most, self.what.resource))
    }

    fn known(&self, count: impl FnOnce(&mut FollowCounts)) {
        let mut report = self.report.lock();
        report.known = Some(self.objects.len());
        count(&mut report.counts);
    }

    /// Whether something is another.
    fn put(&self, objects: &mut BTreeMap<String, T>, object: &Value) -> bool {
        let name = text(object, "name");
        let kept = name.filter(|name| objects.len() < self.what.most || objects.contains_key(name));
        match kept.zip((self.keep)(object)) {
            Some((name, kept)) if objects.get(&name) == Some(&kept) => false,
            Some((name, kept)) => {
                objects.insert(name, kept);
                true
            }
            None => {
                self.report.lock().counts.left_out += 1;
                false
            }
        }
    }

    async fn watch(&mut self, version: &str, tell: &mut impl FnMut(&BTreeMap<String, T>)) -> After {
        let response = match self.start(&self.what.watch(version), false).await {
            Ok(response) => response,
            Err(after) => return after,
        };
        self.report.lock().trouble = None;
        self.known(|counts| counts.watches += 1);
        let (begun, mut received) = (Instant::now(), false);
        let (mut lines, mut body) = (Lines::new(LONGEST_LINE), response.into_body());
        loop {
            let timing = &self.api.timing;
            let silence = if self.has_bookmarks { timing.silence } else { timing.unmarked_silence };
            let frame = match timeout(silence, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return After(Outcome::Silent, format!("silent for {} s", silence.as_secs())),
            };
            let lived = begun.elapsed();
            let part = match frame {
                None if lines.is_within_a_line() => {
                    return After(Outcome::Broken { lived, received }, "the stream ended within an event".to_owned());
                }
                None => {
                    let reason = format!("the stream ended after {} s", lived.as_secs_f32());
                    return After(Outcome::Ended { lived, received }, reason);
                }
                Some(Err(error)) => return After(Outcome::Broken { lived, received }, chain(&error)),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            received = true;
            let mut changed = false;
            let read = lines.push(&part, |line| {
                changed |= self.line(line, lived)?;
                Ok(())
            });
            if changed {
                self.known(|_| {});
                tell(&self.objects);
            }
            if let Err(after) = read {
                return after;
            }
        }
    }

    /// Whether something is another.
    fn line(&mut self, line: Line<'_>, lived: Duration) -> Result<bool, After> {
        let event: Value = match line {
            Line::Whole(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
            Line::TooLong => Value::Null,
        };
        let object = &event["object"];
        let mut objects = std::mem::take(&mut self.objects);
        let changed = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => self.put(&mut objects, object),
            Some("DELETED") => text(object, "name").is_some_and(|name| objects.remove(&name).is_some()),
            Some("BOOKMARK") => {
                self.has_bookmarks = true;
                false
            }
            Some("ERROR") => {
                self.objects = objects;
                let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
                let status = Status::of_body(code, object.to_string().as_bytes());
                let outcome = if code == 410 { Outcome::Gone { lived } } else { Outcome::StreamError { code } };
                return Err(After(outcome, format!("error {code} in the stream: {}", status.message)));
            }
            _ => {
                self.report.lock().counts.left_out += 1;
                false
            }
        };
        self.objects = objects;
        if let Some(version) = text(object, "resourceVersion").filter(|version| version.len() <= 64)
            && !self.list_watch.seen(version)
        {
            return Err(After(Outcome::Backwards, "versions went back: another store than before".to_owned()));
        }
        Ok(changed)
    }
}

/// A text of the metadata that is there.
fn text(object: &Value, name: &str) -> Option<String> {
    object["metadata"][name].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn follow(most: usize) -> Follow<()> {
        let api = ApiServer::new(Sources::default(), Agent::default(), Timing::default());
        let (path, selector) = ("/api/v1/nodes".to_owned(), Some(("labelSelector", "a=b,c".to_owned())));
        let what = Followed { resource: "nodes", path, selector, only_metadata: true, most };
        Follow::new(Arc::new(api), what, |_| Some(()))
    }

    fn says(follow: &mut Follow<()>, event: &str) -> Result<bool, String> {
        follow.line(Line::Whole(event.as_bytes()), Duration::from_secs(60)).map_err(|After(_, reason)| reason)
    }

    fn event(kind: &str, name: &str, version: u64) -> String {
        json!({ "type": kind, "object": { "metadata": { "name": name, "resourceVersion": version.to_string() } } })
            .to_string()
    }

    #[test]
    fn paths_as_the_api_takes_them() {
        let what = follow(1).what;
        assert_eq!(what.page(Some("x=")), "/api/v1/nodes?labelSelector=a%3Db%2Cc&limit=500&continue=x%3D");
        assert!(what.watch("7").ends_with("&watch=1&allowWatchBookmarks=true&resourceVersion=7"));
    }

    #[test]
    fn only_what_is_another_is_told() {
        let mut follow = follow(9);
        assert_eq!(says(&mut follow, &event("ADDED", "n1", 1)), Ok(true));
        assert_eq!(says(&mut follow, &event("MODIFIED", "n1", 2)), Ok(false));
        assert_eq!(says(&mut follow, &event("BOOKMARK", "", 3)), Ok(false));
        assert!(follow.has_bookmarks);
        assert_eq!(follow.list_watch.step(), Step::Watch { version: "3".to_owned() });
        assert_eq!(says(&mut follow, &event("DELETED", "n1", 4)), Ok(true));
        assert!(follow.objects.is_empty());
    }

    #[test]
    fn what_makes_no_sense_or_has_no_room_is_counted() {
        let mut follow = follow(1);
        for line in ["", "{}", "[1]", r#"{"type":"ADDED"}"#, r#"{"type":"ADDED","object":{"metadata":{"name":""}}}"#] {
            assert_eq!(says(&mut follow, line), Ok(false), "{line}");
        }
        assert_eq!(says(&mut follow, &event("ADDED", "n1", 1)), Ok(true));
        assert_eq!(says(&mut follow, &event("ADDED", "n2", 2)), Ok(false));
        assert_eq!(follow.report.lock().counts.left_out, 6);
    }

    #[test]
    fn a_version_that_is_gone_is_listed_anew_and_one_that_goes_back_too() {
        let mut follow = follow(9);
        assert_eq!(says(&mut follow, &event("ADDED", "n1", 9)), Ok(true));
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
        assert_eq!(says(&mut follow, gone), Err("error 410 in the stream: too old".to_owned()));
        assert_eq!(
            says(&mut follow, &event("ADDED", "n2", 3)),
            Err("versions went back: another store than before".to_owned())
        );
    }
}
