//! `mtu-hole`: a path that swallows long packets and passes short ones.

use crate::sample::{Connection, TcpInfo};
use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Of a process or a namespace: its connections. One finding for each address behind the hole.
#[must_use]
pub fn mtu_hole(of: &Subject, connections: &[Connection], thresholds: &Thresholds) -> Vec<Finding> {
    let mut peers: BTreeMap<IpAddr, Vec<&Connection>> = BTreeMap::new();
    for connection in connections.iter().filter(|one| one.info.is_some()) {
        peers.entry(connection.remote.ip).or_default().push(connection);
    }
    let told = peers.into_iter().filter_map(|(peer, all)| {
        let stuck: Vec<TcpInfo> = stuck(&all, thresholds).iter().filter_map(|connection| connection.info).collect();
        if stuck.len() < thresholds.hole_connections {
            return None;
        }
        let share = stuck.len() as f64 / all.len() as f64;
        let severity = if share >= thresholds.hole_error { Severity::Error } else { Severity::Warning };
        let mss = stuck.iter().map(|info| info.mss).max().unwrap_or_default();
        let segments: u64 = stuck.iter().map(|info| u64::from(info.unacked.saturating_sub(info.sacked))).sum();
        let held = stuck.iter().map(|info| info.since_ack).max().unwrap_or_default();
        let summary = format!(
            "{} of {} connections to {peer}: short packets arrive, none of {segments} segments of up to {mss} bytes \
             does, for {}",
            stuck.len(),
            all.len(),
            seconds(held)
        );
        let finding = Finding::new(CheckId::MtuHole, severity, of, held, summary)
            .with("peer", peer.to_string())
            .with("connections", stuck.len())
            .with("of", all.len())
            .with("segments", segments)
            .with("segment_bytes", u64::from(mss));
        Some(finding)
    });
    told.collect()
}

/// Those of the connections to one address that no long segment ever left for good, where that address
/// lives: who is gone altogether is no hole (`dead-peer`).
fn stuck<'a>(all: &[&'a Connection], thresholds: &Thresholds) -> Vec<&'a Connection> {
    let info = |connection: &Connection| connection.info.unwrap_or_default();
    let stuck: Vec<&Connection> = all.iter().copied().filter(|one| repeats_long(&info(one), thresholds)).collect();
    let lives = |of: &&Connection| {
        // What came behind the long one was short, and arrived; or another connection heard of the address
        // well after the long one was lost.
        let after = info(of).unanswered_for.saturating_sub(thresholds.hole_heard);
        let heard = |other: &&Connection| !std::ptr::eq(*other, *of) && info(other).since_ack < after;
        info(of).sacked > 0 || all.iter().any(heard)
    };
    if stuck.iter().any(lives) { stuck } else { Vec::new() }
}

/// A long segment is sent again and again, and never was one acknowledged.
fn repeats_long(info: &TcpInfo, thresholds: &Thresholds) -> bool {
    let TcpInfo { retransmits, unacked, sacked, mss, bytes_acked, bytes_in_flight, .. } = *info;
    // More than a segment's worth may have been a long one, and the path is then no hole for it.
    let never = bytes_acked <= u64::from(mss);
    let is_long = mss > 0 && bytes_in_flight >= u64::from(mss);
    retransmits >= thresholds.hole_repeats && unacked > sacked && is_long && never
}

/// Without those of a hole: their silence has a reason that is told.
#[must_use]
pub fn outside_holes(connections: &[Connection], thresholds: &Thresholds) -> Vec<Connection> {
    let is_its = |connection: &&Connection| connection.info.is_some_and(|info| repeats_long(&info, thresholds));
    let holes: Vec<IpAddr> = mtu_hole(&Subject::default(), connections, thresholds)
        .iter()
        .filter_map(|finding| match finding.evidence.get("peer") {
            Some(crate::Figure::Text(peer)) => peer.parse().ok(),
            _ => None,
        })
        .collect();
    connections.iter().filter(|one| !(holes.contains(&one.remote.ip) && is_its(one))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::Endpoint;
    use std::time::Duration;

    fn connection(peer: &str, info: TcpInfo) -> Connection {
        let end = |ip: &str, port| Endpoint { ip: ip.parse().expect("address"), port };
        let state = Connection::ESTABLISHED;
        Connection { local: end("10.0.0.2", 8080), remote: end(peer, 40_000), state, info: Some(info) }
    }

    /// 301 bytes were acknowledged, ten long segments are not, a short one behind them is.
    fn behind() -> TcpInfo {
        TcpInfo {
            retransmits: 3,
            unacked: 11,
            sacked: 1,
            mss: 1448,
            bytes_acked: 301,
            bytes_in_flight: 10 * 1448 + 20,
            since_ack: Duration::from_secs(2),
            unanswered_for: Duration::from_secs(2),
            since_data: Duration::from_secs(3),
            ..TcpInfo::default()
        }
    }

    /// It answers.
    fn well() -> TcpInfo {
        TcpInfo { mss: 1448, bytes_acked: 9_000, since_ack: Duration::from_millis(100), ..TcpInfo::default() }
    }

    fn find(connections: &[Connection]) -> Vec<(Severity, String)> {
        let found = mtu_hole(&Subject::default(), connections, &Thresholds::default());
        found.into_iter().map(|finding| (finding.severity, finding.summary)).collect()
    }

    #[test]
    fn two_connections_to_an_address_are_a_warning_and_four_fifths_of_them_an_error() {
        let to = |stuck: usize, fine: usize| {
            let stuck = std::iter::repeat_n(connection("10.0.0.9", behind()), stuck);
            find(&stuck.chain(std::iter::repeat_n(connection("10.0.0.9", well()), fine)).collect::<Vec<_>>())
        };
        assert_eq!(to(1, 0), []);
        assert_eq!(to(2, 1).first().map(|found| found.0), Some(Severity::Warning));
        let said = "4 of 5 connections to 10.0.0.9: short packets arrive, none of 40 segments of up to 1448 bytes \
                    does, for 2.0 s";
        assert_eq!(to(4, 1), [(Severity::Error, said.to_owned())]);
        let two_peers = [connection("10.0.0.8", behind()), connection("10.0.0.9", behind())];
        assert_eq!(find(&two_peers), [], "one each");
    }

    #[test]
    fn who_ever_had_a_long_one_acknowledged_and_who_sends_short_ones_is_behind_no_hole() {
        let of = |info: TcpInfo| find(&[connection("10.0.0.9", info), connection("10.0.0.9", info)]).len();
        assert_eq!(of(behind()), 1);
        assert_eq!(of(TcpInfo { bytes_acked: 1449, ..behind() }), 0);
        assert_eq!(of(TcpInfo { bytes_in_flight: 1447, ..behind() }), 0);
        assert_eq!(of(TcpInfo { retransmits: 2, ..behind() }), 0, "lost by chance");
        assert_eq!(of(TcpInfo { unacked: 1, ..behind() }), 0);
        assert_eq!(of(TcpInfo { mss: 0, ..behind() }), 0);
    }

    #[test]
    fn a_peer_that_is_gone_is_no_hole_and_one_that_others_hear_of_is() {
        let silent = TcpInfo { sacked: 0, ..behind() };
        let both = [connection("10.0.0.9", silent), connection("10.0.0.9", silent)];
        assert_eq!(find(&both), []);
        let heard = [both.as_slice(), &[connection("10.0.0.9", well())]].concat();
        assert_eq!(find(&heard).len(), 1);
        // One that was opened later, and hangs as well.
        let later = TcpInfo { since_ack: Duration::from_secs(1), unanswered_for: Duration::from_secs(1), ..silent };
        assert_eq!(find(&[connection("10.0.0.9", silent), connection("10.0.0.9", later)]).len(), 1);
        // What it said last was on its way when it went; and not all are read at the same moment.
        for before in [Duration::from_secs(60), Duration::from_millis(1_800)] {
            let before = TcpInfo { since_ack: before, ..well() };
            assert_eq!(find(&[both.as_slice(), &[connection("10.0.0.9", before)]].concat()), [], "heard of before");
        }
    }

    #[test]
    fn connections_behind_a_hole_are_not_told_as_dead_ones_too() {
        let all = [connection("10.0.0.9", behind()), connection("10.0.0.9", behind()), connection("10.0.0.9", well())];
        assert_eq!(outside_holes(&all, &Thresholds::default()), all[2..]);
        assert_eq!(outside_holes(&all[1..], &Thresholds::default()), all[1..], "one alone is no finding");
    }
}
