//! A small blocking HTTPS client for tests: one kept connection, JSON in and out. What it talks to
//! is trusted to be slow, not to be evil.

use super::certs;
use super::kinds::Kind;
use crate::http::Message;
use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A user of the API server. A clone has a connection of its own, so that threads do not wait for each other.
#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
    patience: Duration,
    connection: Mutex<Option<Connection>>,
}

impl Clone for Client {
    fn clone(&self) -> Client {
        let Client { server, tls, token, patience, connection: _ } = self;
        let (tls, token) = (tls.clone(), token.clone());
        Client { server: *server, tls, token, patience: *patience, connection: Mutex::new(None) }
    }
}

#[derive(Debug)]
enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the body is no JSON")
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a failed request is told: callers may look at the code.
#[derive(Clone, Debug)]
pub struct Refused {
    pub status: u16,
    pub what: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.what)
    }
}

impl std::error::Error for Refused {}

pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

impl Client {
    pub(super) fn new(server: SocketAddr, tls: Option<Arc<ClientConfig>>, token: Option<String>) -> Client {
        Client { server, tls, token, patience: Duration::from_secs(60), connection: Mutex::new(None) }
    }

    /// From a kubeconfig as this testbed writes them: JSON, one of each, a token inside, the server by its address.
    pub fn from_kubeconfig(path: &Path) -> Result<Client> {
        let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        let config: Value = serde_json::from_str(&read(path)?)?;
        let cluster = &config["clusters"][0]["cluster"];
        let authority = cluster["certificate-authority"].as_str().context("no authority")?;
        let token = config["users"][0]["user"]["token"].as_str().context("no token")?;
        let address = cluster["server"].as_str().and_then(|url| url.strip_prefix("https://")?.parse().ok());
        let tls = certs::client_config(&read(Path::new(authority))?)?;
        Ok(Client::new(address.context("no address of a server")?, Some(tls), Some(token.to_owned())))
    }

    /// Each wait for the server is at most this long; a minute at first.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.expect("GET", path, None)
    }

    /// All objects of a kind, of one namespace or of all.
    pub fn list(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>> {
        let mut answer = self.get(&kind.collection(namespace))?;
        match answer["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("a list of {} has no items", kind.resource),
        }
    }

    /// Creates an object where its `metadata.namespace` says; returns it as stored.
    pub fn create(&self, kind: &Kind, object: &Value) -> Result<Value> {
        let path = kind.collection(object["metadata"]["namespace"].as_str());
        self.expect("POST", &path, Some(("application/json", object)))
    }

    pub fn read(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<Value> {
        self.get(&kind.object(namespace, name))
    }

    /// RFC 7386 merge patch.
    pub fn patch(&self, kind: &Kind, namespace: Option<&str>, name: &str, patch: &Value) -> Result<Value> {
        self.expect("PATCH", &kind.object(namespace, name), Some((MERGE_PATCH, patch)))
    }

    pub fn patch_status(&self, kind: &Kind, namespace: Option<&str>, name: &str, patch: &Value) -> Result<Value> {
        let path = format!("{}/status", kind.object(namespace, name));
        self.expect("PATCH", &path, Some((MERGE_PATCH, patch)))
    }

    /// Deletes at once, without a grace period: nobody is there to end a pod that no kubelet runs.
    pub fn delete(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<()> {
        let path = format!("{}?gracePeriodSeconds=0&propagationPolicy=Background", kind.object(namespace, name));
        self.expect("DELETE", &path, None).map(drop)
    }

    /// Deletes the way a person does: with grace, and dependents by the garbage collector.
    pub fn delete_gracefully(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<()> {
        self.expect("DELETE", &kind.object(namespace, name), None).map(drop)
    }

    fn expect(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
        let bytes = body.map(|(media_type, value)| (media_type, value.to_string()));
        let reply =
            self.request(method, path, bytes.as_ref().map(|(media_type, text)| (*media_type, text.as_bytes())))?;
        if !(200..300).contains(&reply.status) {
            let status = reply.json().unwrap_or_default();
            let message = status["message"].as_str().map_or_else(|| reply.text(), str::to_owned);
            return Err(Refused { status: reply.status, what: format!("{method} {path}: {message}") }.into());
        }
        reply.json().with_context(|| format!("{method} {path}"))
    }

    /// Any request; any answer is a success. A kept connection that turns out to be closed is made anew, once.
    pub fn request(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Reply> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let what = || format!("{method} {path} at {}", self.server);
        if let Some(mut kept) = slot.take() {
            match self.exchange(&mut kept, method, path, body) {
                Ok(Some((reply, keep))) => {
                    *slot = keep.then_some(kept);
                    return Ok(reply);
                }
                Err(error) if !is_closed(&error) => return Err(error).with_context(what),
                Ok(None) | Err(_) => {}
            }
        }
        let mut connection = self.connect().with_context(what)?;
        let (reply, keep) =
            self.exchange(&mut connection, method, path, body).with_context(what)?.with_context(what)?;
        *slot = keep.then_some(connection);
        Ok(reply)
    }

    fn connect(&self) -> Result<Connection> {
        let socket = TcpStream::connect_timeout(&self.server, self.patience).context("connect")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(self.patience))?;
        socket.set_write_timeout(Some(self.patience))?;
        let Some(tls) = &self.tls else { return Ok(Connection::Plain(socket)) };
        let name = ServerName::IpAddress(self.server.ip().into());
        let session = ClientConnection::new(Arc::clone(tls), name)?;
        Ok(Connection::Tls(Box::new(StreamOwned::new(session, socket))))
    }

    /// The reply and whether the connection may be kept; `None` when it was closed before anything was answered.
    fn exchange(
        &self,
        connection: &mut Connection,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Option<(Reply, bool)>> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n", self.server);
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some((media_type, bytes)) = body {
            head += &format!("Content-Type: {media_type}\r\nContent-Length: {}\r\n", bytes.len());
        }
        head += "\r\n";
        let mut request = head.into_bytes();
        request.extend_from_slice(body.map_or(&[], |(_, bytes)| bytes));
        connection.write_all(&request)?;
        connection.flush()?;
        let mut message = Message::response(method == "HEAD");
        let (mut reply, mut buffer, mut answered) = (Vec::new(), vec![0; 64 << 10], false);
        while !message.is_over() {
            match connection.read(&mut buffer)? {
                0 if answered => message.close(),
                0 => return Ok(None),
                n => {
                    answered = true;
                    message.feed(&buffer[..n], |part| reply.extend_from_slice(part));
                }
            }
        }
        let status = message.status().filter(|_| message.is_complete()).context("the answer is cut short")?;
        Ok(Some((Reply { status, body: reply }, !message.closes())))
    }
}

/// The server closed the connection, rather than being slow or talking nonsense.
fn is_closed(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind.is_some_and(|kind| [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected].contains(&kind))
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = match self {
            Connection::Plain(socket) => socket.read(buffer),
            Connection::Tls(stream) => stream.read(buffer),
        };
        // A peer that is killed says no goodbye in TLS either.
        match got {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Connection::Plain(socket) => socket.write(bytes),
            Connection::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Connection::Plain(socket) => socket.flush(),
            Connection::Tls(stream) => stream.flush(),
        }
    }
}
