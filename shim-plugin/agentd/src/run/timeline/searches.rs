//! Lookups of each client with and without the suffixes of its search list, window by window: for
//! `dns-search`. Told by the pipeline, as it counts them.

use agent_api::LookupRow;
use doctor::decide::Searches;
use doctor::history::Lookups;
use flow_model::{Detail, FlowInfo, L7Record, Ts};
use golden_metrics::{Edge, End, Loss, Losses, Observer, Reporter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Clients in a window.
const MOST: usize = 512;
/// RFC 1035 section 4.1.1: the name does not exist.
const NXDOMAIN: u16 = 3;

/// What the last window that is over held, and when it ended.
pub type Told = Arc<Mutex<(Ts, Vec<LookupRow>)>>;

#[derive(Debug)]
pub struct SearchWatch {
    clients: HashMap<End, Client>,
    began: Ts,
    /// A burst of lookups, as a pod that starts makes it, is not what goes on.
    window: Duration,
    told: Told,
    full: Loss,
}

#[derive(Debug)]
struct Client {
    searches: Searches,
    /// What the kubelet writes into a pod's resolv.conf, where the cluster's domain is the usual one.
    suffixes: [String; 3],
}

impl SearchWatch {
    pub fn new(window: Duration, losses: &Losses) -> (SearchWatch, Told) {
        let full = losses.place("doctor", "lookups_full", "lookups that dns-search does not see");
        let told = Told::default();
        (SearchWatch { clients: HashMap::new(), began: Ts::default(), window, told: told.clone(), full }, told)
    }

    fn lookup(&mut self, client: &End, name: &str, rcode: u16, at: Ts) {
        if at.since(self.began) >= self.window {
            self.turn(at);
        }
        if !self.clients.contains_key(client) {
            if self.clients.len() >= MOST {
                return self.full.add(1);
            }
            let of_pod = format!("{}.svc.cluster.local", client.namespace);
            let suffixes = [of_pod, "svc.cluster.local".to_owned(), "cluster.local".to_owned()];
            self.clients.insert(client.clone(), Client { searches: Searches::default(), suffixes });
        }
        let Some(Client { searches, suffixes }) = self.clients.get_mut(client) else { return };
        searches.lookup(name, rcode == NXDOMAIN, &suffixes.each_ref().map(String::as_str));
    }

    /// A window is over, and those in which nothing was looked up.
    fn turn(&mut self, at: Ts) {
        // Longer where nobody looked anything up meanwhile: rates are then lower, as they were.
        let window = at.since(self.began);
        let row = |(client, Client { mut searches, .. }): (End, Client)| {
            self.full.add(searches.refused());
            let Lookups { all, searched, window } = searches.window(window);
            LookupRow {
                namespace: client.namespace.to_string(),
                client: client.workload.to_string(),
                lookups: all,
                searched,
                window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            }
        };
        let rows = std::mem::take(&mut self.clients).into_iter().map(row).filter(|row| row.searched > 0);
        let rows = rows.collect();
        self.began = at;
        *self.told.lock() = (at, rows);
    }
}

impl Observer for SearchWatch {
    fn exchange(&mut self, edge: &Edge, _: &FlowInfo, record: &L7Record) {
        if let Detail::Dns(dns) = &record.detail
            && let Some(rcode) = dns.rcode
            && edge.reporter == Reporter::Client
        {
            self.lookup(&edge.client, &dns.name, rcode, record.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        watch: SearchWatch,
        told: Told,
        losses: Losses,
    }

    impl Story {
        fn new() -> Story {
            let losses = Losses::default();
            let (watch, told) = SearchWatch::new(Duration::from_secs(30), &losses);
            Story { watch, told, losses }
        }

        fn ask(&mut self, client: &str, name: &str, rcode: u16, second: u64) {
            let client = End { workload: client.into(), namespace: "shop".into(), kind: "Deployment" };
            self.watch.lookup(&client, name, rcode, Ts(second * 1_000_000_000));
        }

        /// As a resolver with `ndots:5` asks for an outside name.
        fn outside(&mut self, client: &str, name: &str, second: u64) {
            for suffix in ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"] {
                self.ask(client, &format!("{name}.{suffix}"), NXDOMAIN, second);
            }
            self.ask(client, name, 0, second);
        }

        fn rows(&self) -> Vec<String> {
            let shown = |row: &LookupRow| {
                let LookupRow { namespace, client, lookups, searched, window_ms } = row;
                format!("{namespace}/{client} {searched} of {lookups} in {window_ms}")
            };
            let mut rows: Vec<String> = self.told.lock().1.iter().map(shown).collect();
            rows.sort();
            rows
        }
    }

    #[test]
    fn a_window_tells_who_looks_outside_names_up_by_its_search_list() {
        let mut story = Story::new();
        story.ask("web", "first", 0, 100);
        for second in 100..130 {
            story.outside("web", "api.example.com", second);
            story.ask("tidy", "api.example.com", 0, second);
            story.ask("tidy", "db.shop.svc.cluster.local", 0, second);
        }
        assert_eq!(story.rows(), [""; 0], "it is not over yet");
        story.ask("tidy", "api.example.com", 0, 130);
        assert_eq!(story.rows(), ["shop/web 90 of 121 in 30000"]);
        story.ask("tidy", "api.example.com", 0, 200);
        assert_eq!(story.rows(), [""; 0], "it has stopped");
    }

    #[test]
    fn clients_beyond_the_room_are_counted() {
        let mut story = Story::new();
        story.ask("web", "first", 0, 100);
        for n in 0..MOST + 7 {
            story.ask(&format!("c{n}"), "a", 0, 101);
        }
        let full = |story: &Story| story.losses.rows().iter().map(|row| row.total).sum::<u64>();
        assert_eq!(full(&story), 8);
        story.ask("web", "a", 0, 131);
        assert_eq!(story.watch.clients.len(), 1, "a new window has room");
    }
}
