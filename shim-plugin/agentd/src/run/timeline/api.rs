//! Handshakes of each client with the API server, window by window: for `api-storm`. Told by the pipeline, as
//! it counts them. Costs an exchange that is no handshake a comparison.

use agent_api::ApiRow;
use doctor::Thresholds;
use doctor::decide::Opens;
use doctor::history::Opened;
use flow_model::{Detail, FlowInfo, L7Record, Ts};
use golden_metrics::{Edge, End, Loss, Losses, Observer, Reporter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Clients that are followed: 400 bytes each.
const MOST: usize = 512;
/// The API server's Service, and where it and the API server's own pods are.
const SERVICE: &str = "kubernetes";
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// What the windows that are over held, and when the last one ended.
pub type ToldApi = Arc<Mutex<(Ts, Vec<ApiRow>)>>;

/// Whether that is the API server: by the Service through which clients reach it, and the namespace of who
/// answers; a node's address has none.
#[must_use]
pub fn is_api_server(service: &str, namespace: &str) -> bool {
    service == SERVICE && (namespace.is_empty() || NAMESPACES.contains(&namespace))
}

#[derive(Debug)]
pub struct ApiWatch {
    clients: HashMap<End, Opens>,
    began: Ts,
    window: Duration,
    thresholds: Thresholds,
    told: ToldApi,
    full: Loss,
}

impl ApiWatch {
    pub fn new(window: Duration, losses: &Losses) -> (ApiWatch, ToldApi) {
        let full = losses.place("doctor", "api_clients_full", "handshakes that api-storm does not see");
        let (told, thresholds, clients) = (ToldApi::default(), Thresholds::default(), HashMap::new());
        (ApiWatch { clients, began: Ts::default(), window, thresholds, told: told.clone(), full }, told)
    }

    fn handshake(&mut self, client: &End, at: Ts) {
        if at.since(self.began) >= self.window {
            self.turn(at);
        }
        if !self.clients.contains_key(client) && self.clients.len() >= MOST {
            return self.full.add(1);
        }
        self.clients.entry(client.clone()).or_default().connection();
    }

    /// A window is over, and those in which nobody asked.
    fn turn(&mut self, at: Ts) {
        // Longer where nobody asked meanwhile: rates are then lower, as they were.
        let window = at.since(self.began);
        let mut rows = Vec::new();
        for (client, opens) in &mut self.clients {
            let Some(Opened { connections, window }) = opens.window(window, &self.thresholds) else { continue };
            if connections > 0 {
                rows.push(ApiRow {
                    namespace: client.namespace.to_string(),
                    client: client.workload.to_string(),
                    connections,
                    window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
                });
            }
        }
        self.clients.retain(|_, opens| !opens.is_idle());
        self.began = at;
        *self.told.lock() = (at, rows);
    }
}

impl Observer for ApiWatch {
    fn exchange(&mut self, edge: &Edge, _: &FlowInfo, record: &L7Record) {
        if matches!(record.detail, Detail::Tls(_))
            && edge.reporter == Reporter::Client
            && is_api_server(&edge.service, &edge.server.namespace)
        {
            self.handshake(&edge.client, record.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    struct Story {
        watch: ApiWatch,
        told: ToldApi,
        losses: Losses,
    }

    impl Story {
        fn new() -> Story {
            let losses = Losses::default();
            let (watch, told) = ApiWatch::new(Duration::from_secs(30), &losses);
            Story { watch, told, losses }
        }

        fn opens(&mut self, client: &str, second: u64) {
            let client = End { workload: client.into(), namespace: "shop".into(), kind: "Deployment" };
            self.watch.handshake(&client, Ts(second * 1_000_000_000));
        }

        fn rows(&self) -> Vec<String> {
            let shown = |row: &ApiRow| {
                let ApiRow { namespace, client, connections, window_ms } = row;
                format!("{namespace}/{client} {connections} in {window_ms}")
            };
            let mut rows: Vec<String> = self.told.lock().1.iter().map(shown).collect();
            rows.sort();
            rows
        }
    }

    #[test]
    fn who_opens_connections_is_told_with_the_last_five_minutes() {
        let mut story = Story::new();
        story.opens("polls", 1000);
        for second in 1000..1000 + 5 * MINUTE {
            story.opens("polls", second);
            story.opens("polls", second);
            assert_eq!(story.rows(), [""; 0], "not for five minutes yet");
        }
        story.opens("informer", 1000 + 5 * MINUTE);
        assert_eq!(story.rows(), ["shop/polls 601 in 300000"]);
        for second in (1030..1030 + 10 * MINUTE).step_by(30) {
            story.opens("informer", second + 5 * MINUTE);
        }
        assert_eq!(story.rows(), ["shop/informer 10 in 300000"], "it has stopped");
    }

    #[test]
    fn a_time_in_which_nobody_asks_counts_and_clients_beyond_the_room_are_counted() {
        let mut story = Story::new();
        for second in 0..5 * MINUTE {
            story.opens("polls", 1000 + second);
        }
        story.opens("other", 5000);
        assert_eq!(story.rows(), ["shop/polls 300 in 4000000"]);
        for n in 0..MOST + 7 {
            story.opens(&format!("c{n}"), 5001);
        }
        assert_eq!(story.losses.rows().iter().map(|row| row.total).sum::<u64>(), 9);
        (0..12).for_each(|n| story.opens("other", 5031 + n * 30));
        assert_eq!(story.watch.clients.len(), 1, "who has not asked for long is forgotten");
    }

    #[test]
    fn an_api_server_is_known_by_its_service_and_where_that_is() {
        for namespace in ["default", "kube-system", ""] {
            assert!(is_api_server("kubernetes", namespace), "{namespace}");
        }
        assert!(!is_api_server("kubernetes", "shop") && !is_api_server("api", "default") && !is_api_server("", ""));
    }
}
