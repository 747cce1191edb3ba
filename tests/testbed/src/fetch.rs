use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub bytes: Vec<u8>,
}

impl Response {
    #[must_use]
    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// GET over TCP, one request on a connection of its own. Every step is bounded by `patience`.
pub fn fetch(server: SocketAddr, target: &str, patience: Duration) -> Result<Response> {
    fetch_as(server, target, "*/*", patience)
}

/// As [`fetch`], asking for a media type.
pub fn fetch_as(server: SocketAddr, target: &str, accept: &str, patience: Duration) -> Result<Response> {
    fetch_with(server, target, &format!("Accept: {accept}\r\n"), patience)
}

/// As [`fetch`], asking for a media type and for nothing that is older than the question.
pub fn fetch_fresh(server: SocketAddr, target: &str, accept: &str, patience: Duration) -> Result<Response> {
    fetch_with(server, target, &format!("Accept: {accept}\r\nCache-Control: no-cache\r\n"), patience)
}

fn fetch_with(server: SocketAddr, target: &str, fields: &str, patience: Duration) -> Result<Response> {
    let stream = TcpStream::connect_timeout(&server, patience).with_context(|| format!("connect to {server}"))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    exchange(stream, "GET", target, fields).with_context(|| format!("GET http://{server}{target}"))
}

/// One request without a body over a unix socket, for nothing that is older than the question.
pub fn fetch_unix(socket: &Path, method: &str, target: &str, patience: Duration) -> Result<Response> {
    let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let fields = "Accept: */*\r\nCache-Control: no-cache\r\n";
    exchange(stream, method, target, fields).with_context(|| format!("{method} {target} at {}", socket.display()))
}

fn exchange(mut stream: impl Read + Write, method: &str, target: &str, fields: &str) -> Result<Response> {
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let mut message = crate::http::Message::response(false);
    let mut body = Vec::new();
    message.feed(&bytes, |part| body.extend_from_slice(part));
    message.close();
    Ok(Response { status: message.status().context("not an HTTP response")?, bytes: body })
}
