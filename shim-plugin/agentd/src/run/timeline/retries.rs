//! Lookups that a client had to make again, window by window: for `dns-retry`. Told by the pipeline,
//! as it counts them.

use agent_api::RetryRow;
use doctor::Thresholds;
use doctor::decide::{Lookup, Retries};
use doctor::history::Retried;
use flow_model::{Detail, FlowInfo, L7Record, Outcome, Slot, Ts};
use golden_metrics::{Edge, End, Loss, Losses, Observer, Reporter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Clients at a time. Each takes 8 KiB at most.
const MOST: usize = 512;

/// What the last window that is over held, and when it ended.
pub type ToldRetries = Arc<Mutex<(Ts, Vec<RetryRow>)>>;

#[derive(Debug)]
pub struct RetryWatch {
    clients: HashMap<End, Retries>,
    began: Ts,
    window: Duration,
    thresholds: Thresholds,
    told: ToldRetries,
    full: Loss,
}

impl RetryWatch {
    pub fn new(window: Duration, losses: &Losses) -> (RetryWatch, ToldRetries) {
        let full = losses.place("doctor", "retries_full", "lookups that dns-retry does not see, or forgot too soon");
        let (told, thresholds) = (ToldRetries::default(), Thresholds::default());
        (
            RetryWatch { clients: HashMap::new(), began: Ts::default(), window, thresholds, told: told.clone(), full },
            told,
        )
    }

    /// `now` is when it is told: of one without an answer that is some seconds after it was asked.
    fn lookup(&mut self, client: &End, lookup: Lookup, now: Ts) {
        if now.since(self.began) >= self.window {
            self.turn(now);
        }
        let is_known = self.clients.contains_key(client);
        if !is_known && self.clients.len() >= MOST {
            return self.full.add(1);
        }
        self.clients.entry(client.clone()).or_default().lookup(lookup, &self.thresholds);
    }

    fn turn(&mut self, now: Ts) {
        let window = now.since(self.began);
        let mut rows = Vec::new();
        for (client, retries) in &mut self.clients {
            self.full.add(retries.pushed_out());
            let Retried { all, late, unanswered, longest, window } = retries.window(window);
            if late + unanswered > 0 {
                rows.push(RetryRow {
                    namespace: client.namespace.to_string(),
                    client: client.workload.to_string(),
                    lookups: all,
                    late,
                    unanswered,
                    longest_ms: millis(longest),
                    window_ms: millis(window),
                });
            }
        }
        self.clients.retain(|_, retries| !retries.is_idle(now));
        self.began = now;
        *self.told.lock() = (now, rows);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Observer for RetryWatch {
    fn exchange(&mut self, edge: &Edge, flow: &FlowInfo, record: &L7Record) {
        let Detail::Dns(dns) = &record.detail else { return };
        if edge.reporter != Reporter::Client {
            return;
        }
        let answered = (record.outcome == Outcome::Answered).then_some(record.end);
        let question = question(flow.slot, &dns.name, dns.qtype);
        let lookup = Lookup { question, began: record.start, answered, repeated: dns.retries };
        self.lookup(&edge.client, lookup, record.end);
    }
}

/// Which question of which pod. Two that share a number would be one to `dns-retry`, and nobody gains by
/// that.
fn question(slot: Slot, name: &str, qtype: u16) -> u64 {
    let mut hasher = DefaultHasher::new();
    (slot.0, qtype).hash(&mut hasher);
    // RFC 4343: names are compared without case, which some resolvers make up at random.
    name.trim_end_matches('.').bytes().for_each(|byte| byte.to_ascii_lowercase().hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        watch: RetryWatch,
        told: ToldRetries,
        losses: Losses,
    }

    impl Story {
        fn new() -> Story {
            let losses = Losses::default();
            let (watch, told) = RetryWatch::new(Duration::from_secs(30), &losses);
            Story { watch, told, losses }
        }

        fn ask(&mut self, client: &str, name: &str, (began, answered): (u64, Option<u64>), repeated: u16) {
            let client = End { workload: client.into(), namespace: "shop".into(), kind: "Deployment" };
            let at = |millis: u64| Ts(millis * 1_000_000);
            let question = question(Slot(7), name, 1);
            let lookup = Lookup { question, began: at(began), answered: answered.map(at), repeated };
            self.watch.lookup(&client, lookup, at(answered.unwrap_or(began + 10_000)));
        }

        fn rows(&self) -> Vec<String> {
            let shown = |row: &RetryRow| {
                let RetryRow { client, lookups, late, unanswered, longest_ms, .. } = row;
                format!("{client} {late}+{unanswered} of {lookups}, {longest_ms} ms")
            };
            let mut rows: Vec<String> = self.told.lock().1.iter().map(shown).collect();
            rows.sort();
            rows
        }
    }

    #[test]
    fn a_window_tells_who_asked_again() {
        let mut story = Story::new();
        story.ask("web", "first", (100_000, Some(100_001)), 0);
        for n in 0..10 {
            let at = 101_000 + n * 1_000;
            story.ask("web", "db.shop", (at, Some(at + 1)), 0);
            story.ask("fine", "db.shop", (at, Some(at + 1)), 0);
        }
        story.ask("web", "api.shop", (102_000, Some(107_002)), 1);
        // From another port, in other letters.
        story.ask("web", "API.shop.", (112_000, Some(112_001)), 0);
        story.ask("web", "api.shop", (107_000, None), 0);
        assert_eq!(story.rows(), [""; 0], "it is not over yet");
        story.ask("fine", "db.shop", (130_001, Some(130_002)), 0);
        assert_eq!(story.rows(), ["web 1+1 of 14, 5002 ms"]);
        story.ask("fine", "db.shop", (161_000, Some(161_001)), 0);
        assert_eq!((story.rows(), story.watch.clients.len()), (vec![], 1), "it has stopped");
    }

    #[test]
    fn clients_beyond_the_room_are_counted() {
        let mut story = Story::new();
        for n in 0..MOST + 7 {
            story.ask(&format!("c{n}"), "a", (100_000, Some(100_001)), 0);
        }
        assert_eq!(story.losses.rows().iter().map(|row| row.total).sum::<u64>(), 7);
    }

    #[test]
    fn another_pod_or_type_is_another_question() {
        let all = [
            question(Slot(1), "a", 1),
            question(Slot(2), "a", 1),
            question(Slot(1), "a", 28),
            question(Slot(1), "b", 1),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        assert_eq!(question(Slot(1), "A.", 1), all[0]);
    }
}
