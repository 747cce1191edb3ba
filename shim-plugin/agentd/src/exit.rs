//! How the process ends. The numbers follow sysexits(3), so that a supervisor can tell a mistake in
//! the configuration from a node that cannot run the agent.

use agent_api::AskError;
use std::fmt;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or ended by a signal and drained.
    Ok,
    /// `doctor` found warnings, and nothing worse.
    Warnings,
    /// `doctor` found errors.
    Errors,
    /// `doctor` found nothing, and could not make a check that was asked for.
    NotMade,
    /// The agent ended because one of its parts did.
    Software,
    /// Command line, environment or file name something that cannot be: also an address or socket
    /// that is taken, and a containerd that another agent works with.
    Usage,
    /// A capture file is damaged: what could be had was printed.
    Data,
    /// A file cannot be opened.
    NoInput,
    /// Nobody says who has the address that was asked for.
    NoHost,
    /// Another process does not answer: the agent, for the commands that ask it.
    Unavailable,
    /// Root, a capability or a feature of the kernel is missing.
    NoPermission,
}

impl Exit {
    pub const ALL: [Exit; 11] = [
        Exit::Ok,
        Exit::Warnings,
        Exit::Errors,
        Exit::NotMade,
        Exit::Software,
        Exit::Usage,
        Exit::Data,
        Exit::NoInput,
        Exit::NoHost,
        Exit::Unavailable,
        Exit::NoPermission,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Warnings => 1,
            Exit::Errors => 2,
            Exit::NotMade => 3,
            Exit::Software => 70,
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::NoInput => 66,
            Exit::NoHost => 68,
            Exit::Unavailable => 69,
            Exit::NoPermission => 77,
        }
    }

    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done; the agent was told to stop and has removed what it attached",
            Exit::Software => "a part of the agent ended; the log's last error says which and why",
            Exit::Warnings => "`pilotfish doctor` found warnings, and nothing worse",
            Exit::Errors => "`pilotfish doctor` found errors",
            Exit::NotMade => "`pilotfish doctor` found nothing, but could not make each check that was asked for",
            Exit::Usage => {
                "a fault in flags, environment or configuration file, or what it names is taken: an address, or a containerd by another agent"
            }
            Exit::Data => "a capture file is damaged; what could be read was printed",
            Exit::NoInput => "the capture file cannot be opened",
            Exit::NoHost => "nobody says who has the address (`pilotfish identity`); its class was printed",
            Exit::Unavailable => "the agent does not answer on its socket, refuses, or went away while it was read",
            Exit::NoPermission => "root, a capability or a kernel feature is missing; `pilotfish check` says which",
        }
    }

    /// The table of `--help` and the manual page.
    #[must_use]
    pub fn table() -> String {
        let mut table = String::from("Exit codes:\n");
        for exit in Exit::ALL {
            table.push_str(&format!("  {:>2}  {}\n", exit.code(), exit.meaning()));
        }
        table
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error that knows how the process should end because of it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Failure {
        Failure { exit, error: error.into() }
    }

    pub fn say(exit: Exit, text: impl fmt::Display) -> Failure {
        Failure { exit, error: anyhow::anyhow!("{text}") }
    }
}

/// An error and its causes in one line.
pub fn in_full(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { exit: Exit::Software, error }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Failure {
        let exit = match error {
            AskError::NotAllowed(_) => Exit::NoPermission,
            AskError::Wrong(_) => Exit::Usage,
            AskError::NoAgent(_)
            | AskError::Connect { .. }
            | AskError::Ask { .. }
            | AskError::Late(_)
            | AskError::Old { .. }
            | AskError::Refused { .. }
            | AskError::Strange { .. } => Exit::Unavailable,
        };
        Failure::new(exit, error)
    }
}

impl fmt::Display for Failure {
    /// The error and its causes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_in_the_table_once() {
        let table = Exit::table();
        for exit in Exit::ALL {
            assert_eq!(table.matches(&format!("\n  {:>2}  ", exit.code())).count(), 1, "{table}");
        }
    }
}
