//! `self-call`: a server asks itself, by an address behind which it takes somebody else to be.

use crate::sample::Held;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use flow_model::Endpoint;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Whether any connection among these leads from a process to itself: then it is worth to count
/// twice.
#[must_use]
pub fn asks_itself(held: &[Held]) -> bool {
    pairs(held).next().is_some()
}

/// Each accepted connection whose other end the same process holds, with the address that it was
/// asked for. Found by the client's end: behind a virtual IP the two ends know the server by
/// different addresses.
///
/// A loopback address is no virtual one: a process that dials it knows whom it asks, as gateways do
/// that translate one protocol into another.
fn pairs(held: &[Held]) -> impl Iterator<Item = (Held, Endpoint)> {
    let clients: HashMap<(u32, Endpoint), Endpoint> = held
        .iter()
        .filter(|held| !held.accepted && !held.connection.remote.ip.is_loopback())
        .map(|held| ((held.pid, held.connection.local), held.connection.remote))
        .collect();
    let accepted = held.iter().filter(|held| held.accepted);
    accepted.filter_map(move |held| Some((*held, *clients.get(&(held.pid, held.connection.remote))?)))
}

/// Of one process: the connections that it holds at the window's two ends. What is in `after`
/// alone began in between.
#[must_use]
pub fn self_call(
    of: &Subject,
    before: &[Held],
    after: &[Held],
    window: Duration,
    thresholds: &Thresholds,
) -> Option<Finding> {
    if window.is_zero() {
        return None;
    }
    let counted = |held: &Held| held.connection.info.map_or(0, |info| info.data_segments);
    let earlier: HashMap<(Endpoint, Endpoint), u64> =
        before.iter().map(|held| (held.connection.ends(), counted(held))).collect();
    // The same ends with fewer segments: another connection.
    let rise = |held: &Held| {
        let now = counted(held);
        now.checked_sub(earlier.get(&held.connection.ends()).copied().unwrap_or(0)).unwrap_or(now)
    };
    let served: u64 = after.iter().filter(|held| held.accepted).map(rise).sum();
    let mut by_address: HashMap<Endpoint, u64> = HashMap::new();
    let mut own = 0_u64;
    for (held, asked) in pairs(after) {
        let segments = rise(&held);
        own += segments;
        *by_address.entry(asked).or_default() += segments;
    }
    let rate = own as f64 / window.as_secs_f64();
    let share = if served == 0 { 0.0 } else { own as f64 / served as f64 };
    if rate <= thresholds.self_segments_per_second || share < thresholds.self_share {
        return None;
    }
    let (asked, _) = by_address.into_iter().max_by_key(|(address, segments)| (*segments, *address))?;
    let asked = SocketAddr::new(asked.ip, asked.port).to_string();
    let summary =
        format!("asks itself by {asked}: {rate:.0} data segments a second, {:.0} % of what it serves", share * 100.0);
    let finding = Finding::new(CheckId::SelfCall, Severity::Warning, of, window, summary)
        .with("address", asked)
        .with("segments", own)
        .with("rate", rate)
        .with("share", share)
        .with("window_s", window.as_secs_f64());
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Connection, TcpInfo};

    fn end(text: &str) -> Endpoint {
        let address: SocketAddr = text.parse().expect("address");
        Endpoint { ip: address.ip(), port: address.port() }
    }

    fn held(pid: u32, local: &str, remote: &str, accepted: bool, data_segments: u64) -> Held {
        let info = Some(TcpInfo { data_segments, ..TcpInfo::default() });
        let connection = Connection { local: end(local), remote: end(remote), state: Connection::ESTABLISHED, info };
        Held { connection, pid, accepted }
    }

    /// A connection of process 7 to itself by `asked`, which leads to 10.0.0.2:80.
    fn to_itself(asked: &str, segments: u64) -> Vec<Held> {
        vec![
            held(7, "10.0.0.2:40000", asked, false, segments),
            held(7, "10.0.0.2:80", "10.0.0.2:40000", true, segments),
        ]
    }

    fn client(pid: u32, segments: u64) -> Vec<Held> {
        vec![held(pid, "10.0.0.2:80", "10.0.0.5:50000", true, segments)]
    }

    fn find(before: &[Held], after: &[Held]) -> Option<String> {
        let window = Duration::from_secs(2);
        self_call(&Subject::default(), before, after, window, &Thresholds::default()).map(|finding| finding.summary)
    }

    #[test]
    fn it_takes_more_than_fifty_segments_a_second_and_three_tenths_of_what_is_served() {
        let before = [to_itself("10.96.0.1:80", 1000), client(7, 0)].concat();
        let after = |own: u64, others| [to_itself("10.96.0.1:80", 1000 + own), client(7, others)].concat();
        assert_eq!(find(&before, &after(100, 0)), None, "50 a second");
        assert_eq!(
            find(&before, &after(102, 238)),
            Some("asks itself by 10.96.0.1:80: 51 data segments a second, 30 % of what it serves".to_owned())
        );
        assert_eq!(find(&before, &after(102, 239)), None, "less than 30 %");
        assert!(asks_itself(&before));
    }

    #[test]
    fn a_virtual_address_and_an_own_one_are_found_and_a_loopback_one_is_meant() {
        for asked in ["10.96.0.1:443", "10.0.0.2:80", "[fd00::1]:80"] {
            assert!(find(&to_itself(asked, 0), &to_itself(asked, 500)).is_some(), "{asked}");
        }
        for asked in ["127.0.0.1:80", "[::1]:80"] {
            assert_eq!(find(&to_itself(asked, 0), &to_itself(asked, 500)), None, "{asked}");
            assert!(!asks_itself(&to_itself(asked, 500)));
        }
    }

    #[test]
    fn another_process_of_the_same_namespace_is_somebody_else() {
        let mut after = to_itself("10.0.0.2:80", 500);
        after[0].pid = 8;
        assert_eq!(find(&[], &after), None);
        assert!(!asks_itself(&after));
    }

    #[test]
    fn a_connection_that_began_in_the_window_counts_from_its_start() {
        assert!(find(&[], &to_itself("10.96.0.1:80", 101)).is_some());
        assert!(find(&to_itself("10.96.0.1:80", 5000), &to_itself("10.96.0.1:80", 101)).is_some(), "the port again");
        assert_eq!(find(&[], &[]), None);
    }
}
