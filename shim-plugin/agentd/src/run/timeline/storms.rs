//! Requests and failures of each edge, window by window, beside what is usual there: for `retry-storm`.
//! Told by the pipeline, as it counts them. Costs an exchange a look into a table by a number.

use agent_api::StormRow;
use doctor::Thresholds;
use doctor::decide::Usual;
use doctor::history::EdgeLoad;
use flow_model::{FlowInfo, L7Record, LossReason, Ts};
use golden_metrics::{Edge, End, Loss, Losses, Observer, Reporter, failed};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Edges that are followed: 500 bytes each.
const MOST: usize = 1024;
/// Rows that are told, those with the most failures first.
const MOST_TOLD: usize = 64;

/// What the last window that is over held, and when it ended.
pub type ToldStorms = Arc<Mutex<(Ts, Vec<StormRow>)>>;

#[derive(Debug)]
pub struct StormWatch {
    /// By the number of the edge.
    edges: HashMap<u64, Track>,
    began: Ts,
    window: Duration,
    thresholds: Thresholds,
    told: ToldStorms,
    full: Loss,
}

#[derive(Debug)]
struct Track {
    client: End,
    server: End,
    reporter: Reporter,
    requests: u64,
    failed: u64,
    usual: Usual,
}

impl StormWatch {
    pub fn new(window: Duration, losses: &Losses) -> (StormWatch, ToldStorms) {
        let full = losses.place("doctor", "edges_full", "requests that retry-storm does not see");
        let (told, thresholds) = (ToldStorms::default(), Thresholds::default());
        (StormWatch { edges: HashMap::new(), began: Ts::default(), window, thresholds, told: told.clone(), full }, told)
    }

    fn requests(&mut self, (id, ends): (u64, (&End, &End)), reporter: Reporter, count: u64, has_failed: bool, at: Ts) {
        if at.since(self.began) >= self.window {
            self.turn(at);
        }
        if !self.edges.contains_key(&id) {
            if self.edges.len() >= MOST {
                return self.full.add(count);
            }
            let (client, server) = (ends.0.clone(), ends.1.clone());
            let usual = Usual::default();
            self.edges.insert(id, Track { client, server, reporter, requests: 0, failed: 0, usual });
        }
        let Some(track) = self.edges.get_mut(&id) else { return };
        track.requests += count;
        track.failed += if has_failed { count } else { 0 };
    }

    fn turn(&mut self, at: Ts) {
        let window = at.since(self.began);
        // What each workload of this node is asked.
        let mut asked: HashMap<End, u64> = HashMap::new();
        for track in self.edges.values().filter(|track| track.reporter == Reporter::Server) {
            *asked.entry(track.server.clone()).or_default() += track.requests;
        }
        let mut rows = Vec::new();
        for track in self.edges.values_mut() {
            let counts = (std::mem::take(&mut track.requests), std::mem::take(&mut track.failed));
            let own = asked.get(&track.client).copied().unwrap_or(0);
            let load = track.usual.window(counts, own, window, &self.thresholds);
            if track.reporter == Reporter::Client && load.failed > 0 {
                rows.extend(row(track, &load, own));
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.failed));
        rows.truncate(MOST_TOLD);
        self.edges.retain(|_, track| !track.usual.is_idle());
        self.began = at;
        *self.told.lock() = (at, rows);
    }
}

/// None where nobody knows what is usual there.
fn row(track: &Track, load: &EdgeLoad, own: u64) -> Option<StormRow> {
    let EdgeLoad { requests, failed, window, usual, own: _, own_usual } = *load;
    let within = |rate: f64| (rate * window.as_secs_f64()).round() as u64;
    let End { workload, namespace, kind: _ } = &track.server;
    let server = if namespace.is_empty() { workload.to_string() } else { format!("{namespace}/{workload}") };
    Some(StormRow {
        namespace: track.client.namespace.to_string(),
        client: track.client.workload.to_string(),
        server,
        requests,
        failed,
        usual: within(usual?),
        own,
        own_usual: within(own_usual),
        window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
    })
}

impl Observer for StormWatch {
    fn exchange(&mut self, edge: &Edge, _: &FlowInfo, record: &L7Record) {
        let ends = (edge.id(), (&edge.client, &edge.server));
        self.requests(ends, edge.reporter, 1, failed(record), record.end);
    }

    fn lost(&mut self, edge: &Edge, _: &FlowInfo, _: LossReason, count: u64) {
        // They took place, and nobody knows whether they failed.
        let (began, ends) = (self.began, (edge.id(), (&edge.client, &edge.server)));
        self.requests(ends, edge.reporter, count, false, began);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        watch: StormWatch,
        told: ToldStorms,
        losses: Losses,
        second: u64,
    }

    fn end(name: &str) -> End {
        End { workload: name.into(), namespace: "shop".into(), kind: "Deployment" }
    }

    impl Story {
        fn new() -> Story {
            let losses = Losses::default();
            let (watch, told) = StormWatch::new(Duration::from_secs(30), &losses);
            Story { watch, told, losses, second: 100 }
        }

        /// A window in which the client is asked `own` times, and asks the server; some of it fails.
        fn window(&mut self, own: u64, requests: u64, failures: u64) {
            let at = Ts(self.second * 1_000_000_000);
            let (user, web, api) = (end("user"), end("web"), end("api"));
            self.watch.requests((1, (&user, &web)), Reporter::Server, own, false, at);
            self.watch.requests((2, (&web, &api)), Reporter::Client, requests - failures, false, at);
            self.watch.requests((2, (&web, &api)), Reporter::Client, failures, true, at);
            // The same at the other end, if that is on this node, too.
            self.watch.requests((3, (&web, &api)), Reporter::Server, failures, true, at);
            self.second += 30;
        }

        fn rows(&self) -> Vec<String> {
            let shown = |row: &StormRow| {
                let StormRow { client, server, requests, failed, usual, own, own_usual, window_ms, .. } = row;
                format!("{client} {server} {failed} of {requests}, usual {usual}; {own}, {own_usual} in {window_ms}")
            };
            self.told.lock().1.iter().map(shown).collect()
        }
    }

    #[test]
    fn a_storm_is_told_by_its_client_beside_what_is_usual() {
        let mut story = Story::new();
        story.window(60, 300, 0);
        for _ in 0..4 {
            story.window(60, 300, 3);
        }
        assert_eq!(story.rows(), [""; 0], "nobody knows yet what is usual");
        story.window(60, 900, 600);
        assert_eq!(story.rows().len(), 1);
        story.window(60, 300, 0);
        assert_eq!(story.rows(), ["web shop/api 600 of 900, usual 300; 60, 60 in 30000"]);
        story.window(60, 300, 0);
        assert_eq!(story.rows(), [""; 0], "it is over");
    }

    #[test]
    fn edges_beyond_the_room_are_counted_and_those_that_nobody_uses_are_forgotten() {
        let mut story = Story::new();
        let (client, server) = (end("web"), end("api"));
        let at = |second: u64| Ts(second * 1_000_000_000);
        for id in 0..MOST as u64 + 7 {
            story.watch.requests((id, (&client, &server)), Reporter::Client, 1, false, at(100));
        }
        assert_eq!(story.losses.rows().iter().map(|row| row.total).sum::<u64>(), 7);
        for window in 0..30 {
            story.watch.requests((0, (&client, &server)), Reporter::Client, 1, false, at(130 + window * 30));
        }
        assert_eq!(story.watch.edges.len(), 1);
    }
}
