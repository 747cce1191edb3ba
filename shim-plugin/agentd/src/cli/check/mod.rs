//! `pilotfish check`: can the agent run here, what falls back, and what to do about the rest.

mod companion;
mod containerd;
mod kubernetes;
mod line;
mod node;
mod patience;
mod probes;
mod running;

use super::output::{json, print};
use crate::cli::args::Output;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use flow_model::shown;
use line::{Line, Verdict};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Report {
    can_run: bool,
    checks: Vec<Line>,
}

pub fn run(config: &Config, output: Output) -> Result<Exit, Failure> {
    let checks = probes::all(config);
    let can_run = checks.iter().all(|line| line.verdict != Verdict::Missing);
    let report = Report { can_run, checks };
    print(&match output {
        Output::Json => json(&report)?,
        Output::Table => page(&report),
    })?;
    Ok(if can_run { Exit::Ok } else { Exit::NoPermission })
}

fn page(report: &Report) -> String {
    let widest = report.checks.iter().map(|line| line.what.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Line { what, verdict, found, remedy } in &report.checks {
        out.push_str(&format!("{what:<widest$}  {:<10}  {}\n", verdict.shown(), shown(found)));
        if !remedy.is_empty() {
            out.push_str(&format!("{:widest$}  {:10}  -> {}\n", "", "", shown(remedy)));
        }
    }
    out.push_str(if report.can_run { "\nThe agent can run here.\n" } else { "\nThe agent cannot run here.\n" });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn each_line_says_what_is_and_what_to_do() {
        let report = Report {
            can_run: false,
            checks: vec![
                Line::new("kernel", Verdict::Ok, "6.1.0", ""),
                Line::new("TCX", Verdict::FallsBack, "Linux has it since 6.6", ""),
                Line::new("privileges", Verdict::Missing, "CAP_BPF", "run as root"),
            ],
        };
        expect![[r#"
            kernel      ok          6.1.0
            TCX         falls back  Linux has it since 6.6
            privileges  MISSING     CAP_BPF
                                    -> run as root

            The agent cannot run here.
        "#]]
        .assert_eq(&page(&report));
    }
}
