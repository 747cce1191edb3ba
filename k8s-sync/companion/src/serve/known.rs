//! The metrics that `/metrics` may show, with their labels: what rules and dashboards may ask for.

use golden_metrics::{Exposition, Known};

/// What the companion says of itself.
const OWN: [(&str, &[&str]); 44] = [
    ("pilotfish_companion_agents", &["state"]),
    ("pilotfish_companion_api_refused_total", &[]),
    ("pilotfish_companion_api_watches", &[]),
    ("pilotfish_companion_build_info", &["version"]),
    ("pilotfish_companion_credential_writes_total", &["outcome"]),
    ("pilotfish_companion_credentials", &[]),
    ("pilotfish_companion_figures_total", &["outcome"]),
    ("pilotfish_companion_files_read_total", &[]),
    ("pilotfish_companion_files_refused_total", &[]),
    ("pilotfish_companion_findings", &["severity"]),
    ("pilotfish_companion_judges", &[]),
    ("pilotfish_companion_k8s_failures_total", &["resource"]),
    ("pilotfish_companion_k8s_fresh", &["resource"]),
    ("pilotfish_companion_k8s_left_out_total", &["resource"]),
    ("pilotfish_companion_k8s_lists_total", &["resource"]),
    ("pilotfish_companion_k8s_objects", &["resource"]),
    ("pilotfish_companion_k8s_watches_total", &["resource"]),
    ("pilotfish_companion_lost_total", &["reason"]),
    ("pilotfish_companion_map_left_out", &[]),
    ("pilotfish_companion_map_open", &[]),
    ("pilotfish_companion_map_refused_total", &["reason"]),
    ("pilotfish_companion_map_renderings_total", &[]),
    ("pilotfish_companion_map_requests_total", &[]),
    ("pilotfish_companion_names", &[]),
    ("pilotfish_companion_names_again_total", &[]),
    ("pilotfish_companion_names_bytes_total", &[]),
    ("pilotfish_companion_names_encoded_total", &[]),
    ("pilotfish_companion_names_left_out_total", &[]),
    ("pilotfish_companion_names_streams", &[]),
    ("pilotfish_companion_names_waits_total", &[]),
    ("pilotfish_companion_pods", &[]),
    ("pilotfish_companion_pods_ended", &[]),
    ("pilotfish_companion_pods_forgotten_total", &[]),
    ("pilotfish_companion_pushes_total", &[]),
    ("pilotfish_companion_refused_total", &["reason"]),
    ("pilotfish_companion_scrapes_refused_total", &[]),
    ("pilotfish_companion_series", &[]),
    ("pilotfish_companion_series_bytes", &["of"]),
    ("pilotfish_companion_shows_nodes", &[]),
    ("pilotfish_companion_silent_connections_total", &[]),
    ("pilotfish_companion_stranger_findings", &[]),
    ("pilotfish_companion_stranger_series", &[]),
    ("pilotfish_companion_token_reviews_total", &["outcome"]),
    ("pilotfish_companion_unknown_names", &[]),
];

/// A line for each metric: name, type, labels. What agents pushed has the label `node`; what they say
/// of themselves alone is not here.
#[must_use]
pub fn known_metrics() -> String {
    let own = OWN.into_iter().map(|(name, labels)| Known::number(name, labels));
    let pushed = Exposition::known_of_nodes();
    Known::list(pushed.into_iter().chain(own).collect())
}
