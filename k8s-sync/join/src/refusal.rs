//! Why an agent may not push, said so that whoever reads it knows what to do.

use std::fmt;

/// A closed set: the label of what is counted, and the word on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Neither the cluster's join token nor the credential of a node.
    Token,
    /// The name of the node is none, or none that this agent may use.
    Node,
    /// No protocol that both speak.
    Version,
    /// The push went through somebody else, or comes from the companion itself.
    Loop,
    /// The agent opened a newer stream.
    Replaced,
    /// What came is not what the protocol has.
    Protocol,
    /// Too many streams, or what is needed to answer is not there at the moment.
    Busy,
    /// The node has joined with another credential.
    Taken,
    /// The credential was ended by an admin. An agent that has the join token makes another one.
    Ended,
    /// A word of another version.
    Other,
}

impl Reason {
    /// Each once.
    pub const ALL: [Reason; 10] = [
        Reason::Token,
        Reason::Node,
        Reason::Version,
        Reason::Loop,
        Reason::Replaced,
        Reason::Protocol,
        Reason::Busy,
        Reason::Taken,
        Reason::Ended,
        Reason::Other,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Token => "token",
            Reason::Node => "node",
            Reason::Version => "version",
            Reason::Loop => "loop",
            Reason::Replaced => "replaced",
            Reason::Protocol => "protocol",
            Reason::Busy => "busy",
            Reason::Taken => "taken",
            Reason::Ended => "ended",
            Reason::Other => "other",
        }
    }

    /// Its place in `ALL`.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether somebody has to do something before another attempt can succeed.
    #[must_use]
    pub fn is_for_people(self) -> bool {
        matches!(self, Reason::Token | Reason::Node | Reason::Version | Reason::Loop | Reason::Taken | Reason::Ended)
    }
}

/// What a refused agent is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Which.
    pub reason: Reason,
    /// What to do, in one sentence or two.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Refusal {
    /// With what to do.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Refusal {
        Refusal { reason, text: text.into() }
    }
}
