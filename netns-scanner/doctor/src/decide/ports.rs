//! `ports-gone`: one destination has taken the ports from which a client may ask it.

use crate::sample::Connection;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use flow_model::Endpoint;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

/// Ports that the kernel gives to clients of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// `net.ipv4.ip_local_port_range`: the first and the last one.
    pub first: u16,
    /// The last one, itself included.
    pub last: u16,
    /// `net.ipv4.ip_local_reserved_ports`: never given, as spans of first and last.
    pub reserved: Vec<(u16, u16)>,
}

impl PortRange {
    fn has(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
            && !self.reserved.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// How many there are.
    #[must_use]
    pub fn size(&self) -> usize {
        (self.first..=self.last).filter(|port| self.has(*port)).count()
    }
}

/// Of a namespace: all its connections, those in TIME_WAIT included. One finding for each
/// destination that has taken too many ports.
#[must_use]
pub fn ports_gone(
    of: &Subject,
    connections: &[Connection],
    range: &PortRange,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    let size = range.size();
    if size == 0 {
        return Vec::new();
    }
    // A port of a listening socket is one port with many peers; a client's are many with one peer.
    let mut taken: HashMap<(IpAddr, Endpoint), HashSet<u16>> = HashMap::new();
    for connection in connections.iter().filter(|connection| range.has(connection.local.port)) {
        taken.entry((connection.local.ip, connection.remote)).or_default().insert(connection.local.port);
    }
    let shares = taken.into_iter().map(|(ends, ports)| (ends, ports.len(), ports.len() as f64 / size as f64));
    // The order of a hash map is no order to tell things in.
    let over: BTreeSet<_> = shares
        .filter(|(_, _, share)| *share > thresholds.ports_warning)
        .map(|((local, remote), count, share)| {
            (std::cmp::Reverse(count), local, remote, share >= thresholds.ports_error)
        })
        .collect();
    let told = over.into_iter().map(|(std::cmp::Reverse(count), local, remote, is_error)| {
        let severity = if is_error { Severity::Error } else { Severity::Warning };
        let to = std::net::SocketAddr::new(remote.ip, remote.port).to_string();
        let summary = format!("{count} of {size} ports of {local} are taken by connections to {to}");
        Finding::new(CheckId::PortsGone, severity, of, Duration::ZERO, summary)
            .with("taken", count)
            .with("ports", size)
            .with("from", local.to_string())
            .with("to", to)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: PortRange = PortRange { first: 1000, last: 1099, reserved: Vec::new() };

    fn connection(local_port: u16, remote: (&str, u16), state: u8) -> Connection {
        let end = |ip: &str, port| Endpoint { ip: ip.parse().expect("address"), port };
        Connection { local: end("10.0.0.2", local_port), remote: end(remote.0, remote.1), state, info: None }
    }

    fn to_one(ports: std::ops::Range<u16>) -> Vec<Connection> {
        // Every other one is over and waits.
        ports.map(|port| connection(port, ("10.0.0.9", 80), if port % 2 == 0 { 1 } else { 6 })).collect()
    }

    fn severities(connections: &[Connection], range: &PortRange) -> Vec<Severity> {
        let found = ports_gone(&Subject::default(), connections, range, &Thresholds::default());
        found.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn more_than_four_fifths_are_a_warning_and_all_but_one_in_a_hundred_an_error() {
        assert_eq!(severities(&to_one(1000..1080), &RANGE), []);
        assert_eq!(severities(&to_one(1000..1081), &RANGE), [Severity::Warning]);
        assert_eq!(severities(&to_one(1000..1098), &RANGE), [Severity::Warning]);
        assert_eq!(severities(&to_one(1000..1099), &RANGE), [Severity::Error]);
    }

    #[test]
    fn each_destination_has_the_ports_for_itself_and_a_server_uses_one_port_for_all() {
        let mut spread = to_one(1000..1070);
        spread.extend((1000..1070).map(|port| connection(port, ("10.0.0.9", 81), 1)));
        assert_eq!(severities(&spread, &RANGE), []);
        let served: Vec<Connection> = (1..1000).map(|port| connection(1080, ("10.0.0.7", port), 1)).collect();
        assert_eq!(severities(&served, &RANGE), []);
    }

    #[test]
    fn ports_that_are_never_given_make_the_range_smaller() {
        let range = PortRange { reserved: vec![(1000, 1049), (5000, 6000)], ..RANGE };
        assert_eq!(range.size(), 50);
        assert_eq!(severities(&to_one(1000..1090), &range), [], "40 of 50");
        assert_eq!(severities(&to_one(1000..1091), &range), [Severity::Warning]);
        let found = ports_gone(&Subject::default(), &to_one(1000..1100), &range, &Thresholds::default());
        assert_eq!(found[0].summary, "50 of 50 ports of 10.0.0.2 are taken by connections to 10.0.0.9:80");
        let backwards = PortRange { first: 9, last: 1, reserved: Vec::new() };
        assert_eq!(severities(&to_one(1000..1100), &backwards), []);
    }
}
