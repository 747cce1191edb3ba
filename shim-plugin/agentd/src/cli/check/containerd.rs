//! Which containerds are there, and whether each answers: asked as the agent asks them.

use super::line::Line;
use super::line::Verdict::{Ok as Fine, Waits};
use crate::config::Config;
use crate::run::settings;
use shim_plugin::{Connection, Containerd, LinkStatus};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};
use tokio_util::sync::CancellationToken;

const WHAT: &str = "containerd";
/// A containerd answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A line for each socket that is there, and for each that was configured; one where none is.
pub fn lines(config: &Config) -> Vec<Line> {
    let is_configured = !config.containerd.sockets.is_empty();
    let mut config = settings::containerd(config);
    let (there, absent): (Vec<_>, Vec<_>) =
        std::mem::take(&mut config.sockets).into_iter().partition(|socket| is_there(socket));
    config.sockets = there;
    let missed = |socket: &PathBuf| {
        let remedy = "start the containerd that makes it, or correct containerd.sockets";
        Line::new(WHAT, Waits, format!("{} is not there", socket.display()), remedy)
    };
    let mut lines: Vec<Line> = if is_configured { absent.iter().map(missed).collect() } else { Vec::new() };
    if !config.sockets.is_empty() {
        match ask(config) {
            Ok(links) => lines.extend(links.iter().map(line)),
            Err(reason) => lines.push(Line::new(WHAT, Waits, format!("not asked: {reason}"), "")),
        }
    }
    if lines.is_empty() {
        let tried: Vec<String> = absent.iter().map(|socket| socket.display().to_string()).collect();
        let remedy = format!("start containerd, or name its socket in containerd.sockets; tried {}", tried.join(", "));
        lines.push(Line::new(WHAT, Waits, "none of its sockets exists", remedy));
    }
    lines
}

/// What nobody may look at is there, as far as anybody can tell: connecting to it says what is wrong.
fn is_there(socket: &Path) -> bool {
    !fs::metadata(socket).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What to do about a socket that does not answer.
fn remedy(socket: &Path) -> &'static str {
    match UnixStream::connect(socket) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "let the agent's account use it: group root and CAP_DAC_READ_SEARCH, as the unit pilotfish.service has them"
        }
        _ if !is_socket(socket) => "name the socket of a containerd in containerd.sockets",
        _ => "start the containerd that made this socket, or remove the socket where it is gone for good",
    }
}

/// What cannot be looked at may be one.
fn is_socket(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.file_type().is_socket())
}

fn line(link: &LinkStatus) -> Line {
    let LinkStatus { socket: path, connection, version, tasks, last_failure, .. } = link;
    let socket = path.display();
    match connection {
        Connection::Live => {
            let version = version.as_deref().unwrap_or_default();
            Line::new(WHAT, Fine, format!("{version} on {socket}, {tasks} tasks"), "")
        }
        Connection::Same { socket: other } => {
            Line::new(WHAT, Fine, format!("{socket} is {} by another path", other.display()), "")
        }
        Connection::Searching | Connection::Syncing | Connection::Down { .. } => {
            let reason = last_failure.clone().unwrap_or_else(|| format!("no answer within {PATIENCE:?}"));
            let kind = if is_socket(path) { "" } else { "it is no socket: " };
            Line::new(WHAT, Waits, format!("{socket}: {kind}{reason}"), remedy(path))
        }
    }
}

/// Waits until each link is connected, or for as long as there is patience.
fn ask(config: shim_plugin::Config) -> std::io::Result<Vec<LinkStatus>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (task, handle) = Containerd::new(config);
    let drain = CancellationToken::new();
    Ok(runtime.block_on(async {
        let running = tokio::spawn(task.run(drain.clone()));
        let began = Instant::now();
        let links = loop {
            let links = handle.status.read().links;
            let settled = |link: &LinkStatus| match link.connection {
                // It says so a moment before the registry has taken its list in.
                Connection::Live => link.counts.reconciles > 0,
                Connection::Same { .. } => true,
                Connection::Searching | Connection::Syncing | Connection::Down { .. } => false,
            };
            if links.iter().all(settled) || began.elapsed() > PATIENCE {
                break links;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        drain.cancel();
        let _ = running.await;
        links
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connection: Connection, failure: Option<&str>, expected: &str) {
        let link = LinkStatus {
            socket: "/run/k3s/c.sock".into(),
            connection,
            version: Some("2.2.1".into()),
            tasks: 4,
            last_failure: failure.map(str::to_owned),
            ..LinkStatus::default()
        };
        let line = line(&link);
        assert_eq!(format!("{}: {}", line.verdict.shown(), line.found), expected);
        assert_eq!(line.remedy.is_empty(), line.verdict == Fine);
    }

    #[test]
    fn each_socket_that_is_there_has_its_line() {
        check(Connection::Live, None, "ok: 2.2.1 on /run/k3s/c.sock, 4 tasks");
        check(
            Connection::Same { socket: "/run/c.sock".into() },
            None,
            "ok: /run/k3s/c.sock is /run/c.sock by another path",
        );
        let refused = Connection::Down { reason: "connect: refused".into() };
        check(refused, Some("connect: refused"), "waits: /run/k3s/c.sock: connect: refused");
        check(Connection::Syncing, None, "waits: /run/k3s/c.sock: no answer within 5s");
    }

    #[test]
    fn a_socket_that_was_configured_and_is_not_there_is_told() {
        let mut config = Config::default();
        config.containerd.sockets = vec!["/nonexistent/a.sock".into(), "/dev/null".into()];
        let told = lines(&config);
        let found: Vec<&str> = told.iter().map(|line| line.found.as_str()).collect();
        assert!(
            matches!(found[..], ["/nonexistent/a.sock is not there", no_socket] if no_socket.starts_with("/dev/null: it is no socket: ")),
            "{found:?}"
        );
        assert!(
            told.iter().all(|line| line.verdict == Waits && line.remedy.contains("containerd.sockets")),
            "{told:?}"
        );
    }
}
