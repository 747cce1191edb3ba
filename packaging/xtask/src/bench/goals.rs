//! What was asked for beside what was measured: one row each, printed as it becomes known, so that
//! a run that is cut short has told what it knew.

use crate::bench::say;
use anyhow::{Result, ensure};

#[derive(Debug)]
pub(super) struct Goals {
    scenario: &'static str,
    missed: Vec<String>,
}

impl Goals {
    pub fn new(scenario: &'static str) -> Goals {
        say(&format!("\n| {scenario} | goal | measured | |\n|---|---|---|---|"));
        Goals { scenario, missed: Vec::new() }
    }

    /// A row that has a goal.
    pub fn check(&mut self, what: &str, goal: &str, measured: &str, is_met: bool) {
        let verdict = if is_met { "met" } else { "**MISSED**" };
        say(&format!("| {what} | {goal} | {measured} | {verdict} |"));
        if !is_met {
            self.missed.push(format!("{}: {what}: {measured}, asked for: {goal}", self.scenario));
        }
    }

    /// A row that has none.
    pub fn tell(&self, what: &str, measured: &str) {
        say(&format!("| {what} | | {measured} | |"));
    }

    pub fn at_most(&mut self, what: &str, unit: &str, bound: f64, measured: f64, digits: usize) {
        let is_met = measured <= bound;
        self.check(what, &format!("<= {bound}{unit}"), &format!("{measured:.digits$}{unit}"), is_met);
    }

    pub fn finish(self) -> Result<()> {
        ensure!(self.missed.is_empty(), "{}", self.missed.join("\n"));
        Ok(())
    }
}
