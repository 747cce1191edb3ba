//! `pilotfish version`: what this program is, and what the running agent is.

use super::output::{json, print};
use crate::cli::args::Output;
use crate::exit::Failure;
use crate::version;
use agent_api::{Client, Version};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Both {
    client: Version,
    /// Of the running agent; absent when none answers.
    agent: Option<Version>,
}

pub fn run(socket: &Path, output: Output) -> Result<(), Failure> {
    let both = Both { client: version::own(), agent: Client::new(socket).version().ok() };
    match output {
        Output::Json => print(&json(&both)?),
        Output::Table => {
            let mut text = format!("pilotfish {}\n", line(&both.client));
            if let Some(agent) = &both.agent {
                text.push_str(&format!("agent     {}\n", line(agent)));
            }
            print(&text)
        }
    }
}

fn line(version: &Version) -> String {
    let mut line = version.version.clone();
    if !version.commit.is_empty() {
        line.push_str(&format!(" (commit {})", version.commit));
    }
    if !version.kernel_object.is_empty() {
        line.push_str(&format!(", kernel object {}", version.kernel_object));
    }
    line
}
