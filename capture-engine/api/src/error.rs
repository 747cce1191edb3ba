//! Why the agent does not answer.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An agent under full load answers in milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing listens on this socket: it does not exist, or refuses connections.
    #[error(
        "no agent answers on {}; start it (`systemctl start pilotfish`), or name its socket with --socket",
        .0.display()
    )]
    NoAgent(PathBuf),
    /// This process may not open this socket.
    #[error("not allowed to open {}; run this as root or as a member of its group", .0.display())]
    NotAllowed(PathBuf),
    /// Any other failure to connect.
    #[error("connect to {}", socket.display())]
    Connect {
        /// Path of the agent's socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke while the question or the answer was on its way.
    #[error("ask the agent on {}", socket.display())]
    Ask {
        /// Path of the agent's socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent on this socket took the connection and did not answer in time: it hangs.
    #[error("the agent on {} did not answer within {PATIENCE:?}", .0.display())]
    Late(PathBuf),
    /// The agent on this socket is older than the question.
    #[error("the agent on {} is older than this command and has no {what}; restart it", socket.display())]
    Old {
        /// Path of the agent's socket.
        socket: PathBuf,
        /// What it does not have.
        what: &'static str,
    },
    /// The agent says that what was asked cannot be.
    #[error("{0}")]
    Wrong(String),
    /// The agent cannot answer now.
    #[error("the agent on {} refuses: {why}", socket.display())]
    Refused {
        /// Path of the agent's socket.
        socket: PathBuf,
        /// What it says.
        why: String,
    },
    /// An answer came that is not what this version of the agent writes.
    #[error("what answers on {} is no agent of this version: {what}", socket.display())]
    Strange {
        /// Path of the agent's socket.
        socket: PathBuf,
        /// What is strange about it, for a person.
        what: String,
    },
}

impl AskError {
    /// The connection was there, and this became of the question or the answer.
    pub(crate) fn broken(socket: &Path, error: io::Error) -> AskError {
        let socket = socket.to_owned();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AskError::Late(socket),
            _ => AskError::Ask { socket, source: error },
        }
    }
}
