//! Asks the agent over its unix socket: HTTP/1.1, one request, blocking.

use crate::exit::{Exit, Failure};
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An agent under full load answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// 10,000 edges are about 4 MiB.
const ANSWER_BYTES: u64 = 256 << 20;

/// `GET path` as JSON.
///
/// # Errors
/// `Unavailable` when nobody answers, `NoPermission` when the socket may not be opened; the text says what to do.
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Failure> {
    let answer = ask(socket, path)?;
    let (head, body) = split(&answer).ok_or_else(|| strange(socket, "its answer has no end of head"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        let text = String::from_utf8_lossy(body);
        return Err(strange(socket, &format!("{path}: HTTP status {status}: {}", text.trim())));
    }
    serde_json::from_slice(body).map_err(|error| strange(socket, &format!("{path}: {error}")))
}

fn ask(socket: &Path, path: &str) -> Result<Vec<u8>, Failure> {
    let shown = socket.display();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::say(
            Exit::Unavailable,
            format!(
                "no agent answers on {shown}; start it (`systemctl start pilotfish`), or name its socket with --socket"
            ),
        ),
        ErrorKind::PermissionDenied => Failure::say(
            Exit::NoPermission,
            format!("not allowed to open {shown}; run this as root or as a member of its group"),
        ),
        _ => Failure::new(Exit::Unavailable, anyhow::Error::new(error).context(format!("connect to {shown}"))),
    })?;
    let mut exchange = || -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer ends with the connection, without chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: pilotfish\r\n\r\n")?;
        let mut answer = Vec::new();
        (&mut stream).take(ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    exchange().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Failure::say(Exit::Unavailable, format!("the agent on {shown} did not answer within {PATIENCE:?}"))
        }
        _ => Failure::new(Exit::Unavailable, anyhow::Error::new(error).context(format!("ask the agent on {shown}"))),
    })
}

fn split(answer: &[u8]) -> Option<(String, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end)?;
    Some((String::from_utf8_lossy(head).into_owned(), body.get(4..)?))
}

fn strange(socket: &Path, what: &str) -> Failure {
    Failure::say(Exit::Unavailable, format!("what answers on {} is no agent of this version: {what}", socket.display()))
}
