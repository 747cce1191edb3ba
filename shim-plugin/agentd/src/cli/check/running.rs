//! What the agent that runs here says of itself; no line where none runs.

use super::line::{Line, Verdict};
use agent_api::{Client, Readiness, Reason};
use std::path::Path;

pub fn line(socket: &Path) -> Option<Line> {
    // Whatever keeps it from answering is no matter of whether one can run here.
    Client::new(socket).status().ok().map(|status| says(&status.readiness))
}

fn says(readiness: &Readiness) -> Line {
    let Readiness { ready, reasons } = readiness;
    let told: Vec<String> = reasons.iter().map(|Reason { part, detail, .. }| format!("{part}: {detail}")).collect();
    let state = if *ready { "ready" } else { "not ready" };
    match told.is_empty() {
        true => Line::new("running agent", Verdict::Ok, state, ""),
        false => {
            let found = format!("{state}; {}", told.join("; "));
            Line::new("running agent", Verdict::FallsBack, found, "`pilotfish status` tells more")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_for_want_of_room_is_told() {
        let reason = Reason { part: "flows".into(), degraded_only: true, detail: "the flow table is full".into() };
        let line = says(&Readiness { ready: true, reasons: vec![reason] });
        assert_eq!((line.verdict, line.found.as_str()), (Verdict::FallsBack, "ready; flows: the flow table is full"));
        assert_eq!(says(&Readiness { ready: true, reasons: Vec::new() }).verdict, Verdict::Ok);
    }

    #[test]
    fn no_agent_is_no_line() {
        assert_eq!(line(Path::new("/nonexistent/a.sock")), None);
    }
}
