//! Asks the agent over its unix socket: HTTP, one request, blocking.

use crate::error::{AskError, PATIENCE};
use crate::lines::{Lines, request};
use crate::routes;
use crate::timeline::Timeline;
use crate::words::{By, EdgeRow, Identity, Parts, Status, Version, WorkloadRow};
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// 10,000 edges are about 4 MiB.
const ANSWER_BYTES: u64 = 256 << 20;

/// Whoever asks the agent that listens on this socket. Each question is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the agent behind this path. Opens nothing yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into() }
    }

    /// # Errors
    /// Nobody answers, or not as an agent of this version does; so for the others.
    pub fn version(&self) -> Result<Version, AskError> {
        self.get(routes::VERSION)
    }

    /// # Errors
    /// As [`Client::version`].
    pub fn status(&self) -> Result<Status, AskError> {
        self.get(routes::STATUS)
    }

    /// # Errors
    /// As [`Client::version`].
    pub fn edges(&self) -> Result<Vec<EdgeRow>, AskError> {
        self.get(routes::EDGES)
    }

    /// # Errors
    /// As [`Client::version`].
    pub fn workloads(&self) -> Result<Vec<WorkloadRow>, AskError> {
        self.get(routes::WORKLOADS)
    }

    /// What each workload did as a server, part by part.
    ///
    /// # Errors
    /// As [`Client::version`].
    pub fn parts(&self, by: By) -> Result<Parts, AskError> {
        self.get(&format!("{}?by={}", routes::PARTS, by.as_str()))
    }

    /// Who has an address, or that nobody says so.
    ///
    /// # Errors
    /// As [`Client::version`].
    pub fn identity(&self, ip: IpAddr, port: Option<u16>) -> Result<Identity, AskError> {
        let port = port.map(|port| format!("&port={port}")).unwrap_or_default();
        self.get(&format!("{}?ip={ip}{port}", routes::IDENTITY))
    }

    /// What happened to containers within the last `since`; all that is known without it.
    ///
    /// # Errors
    /// As [`Client::version`].
    pub fn timeline(&self, since: Option<Duration>) -> Result<Timeline, AskError> {
        let since = since.map(|since| format!("?since_ms={}", since.as_millis())).unwrap_or_default();
        self.get(&format!("{}{since}", routes::TIMELINE))
    }

    /// Exchanges as they end. Parameters are named and explained by the agent: an empty list is all.
    ///
    /// # Errors
    /// As [`Client::version`]; `Old`, `Wrong` and `Refused` besides.
    pub fn tap(&self, parameters: &[(&str, String)]) -> Result<Lines, AskError> {
        Lines::open(self.connect()?, &self.socket, routes::TAP, parameters, "tap")
    }

    /// The page of metrics as text, its first `most` bytes.
    ///
    /// # Errors
    /// As [`Client::version`].
    pub fn metrics(&self, most: usize) -> Result<String, AskError> {
        let mut body = self.body(routes::METRICS)?;
        body.truncate(most);
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// `GET path` as JSON.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        serde_json::from_slice(&self.body(path)?).map_err(|error| self.strange(&format!("{path}: {error}")))
    }

    /// What `GET path` answers.
    fn body(&self, path: &str) -> Result<Vec<u8>, AskError> {
        let answer = self.ask(path)?;
        let (head, body) = split(&answer).ok_or_else(|| self.strange("its answer has no end of head"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status != "200" {
            let text = String::from_utf8_lossy(body);
            return Err(self.strange(&format!("{path}: HTTP status {status}: {}", text.trim())));
        }
        Ok(body.to_vec())
    }

    fn connect(&self) -> Result<UnixStream, AskError> {
        let socket = || self.socket.clone();
        UnixStream::connect(&self.socket).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NoAgent(socket()),
            ErrorKind::PermissionDenied => AskError::NotAllowed(socket()),
            _ => AskError::Connect { socket: socket(), source: error },
        })
    }

    fn ask(&self, path: &str) -> Result<Vec<u8>, AskError> {
        exchange(&mut self.connect()?, path).map_err(|error| AskError::broken(&self.socket, error))
    }

    fn strange(&self, what: &str) -> AskError {
        AskError::Strange { socket: self.socket.clone(), what: what.to_owned() }
    }
}

fn exchange(stream: &mut UnixStream, path: &str) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request(path, &[]).as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

fn split(answer: &[u8]) -> Option<(String, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end)?;
    Some((String::from_utf8_lossy(head).into_owned(), body.get(4..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What the client makes of this answer to `version`, and what it asked.
    fn answered(answer: &'static str) -> (Result<Version, String>, String) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let socket = directory.path().join("a.sock");
        let listener = UnixListener::bind(&socket).expect("bind");
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut asked = Vec::new();
            // A head may come in pieces.
            while !asked.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 512];
                let read = stream.read(&mut piece).expect("read");
                assert!(read > 0, "half a request");
                asked.extend_from_slice(piece.get(..read).expect("read"));
            }
            stream.write_all(answer.as_bytes()).expect("write");
            String::from_utf8_lossy(&asked).into_owned()
        });
        let place = directory.path().display().to_string();
        let version = Client::new(&socket).version();
        (version.map_err(|error| error.to_string().replace(&place, "")), agent.join().expect("no panic"))
    }

    #[test]
    fn an_agent_is_asked_and_its_answer_read() {
        let (version, asked) =
            answered("HTTP/1.0 200 OK\r\n\r\n{\"version\":\"0.1.0\",\"commit\":\"\",\"kernel_object\":\"\"}");
        assert_eq!(version, Ok(Version { version: "0.1.0".into(), ..Version::default() }));
        assert_eq!(asked, "GET /v1/version HTTP/1.0\r\nHost: pilotfish\r\n\r\n");
    }

    #[test]
    fn what_is_no_agent_is_named() {
        let checks = [
            ("HTTP/1.0 404 Not Found\r\n\r\nno such page\n", "/v1/version: HTTP status 404: no such page"),
            (
                "HTTP/1.0 200 OK\r\n\r\n[]",
                "/v1/version: invalid length 0, expected struct Version with 3 elements at line 1 column 2",
            ),
            ("garbage", "its answer has no end of head"),
        ];
        for (answer, what) in checks {
            let expected = format!("what answers on /a.sock is no agent of this version: {what}");
            assert_eq!(answered(answer).0, Err(expected));
        }
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_agent_that_is_not_running() {
        let error = Client::new("/nonexistent/a.sock").status().expect_err("nobody is there");
        assert_eq!(
            error.to_string(),
            "no agent answers on /nonexistent/a.sock; start it (`systemctl start pilotfish`), or name its socket with --socket"
        );
    }
}
