//! The watches of the Kubernetes API as readiness, metrics and the command line show them. Reading
//! copies some hundred bytes and asks nobody.

use agent_api as api;
use golden_metrics::SelfMetric;
use k8s_sync::watch::{Bad, Link, Report, WatchReport};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// How the watches stand, as the pages and metrics show it.
pub struct Watches {
    report: Box<dyn Fn(Instant) -> Report + Send + Sync>,
    /// The operator said that there is an API server.
    is_expected: bool,
    /// All names were known once.
    were_fresh: AtomicBool,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("is_expected", &self.is_expected).finish_non_exhaustive()
    }
}

impl Watches {
    #[must_use]
    pub fn new(report: impl Fn(Instant) -> Report + Send + Sync + 'static, is_expected: bool) -> Watches {
        Watches { report: Box::new(report), is_expected, were_fresh: AtomicBool::new(false) }
    }

    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        (self.report)(now)
    }

    /// Whether all names of the cluster are known, or were once since the start: who came since is known
    /// a little later, or by its own name while nobody tells.
    #[must_use]
    pub fn were_fresh(&self, now: Instant) -> bool {
        let are_fresh = || {
            let report = self.report(now);
            !matches!(report.link, Link::Off | Link::None { .. }) && report.is_fresh().is_ok()
        };
        if !self.were_fresh.load(Relaxed) && are_fresh() {
            self.were_fresh.store(true, Relaxed);
        }
        self.were_fresh.load(Relaxed)
    }

    /// Why names of the cluster are missing or old, where there should be some.
    #[must_use]
    pub fn degraded(&self, now: Instant) -> Option<String> {
        let report = self.report(now);
        match &report.link {
            Link::None { reason } => self.is_expected.then(|| reason.clone()),
            _ => report.is_fresh().err(),
        }
    }
}

/// Why an object was not taken in, with its label.
const SKIPPED: [(Bad, &str); 3] =
    [(Bad::Malformed, "malformed"), (Bad::Nameless, "nameless"), (Bad::TooLarge, "too_large")];

#[must_use]
pub fn shown(report: &Report) -> api::Kubernetes {
    let (link, detail) = match &report.link {
        Link::Off => ("off", String::new()),
        Link::None { reason } => ("none", reason.clone()),
        Link::Connecting => ("connecting", String::new()),
        Link::Connected => ("connected", String::new()),
        Link::Companion { age: None } => ("companion", String::new()),
        Link::Companion { age: Some(age) } => ("companion", format!("names of {} s ago", age.as_secs())),
        Link::Unreachable { age, reason } => ("unreachable", format!("for {} s: {reason}", age.as_secs())),
    };
    api::Kubernetes {
        link: link.to_owned(),
        detail,
        server: report.server.clone().unwrap_or_default(),
        source: report.source.clone().unwrap_or_default(),
        scope: report.scope.to_owned(),
        scope_reason: report.scope_reason.clone().unwrap_or_default(),
        stale: report.is_fresh().err().unwrap_or_default(),
        watches: report.watches.iter().map(watch).collect(),
        requests: report.requests.iter().map(|requests| requests.count).sum(),
        throttled: report.throttled,
        snapshot_error: report.snapshot_error.clone().unwrap_or_default(),
    }
}

fn watch(report: &WatchReport) -> api::Watch {
    let WatchReport { resource, state, objects, age, is_complete, restarts, lists, relists, failures, .. } = report;
    api::Watch {
        resource: resource.as_str().to_owned(),
        state: state.as_str().to_owned(),
        objects: *objects,
        age_s: age.as_secs_f64(),
        complete: *is_complete,
        restarts: *restarts,
        lists: *lists,
        relists: *relists,
        failures: *failures,
        skipped: report.skipped.iter().sum(),
        last_error: report.last_error.clone().unwrap_or_default(),
    }
}

/// Families are there only where there is an API server to watch: on a node without a cluster they would say nothing.
pub fn metrics(report: &Report, out: &mut Vec<SelfMetric>) {
    if matches!(report.link, Link::Off | Link::None { .. }) {
        return;
    }
    // The API server of a companion is not this agent's affair.
    if let Link::Companion { age } = &report.link {
        let help = "Age of the names that the companion tells, in its own words and since it told them.";
        let age = age.map_or(-1.0, |age| age.as_secs_f64());
        out.push(SelfMetric::gauge("pilotfish_join_names_age_seconds", help, age));
    } else {
        let connected = f64::from(u8::from(report.link == Link::Connected));
        let help = "1 while the Kubernetes API answers.";
        out.push(SelfMetric::gauge("pilotfish_k8s_connected", help, connected));
    }
    let fresh = f64::from(u8::from(report.is_fresh().is_ok()));
    let help = "1 while the names of the cluster are complete and kept up to date.";
    out.push(SelfMetric::gauge("pilotfish_k8s_fresh", help, fresh));
    for watch in &report.watches {
        let resource = watch.resource.as_str();
        let mut add = |metric: SelfMetric| out.push(metric.with("resource", resource));
        let help = "Since a list, an event or a bookmark of the Kubernetes API came.";
        add(SelfMetric::gauge("pilotfish_k8s_cache_age_seconds", help, watch.age.as_secs_f64()));
        let help = "Objects of the Kubernetes API that are known.";
        add(SelfMetric::gauge("pilotfish_k8s_objects", help, watch.objects as f64));
        let help = "Complete lists of the Kubernetes API.";
        add(SelfMetric::counter("pilotfish_k8s_lists_total", help, watch.lists));
        let help = "Lists begun because the server no longer had the version of the watch.";
        add(SelfMetric::counter("pilotfish_k8s_relists_total", help, watch.relists));
        let help = "Watches begun after the first; the server ends each after some minutes.";
        add(SelfMetric::counter("pilotfish_k8s_watch_restarts_total", help, watch.restarts));
        let help = "Attempts and streams that failed.";
        add(SelfMetric::counter("pilotfish_k8s_watch_failures_total", help, watch.failures));
        for (bad, reason) in SKIPPED {
            let help = "Objects of the Kubernetes API that were not taken in.";
            let skipped = SelfMetric::counter("pilotfish_k8s_skipped_objects_total", help, watch.skipped(bad));
            out.push(skipped.with("resource", resource).with("reason", reason));
        }
    }
    for requests in &report.requests {
        let help = "Requests to the Kubernetes API, by what was answered. All of them read.";
        out.push(
            SelfMetric::counter("pilotfish_k8s_requests_total", help, requests.count)
                .with("verb", requests.verb.as_str())
                .with("resource", requests.resource.as_str())
                .with("code", requests.code.to_string()),
        );
    }
    let help = "Requests to the Kubernetes API that waited because the agent had sent enough of them.";
    out.push(SelfMetric::counter("pilotfish_k8s_throttled_total", help, report.throttled));
    let help = "How often the API server's address, certificates and tokens were read from their files.";
    out.push(SelfMetric::counter("pilotfish_k8s_credentials_read_total", help, report.credentials_read));
    let help = "How long the last list waited for this agent's turn among the agents of the cluster.";
    out.push(SelfMetric::gauge("pilotfish_k8s_list_wait_seconds", help, report.last_list_wait.as_secs_f64()));
    let help = "Snapshots of the cluster's names that were written for the next start.";
    out.push(SelfMetric::counter("pilotfish_k8s_snapshots_total", help, report.snapshots_saved));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degraded(report: Report, is_expected: bool) -> Option<String> {
        Watches::new(move |_| report.clone(), is_expected).degraded(Instant::now())
    }

    #[test]
    fn no_cluster_is_a_reason_only_where_one_is_expected() {
        let none = Report { link: Link::None { reason: "no API server found".to_owned() }, ..Report::default() };
        assert_eq!(degraded(none.clone(), false), None);
        assert_eq!(degraded(none, true).as_deref(), Some("no API server found"));
        let connecting = Report { link: Link::Connecting, ..Report::default() };
        assert!(degraded(connecting, false).is_some());
    }

    #[test]
    fn names_that_were_told_once_are_names() {
        let age = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let told = age.clone();
        let link = move |_| Report {
            link: match told.load(Relaxed) {
                0 => Link::None { reason: String::new() },
                1 => Link::Companion { age: None },
                age => Link::Companion { age: Some(std::time::Duration::from_secs(age)) },
            },
            ..Report::default()
        };
        let watches = Watches::new(link, false);
        let mut fresh = |is: u64| {
            age.store(is, Relaxed);
            watches.were_fresh(Instant::now())
        };
        assert_eq!([0, 1, 1_000, 5, 1_000, 1].map(&mut fresh), [false, false, false, true, true, true]);
    }
}
