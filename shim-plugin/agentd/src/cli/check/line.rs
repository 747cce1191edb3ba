//! One line of the report: what was looked at, how it stands, and what to do.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// Works without, or in another way.
    FallsBack,
    /// The agent runs, and waits for it.
    Waits,
    /// The agent cannot run.
    Missing,
}

impl Verdict {
    pub fn shown(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::FallsBack => "falls back",
            Verdict::Waits => "waits",
            Verdict::Missing => "MISSING",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub what: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Line {
    pub fn new(what: &'static str, verdict: Verdict, found: impl Into<String>, remedy: impl Into<String>) -> Line {
        Line { what, verdict, found: found.into(), remedy: remedy.into() }
    }
}
