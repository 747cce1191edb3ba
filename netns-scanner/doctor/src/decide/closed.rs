//! `closed-watch`: a process that polls, or forgets, connections which their peers have closed.

use crate::sample::Connection;
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::time::Duration;

/// Of a process: its connections, and the share of one core that it used in the window; None where
/// that could not be read.
#[must_use]
pub fn closed_watch(
    of: &Subject,
    connections: &[Connection],
    cpu: Option<f64>,
    thresholds: &Thresholds,
) -> Option<Finding> {
    let ages = connections.iter().filter_map(closed_for).filter(|age| *age >= thresholds.close_wait_age);
    let (count, oldest) = ages.fold((0, Duration::ZERO), |(count, oldest), age| (count + 1, age.max(oldest)));
    let polls = count > 0 && cpu.is_some_and(|share| share > thresholds.close_wait_cpu);
    if !polls && count <= thresholds.close_wait_leak {
        return None;
    }
    let what = if count == 1 {
        "1 connection that its peer".to_owned()
    } else {
        format!("{count} connections that their peers")
    };
    let mut summary = format!("{what} closed up to {} ago", seconds(oldest));
    summary.push_str(&match cpu {
        Some(share) if polls => format!(" and {:.0} % of a core", share * 100.0),
        _ => " are still open here".to_owned(),
    });
    let finding = Finding::new(CheckId::ClosedWatch, Severity::Warning, of, oldest, summary)
        .with("connections", count)
        .with("oldest_s", oldest.as_secs_f64());
    Some(match cpu {
        Some(share) => finding.with("cpu_share", share),
        None => finding,
    })
}

/// At least how long the peer's end has been closed: nothing has come since, and the FIN carried
/// the last acknowledgement, or an earlier one.
fn closed_for(connection: &Connection) -> Option<Duration> {
    let info = connection.info.filter(|_| connection.state == Connection::CLOSE_WAIT)?;
    Some(info.since_ack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::TcpInfo;
    use flow_model::Endpoint;

    fn connection(state: u8, silent: u64) -> Connection {
        let end = |port| Endpoint { ip: "10.0.0.2".parse().expect("address"), port };
        let info = TcpInfo { since_ack: Duration::from_secs(silent), ..TcpInfo::default() };
        Connection { local: end(40_000), remote: end(6443), state, info: Some(info) }
    }

    fn find(connections: &[Connection], cpu: Option<f64>) -> Option<String> {
        closed_watch(&Subject::default(), connections, cpu, &Thresholds::default()).map(|finding| finding.summary)
    }

    #[test]
    fn it_takes_an_old_closed_connection_and_a_busy_owner() {
        let closed = [connection(Connection::CLOSE_WAIT, 60)];
        assert_eq!(
            find(&closed, Some(0.99)),
            Some("1 connection that its peer closed up to 60 s ago and 99 % of a core".to_owned())
        );
        assert_eq!(find(&closed, Some(0.8)), None);
        assert_eq!(find(&closed, None), None);
        assert_eq!(find(&[connection(Connection::CLOSE_WAIT, 59)], Some(2.0)), None);
        assert_eq!(find(&[connection(Connection::ESTABLISHED, 3600)], Some(2.0)), None);
    }

    #[test]
    fn more_than_a_hundred_are_a_leak_of_an_idle_owner_too() {
        let closed = |count| vec![connection(Connection::CLOSE_WAIT, 75); count];
        assert_eq!(find(&closed(100), Some(0.0)), None);
        let said = "101 connections that their peers closed up to 75 s ago are still open here".to_owned();
        assert_eq!(find(&closed(101), Some(0.0)), Some(said.clone()));
        assert_eq!(find(&closed(101), None), Some(said));
        let mut fresh = closed(100);
        fresh.push(connection(Connection::CLOSE_WAIT, 1));
        assert_eq!(find(&fresh, Some(0.0)), None, "a burst of clients that just left is none");
    }
}
