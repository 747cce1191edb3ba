//! The agent's task for one companion: does what its `Link` says, with a connection.

use crate::feed::{Feed, Purse};
use crate::grpc::{self, PUSH};
use crate::limits::{AHEAD, MESSAGE, PATIENCE};
use crate::link::{Action, Cut, Link};
use crate::message::{Answers, FromAgent, FromCompanion, Says};
use crate::names::Names;
use crate::refusal::Reason;
use crate::ticket::{self, Ticket};
use crate::wallet::Turns;
use futures_util::stream;
use hyper::client::conn::http2;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tower::service_fn;

/// Pushes to one companion until it is told to stop.
#[derive(Debug)]
pub struct Client {
    ticket: Ticket,
    purse: Purse,
    turns: Mutex<Turns>,
    link: Arc<Mutex<Link>>,
    feed: Arc<Mutex<Feed>>,
    names: Option<Arc<Names>>,
    began: Instant,
}

/// A stream under way.
struct Stream {
    up: mpsc::Sender<FromAgent>,
    down: Streaming<FromCompanion>,
    connection: JoinHandle<()>,
}

enum Event {
    /// For one message.
    Room(mpsc::OwnedPermit<FromAgent>),
    Came(FromCompanion),
    Ended(Cut),
    Due,
    Stop,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// For the companion of `ticket`. Others may look at the link meanwhile.
    #[must_use]
    pub fn new(ticket: Ticket, link: Arc<Mutex<Link>>, feed: Arc<Mutex<Feed>>) -> Client {
        let purse = Purse::of(&ticket);
        Client { ticket, purse, turns: Mutex::default(), link, feed, names: None, began: Instant::now() }
    }

    /// Shows what is in `purse`.
    #[must_use]
    pub fn showing(self, purse: Purse) -> Client {
        Client { purse, ..self }
    }

    /// Takes names off the stream, too, while they are wanted.
    #[must_use]
    pub fn with_names(self, names: Arc<Names>) -> Client {
        Client { names: Some(names), ..self }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends when `stop` is cancelled, within a second after `why`, an exit code and its reason, was
    /// told.
    pub async fn run(self, stop: CancellationToken, why: Arc<Mutex<Option<(u8, String)>>>) {
        let mut stream: Option<Stream> = None;
        let mut outbox: Option<FromAgent> = None;
        self.link.lock().restart();
        loop {
            if outbox.is_none() {
                match self.next() {
                    Some(Action::Dial) => {
                        stream = tokio::select! {
                            stream = self.dial() => stream,
                            () = stop.cancelled() => return,
                        };
                        continue;
                    }
                    Some(Action::Send(message)) => outbox = Some(message),
                    Some(Action::Hang(cut)) => {
                        self.tell(&cut);
                        stream = None;
                        continue;
                    }
                    None => {}
                }
            }
            match self.event(&mut stream, outbox.is_some(), &stop).await {
                Event::Room(permit) => {
                    if let Some(message) = outbox.take() {
                        permit.send(message);
                    }
                }
                Event::Came(message) => {
                    if let Some(names) = &self.names {
                        names.received(&message).await;
                    }
                    if let Some(Answers::Welcome(welcome)) = &message.answers {
                        self.kept(welcome.credential).await;
                        self.turns.lock().taken(welcome.credential, &self.purse.wallet.lock());
                    }
                    let action = self.link.lock().received(self.now(), message);
                    if let Some(Action::Hang(cut)) = action {
                        self.tell(&cut);
                        (stream, outbox) = (None, None);
                    }
                }
                Event::Ended(cut) => {
                    self.cut(cut).await;
                    (stream, outbox) = (None, None);
                }
                // Whoever did not take the message by now is given up: the link says so. A question is asked again.
                Event::Due => {
                    let was_question =
                        outbox.take().is_some_and(|FromAgent { says }| matches!(says, Some(Says::Wants(_))));
                    if let Some(names) = self.names.as_ref().filter(|_| was_question) {
                        names.unasked();
                    }
                }
                Event::Stop => break,
            }
        }
        let bye = why.lock().clone().and_then(|(code, text)| self.link.lock().bye(code, text));
        if let (Some(stream), Some(bye)) = (stream, bye) {
            // What was on its way goes first; a companion that takes nothing is not waited for.
            let said = async {
                if stream.up.send(bye).await.is_ok() {
                    let mut stream = stream;
                    let (closed, _) = mpsc::channel(1);
                    drop(std::mem::replace(&mut stream.up, closed));
                    while let Ok(Some(_)) = stream.down.message().await {}
                }
            };
            let _ = timeout(Duration::from_secs(1), said).await;
        }
        self.link.lock().restart();
    }

    fn next(&self) -> Option<Action> {
        let now = self.now();
        let is_due = self.link.lock().is_due(now);
        let mut feed = self.feed.lock();
        // Who looks at the link does not wait for the walk.
        if is_due {
            feed.refresh(self.began + now);
        }
        let action = self.link.lock().poll(now, feed.source());
        // Names are asked for when nothing else is due: what is due is given up by its deadline.
        action.or_else(|| {
            let names = self.names.as_ref().filter(|_| self.link.lock().tells_names())?;
            names.ask(now).map(|wants| Action::Send(Says::Wants(wants).into()))
        })
    }

    async fn event(&self, stream: &mut Option<Stream>, sends: bool, stop: &CancellationToken) -> Event {
        let until = self.began + self.link.lock().deadline();
        let up = stream.as_ref().filter(|_| sends).map(|stream| stream.up.clone());
        let room = async {
            match up {
                Some(up) => up.reserve_owned().await.ok(),
                None => None,
            }
        };
        let down = async {
            match stream {
                Some(stream) => stream.down.message().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = down => match message {
                Ok(Some(message)) => Event::Came(message),
                Ok(None) => Event::Ended(Cut::Broken("the companion ended the stream".to_owned())),
                Err(status) => Event::Ended(cut_of(&status)),
            },
            // Where there is none the other half says why.
            Some(permit) = room => Event::Room(permit),
            () = sleep_until(until) => Event::Due,
            () = stop.cancelled() => Event::Stop,
        }
    }

    async fn cut(&self, cut: Cut) {
        self.tell(&cut);
        let soon = match &cut {
            Cut::Refused(refusal) => self.refused(refusal.reason).await,
            Cut::Broken(_) | Cut::Silent => false,
        };
        let mut link = self.link.lock();
        link.cut(self.now(), cut);
        if soon {
            link.hurry(self.now());
        }
    }

    /// The companion says whether it keeps the hash that it was asked to.
    async fn kept(&self, is_kept: bool) {
        let news = if is_kept { self.purse.wallet.lock().joined() } else { None };
        if let Some(kept) = news {
            tracing::info!(node = kept.node, "the node has a credential of its own");
            self.purse.keep(kept).await;
        }
    }

    /// Whether the next attempt is to be made soon.
    async fn refused(&self, reason: Reason) -> bool {
        let Purse { wallet, .. } = &self.purse;
        let soon = self.turns.lock().refused(reason, &wallet.lock());
        let asked = self.link.lock().asked().filter(|_| reason == Reason::Ended);
        let new = asked.and_then(|hash| wallet.lock().ended(hash));
        if let Some(kept) = new {
            tracing::warn!(node = kept.node, "an admin ended the node's credential; another one is asked for");
            self.purse.keep(kept).await;
        }
        soon
    }

    fn tell(&self, cut: &Cut) {
        tracing::debug!(companion = %self.ticket.address, %cut, "the stream to the companion is cut");
    }

    async fn dial(&self) -> Option<Stream> {
        match timeout(PATIENCE, self.connect()).await.unwrap_or(Err(Cut::Silent)) {
            Ok(stream) => {
                self.link.lock().connected(self.now());
                if let Some(names) = &self.names {
                    names.reconnected();
                }
                Some(stream)
            }
            Err(cut) => {
                self.cut(cut).await;
                None
            }
        }
    }

    async fn connect(&self) -> Result<Stream, Cut> {
        let Ticket { address, token_file, .. } = &self.ticket;
        let broken = |what: String| broken(address, &what);
        if let Some(file) = token_file.clone() {
            let read = tokio::task::spawn_blocking(move || ticket::projected(&file)).await;
            let token = read.unwrap_or_else(|error| Err(error.to_string())).map_err(&broken)?;
            self.purse.wallet.lock().renew(token);
        }
        let (bearer, asks) = {
            let wallet = self.purse.wallet.lock();
            let shows = self.turns.lock().next(&wallet);
            (shows.and_then(|shows| wallet.bearer(shows)), wallet.asks())
        };
        let bearer = bearer.ok_or_else(|| broken("there is nothing to show".to_owned()))?;
        self.link.lock().ask(asks);
        let tls = secured(&self.ticket).await?;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(AHEAD)
            .initial_connection_window_size(AHEAD)
            .handshake(TokioIo::new(tls))
            .await;
        let (sender, connection) = handshake.map_err(|error| broken(error.to_string()))?;
        let connection = tokio::spawn(async move { drop(connection.await) });
        let service = service_fn(move |request: Request<tonic::body::Body>| sender.clone().send_request(request));

        // One: what does not fit into the connection waits in the link, where it can still change.
        let (up, receiver) = mpsc::channel(1);
        let messages = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<FromAgent>| {
            Some((receiver.recv().await?, receiver))
        });
        let mut request = tonic::Request::new(messages);
        let bearer = bearer.parse().map_err(|_| broken("the token is no header".to_owned()))?;
        request.metadata_mut().insert("authorization", bearer);
        let origin = Uri::from_static("https://companion.pilotfish.svc");
        let mut call = tonic::client::Grpc::with_origin(service, origin)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let path = PathAndQuery::from_static(PUSH);
        match call.streaming(request, path, grpc::agent_codec()).await {
            Ok(response) => Ok(Stream { up, down: response.into_inner(), connection }),
            Err(status) => {
                connection.abort();
                Err(cut_of(&status))
            }
        }
    }
}

fn broken(address: &str, what: &str) -> Cut {
    Cut::Broken(format!("companion at {address}: {what}"))
}

/// A connection to the companion of `ticket`, and to nobody else. Nothing has been said on it.
async fn secured(ticket: &Ticket) -> Result<TlsStream<TcpStream>, Cut> {
    let Ticket { address, server_name, tls, token: _, token_file: _, own: _ } = ticket;
    let tcp = TcpStream::connect(address).await;
    let tcp = tcp.map_err(|error| broken(address, &format!("cannot connect: {error}")))?;
    let _ = tcp.set_nodelay(true);
    let tls = TlsConnector::from(tls.clone()).connect(server_name.clone(), tcp).await;
    tls.map_err(|error| broken(address, &of_tls(&error)))
}

/// Whether the companion of `ticket` is there and is the one that it trusts. Shows it no token, and
/// disturbs no stream.
///
/// # Errors
/// With the reason.
pub async fn reach(ticket: &Ticket) -> Result<(), Cut> {
    timeout(PATIENCE, secured(ticket)).await.unwrap_or(Err(Cut::Silent)).map(drop)
}

fn cut_of(status: &Status) -> Cut {
    match grpc::refusal(status) {
        Some(refusal) => Cut::Refused(refusal),
        None => Cut::Broken(format!("the stream broke: {}", status.message())),
    }
}

/// What to do about a handshake that failed.
fn of_tls(error: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    let Some(tls) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return format!("the TLS handshake ended: {error}");
    };
    match tls {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not signed by the CA in join.toml: take a new join.toml from the cluster, \
             or the address is somebody else's"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate has another name than server_name in join.toml".to_owned(),
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid now: look at the clocks of this node and of the cluster".to_owned(),
        Error::InvalidMessage(_) => "no TLS is spoken there: look at the port in join.toml".to_owned(),
        other => format!("TLS: {other}"),
    }
}
