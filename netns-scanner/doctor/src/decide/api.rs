//! `api-storm`: a client that asks the API server all the time, where a watch would tell it.
//!
//! TLS hides what is asked. A connection for each question shows by its number; questions on one connection
//! show by the segments with data that their client sends: a watch is answered, and asks nothing.

use crate::history::Opened;
use crate::sample::{Connection, Held, TcpInfo};
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};
use flow_model::Endpoint;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// `TCP_TIMEWAIT_LEN` of include/net/tcp.h: so long the end that closed first remembers a connection.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Bytes of an answer for which its client may send a segment to make room for more (WINDOW_UPDATE, RFC 9113
/// section 6.9): Go's client does each 4 KiB, for the stream and for the connection.
const ROOM_MADE: u64 = 2048;

/// Segments that cannot only make room for an answer: questions, at least so many.
fn questions(info: &TcpInfo) -> u64 {
    info.data_segments_out.saturating_sub(info.bytes_received / ROOM_MADE)
}

/// So many, sent in this time, would be a storm that has lasted.
fn lasting(thresholds: &Thresholds) -> f64 {
    thresholds.api_segments_per_second * thresholds.api_lasting.as_secs_f64()
}

/// Questions of each process to each address, by its own connections.
fn asked(held: &[Held]) -> BTreeMap<(u32, Endpoint), u64> {
    let mut asked: BTreeMap<(u32, Endpoint), u64> = BTreeMap::new();
    for Held { connection, pid, .. } in held.iter().filter(|held| !held.accepted) {
        let of = asked.entry((*pid, connection.remote)).or_default();
        *of += connection.info.as_ref().map_or(0, questions);
    }
    asked
}

/// Whom somebody has asked so much that it is worth to know who that is.
#[must_use]
pub fn asked_much(held: &[Held], thresholds: &Thresholds) -> BTreeSet<Endpoint> {
    let much = asked(held).into_iter().filter(|(_, count)| *count as f64 >= lasting(thresholds));
    much.map(|((_, remote), _)| remote).collect()
}

/// To whom connections were opened and closed again so often, of late, that it is worth to know who that is,
/// and how often. Of a namespace: nobody holds what waits in TIME_WAIT.
#[must_use]
pub fn opened_much(connections: &[Connection], thresholds: &Thresholds) -> BTreeMap<Endpoint, u64> {
    let mut closed: BTreeMap<Endpoint, u64> = BTreeMap::new();
    for connection in connections.iter().filter(|one| one.state == Connection::TIME_WAIT) {
        *closed.entry(connection.remote).or_default() += 1;
    }
    let most = thresholds.api_connections_per_second * REMEMBERED.as_secs_f64();
    closed.retain(|_, count| *count as f64 > most);
    closed
}

/// Of a process: what it holds to an API server at the window's two ends.
#[must_use]
pub fn api_polled(
    of: &Subject,
    before: &[Held],
    after: &[Held],
    window: Duration,
    thresholds: &Thresholds,
) -> Option<Finding> {
    if window.is_zero() {
        return None;
    }
    let mine = |all: &[Held]| all.iter().filter(|held| !held.accepted).copied().collect::<Vec<_>>();
    let (before, after) = (mine(before), mine(after));
    let earlier: HashMap<(Endpoint, Endpoint), TcpInfo> =
        before.iter().filter_map(|held| Some((held.connection.ends(), held.connection.info?))).collect();
    // The same ends with fewer segments: another connection.
    let rise = |held: &Held| {
        let now = held.connection.info?;
        let then = earlier.get(&held.connection.ends()).filter(|then| then.data_segments_out <= now.data_segments_out);
        let then = then.copied().unwrap_or_default();
        Some(TcpInfo {
            data_segments_out: now.data_segments_out - then.data_segments_out,
            bytes_received: now.bytes_received.saturating_sub(then.bytes_received),
            ..TcpInfo::default()
        })
    };
    let rises = after.iter().filter_map(rise);
    let (sent, received) =
        rises.fold((0, 0), |(sent, received), rise| (sent + rise.data_segments_out, received + rise.bytes_received));
    let whole = TcpInfo { data_segments_out: sent, bytes_received: received, ..TcpInfo::default() };
    let rate = questions(&whole) as f64 / window.as_secs_f64();
    let ever: u64 = asked(&after).values().sum();
    // A rollout makes who looks after it ask for some seconds: what it has sent before tells.
    if rate <= thresholds.api_segments_per_second || (ever as f64) < lasting(thresholds) {
        return None;
    }
    let address = after.iter().map(|held| held.connection.remote).max()?;
    let address = SocketAddr::new(address.ip, address.port).to_string();
    let summary = format!(
        "asks the API server at {address} all the time: {rate:.0} segments a second in {}, {ever} on connections \
         that are open",
        seconds(window)
    );
    let mut finding = Finding::new(CheckId::ApiStorm, Severity::Warning, of, window, summary)
        .with("address", address)
        .with("rate", rate)
        .with("segments", ever)
        .with("received_bytes", received)
        .with("connections", after.len())
        .with("window_s", window.as_secs_f64());
    // What a segment asks for is not seen.
    finding.certainty = Certainty::Likely;
    Some(finding)
}

/// Of whoever opened and closed so many connections to an API server within the last minute.
#[must_use]
pub fn api_reopened(of: &Subject, address: Endpoint, closed: u64, thresholds: &Thresholds) -> Option<Finding> {
    let rate = closed as f64 / REMEMBERED.as_secs_f64();
    if rate <= thresholds.api_connections_per_second {
        return None;
    }
    let address = SocketAddr::new(address.ip, address.port).to_string();
    let summary = format!("{closed} connections to the API server at {address} opened and closed in the last minute");
    Some(opened(of, Opened { connections: closed, window: REMEMBERED }, summary).with("address", address))
}

/// Of a client: connections to the API server that were seen to open, for long enough.
#[must_use]
pub fn api_opened(of: &Subject, seen: Opened, thresholds: &Thresholds) -> Option<Finding> {
    let Opened { connections, window } = seen;
    if connections as f64 <= thresholds.api_connections_per_second * window.as_secs_f64() {
        return None;
    }
    let summary = format!("{connections} connections to the API server opened in {}", seconds(window));
    Some(opened(of, seen, summary))
}

fn opened(of: &Subject, Opened { connections, window }: Opened, summary: String) -> Finding {
    Finding::new(CheckId::ApiStorm, Severity::Warning, of, window, summary)
        .with("connections", connections)
        .with("rate", connections as f64 / window.as_secs_f64().max(f64::MIN_POSITIVE))
        .with("window_s", window.as_secs_f64())
}

/// Connections that one client opened, window by window.
#[derive(Clone, Debug, Default)]
pub struct Opens {
    windows: VecDeque<Opened>,
    now: u64,
}

impl Opens {
    /// One more.
    pub fn connection(&mut self) {
        self.now = self.now.saturating_add(1);
    }

    /// The window is over: all that it remembers, once that is long enough.
    pub fn window(&mut self, window: Duration, thresholds: &Thresholds) -> Option<Opened> {
        self.windows.push_back(Opened { connections: std::mem::take(&mut self.now), window });
        while self.windows.len() > thresholds.api_windows {
            self.windows.pop_front();
        }
        let is_whole = self.windows.len() == thresholds.api_windows;
        is_whole.then(|| {
            self.windows.iter().fold(Opened::default(), |all, one| Opened {
                connections: all.connections.saturating_add(one.connections),
                window: all.window.saturating_add(one.window),
            })
        })
    }

    /// Nothing was opened in all that it remembers.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.now == 0 && self.windows.iter().all(|one| one.connections == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Endpoint {
        let address: SocketAddr = text.parse().expect("address");
        Endpoint { ip: address.ip(), port: address.port() }
    }

    fn held(pid: u32, port: u16, sent: u64, received: u64) -> Held {
        let info = Some(TcpInfo { data_segments_out: sent, bytes_received: received, ..TcpInfo::default() });
        let (local, remote) = (end(&format!("10.0.0.2:{port}")), end("10.96.0.1:443"));
        let connection = Connection { local, remote, state: Connection::ESTABLISHED, info };
        Held { connection, pid, accepted: false }
    }

    fn polled(before: &[Held], after: &[Held]) -> Option<(String, Certainty)> {
        let window = Duration::from_secs(2);
        let found = api_polled(&Subject::default(), before, after, window, &Thresholds::default());
        found.map(|found| (found.summary, found.certainty))
    }

    #[test]
    fn more_than_twenty_segments_a_second_of_who_has_sent_so_many_for_five_minutes() {
        let said = "asks the API server at 10.96.0.1:443 all the time: 25 segments a second in 2.0 s, 6050 on connections \
                    that are open";
        let before = [held(7, 40_000, 6_000, 0)];
        assert_eq!(polled(&before, &[held(7, 40_000, 6_050, 0)]), Some((said.to_owned(), Certainty::Likely)));
        assert_eq!(polled(&before, &[held(7, 40_000, 6_040, 0)]), None, "20 a second");
        assert_eq!(polled(&[held(7, 40_000, 100, 0)], &[held(7, 40_000, 900, 0)]), None, "it began just now");
        let two = [held(7, 40_000, 6_025, 0), held(7, 40_001, 25, 0)];
        assert!(polled(&before, &two).is_some(), "a connection that began in between");
        assert!(polled(&before, &[held(7, 40_000, 6_000, 0)]).is_none(), "it has stopped");
        let mut accepted = held(7, 40_000, 90_000, 0);
        accepted.accepted = true;
        assert_eq!(polled(&[], &[accepted]), None, "the API server itself");
    }

    #[test]
    fn a_busy_watch_makes_room_for_its_events_and_asks_nothing() {
        // 100 KiB a second for ten minutes, and the segments by which room is made for them.
        let (before, after) = (held(7, 40_000, 15_000, 61_440_000), held(7, 40_000, 15_050, 61_644_800));
        assert_eq!((polled(&[before], &[after]), asked_much(&[before], &Thresholds::default())), (None, [].into()));
        // As many for lists of 100 KiB each, of which there are 30 in a second.
        let (before, after) = (held(7, 40_000, 500_000, 614_400_000), held(7, 40_000, 503_060, 620_544_000));
        assert!(polled(&[before], &[after]).is_some());
    }

    #[test]
    fn whom_somebody_asks_much_is_looked_up_and_nobody_else() {
        let much = |held: &[Held]| asked_much(held, &Thresholds::default());
        assert_eq!(much(&[held(7, 40_000, 5_999, 0), held(8, 40_001, 5_999, 0)]), [].into(), "two processes");
        assert_eq!(much(&[held(7, 40_000, 3_000, 0), held(7, 40_001, 3_000, 0)]), [end("10.96.0.1:443")].into());
    }

    #[test]
    fn connections_that_were_closed_are_counted_by_whom_they_asked() {
        let waits = |count: u16, state| {
            let one = |port| Connection { state, info: None, ..held(7, port, 0, 0).connection };
            (1..=count).map(one).collect::<Vec<_>>()
        };
        let much = |all: &[Connection]| opened_much(all, &Thresholds::default());
        assert_eq!(much(&waits(120, Connection::TIME_WAIT)), [].into(), "two a second");
        assert_eq!(much(&waits(121, Connection::TIME_WAIT)), [(end("10.96.0.1:443"), 121)].into());
        assert_eq!(much(&waits(199, Connection::ESTABLISHED)), [].into());
        let found = api_reopened(&Subject::default(), end("10.96.0.1:443"), 121, &Thresholds::default());
        let said = "121 connections to the API server at 10.96.0.1:443 opened and closed in the last minute";
        assert_eq!(found.map(|found| found.summary).as_deref(), Some(said));
        assert_eq!(api_reopened(&Subject::default(), end("10.96.0.1:443"), 120, &Thresholds::default()), None);
    }

    /// Connections in each window of 30 s, and what the last one says.
    fn story(windows: &[u64]) -> Option<String> {
        let (mut opens, thresholds) = (Opens::default(), Thresholds::default());
        let mut said = None;
        for count in windows {
            (0..*count).for_each(|_| opens.connection());
            let seen = opens.window(Duration::from_secs(30), &thresholds);
            said = seen.and_then(|seen| api_opened(&Subject::default(), seen, &thresholds));
        }
        said.map(|found| found.summary)
    }

    #[test]
    fn more_than_two_connections_a_second_for_five_minutes() {
        assert_eq!(story(&[90; 9]), None, "four and a half");
        assert_eq!(story(&[90; 10]).as_deref(), Some("900 connections to the API server opened in 300 s"));
        assert_eq!(story(&[60; 20]), None, "two a second");
        assert_eq!(story(&[90, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "a start");
        assert_eq!(story(&[[90; 10], [0; 10]].concat()), None, "it is over");
        let mut opens = Opens::default();
        assert!(opens.is_idle());
        opens.connection();
        assert!(!opens.is_idle());
    }
}
