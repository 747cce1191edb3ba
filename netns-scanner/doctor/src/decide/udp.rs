//! `udp-drop`: datagrams dropped because a process reads too slowly.

use crate::sample::{Delta, UdpSocket};
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};

const DNS: u16 = 53;

/// Of a namespace: its counter's rise, and those of its sockets that ever dropped anything.
#[must_use]
pub fn udp_drop(of: &Subject, drops: Delta, sockets: &[UdpSocket], thresholds: &Thresholds) -> Option<Finding> {
    if drops.count <= thresholds.udp_drops {
        return None;
    }
    let lossy = || sockets.iter().filter(|socket| socket.drops > 0);
    let most = lossy().max_by_key(|socket| socket.drops);
    let severity = match most {
        Some(socket) if socket.port == DNS => Severity::Error,
        _ => Severity::Warning,
    };
    let mut summary =
        format!("{} datagrams dropped at a full receive buffer in {}", drops.count, seconds(drops.window));
    if let Some(socket) = most {
        summary.push_str(&format!(", on :{}", socket.port));
    }
    let mut finding = Finding::new(CheckId::UdpDrop, severity, of, drops.window, summary)
        .with("drops", drops.count)
        .with("window_s", drops.window.as_secs_f64());
    if let Some(socket) = most {
        finding = finding.with("port", u64::from(socket.port)).with("socket_drops", socket.drops);
    }
    // A socket's drops are of its whole life: of several, the one that dropped now is a guess.
    if lossy().count() != 1 {
        finding.certainty = Certainty::Likely;
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn find(count: u64, sockets: &[UdpSocket]) -> Option<Finding> {
        let delta = Delta { count, window: Duration::from_secs(2) };
        udp_drop(&Subject::default(), delta, sockets, &Thresholds::default())
    }

    #[test]
    fn ten_are_nothing_eleven_a_warning_and_on_the_port_of_dns_an_error() {
        let socket = |port| [UdpSocket { port, drops: 40 }];
        assert_eq!(find(10, &socket(53)), None);
        assert_eq!(find(11, &socket(8125)).map(|finding| finding.severity), Some(Severity::Warning));
        assert_eq!(find(11, &socket(53)).map(|finding| finding.severity), Some(Severity::Error));
        assert_eq!(find(11, &[]).map(|finding| finding.severity), Some(Severity::Warning));
    }

    #[test]
    fn one_socket_with_drops_is_the_one_and_of_several_the_worst_is_likely() {
        let alone = find(12, &[UdpSocket { port: 53, drops: 0 }, UdpSocket { port: 8125, drops: 3 }]);
        let alone = alone.expect("found");
        assert_eq!((alone.certainty, alone.evidence.get("port")), (Certainty::Measured, Some(&8125_u64.into())));
        assert_eq!(alone.summary, "12 datagrams dropped at a full receive buffer in 2.0 s, on :8125");
        let several = find(12, &[UdpSocket { port: 53, drops: 1 }, UdpSocket { port: 8125, drops: 3 }]);
        let several = several.expect("found");
        assert_eq!((several.certainty, several.severity), (Certainty::Likely, Severity::Warning));
    }
}
