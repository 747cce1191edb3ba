//! Whether the companion that is to be joined is there and is the right one. The agent runs without
//! it. Whether pushes are taken, the agent that runs says.

use super::line::Line;
use super::line::Verdict::{Ok as Fine, Waits};
use crate::config::Config;
use crate::run::companion::ticket;

const WHAT: &str = "companion";

/// No line where none is to be joined.
pub fn line(config: &Config) -> Option<Line> {
    let file = config.companion.join.as_deref()?;
    let ticket = match ticket(file) {
        Ok(ticket) => ticket,
        Err(why) => {
            let remedy = "take join.toml from the cluster: Secret pilotfish-join of the companion's namespace";
            return Some(Line::new(WHAT, Waits, why, remedy));
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Line::new(WHAT, Waits, format!("not asked: {error}"), "")),
    };
    let reached = runtime.block_on(join::reach(&ticket));
    // A resolver that hangs is not waited for.
    runtime.shutdown_background();
    Some(match reached {
        Ok(()) => Line::new(WHAT, Fine, format!("{} answers with the certificate that is trusted", ticket.address), ""),
        Err(why) => Line::new(WHAT, Waits, why.to_string(), "the agent keeps trying, and counts meanwhile as before"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_where_one_is_to_be_joined() {
        let mut config = Config::default();
        assert_eq!(line(&config), None);
        config.companion.join = Some("/nonexistent/join.toml".into());
        let told = line(&config).expect("a line");
        assert!(told.verdict == Waits && told.found.starts_with("cannot read /nonexistent/join.toml: "), "{told:?}");
    }
}
