//! What the companion says of itself.

use crate::counts::FleetCounts;
use crate::findings::Severity;
use crate::fleet::Fleet;
use crate::ran::RanCounts;
use crate::serve::desk::DeskCounts;
use crate::serve::telling::{Telling, TellingCounts};
use crate::shown::Standing;
use golden_metrics::SelfMetric;
use join::Reason;
use join::names::ShelfCounts;
use k8s_sync::watch::{FollowCounts, FollowReport};
use std::time::Duration;

/// Everything that is counted, at zero too.
#[must_use]
pub fn self_metrics(fleet: &Fleet, now: Duration) -> Vec<SelfMetric> {
    let FleetCounts {
        pushes,
        refused,
        silent,
        no_room,
        unnamed,
        resyncs,
        unreadable,
        stranger,
        expired,
        findings_no_room,
        findings_unreadable,
        findings_stranger,
        loops_no_room,
    } = fleet.counts();
    let (names, values) = fleet.memory();
    let agents = fleet.agents(now);
    let standing = |is: fn(&Standing) -> bool| agents.iter().filter(|agent| is(&agent.standing)).count() as f64;
    let gauge = |name, help, value: f64| SelfMetric::gauge(name, help, value);

    let agents_help = "Agents that have joined, by whether they push.";
    let agents_in =
        |state: &'static str, value| gauge("pilotfish_companion_agents", agents_help, value).with("state", state);
    let lost_help = "What agents pushed and the companion did not take: values of series, nodes, pushes, or findings.";
    let lost = |reason: &'static str, total| {
        SelfMetric::counter("pilotfish_companion_lost_total", lost_help, total).with("reason", reason)
    };
    let mut metrics = vec![
        agents_in("live", standing(|standing| matches!(standing, Standing::Live))),
        agents_in("silent", standing(|standing| matches!(standing, Standing::Silent { .. }))),
        agents_in("ended", standing(|standing| matches!(standing, Standing::Ended { .. }))),
        SelfMetric::counter("pilotfish_companion_pushes_total", "Pushes of agents that arrived in full.", pushes),
        SelfMetric::counter(
            "pilotfish_companion_silent_connections_total",
            "Connections and streams that were ended because nothing came.",
            silent,
        ),
        lost("no_room", no_room),
        lost("unnamed", unnamed),
        lost("resync", resyncs),
        lost("unreadable", unreadable),
        lost("stranger", stranger),
        lost("expired_node", expired),
        lost("findings_no_room", findings_no_room),
        lost("findings_unreadable", findings_unreadable),
        lost("findings_stranger", findings_stranger),
        lost("loops_no_room", loops_no_room),
        gauge(
            "pilotfish_companion_series",
            "Series of all nodes.",
            agents.iter().map(|agent| agent.series).sum::<usize>() as f64,
        ),
    ];
    metrics.push(gauge(
        "pilotfish_companion_stranger_series",
        "Series of workloads that have no pod on the node that tells of them; neither counted nor shown.",
        agents.iter().map(|agent| agent.strangers).sum::<usize>() as f64,
    ));
    let findings = fleet.findings(now);
    let help = "What agents hold for wrong, by how bad it is.";
    for severity in Severity::ALL {
        let count = findings.iter().filter(|row| row.told.severity == severity).count();
        let findings = gauge("pilotfish_companion_findings", help, count as f64);
        metrics.push(findings.with("severity", severity.as_str()));
    }
    metrics.push(gauge(
        "pilotfish_companion_stranger_findings",
        "Findings of workloads that have no pod on the node that tells of them; not shown.",
        agents.iter().map(|agent| agent.stranger_findings).sum::<usize>() as f64,
    ));
    metrics.push(gauge(
        "pilotfish_companion_unknown_names",
        "Names of series of another version, which are kept and not shown.",
        fleet.unknown_names() as f64,
    ));
    for (what, bytes) in [("names", names), ("values", values), ("findings", fleet.findings_memory())] {
        let help = "Memory of the series and findings of all nodes, by what it is for.";
        metrics.push(gauge("pilotfish_companion_series_bytes", help, bytes as f64).with("of", what));
    }
    let help = "Streams of agents that were refused or ended by the companion.";
    for (reason, total) in Reason::ALL.iter().zip(refused) {
        let refused = SelfMetric::counter("pilotfish_companion_refused_total", help, total);
        metrics.push(refused.with("reason", reason.as_str()));
    }
    metrics
}

/// What is told of names.
pub fn told(telling: &Telling, out: &mut Vec<SelfMetric>) {
    let TellingCounts { names, streams, bytes, waits, shelf } = telling.counts();
    let ShelfCounts { left_out, encoded, again } = shelf;
    let help = "Names of the cluster that agents are told.";
    out.push(SelfMetric::gauge("pilotfish_companion_names", help, names as f64));
    let help = "Streams of agents that names are told to.";
    out.push(SelfMetric::gauge("pilotfish_companion_names_streams", help, streams as f64));
    let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
    count("pilotfish_companion_names_bytes_total", "Bytes of names that were sent to agents.", bytes);
    let help = "Messages with names that waited for their share of bytes a second.";
    count("pilotfish_companion_names_waits_total", help, waits);
    let help = "Shards of names that were encoded; all streams share them.";
    count("pilotfish_companion_names_encoded_total", help, encoded);
    let help = "Times that an agent was too far behind and was asked which names it has.";
    count("pilotfish_companion_names_again_total", help, again);
    let help = "Objects of the cluster that agents are not told: too many, or too large.";
    count("pilotfish_companion_names_left_out_total", help, left_out);
}

/// What became of nodes that joined.
pub fn joined(counts: DeskCounts, out: &mut Vec<SelfMetric>) {
    let DeskCounts { joined, written, conflicts, failed } = counts;
    let help = "Nodes that have a credential of their own.";
    out.push(SelfMetric::gauge("pilotfish_companion_credentials", help, joined as f64));
    for (outcome, total) in [("written", written), ("conflict", conflicts), ("failed", failed)] {
        let help = "Writes of which nodes have joined.";
        let writes = SelfMetric::counter("pilotfish_companion_credential_writes_total", help, total);
        out.push(writes.with("outcome", outcome));
    }
}

/// By what it is judged of whom a node can tell.
pub fn ran(counts: RanCounts, out: &mut Vec<SelfMetric>) {
    let RanCounts { judges, pods, ended, forgotten } = counts;
    let mut gauge = |name, help, value: f64| out.push(SelfMetric::gauge(name, help, value));
    let help = "1 while series are compared with where pods ran; 0 while too little of that is known.";
    gauge("pilotfish_companion_judges", help, f64::from(u8::from(judges)));
    gauge("pilotfish_companion_pods", "Pods of which it is known where they run.", pods as f64);
    let help = "Pods, and Jobs of CronJobs, that ended in the last half hour.";
    gauge("pilotfish_companion_pods_ended", help, ended as f64);
    let help = "Pods and Jobs that ended and were forgotten early: there was no room for more.";
    out.push(SelfMetric::counter("pilotfish_companion_pods_forgotten_total", help, forgotten));
}

/// What the process says of itself.
#[must_use]
pub fn process_metrics(version: &'static str, read: u64, refused: u64) -> Vec<SelfMetric> {
    let help = "Which companion is running; always 1.";
    let build = SelfMetric::gauge("pilotfish_companion_build_info", help, 1.0).with("version", version);
    let help = "Times that certificate, key and join token were found changed and taken over.";
    let read = SelfMetric::counter("pilotfish_companion_files_read_total", help, read);
    let help = "Times that certificate, key or join token were found changed and could not be used.";
    vec![build, read, SelfMetric::counter("pilotfish_companion_files_refused_total", help, refused)]
}

/// What is read of the cluster.
pub fn followed(resource: &'static str, report: &FollowReport, out: &mut Vec<SelfMetric>) {
    let FollowReport { counts, known, trouble } = report;
    let FollowCounts { lists, watches, failures, left_out } = *counts;
    let mut add = |metric: SelfMetric| out.push(metric.with("resource", resource));
    let help = "Objects of the cluster that are known.";
    add(SelfMetric::gauge("pilotfish_companion_k8s_objects", help, known.unwrap_or_default() as f64));
    let help = "1 while the API server tells what changes.";
    let fresh = f64::from(u8::from(known.is_some() && trouble.is_none()));
    add(SelfMetric::gauge("pilotfish_companion_k8s_fresh", help, fresh));
    let mut count = |name, help, total| add(SelfMetric::counter(name, help, total));
    count("pilotfish_companion_k8s_lists_total", "Complete lists of the API server.", lists);
    count("pilotfish_companion_k8s_watches_total", "Watches of the API server that began.", watches);
    count("pilotfish_companion_k8s_failures_total", "Lists and watches that failed; tried again.", failures);
    let help = "Objects that were left out: too many, or they made no sense.";
    count("pilotfish_companion_k8s_left_out_total", help, left_out);
}
