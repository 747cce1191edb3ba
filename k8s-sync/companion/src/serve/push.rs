//! One call of an agent: what it shows is checked, then its `Session` decides.

use crate::book::Shown;
use crate::fleet::Fleet;
use crate::serve::desk::{Desk, unknown};
use crate::serve::reviews::{Reviewed, Reviews};
use crate::serve::telling::Telling;
use crate::session::Session;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use hyper::body::Incoming;
use hyper::{Request, Response};
use join::limits::{MESSAGE, PATIENCE};
use join::message::{Answers, FromAgent, FromCompanion, Hello, Period, Says};
use join::{Reason, Refusal, Token, TokenHash, grpc};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::server::StreamingService;
use tonic::{Code, Status, Streaming};

type Answer = Result<FromCompanion, Status>;

/// A watch may tell for a moment what was before the latest write.
const SETTLED: Duration = Duration::from_secs(5);

/// Who it is that has called.
#[derive(Debug)]
enum Caller {
    /// Who has the join token, or a node's credential.
    Shows(Shown),
    /// A pod.
    Pod(Reviewed),
}

/// What all calls share.
#[derive(Debug)]
pub struct Push {
    fleet: Arc<Mutex<Fleet>>,
    /// Of the join token. Another one may be put in its place while streams are open.
    token: Mutex<TokenHash>,
    telling: OnceLock<Arc<Telling>>,
    /// Where the cluster is read and nodes have credentials of their own.
    desk: OnceLock<Arc<Desk>>,
    /// Where agents may join by the tokens of their pods.
    reviews: OnceLock<Arc<Reviews>>,
    /// Milliseconds from push to push while somebody looks; 0: as agents were welcomed.
    pace: watch::Sender<u32>,
    began: Instant,
}

impl Push {
    /// For those who have the token.
    #[must_use]
    pub fn new(fleet: Arc<Mutex<Fleet>>, token: TokenHash) -> Push {
        let (token, telling, pace) = (Mutex::new(token), OnceLock::new(), watch::Sender::new(0));
        let (desk, reviews) = (OnceLock::new(), OnceLock::new());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        fleet.lock().set_began(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Push { fleet, token, telling, desk, reviews, pace, began: Instant::now() }
    }

    /// From now on another token is asked for. Open streams stay.
    pub fn set_token(&self, token: TokenHash) {
        *self.token.lock() = token;
    }

    /// From now on nodes have credentials. To be called before anybody joins.
    pub fn set_desk(&self, desk: Arc<Desk>) {
        let _ = self.desk.set(desk);
    }

    /// From now on agents may join by the tokens of their pods.
    pub fn set_reviews(&self, reviews: Arc<Reviews>) {
        let _ = self.reviews.set(reviews);
    }

    /// What says whose token of a pod it is, if anything does.
    #[must_use]
    pub fn reviews(&self) -> Option<&Arc<Reviews>> {
        self.reviews.get()
    }

    /// What gives nodes credentials, if anything does.
    #[must_use]
    pub fn desk(&self) -> Option<&Arc<Desk>> {
        self.desk.get()
    }

    /// From now on names are told to agents that want them.
    pub fn set_telling(&self, telling: Arc<Telling>) {
        if self.telling.set(telling).is_ok() {
            self.fleet.lock().set_tells_names();
        }
    }

    /// What tells names, if they are told.
    #[must_use]
    pub fn telling(&self) -> Option<&Arc<Telling>> {
        self.telling.get()
    }

    /// From now on agents push so often; `None`: as often as they were welcomed to. Those of a version
    /// that does not know the message go on as they were.
    pub fn set_pace(&self, pace: Option<Duration>) {
        let pace = pace.map_or(0, |pace| u32::try_from(pace.as_millis()).unwrap_or(u32::MAX));
        self.pace.send_if_modified(|now| std::mem::replace(now, pace) != pace);
    }

    /// From one push of an agent to the next, as it was asked for last.
    #[must_use]
    pub fn pace(&self) -> Duration {
        match *self.pace.borrow() {
            0 => self.fleet.lock().period(),
            pace => Duration::from_millis(pace.into()),
        }
    }

    /// What is counted and kept.
    #[must_use]
    pub fn fleet(&self) -> &Mutex<Fleet> {
        &self.fleet
    }

    /// The time that the fleet is told.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Answers a request. `over` is cancelled when the stream has ended.
    pub async fn call(
        self: Arc<Push>,
        request: Request<Incoming>,
        over: CancellationToken,
    ) -> Response<tonic::body::Body> {
        if request.uri().path() != grpc::PUSH {
            over.cancel();
            return Status::unimplemented("there is one call: pilotfish.join.v1.Join/Push").into_http();
        }
        let call = Call { push: self, over };
        let mut grpc = tonic::server::Grpc::new(grpc::companion_codec())
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        grpc.streaming(call, request).await
    }

    /// Who it is that shows this header.
    async fn identify(&self, header: Option<String>) -> Result<Caller, Refusal> {
        let hash = header.as_deref().and_then(TokenHash::of_header).ok_or_else(unknown)?;
        let token = *self.token.lock();
        if hash == token {
            return Ok(Caller::Shows(Shown::Token));
        }
        let of_pod = header.as_deref().and_then(Token::projected_of_header);
        match (self.desk.get(), self.reviews.get().zip(of_pod)) {
            (_, Some((reviews, token))) => reviews.of(token).await.map(Caller::Pod),
            (Some(desk), None) => desk.identify(hash).await.map(Caller::Shows),
            (None, None) => Err(unknown()),
        }
    }

    /// Whether who shows this may push for the node that it names, and the hash by which it joins.
    async fn admit(&self, hello: &Hello, caller: &Caller) -> Result<Option<TokenHash>, Refusal> {
        self.fleet.lock().check(hello)?;
        let admitted = match (caller, self.desk.get()) {
            (Caller::Pod(Reviewed { node, .. }), _) if *node == hello.node => Ok(None),
            (Caller::Pod(Reviewed { node, .. }), _) => {
                let text = format!("the agent's pod is on node \"{node}\": set kubernetes.node to that");
                Err(Refusal::new(Reason::Node, text))
            }
            (Caller::Shows(_), None) => Ok(None),
            (Caller::Shows(shown), Some(desk)) => desk.admit(hello, *shown).await,
        };
        if let Err(refusal) = &admitted {
            self.fleet.lock().refused(refusal.reason);
        }
        admitted
    }
}

struct Call {
    push: Arc<Push>,
    over: CancellationToken,
}

impl StreamingService<FromAgent> for Call {
    type Response = FromCompanion;
    type ResponseStream = BoxStream<'static, Answer>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<FromAgent>>) -> Self::Future {
        let (push, over) = (self.push.clone(), self.over.clone());
        Box::pin(async move {
            // Also where the call is given up while it is looked at.
            let guard = over.clone().drop_guard();
            let header = request.metadata().get("authorization").and_then(|header| header.to_str().ok());
            let caller = match push.identify(header.map(str::to_owned)).await {
                Ok(caller) => caller,
                Err(refusal) => {
                    push.fleet.lock().refused(refusal.reason);
                    return Err(refusal.into());
                }
            };
            // A welcome and an answer to each push: one is enough to stay behind by.
            let (down, answers) = mpsc::channel(1);
            drop(guard.disarm());
            tokio::spawn(async move {
                push.session(request.into_inner(), down, caller).await;
                over.cancel();
            });
            let answers = stream::unfold(answers, async |mut answers: mpsc::Receiver<Answer>| {
                Some((answers.recv().await?, answers))
            });
            Ok(tonic::Response::new(answers.boxed()))
        })
    }
}

impl Push {
    async fn session(&self, mut up: Streaming<FromAgent>, down: mpsc::Sender<Answer>, mut caller: Caller) {
        let mut session = Session::new(self.now());
        // By which it joins, and since when that is no longer the node's.
        let (mut credential, mut lost) = (None, None);
        // The latest question counts; there is no reason to ask twice at once.
        let (ask, asked) = mpsc::channel(1);
        if let Some(telling) = self.telling.get() {
            tokio::spawn(telling.clone().stream(asked, down.clone()));
        }
        let mut pace = self.pace.subscribe();
        if *pace.borrow_and_update() != 0 {
            pace.mark_changed();
        }
        loop {
            let until = self.began + session.deadline();
            let message = tokio::select! {
                message = up.message() => message,
                // `message` loses nothing when it is dropped. The sender is ours.
                _ = pace.changed(), if session.is_open() => {
                    let period_ms = u32::try_from(self.pace().as_millis()).unwrap_or(u32::MAX);
                    pace.mark_unchanged();
                    let period = Answers::Period(Period { period_ms }).into();
                    if timeout(PATIENCE, down.send(Ok(period))).await.is_ok_and(|sent| sent.is_ok()) {
                        continue;
                    }
                    break;
                }
                () = sleep_until(until) => {
                    self.fleet.lock().said_nothing();
                    break;
                }
            };
            let answer = match message {
                Ok(Some(FromAgent { says: Some(Says::Wants(wants)) })) if session.is_open() => {
                    // Who did not read names is told none any more, and begins anew.
                    if ask.try_send(wants).is_err() && ask.is_closed() && self.telling.get().is_some() {
                        break;
                    }
                    continue;
                }
                Ok(Some(FromAgent { says: Some(Says::Hello(hello)) })) if !session.is_open() => {
                    match self.admit(&hello, &caller).await {
                        Ok(joined) => {
                            credential = joined;
                            let hello = Says::Hello(hello).into();
                            let answer = session.received(self.now(), hello, &mut self.fleet.lock());
                            answer.map(|answer| answer.map(|answer| with_credential(answer, credential.is_some())))
                        }
                        Err(refusal) => Err(refusal),
                    }
                }
                Ok(Some(_)) if !self.is_reviewed(&mut caller).await => break,
                Ok(Some(message)) => match self.lost(&session, credential, &mut lost) {
                    None => session.received(self.now(), message, &mut self.fleet.lock()),
                    Some(refusal) => {
                        self.fleet.lock().refused(refusal.reason);
                        Err(refusal)
                    }
                },
                Ok(None) => break,
                // It is longer than a message may be.
                Err(status) if status.code() == Code::OutOfRange => {
                    self.fleet.lock().refused(Reason::Protocol);
                    Err(Refusal::new(Reason::Protocol, status.message()))
                }
                Err(_) => break,
            };
            let (answer, ends) = match answer {
                Ok(None) => continue,
                Ok(Some(answer)) => (Ok(answer), false),
                Err(refusal) => (Err(refusal.into()), true),
            };
            // Who does not read its answers is not waited for.
            let is_sent = timeout(PATIENCE, down.send(answer)).await.is_ok_and(|sent| sent.is_ok());
            if ends || !is_sent {
                break;
            }
        }
        session.ended(&mut self.fleet.lock());
    }

    /// Whether the token of a pod still is one.
    async fn is_reviewed(&self, caller: &mut Caller) -> bool {
        match (caller, self.reviews.get()) {
            (Caller::Pod(reviewed), Some(reviews)) => reviews.still(reviewed).await,
            (Caller::Pod(_), None) => false,
            (Caller::Shows(_), _) => true,
        }
    }

    /// Why the stream is to end: its credential has not been the node's for a while.
    fn lost(&self, session: &Session, hash: Option<TokenHash>, since: &mut Option<Instant>) -> Option<Refusal> {
        let refusal = self.desk.get()?.lost(session.node()?, hash?);
        if refusal.is_none() {
            *since = None;
        }
        let now = Instant::now();
        refusal.filter(|_| now.duration_since(*since.get_or_insert(now)) >= SETTLED)
    }
}

fn with_credential(mut answer: FromCompanion, is_kept: bool) -> FromCompanion {
    if let Some(Answers::Welcome(welcome)) = &mut answer.answers {
        welcome.credential = is_kept;
    }
    answer
}
