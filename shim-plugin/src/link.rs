//! One link: the connection to one containerd. Waits for its socket, subscribes, lists, and begins
//! again whenever that ends.

use crate::backoff::{self, Backoff};
use crate::claim::Taken;
use crate::client::{Client, ClientError};
use crate::config::Config;
use crate::container::LinkId;
use crate::decode::{Decoded, decode};
use crate::event::TaskEvent;
use crate::status::{Connection, LinkStatus, SharedStatus};
use parking_lot::MutexGuard;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// A socket that is absent or refuses is tried this often at least: it costs two system calls here
/// and nothing there, and what starts before containerd is found is seen late.
const LOOK: Duration = Duration::from_secs(1);
/// A marker that does not come back within this time proves the subscription dead.
const MARKER: Duration = Duration::from_secs(5);
/// A connection that lived this long starts over with the shortest wait.
const HEALTHY: Duration = Duration::from_secs(10);
/// Between two reconciles that were forced by lost events.
const FORCED_APART: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum Message {
    Connected(LinkId, Client),
    Disconnected(LinkId),
    Event(TaskEvent),
}

/// Holds the connection to the containerd behind one socket.
#[derive(Debug)]
pub struct Link {
    id: LinkId,
    config: Arc<Config>,
    shared: Arc<SharedStatus>,
    out: mpsc::Sender<Message>,
    marker_topic: String,
    markers_sent: AtomicU64,
    events_lost: Notify,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Taken(#[from] Taken),
    #[error("the event stream ended")]
    StreamEnded,
    #[error("the event stream broke")]
    StreamBroke(#[source] Box<tonic::Status>),
    #[error("no event came back within {MARKER:?}")]
    Silent,
    #[error("no namespace could be listed")]
    NothingListed,
}

/// What is at a link's place now.
enum Place {
    Nothing,
    /// The socket of an earlier link, by another path.
    Same(PathBuf),
    Socket,
}

impl Link {
    pub fn new(id: LinkId, config: Arc<Config>, shared: Arc<SharedStatus>, out: mpsc::Sender<Message>) -> Link {
        // Unlike any other subscriber's, so that agents on one containerd do not take each other's
        // markers for their own.
        let own = RandomState::new().hash_one(std::process::id());
        let marker_topic = format!("/pilotfish/marker/m{own:016x}");
        Link { id, config, shared, out, marker_topic, markers_sent: AtomicU64::new(0), events_lost: Notify::new() }
    }

    fn status(&self) -> MutexGuard<'_, LinkStatus> {
        self.shared.link(self.id)
    }

    pub async fn run(self) -> Infallible {
        let socket = self.status().socket.clone();
        let mut backoff = Backoff::new();
        loop {
            let mut longest_wait = LOOK;
            match self.look(&socket).await {
                Place::Nothing => self.status().connection = Connection::Searching,
                Place::Same(other) => self.status().connection = Connection::Same { socket: other },
                Place::Socket => {
                    let began = Instant::now();
                    let Err(error) = self.session(&socket).await;
                    if !matches!(error, LinkError::Client(ClientError::Connect { .. })) {
                        longest_wait = backoff::LONGEST;
                    }
                    if self.down(&socket, &error).await && began.elapsed() >= HEALTHY {
                        backoff.reset();
                    }
                }
            }
            tokio::time::sleep(backoff.wait(longest_wait)).await;
        }
    }

    /// Of several paths to one socket the first is used. Ours is looked at before those of others:
    /// a socket that is made in between is then nobody's twice.
    async fn look(&self, socket: &Path) -> Place {
        let own = match identity(socket).await {
            Ok(own) => own,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Place::Nothing,
            // Connecting to it has better words for what is wrong.
            Err(_) => return Place::Socket,
        };
        for other in self.config.sockets.iter().take(usize::from(self.id.0)) {
            if identity(other).await.is_ok_and(|other| other == own) {
                return Place::Same(other.clone());
            }
        }
        Place::Socket
    }

    /// True if the connection that ended had been live.
    async fn down(&self, socket: &Path, error: &LinkError) -> bool {
        let reason = flow_model::in_full(error);
        let was_live = {
            let mut link = self.status();
            let was_live = link.connection == Connection::Live;
            link.counts.reconnects += u64::from(was_live);
            link.counts.failures += 1;
            link.last_failure = Some(reason.clone());
            link.version = None;
            link.connection = Connection::Down { reason: reason.clone() };
            was_live
        };
        if was_live {
            tracing::warn!(socket = %socket.display(), %reason, "containerd is gone; what runs is kept");
        } else {
            tracing::debug!(socket = %socket.display(), %reason, "containerd is not reached");
        }
        let _ = self.out.send(Message::Disconnected(self.id)).await;
        was_live
    }

    async fn session(&self, socket: &Path) -> Result<Infallible, LinkError> {
        self.config.claims.socket(socket)?;
        let client = Client::connect(socket).await?;
        let version = client.version().await?;
        {
            let mut link = self.status();
            link.connection = Connection::Syncing;
            link.version = Some(version.clone());
        }
        let _ = self.out.send(Message::Connected(self.id, client.clone())).await;
        let (seen, mut marker) = watch::channel(0);
        tokio::select! {
            ended = self.read(&client, &seen) => ended,
            ended = self.keep_reconciled(&client, &mut marker, socket, &version) => ended,
        }
    }

    async fn read(&self, client: &Client, markers: &watch::Sender<u64>) -> Result<Infallible, LinkError> {
        let mut stream = client.subscribe(self.filters()).await?;
        loop {
            let envelope = match stream.message().await {
                Ok(Some(envelope)) => envelope,
                Ok(None) => return Err(LinkError::StreamEnded),
                Err(status) => return Err(LinkError::StreamBroke(Box::new(status))),
            };
            if !self.config.wants(&envelope.namespace) && envelope.topic != self.marker_topic {
                continue;
            }
            let decoded = decode(self.id, envelope, &self.marker_topic, &mut self.status().counts.events);
            match decoded {
                Decoded::Marker(number) => {
                    markers.send_replace(number);
                }
                Decoded::Event(event) => {
                    self.status().last_event = Some(Instant::now());
                    if self.out.try_send(Message::Event(event)).is_err() {
                        self.status().counts.events_lost += 1;
                        self.events_lost.notify_one();
                    }
                }
                Decoded::Nothing => {}
            }
        }
    }

    fn filters(&self) -> Vec<String> {
        vec![
            r#"topic~="^/tasks/""#.to_owned(),
            r#"topic=="/containers/update""#.to_owned(),
            r#"topic=="/containers/delete""#.to_owned(),
            format!(r#"topic=="{}""#, self.marker_topic),
        ]
    }

    async fn keep_reconciled(
        &self,
        client: &Client,
        marker: &mut watch::Receiver<u64>,
        socket: &Path,
        version: &str,
    ) -> Result<Infallible, LinkError> {
        let mut jitter = Backoff::new();
        let mut live = false;
        loop {
            self.prove_subscribed(client, marker).await?;
            let listed = self.list(client).await?;
            let _ = self.out.send(Message::Event(listed)).await;
            if !live {
                live = true;
                self.status().connection = Connection::Live;
                tracing::info!(socket = %socket.display(), version, "containerd is connected");
            }
            tokio::select! {
                () = tokio::time::sleep(jitter.around(self.config.reconcile_every)) => {}
                () = self.events_lost.notified() => tokio::time::sleep(FORCED_APART).await,
            }
        }
    }

    /// Publishes a marker until it comes back: Subscribe answers only with an event, and one that was published before
    /// the server registered the subscription is lost.
    async fn prove_subscribed(&self, client: &Client, marker: &mut watch::Receiver<u64>) -> Result<(), LinkError> {
        let first = self.markers_sent.load(Ordering::Relaxed) + 1;
        let answered = async {
            let mut again = Duration::from_millis(20);
            loop {
                let number = self.markers_sent.fetch_add(1, Ordering::Relaxed) + 1;
                client.publish_marker(&self.marker_topic, number).await?;
                if let Ok(Ok(_)) = tokio::time::timeout(again, marker.wait_for(|seen| *seen >= first)).await {
                    return Ok(());
                }
                again *= 2;
            }
        };
        tokio::time::timeout(MARKER, answered).await.unwrap_or(Err(LinkError::Silent))
    }

    async fn list(&self, client: &Client) -> Result<TaskEvent, LinkError> {
        let began = Instant::now();
        let namespaces = match &*self.config.namespaces {
            [] => client.namespaces().await?,
            configured => configured.iter().map(|namespace| namespace.as_str().into()).collect(),
        };
        let (mut tasks, mut unread) = (Vec::new(), Vec::new());
        let asked = namespaces.len();
        for namespace in namespaces {
            match client.tasks(self.id, &namespace).await {
                Ok(listed) => tasks.extend(listed),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    tracing::warn!(%namespace, reason = flow_model::in_full(&error), "the tasks of a namespace could not be listed");
                    unread.push(namespace);
                }
            }
        }
        if asked > 0 && unread.len() == asked {
            return Err(LinkError::NothingListed);
        }
        self.status().counts.unread_namespaces += unread.len() as u64;
        Ok(TaskEvent::Listed { link: self.id, began, tasks, unread })
    }
}

/// Of the file that `path` leads to, whatever links and mounts are on the way.
async fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    tokio::fs::metadata(path).await.map(|file| (file.dev(), file.ino()))
}
