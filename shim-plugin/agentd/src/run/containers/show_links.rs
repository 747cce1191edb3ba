//! What is said of the node's containerds: of each, and of all together.

use agent_api as api;
use shim_plugin::{Connection, LinkCounts, LinkStatus};
use std::time::Instant;

/// A socket that is not there is missed where its containers still run, or where there is no other.
pub fn containerd(links: Vec<LinkStatus>, now: Instant) -> api::Containerd {
    let failure = links.iter().rev().find_map(|link| link.last_failure.as_ref());
    let failure = failure.map(|failure| format!("; last failure: {failure}")).unwrap_or_default();
    let links: Vec<api::ContainerdLink> = links.into_iter().map(|link| one(link, now)).collect();
    let live = links.iter().find(|link| link.state == "live");
    let missed: Vec<String> = links
        .iter()
        .filter(|link| !link.detail.is_empty())
        .map(|link| format!("{}: {}", link.socket, link.detail))
        .collect();
    let detail = match live {
        None if missed.is_empty() => format!("none of its sockets exists{failure}"),
        _ => missed.join("; "),
    };
    api::Containerd {
        connected: detail.is_empty(),
        socket: live.map(|link| link.socket.clone()).unwrap_or_default(),
        version: live.map(|link| link.version.clone()).unwrap_or_default(),
        reconnects: links.iter().map(|link| link.reconnects).sum(),
        detail,
        links,
    }
}

fn one(link: LinkStatus, now: Instant) -> api::ContainerdLink {
    let LinkStatus { socket, connection, version, tasks, counts, last_failure, last_reconcile, .. } = link;
    let LinkCounts { reconnects, failures, reconciles, events, .. } = counts;
    let kept = match tasks {
        0 => String::new(),
        _ => format!("{tasks} containers are kept until their processes end"),
    };
    let (state, detail) = match connection {
        Connection::Searching if tasks == 0 => ("absent", String::new()),
        Connection::Searching => ("absent", format!("its socket is gone; {kept}")),
        Connection::Same { .. } => ("same", String::new()),
        Connection::Syncing => {
            let failure = last_failure.map(|failure| format!("; last failure: {failure}")).unwrap_or_default();
            ("syncing", format!("subscribing{failure}"))
        }
        Connection::Live => ("live", String::new()),
        Connection::Down { reason } if tasks == 0 => ("down", reason),
        Connection::Down { reason } => ("down", format!("{reason}; {kept}")),
    };
    api::ContainerdLink {
        socket: socket.display().to_string(),
        state: state.to_owned(),
        version: version.unwrap_or_default(),
        containers: tasks as u64,
        reconnects,
        events: events.all(),
        reconciles,
        failures,
        list_age_s: last_reconcile.map(|at| now.saturating_duration_since(at).as_secs_f64()),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(socket: &str, connection: Connection, tasks: usize) -> LinkStatus {
        LinkStatus { socket: socket.into(), connection, tasks, ..LinkStatus::default() }
    }

    fn check(links: &[LinkStatus], connected: bool, socket: &str, detail: &str) {
        let shown = containerd(links.to_vec(), Instant::now());
        assert_eq!((shown.connected, shown.socket.as_str(), shown.detail.as_str()), (connected, socket, detail));
    }

    #[test]
    fn a_containerd_that_is_missed_is_told_beside_those_that_answer() {
        let live = || link("/a", Connection::Live, 3);
        let gone = |tasks| link("/b", Connection::Searching, tasks);
        check(&[gone(0), gone(0)], false, "", "none of its sockets exists");
        check(&[gone(0), live(), gone(0)], true, "/a", "");
        check(&[live(), link("/b", Connection::Same { socket: "/a".into() }, 0)], true, "/a", "");
        let kept = "/b: its socket is gone; 2 containers are kept until their processes end";
        check(&[gone(2), live()], false, "/a", kept);
        let down = |tasks| link("/b", Connection::Down { reason: "refused".into() }, tasks);
        check(&[live(), down(0)], false, "/a", "/b: refused");
        check(
            &[down(1), link("/c", Connection::Syncing, 0)],
            false,
            "",
            "/b: refused; 1 containers are kept until their processes end; /c: subscribing",
        );
        let failed = LinkStatus { last_failure: Some("broke".into()), ..gone(0) };
        check(&[failed], false, "", "none of its sockets exists; last failure: broke");
    }
}
