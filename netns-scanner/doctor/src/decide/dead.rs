//! `dead-peer`: what is sent goes nowhere, and the kernel will not say so for minutes.

use crate::sample::Connection;
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Of a process or a namespace: its connections. One finding for each address that is silent.
#[must_use]
pub fn dead_peer(of: &Subject, connections: &[Connection], thresholds: &Thresholds) -> Vec<Finding> {
    let mut silent: BTreeMap<IpAddr, (usize, Duration, u64)> = BTreeMap::new();
    for connection in connections {
        let Some((silence, unanswered)) = unanswered(connection) else { continue };
        if silence >= thresholds.dead_silence {
            let (count, longest, segments) = silent.entry(connection.remote.ip).or_default();
            *count += 1;
            *longest = silence.max(*longest);
            *segments += unanswered;
        }
    }
    let told = silent.into_iter().map(|(peer, (count, longest, segments))| {
        let what = if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") };
        let summary = format!("{what} to {peer}: sent again and again, nothing back for {}", seconds(longest));
        Finding::new(CheckId::DeadPeer, Severity::Warning, of, longest, summary)
            .with("peer", peer.to_string())
            .with("connections", count)
            .with("silent_s", longest.as_secs_f64())
            .with("unacknowledged_segments", segments)
    });
    told.collect()
}

/// How long the peer has said nothing though it was asked, and how many segments wait for it. Data
/// that is sent again counts, and so do probes: two in a row, since one may be on its way.
fn unanswered(connection: &Connection) -> Option<(Duration, u64)> {
    let lives = [Connection::ESTABLISHED, Connection::CLOSE_WAIT, Connection::FIN_WAIT1, Connection::LAST_ACK];
    let info = connection.info.filter(|_| lives.contains(&connection.state))?;
    let asked = (info.unacked > 0 && info.retransmits > 0) || info.probes >= 2;
    asked.then(|| (info.since_ack.min(info.since_data), u64::from(info.unacked)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::TcpInfo;
    use flow_model::Endpoint;

    fn connection(peer: &str, info: TcpInfo) -> Connection {
        let end = |ip: &str, port| Endpoint { ip: ip.parse().expect("address"), port };
        let state = Connection::ESTABLISHED;
        Connection { local: end("10.0.0.2", 40_000), remote: end(peer, 5432), state, info: Some(info) }
    }

    fn silent(seconds: u64) -> TcpInfo {
        let time = Duration::from_secs(seconds);
        TcpInfo { retransmits: 4, unacked: 1, since_data: time, since_ack: time, ..TcpInfo::default() }
    }

    fn find(connections: &[Connection]) -> Vec<String> {
        let found = dead_peer(&Subject::default(), connections, &Thresholds::default());
        found.into_iter().map(|finding| finding.summary).collect()
    }

    #[test]
    fn ten_seconds_without_an_answer_to_what_is_sent_again() {
        assert_eq!(find(&[connection("10.0.0.9", silent(9))]), [""; 0]);
        assert_eq!(
            find(&[connection("10.0.0.9", silent(10))]),
            ["1 connection to 10.0.0.9: sent again and again, nothing back for 10 s"]
        );
    }

    #[test]
    fn whoever_waits_idly_or_hears_acknowledgements_is_fine() {
        let idle = TcpInfo { unacked: 0, retransmits: 0, ..silent(3600) };
        let first_try = TcpInfo { retransmits: 0, ..silent(30) };
        let acknowledged = TcpInfo { since_ack: Duration::from_secs(1), ..silent(3600) };
        let one_probe = TcpInfo { probes: 1, ..idle };
        for info in [idle, first_try, acknowledged, one_probe] {
            assert_eq!(find(&[connection("10.0.0.9", info)]), [""; 0], "{info:?}");
        }
        let mut waits = connection("10.0.0.9", silent(3600));
        waits.info = None;
        assert_eq!(find(&[waits]), [""; 0]);
        let mut connects = connection("10.0.0.9", silent(3600));
        connects.state = 2;
        assert_eq!(find(&[connects]), [""; 0], "a connect is another matter");
    }

    #[test]
    fn probes_without_an_answer_count_and_each_address_is_told_once() {
        let probed = TcpInfo { probes: 2, unacked: 0, retransmits: 0, ..silent(20) };
        let connections =
            [connection("10.0.0.9", probed), connection("10.0.0.9", silent(40)), connection("10.0.0.7", silent(11))];
        assert_eq!(
            find(&connections),
            [
                "1 connection to 10.0.0.7: sent again and again, nothing back for 11 s",
                "2 connections to 10.0.0.9: sent again and again, nothing back for 40 s",
            ]
        );
    }
}
