//! How the process ends. The numbers are the agent's, which follow sysexits(3).

use std::fmt;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Flags, configuration or a file that it names cannot be, or an address is taken.
    Usage,
    /// A part of the companion ended.
    Software,
    /// A file or an address is for others.
    NoPermission,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Usage => 64,
            Exit::Software => 70,
            Exit::NoPermission => 77,
        })
    }
}

/// What is wrong, for people, and how the process ends because of it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    text: String,
}

impl Failure {
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, text: text.into() }
    }

    pub fn software(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Software, text: text.into() }
    }

    pub fn no_permission(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::NoPermission, text: text.into() }
    }

    /// What the system said of `what`.
    pub fn of_system(what: &str, error: &std::io::Error) -> Failure {
        let is_refused = error.kind() == std::io::ErrorKind::PermissionDenied;
        let exit = if is_refused { Exit::NoPermission } else { Exit::Usage };
        Failure { exit, text: format!("{what}: {error}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
