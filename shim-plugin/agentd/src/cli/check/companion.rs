//! Whether the companion that is to be joined is there and is the right one. The agent runs without
//! it. Whether pushes are taken, the agent that runs says.

use super::line::Line;
use super::line::Verdict::{FallsBack, Ok as Fine, Waits};
use crate::config::Config;
use crate::run::companion::ticket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const WHAT: &str = "companion";

/// No line where none is to be joined.
pub fn line(config: &Config) -> Option<Line> {
    let file = config.companion.join.as_deref()?;
    let ticket = match ticket(file) {
        Ok(ticket) => ticket,
        Err(why) => {
            let remedy = "take join.toml from the cluster: Secret pilotfish-join of the companion's namespace, \
                          for a DaemonSet ConfigMap pilotfish-agent-join";
            return Some(Line::new(WHAT, Waits, why, remedy));
        }
    };
    if let Err(why) = ticket.has_token() {
        return Some(Line::new(WHAT, Waits, why, "look at the projected volume of the agent's pod"));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Line::new(WHAT, Waits, format!("not asked: {error}"), "")),
    };
    let reached = runtime.block_on(join::reach(&ticket));
    // A resolver that hangs is not waited for.
    runtime.shutdown_background();
    Some(match reached {
        Ok(()) => answers(file, &ticket.address, ticket.token_file.is_none()),
        Err(why) => Line::new(WHAT, Waits, why.to_string(), "the agent keeps trying, and counts meanwhile as before"),
    })
}

fn answers(file: &Path, address: &str, is_secret: bool) -> Line {
    let found = format!("{address} answers with the certificate that is trusted");
    let is_open = is_secret && std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
    match is_open {
        false => Line::new(WHAT, Fine, found, ""),
        true => {
            let remedy = format!("chmod 0600 {}", file.display());
            Line::new(WHAT, FallsBack, format!("{found}; whoever is on this node may read the join token"), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_all_may_read_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("join.toml");
        std::fs::write(&file, "").expect("write");
        for (mode, verdict) in [(0o600, Fine), (0o640, Fine), (0o644, FallsBack)] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("chmod");
            assert_eq!(answers(&file, "h:1", true).verdict, verdict, "{mode:o}");
            assert_eq!(answers(&file, "h:1", false).verdict, Fine, "{mode:o}, and there is no token in it");
        }
    }

    #[test]
    fn there_is_a_line_where_one_is_to_be_joined() {
        let mut config = Config::default();
        assert_eq!(line(&config), None);
        config.companion.join = Some("/nonexistent/join.toml".into());
        let told = line(&config).expect("a line");
        assert!(told.verdict == Waits && told.found.starts_with("cannot read /nonexistent/join.toml: "), "{told:?}");
    }
}
