//! What the agent says of itself on `/metrics`.

use crate::run::timeline::History;
use crate::serve::board::{Board, Engine};
use crate::serve::doors::DoorCounts;
use crate::serve::{counts, kubernetes};
use agent_api::{ContainerdLink, Process, Scan, Version};
use golden_metrics::SelfMetric;
use k8s_sync::TableMetric;
use netns_scanner::deadline::Deadlines;
use netns_scanner::helper::HelperCounts;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// `cluster` is what the table of the cluster's names says of itself.
#[must_use]
pub fn self_metrics(board: &Board, cluster: Vec<TableMetric>, now: Instant) -> Vec<SelfMetric> {
    let mut out = Vec::new();
    let Version { version, commit, kernel_object } = board.version.clone();
    out.push(
        SelfMetric::gauge("pilotfish_build_info", "What is running; always 1.", 1.0)
            .with("version", version)
            .with("commit", commit)
            .with("kernel_object", kernel_object),
    );
    let ready = f64::from(u8::from(board.readiness(now).ready));
    out.push(SelfMetric::gauge("pilotfish_ready", "1 when traffic is counted, as on /readyz.", ready));
    let heartbeat = board.pulse.age(now).as_secs_f64();
    out.push(SelfMetric::gauge(
        "pilotfish_pipeline_heartbeat_age_seconds",
        "Since the pipeline's last turn.",
        heartbeat,
    ));
    out.push(SelfMetric::counter(
        "pilotfish_pipeline_turns_cut_total",
        "Turns that left flows of the kernel's table for the next, because more events were to come before them than a turn takes.",
        board.put_off.load(Ordering::Relaxed),
    ));
    for (state, count) in board.states() {
        let help = "Network namespaces of containers, by the state of their attachment.";
        out.push(SelfMetric::gauge("pilotfish_netns", help, count as f64).with("state", state));
    }
    scan(board, &mut out);
    reads(board, &mut out);
    containerd(board, &mut out);
    out.extend_from_slice(&board.counted.lock());
    out.extend(board.history.get().map(History::metrics).unwrap_or_default());
    if let Some(report) = board.kubernetes_report(now) {
        kubernetes::metrics(&report, &mut out);
    }
    if let Some(joining) = board.companion.get() {
        joining.metrics(&mut out);
    }
    engine(board, &mut out);
    process(board, &mut out);
    for TableMetric { name, help, value } in board.table_metrics().into_iter().chain(cluster) {
        out.push(match name.ends_with("_total") {
            true => SelfMetric::counter(name, help, value),
            false => SelfMetric::gauge(name, help, value as f64),
        });
    }
    doors(board, &mut out);
    taps(board, &mut out);
    out
}

fn doors(board: &Board, out: &mut Vec<SelfMetric>) {
    let DoorCounts { evicted, late, refused, no_descriptor } = board.doors.counts();
    let help = "Connections to the admin address or socket that had to make room for another.";
    out.push(SelfMetric::counter("pilotfish_admin_connections_evicted_total", help, evicted));
    let help = "Connections to the admin address or socket that found no descriptor left.";
    out.push(SelfMetric::counter("pilotfish_admin_connections_unaccepted_total", help, no_descriptor));
    let help = "Requests that were told to come again (503 with Retry-After).";
    out.push(SelfMetric::counter("pilotfish_admin_requests_refused_total", help, refused));
    for (why, total) in [("late", late), ("page_gone", board.shelf.gone.load(Ordering::Relaxed))] {
        let help = "Answers that were cut off because their reader was too slow, by what ran out: its time, or room.";
        out.push(SelfMetric::counter("pilotfish_admin_answers_cut_total", help, total).with("why", why));
    }
    let help = "Memory that pages take while they are read, compressed, those of all readers together.";
    out.push(SelfMetric::gauge("pilotfish_admin_page_bytes", help, board.shelf.bytes() as f64));
}

fn taps(board: &Board, out: &mut Vec<SelfMetric>) {
    let taps = &board.taps;
    let help = "Readers of exchanges as they end (`pilotfish tap`, `pilotfish top`).";
    out.push(SelfMetric::gauge("pilotfish_tap_readers", help, taps.told_to() as f64));
    let help = "Exchanges that were put into a reader's queue.";
    out.push(SelfMetric::counter("pilotfish_tap_records_total", help, taps.told()));
    let help = "1 while paths of HTTP are kept, because somebody taps it.";
    let keeps = f64::from(u8::from(board.keeps_paths.load(Ordering::Relaxed)));
    out.push(SelfMetric::gauge("pilotfish_tap_keeps_paths", help, keeps));
}

fn scan(board: &Board, out: &mut Vec<SelfMetric>) {
    let Scan { done, total, seeds, guessed, ended, stale, late_reads, .. } = board.scan();
    let ratio = if total == 0 { 1.0 } else { done as f64 / total as f64 };
    let help = "Namespaces looked into for connections that are older than the agent, of those that are to be.";
    out.push(SelfMetric::gauge("pilotfish_scan_progress_ratio", help, ratio));
    let help = "Connections that were found open and told to the flow table.";
    out.push(SelfMetric::counter("pilotfish_scan_connections_total", help, seeds));
    let help = "Of these, connections whose local end is taken for the server by its port alone.";
    out.push(SelfMetric::counter("pilotfish_scan_guessed_total", help, guessed));
    let help = "Of these, connections that closed without another byte, which a later look noticed.";
    out.push(SelfMetric::counter("pilotfish_scan_ended_total", help, ended));
    let help = "Files of /proc whose last read did not end in time: what they tell is old.";
    out.push(SelfMetric::gauge("pilotfish_stale_files", help, stale.len() as f64));
    for (kind, count) in late_reads {
        let help = "Reads of /proc that did not end in time, by kind of file.";
        out.push(SelfMetric::counter("pilotfish_late_reads_total", help, count).with("file", kind));
    }
}

/// The process that reads files that may hang.
fn reads(board: &Board, out: &mut Vec<SelfMetric>) {
    let Some(counts) = board.reads.get().and_then(Deadlines::helper_counts) else { return };
    let HelperCounts { started, left_behind, refused } = counts;
    let help = "Processes that were started to read files that may hang, the first included.";
    out.push(SelfMetric::counter("pilotfish_reader_starts_total", help, started));
    let help = "Of these, those that were left behind, because what they read hung.";
    out.push(SelfMetric::counter("pilotfish_reader_left_behind_total", help, left_behind));
    let help = "Reads of files that were not made while there was no process that reads.";
    out.push(SelfMetric::counter("pilotfish_reads_refused_total", help, refused));
}

fn containerd(board: &Board, out: &mut Vec<SelfMetric>) {
    let containerd = board.containerd();
    let connected = f64::from(u8::from(containerd.connected));
    out.push(SelfMetric::gauge(
        "pilotfish_containerd_connected",
        "1 while subscribed to the events of every containerd that is to be there.",
        connected,
    ));
    let help = "Connections to containerd that were lost after they had been live.";
    out.push(SelfMetric::counter("pilotfish_containerd_reconnects_total", help, containerd.reconnects));
    for link in containerd.links {
        containerd_link(link, out);
    }
}

/// Of a socket that was never there, nothing.
fn containerd_link(link: ContainerdLink, out: &mut Vec<SelfMetric>) {
    let ContainerdLink { socket, state, containers, reconnects, events, reconciles, failures, .. } = link;
    if matches!(state.as_str(), "absent" | "same") && reconciles + failures == 0 {
        return;
    }
    let connected = f64::from(u8::from(state == "live"));
    let mut gauge = |name, help, value| out.push(SelfMetric::gauge(name, help, value).with("socket", socket.clone()));
    gauge("pilotfish_containerd_link_connected", "1 while subscribed to the events of this containerd.", connected);
    let help = "Containers of this containerd that are followed.";
    gauge("pilotfish_containerd_link_containers", help, containers as f64);
    let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total).with("socket", socket.clone()));
    let help = "Connections to this containerd that were lost after they had been live.";
    count("pilotfish_containerd_link_reconnects_total", help, reconnects);
    count("pilotfish_containerd_link_events_total", "Events of this containerd.", events);
    let help = "Lists of this containerd that were compared with what is known.";
    count("pilotfish_containerd_link_reconciles_total", help, reconciles);
    let help = "Attempts to connect to this containerd, to subscribe or to list that failed.";
    count("pilotfish_containerd_link_failures_total", help, failures);
}

fn engine(board: &Board, out: &mut Vec<SelfMetric>) {
    let Engine { ring_bytes, flows, stats, programs } = board.engine();
    out.push(SelfMetric::gauge(
        "pilotfish_ring_bytes",
        "Size of the ring between kernel and agent.",
        ring_bytes as f64,
    ));
    out.push(SelfMetric::gauge("pilotfish_flows", "Flows in the agent's table.", flows as f64));
    counts::kernel(stats, out);
    counts::pipeline(*board.pipeline.lock(), out);
    for program in programs {
        let help = "Time in a kernel program; counted while kernel.bpf_stats_enabled is set.";
        out.push(SelfMetric {
            value: program.run_time_ns as f64 / 1e9,
            ..SelfMetric::counter("pilotfish_program_run_seconds_total", help, 0).with("program", program.name.clone())
        });
        let help = "Runs of a kernel program; counted while kernel.bpf_stats_enabled is set.";
        out.push(SelfMetric::counter("pilotfish_program_runs_total", help, program.runs).with("program", program.name));
    }
}

/// The names of Prometheus' own client libraries.
fn process(board: &Board, out: &mut Vec<SelfMetric>) {
    let Process { rss_bytes, cpu_seconds, threads, descriptors, cpu_quota } = board.process();
    if let Some(cpus) = cpu_quota {
        let help = "What the tightest CPU quota of the agent's cgroups lets it have, in processors.";
        out.push(SelfMetric::gauge("pilotfish_cpu_quota_cpus", help, cpus));
    }
    out.push(SelfMetric {
        value: board.pacer.waited().as_secs_f64(),
        ..SelfMetric::counter(
            "pilotfish_background_wait_seconds_total",
            "What background work was told to wait, each piece of it, so that a CPU quota has room for who asks.",
            0,
        )
    });
    out.push(SelfMetric {
        value: cpu_seconds,
        ..SelfMetric::counter("process_cpu_seconds_total", "User and system CPU time of the agent.", 0)
    });
    out.push(SelfMetric::gauge("process_resident_memory_bytes", "Resident memory of the agent.", rss_bytes as f64));
    out.push(SelfMetric::gauge("process_open_fds", "Open descriptors of the agent.", descriptors as f64));
    out.push(SelfMetric::gauge("process_threads", "Threads of the agent.", threads as f64));
}
