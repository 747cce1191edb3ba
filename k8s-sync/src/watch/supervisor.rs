//! One watch, for as long as the agent lives: the thin shell around `ListWatch`.

use super::decode::{self, Bad, Event, Line, Lines, Page};
use super::list_watch::{ListWatch, Outcome, Step};
use super::report::{Asked, Verb, WatchState};
use super::request::{PAGE, Query};
use super::server::Server;
use super::transport::chain;
use super::{Scope, Table};
use crate::cluster::object::{Change, Object, Resource};
use http_body_util::BodyExt;
use hyper::http::Response;
use kube::client::Body;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// An object in etcd has at most 1.5 MiB by default, its JSON some times more.
const LONGEST_LINE: usize = 4 << 20;
/// A page of 500 pods has about 5 MB. One that is larger is asked for in smaller pages.
const LARGEST_PAGE: usize = 32 << 20;
/// After so many pages a list that does not end is given up: 4,000,000 objects.
const MOST_PAGES: u32 = 8_000;
const UNFINISHED_STREAMS: u32 = 3;
/// How an API server says that its etcd is too old for bookmarks.
const NO_BOOKMARKS: &str = "RequestWatchProgress";

pub(super) struct Supervisor<'a, T> {
    server: &'a Server<T>,
    resource: Resource,
    list_watch: ListWatch,
    /// Objects by what was told: exact after a list.
    objects: u64,
    /// This server marks the time: silence means something.
    has_bookmarks: bool,
    page: u32,
    streams: u64,
    /// Lists that were complete.
    lists: u64,
    /// Streaming lists in a row that broke off.
    unfinished: u32,
}

/// What became of an attempt, and why, for people.
struct After {
    outcome: Outcome,
    reason: String,
}

impl After {
    fn new(outcome: Outcome, reason: impl Into<String>) -> After {
        After { outcome, reason: reason.into() }
    }
}

/// How one stream is read.
struct Stream {
    begun: Instant,
    /// Still within the list that the stream begins with.
    is_listing: bool,
    received: bool,
    listed: u64,
}

impl<'a, T: Table> Supervisor<'a, T> {
    pub(super) fn new(server: &'a Server<T>, resource: Resource) -> Supervisor<'a, T> {
        Supervisor {
            server,
            resource,
            list_watch: ListWatch::new(),
            objects: 0,
            has_bookmarks: false,
            page: PAGE,
            streams: 0,
            lists: 0,
            unfinished: 0,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let step = self.list_watch.step();
            self.server.open(self.resource).await;
            if step == Step::List && !self.server.turn(self.resource).await {
                continue;
            }
            let stopped = self.server.stopped();
            let After { outcome, reason } = tokio::select! {
                after = self.attempt(step) => after,
                () = stopped => After::new(Outcome::Stopped, "the agent itself was stopped for a while"),
            };
            self.tell(&outcome, &reason);
            let had_version = self.list_watch.step() != Step::List;
            let verdict = self.list_watch.after(outcome, self.server.jitter());
            if had_version && self.list_watch.step() == Step::List {
                self.server.board.watch(self.resource, |watch| watch.relists += 1);
                tracing::info!(resource = self.resource.as_str(), reason, "listing anew");
            }
            self.server.judged(self.resource, verdict, &reason);
            sleep(verdict.wait).await;
        }
    }

    async fn attempt(&mut self, step: Step) -> After {
        match step {
            Step::Watch { version } => self.watch(&version).await,
            Step::List if self.server.has_streaming_lists() => self.streaming_list().await,
            Step::List => self.list().await,
        }
    }

    fn state(&self, state: WatchState) {
        self.server.board.watch(self.resource, |watch| watch.state = state);
    }

    /// Failures are counted and shown; the end of a stream in order is none.
    fn tell(&mut self, outcome: &Outcome, reason: &str) {
        match outcome {
            Outcome::Listed { .. } => {}
            Outcome::Ended { lived, .. } if *lived >= super::list_watch::SHORT => {}
            _ => {
                if self.list_watch.failures() == 0 {
                    tracing::warn!(resource = self.resource.as_str(), reason, "watch failed; it goes on");
                }
                self.server.board.watch(self.resource, |watch| {
                    watch.failures += 1;
                    watch.state = WatchState::Retrying;
                    watch.last_error = Some(reason.to_owned());
                });
            }
        }
        if self.resource == Resource::Nodes && matches!(outcome, Outcome::Refused { .. } | Outcome::Nonsense) {
            self.server.nodes_refused();
        }
    }

    fn query(&self) -> Query {
        let is_narrow = self.resource == Resource::Pods && self.server.scope() == Scope::Node;
        Query { resource: self.resource, node: self.server.config.node.clone().filter(|_| is_narrow) }
    }

    async fn watch(&mut self, version: &str) -> After {
        let query = self.query();
        let uri = query.watch(version, self.server.has_bookmarks(), self.server.config.watch_timeout_s);
        match self.start(Verb::Watch, &uri, query.accept(false)).await {
            Ok(response) => self.read(response, false).await,
            Err(after) => after,
        }
    }

    async fn streaming_list(&mut self) -> After {
        let query = self.query();
        let uri = query.streaming_list(self.server.config.watch_timeout_s);
        let lists = self.lists;
        let after = match self.start(Verb::StreamingList, &uri, query.accept(false)).await {
            Ok(response) => self.read(response, true).await,
            Err(After { outcome: Outcome::Refused { code: 400 | 422, .. }, reason }) => {
                self.server.without_streaming_lists(&reason);
                return self.list().await;
            }
            Err(after) => after,
        };
        // A server that begins one and does not end it. That a connection breaks says nothing
        // before it has done so a few times.
        if self.lists == lists {
            match &after.outcome {
                Outcome::StreamError { .. } | Outcome::Silent => self.server.without_streaming_lists(&after.reason),
                Outcome::Broken { .. } => {
                    self.unfinished += 1;
                    if self.unfinished >= UNFINISHED_STREAMS {
                        self.server.without_streaming_lists(&after.reason);
                    }
                }
                _ => {}
            }
        }
        after
    }

    async fn start(&mut self, verb: Verb, uri: &str, accept: &str) -> Result<Response<Body>, After> {
        let response = self.server.request(verb, Asked::For(self.resource), uri, accept).await;
        let response = response.map_err(|none| After::new(Outcome::NoAnswer, none.reason))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (reason, status, retry_after) = self.server.refused(response).await;
        Err(After::new(Outcome::Refused { code: status.code, retry_after }, reason))
    }

    /// All pages of a list. The first decides the version; the server keeps it for the others, or answers 410.
    async fn list(&mut self) -> After {
        let begun = Instant::now();
        let query = self.query();
        let mut next: Option<String> = None;
        let mut listed = 0;
        self.state(WatchState::Listing);
        for number in 0..MOST_PAGES {
            let uri = query.page(self.page, next.as_deref());
            let response = match self.start(Verb::List, &uri, query.accept(true)).await {
                Ok(response) => response,
                Err(After { outcome: Outcome::Refused { code: 410, .. }, reason }) if number > 0 => {
                    return After::new(Outcome::Gone { lived: Duration::ZERO }, reason);
                }
                Err(after) => return after,
            };
            let body = match self.server.page_body(response, LARGEST_PAGE).await {
                Ok(body) => body,
                Err(reason) => {
                    self.page = (self.page / 2).max(1);
                    return After::new(Outcome::Broken { lived: begun.elapsed(), received: false }, reason);
                }
            };
            let Ok(page) = decode::page(self.resource, &body) else {
                return After::new(Outcome::Nonsense, "a list that is none");
            };
            drop(body);
            let Page { objects, skipped, version, next: following, remaining } = page;
            listed += u64::try_from(objects.len()).unwrap_or(u64::MAX);
            if self.is_too_many(listed + remaining.unwrap_or(0)) {
                self.list_watch.restart();
                return After::new(Outcome::Gone { lived: Duration::MAX }, "more pods than are kept");
            }
            skipped.into_iter().for_each(|bad| self.skipped(bad));
            if number == 0 {
                self.server.apply(Change::ListBegun(self.resource));
            }
            for object in objects {
                self.server.apply(Change::Listed(object));
            }
            self.server.board.alive(self.resource, Instant::now());
            next = following;
            if next.is_none() {
                self.list_ended(listed);
                return After::new(Outcome::Listed { version }, "");
            }
            // Other watches of this thread have their turn.
            tokio::task::yield_now().await;
        }
        After::new(Outcome::Nonsense, "a list that does not end")
    }

    fn list_ended(&mut self, listed: u64) {
        self.server.apply(Change::ListEnded(self.resource));
        self.objects = listed;
        self.page = PAGE;
        self.lists += 1;
        self.unfinished = 0;
        let (objects, lists) = (self.server.objects(self.resource, listed), self.lists);
        self.server.board.watch(self.resource, |watch| {
            watch.objects = objects;
            watch.lists = lists;
            watch.is_complete = true;
        });
    }

    /// Reads a stream to its end. It is told from a dead one by its bookmarks.
    async fn read(&mut self, response: Response<Body>, is_listing: bool) -> After {
        let begun = Instant::now();
        let mut stream = Stream { begun, is_listing, received: false, listed: 0 };
        let mut lines = Lines::new(LONGEST_LINE);
        let mut body = response.into_body();
        let (resource, jitter) = (self.resource, self.server.jitter());
        if is_listing {
            self.state(WatchState::Listing);
            self.server.apply(Change::ListBegun(resource));
        } else {
            self.state(WatchState::Watching);
        }
        // From here on nothing is missed, however long nothing happens.
        self.server.board.alive(resource, begun);
        self.streams += 1;
        let restarts = self.streams - 1;
        self.server.board.watch(resource, |watch| watch.restarts = restarts);
        loop {
            let frame = match timeout(self.silence(&stream, jitter), body.frame()).await {
                Err(_) => {
                    let reason = format!("silent for {} s", self.silence(&stream, jitter).as_secs());
                    return After::new(Outcome::Silent, reason);
                }
                Ok(frame) => frame,
            };
            let (lived, received) = (begun.elapsed(), stream.received);
            let part = match frame {
                None if lines.is_within_a_line() => {
                    return After::new(Outcome::Broken { lived, received }, "the stream ended within an event");
                }
                None if stream.is_listing => {
                    return After::new(Outcome::Broken { lived, received }, "the stream ended within its list");
                }
                None => {
                    let reason = format!("the stream ended after {} s", lived.as_secs_f32());
                    return After::new(Outcome::Ended { lived, received }, reason);
                }
                Some(Err(error)) => return After::new(Outcome::Broken { lived, received }, chain(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) => part,
                    Err(_) => continue,
                },
            };
            self.server.board.alive(resource, Instant::now());
            if let Err(after) = lines.push(&part, |line| self.line(line, &mut stream)) {
                return after;
            }
            let objects = self.server.objects(resource, self.objects);
            self.server.board.watch(resource, |watch| watch.objects = objects);
        }
    }

    fn silence(&self, stream: &Stream, jitter: f64) -> Duration {
        let timing = &self.server.config.timing;
        match (stream.is_listing, self.has_bookmarks) {
            (true, _) => timing.page,
            (false, true) => timing.silence.mul_f64(1.0 + 0.2 * jitter),
            (false, false) => timing.unmarked_silence.mul_f64(1.0 + 0.2 * jitter),
        }
    }

    fn line(&mut self, line: Line<'_>, stream: &mut Stream) -> Result<(), After> {
        let event = match line {
            Line::Whole(bytes) => decode::event(self.resource, bytes),
            Line::TooLong => Event::Skipped(Bad::TooLarge, None),
        };
        let version = match event {
            Event::Applied { object, version, is_new } => {
                self.applied(object, is_new, stream)?;
                version
            }
            Event::Deleted(uid, version) => {
                self.objects = self.objects.saturating_sub(1);
                self.server.apply(Change::Deleted(self.resource, uid));
                version
            }
            Event::Bookmark { version, ends_initial_events } => {
                self.has_bookmarks |= !stream.is_listing;
                if ends_initial_events && stream.is_listing {
                    self.streamed(&version, stream);
                }
                Some(version)
            }
            Event::Error(status) if status.code == 410 => {
                let lived = stream.begun.elapsed();
                return Err(After::new(Outcome::Gone { lived }, format!("410: {}", status.message)));
            }
            Event::Error(status) => {
                if status.message.contains(NO_BOOKMARKS) {
                    self.server.without_bookmarks();
                }
                let reason = format!("error {} in the stream: {}", status.code, status.message);
                return Err(After::new(Outcome::StreamError { code: status.code }, reason));
            }
            Event::Skipped(bad, version) => {
                self.skipped(bad);
                version
            }
        };
        stream.received = true;
        // The objects of a list come in no order of versions.
        if let Some(version) = version.filter(|_| !stream.is_listing)
            && !self.list_watch.seen(version)
        {
            return Err(After::new(Outcome::Backwards, "versions went back: another store than before"));
        }
        Ok(())
    }

    fn applied(&mut self, object: Object, is_new: bool, stream: &mut Stream) -> Result<(), After> {
        let count = if stream.is_listing { &mut stream.listed } else { &mut self.objects };
        *count += u64::from(is_new);
        let count = *count;
        if self.is_too_many(count) {
            self.list_watch.restart();
            return Err(After::new(Outcome::Gone { lived: Duration::MAX }, "more pods than are kept"));
        }
        self.server.apply(if stream.is_listing { Change::Listed(object) } else { Change::Applied(object) });
        Ok(())
    }

    /// The list that the stream began with is complete.
    fn streamed(&mut self, version: &str, stream: &mut Stream) {
        stream.is_listing = false;
        self.list_ended(stream.listed);
        self.list_watch.after(Outcome::Listed { version: version.to_owned() }, 0.0);
        self.state(WatchState::Watching);
    }

    /// Whether there are more pods than this agent is to keep, and it can make do with those of its node.
    fn is_too_many(&self, count: u64) -> bool {
        let bound = u64::from(self.server.config.most_pods);
        let is_over = self.resource == Resource::Pods && self.server.scope() == Scope::Cluster && count > bound;
        is_over && self.server.narrow(format!("there are more than {bound} pods"))
    }

    fn skipped(&self, bad: Bad) {
        self.server.board.watch(self.resource, |watch| {
            if let Some(count) = watch.skipped.get_mut(bad as usize) {
                *count += 1;
            }
        });
    }
}
