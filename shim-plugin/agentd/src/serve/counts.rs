//! What attaching and the containerd side count, shown: what was lost or refused as places of loss,
//! the rest as metrics of the agent itself. Each struct is taken apart to its last field, so that a
//! new one is not forgotten here.

use crate::serve::board::Board;
use capture_engine::attach::{AttachCounters, CutLists};
use capture_engine::kernel::{AlarmCounts, KernelStats};
use capture_engine::pipeline::PipelineStats;
use golden_metrics::{Loss, Losses, SelfMetric};
use shim_plugin::{Corrections, Counts, EventCounts, LinkCounts};
use std::sync::Arc;

/// Everything that is counted there, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub attach: AttachCounters,
    /// Packets of namespaces that were met after they began, until they were attached.
    pub late_packets: u64,
    /// Cgroups of the node that were let go of though their sockets were not done: in time, and for
    /// want of room.
    pub node_ended: [u64; 2],
    pub heard: HeardCounts,
    pub tasks: Counts,
    pub link: LinkCounts,
}

/// What came of the kernel's alarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeardCounts {
    pub kernel: AlarmCounts,
    /// Of a containerd that is not followed, or of a shim that says no such thing.
    pub foreign: u64,
    /// The process ended before its namespace was opened.
    pub vanished: u64,
    /// Attached already, or not taken; those have their own counters.
    pub idle: u64,
    /// Attached before containerd told of a task there.
    pub attached: u64,
}

/// The places of loss, and what was shown last.
#[derive(Debug)]
pub struct CountPublisher {
    shown: Option<Counted>,
    interfaces_full: Loss,
    link_news: Loss,
    not_taken: Loss,
    removed: Loss,
    late: Loss,
    ended_late: Loss,
    ended_full: Loss,
    alarms_full: Loss,
    tasks_full: Loss,
    events_full: Loss,
    undecodable: Loss,
}

impl CountPublisher {
    #[must_use]
    pub fn new(losses: &Losses) -> CountPublisher {
        CountPublisher {
            shown: None,
            interfaces_full: losses.place("attach", "interfaces_full", "interfaces left alone, at each look"),
            link_news: losses.place("attach", "link_news", "times that the kernel dropped news of interfaces"),
            not_taken: losses.place("attach", "not_taken", "namespaces that were not taken, at each try"),
            removed: losses.place("attach", "removed", "packets at most, while somebody had removed our programs"),
            late: losses.place("attach", "late", "packets at most, of a new interface before our programs"),
            ended_late: losses.place(
                "attach",
                "ended_late",
                "ended containers whose sockets were not done within 10 s",
            ),
            ended_full: losses.place("attach", "ended_full", "ended containers not waited for, for want of room"),
            alarms_full: losses.place("attach", "alarms_full", "new namespaces left to containerd's news"),
            tasks_full: losses.place("containerd", "tasks_full", "containers that are not followed, at each sight"),
            events_full: losses.place("containerd", "events_full", "events that found the queue full"),
            undecodable: losses.place("containerd", "undecodable", "events that made no sense"),
        }
    }

    /// To be called a few times a second.
    pub fn publish(&mut self, counted: Counted, board: &Board) {
        if self.shown.replace(counted) != Some(counted) {
            *board.counted.lock() = Arc::new(self.metrics(counted));
        }
    }

    fn metrics(&self, counted: Counted) -> Vec<SelfMetric> {
        let Counted { attach, late_packets, node_ended: [node_late, node_full], heard, tasks, link } = counted;
        self.late.set_total(late_packets + attach.late_packets);
        self.ended_late.set_total(attach.ended_late + node_late);
        self.ended_full.set_total(attach.ended_full + node_full);
        self.alarms_full.set_total(heard.kernel.crowded + tasks.early_full);
        let mut out = Vec::new();
        self.attach(attach, &mut out);
        heard_of(heard, &mut out);
        self.tasks(tasks, &mut out);
        self.link(link, &mut out);
        out
    }

    fn attach(&self, counters: AttachCounters, out: &mut Vec<SelfMetric>) {
        let AttachCounters {
            entries,
            messages,
            failures,
            vanished_interfaces,
            over_limit,
            swept_filters,
            missed_news,
            lingered,
            // Together with those of the node's cgroups.
            ended_late: _,
            ended_full: _,
            failed_detaches,
            removed_programs,
            unseen_packets,
            // Together with those of the first look.
            late_packets: _,
            cut: CutLists { links, addresses, routes, qdiscs, filters },
        } = counters;
        let lists =
            [("links", links), ("addresses", addresses), ("routes", routes), ("qdiscs", qdiscs), ("filters", filters)];
        for (list, total) in lists {
            let help =
                "Lists of a network namespace that were read in part, because it has very many, by what they list.";
            out.push(SelfMetric::counter("pilotfish_attach_cut_lists_total", help, total).with("list", list));
        }
        self.removed.set_total(unseen_packets);
        self.interfaces_full.set_total(over_limit);
        self.link_news.set_total(missed_news);
        let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
        count("pilotfish_attach_entries_total", "Entries into network namespaces to attach or detach.", entries);
        let help = "Links, addresses, routes, qdiscs and filters that were listed to attach.";
        count("pilotfish_attach_listed_total", help, messages);
        count("pilotfish_attach_failures_total", "Entries that ended in a failure; tried again.", failures);
        let help = "Interfaces that went away while they were being attached to.";
        count("pilotfish_attach_vanished_interfaces_total", help, vanished_interfaces);
        let help = "Filters of an earlier process that were removed.";
        count("pilotfish_attach_swept_filters_total", help, swept_filters);
        let help = "Interfaces whose programs somebody else had taken away, replaced or shadowed; put back.";
        count("pilotfish_attach_removed_programs_total", help, removed_programs);
        let help =
            "Network namespaces that were observed beyond their last container, because its sockets were not done.";
        count("pilotfish_attach_lingered_total", help, lingered);
        let help = "Detaches that may have left a filter behind, which does nothing.";
        count("pilotfish_attach_failed_detaches_total", help, failed_detaches);
    }

    fn tasks(&self, counts: Counts, out: &mut Vec<SelfMetric>) {
        let Counts {
            duplicates,
            stale,
            exec_exits,
            refused,
            open_failures,
            not_taken,
            unanswered,
            netns_reused,
            found_at_start,
            found_gone,
            early: _,
            early_unowned,
            // Beside those of the kernel half.
            early_full: _,
            corrections: Corrections { missed_starts, missed_exits, replaced },
        } = counts;
        self.tasks_full.set_total(refused);
        self.not_taken.set_total(not_taken);
        for (why, total) in [("duplicate", duplicates), ("stale", stale), ("exec", exec_exits)] {
            let help = "Events of containerd that told nothing new, by why.";
            out.push(SelfMetric::counter("pilotfish_containerd_idle_events_total", help, total).with("why", why));
        }
        for (what, total) in [("missed_start", missed_starts), ("missed_exit", missed_exits), ("replaced", replaced)] {
            let help = "What lists of containerd put right after events were lost, by what had been missed.";
            out.push(SelfMetric::counter("pilotfish_containerd_corrections_total", help, total).with("missed", what));
        }
        let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
        let help = "Containers that ran before the agent did.";
        count("pilotfish_containerd_found_total", help, found_at_start);
        let help = "Containers whose process was found gone while no containerd told of it.";
        count("pilotfish_containerd_found_gone_total", help, found_gone);
        let help = "Network namespaces that were attached early and let go of, because no container came.";
        count("pilotfish_netns_unowned_total", help, early_unowned);
        let help = "Network namespaces of containers that could not be opened; tried again.";
        count("pilotfish_netns_open_failures_total", help, open_failures);
        let help = "Opens and attaches of a network namespace without an answer within 30 s.";
        count("pilotfish_netns_unanswered_total", help, unanswered);
        let help = "Network namespaces whose inode was found to be another's by now.";
        count("pilotfish_netns_reused_total", help, netns_reused);
    }

    fn link(&self, counts: LinkCounts, out: &mut Vec<SelfMetric>) {
        let LinkCounts {
            events,
            events_lost,
            // Shown beside the connection.
            reconnects: _,
            failures,
            reconciles,
            unread_namespaces,
            labels_unread,
            docker_unread,
        } = counts;
        let EventCounts { create, start, exit, delete, update, remove, oom, other, undecodable } = events;
        self.events_full.set_total(events_lost);
        self.undecodable.set_total(undecodable);
        let topics = [
            ("create", create),
            ("start", start),
            ("exit", exit),
            ("delete", delete),
            ("update", update),
            ("remove", remove),
            ("oom", oom),
            ("other", other),
        ];
        for (topic, total) in topics {
            let help = "Events of containerd that were understood, by topic.";
            out.push(SelfMetric::counter("pilotfish_containerd_events_total", help, total).with("topic", topic));
        }
        let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
        let help = "Attempts to connect to containerd, to subscribe or to list that failed.";
        count("pilotfish_containerd_failures_total", help, failures);
        let help = "Lists of containerd that were compared with what is known.";
        count("pilotfish_containerd_reconciles_total", help, reconciles);
        let help = "Namespaces of containerd that a list left out because they could not be read.";
        count("pilotfish_containerd_unread_namespaces_total", help, unread_namespaces);
        let help = "Containers whose labels were asked for and not read, those that were gone by then included.";
        count("pilotfish_containerd_unread_labels_total", help, labels_unread);
        let help = "Files in which Docker keeps a container's name that could not be read, at each try.";
        count("pilotfish_containerd_unread_docker_total", help, docker_unread);
    }
}

/// What the kernel told of namespaces in which containers are made.
fn heard_of(counts: HeardCounts, out: &mut Vec<SelfMetric>) {
    let HeardCounts { kernel, foreign, vanished, idle, attached } = counts;
    let AlarmCounts { told, crowded: _ } = kernel;
    let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
    let help = "New network namespaces below a shim of containerd that the kernel told of.";
    count("pilotfish_alarms_total", help, told);
    for (outcome, total) in [("attached", attached), ("known", idle), ("foreign", foreign), ("vanished", vanished)] {
        let help = "What came of them: attached before containerd told of a container there, or why not.";
        out.push(SelfMetric::counter("pilotfish_alarm_outcomes_total", help, total).with("outcome", outcome));
    }
}

/// What the kernel programs count. What they lost has its places of loss where it is read.
pub fn kernel(stats: KernelStats, out: &mut Vec<SelfMetric>) {
    let KernelStats {
        packets,
        events,
        other,
        stray,
        replaced,
        ring_full: _,
        flows_full: _,
        unparsed: _,
        fragments: _,
        unlocked: _,
        nested: _,
        malformed: _,
        opening_full: _,
        flows_share: _,
        answers_full: _,
        replaced_full: _,
        astray: _,
        rows,
        aside,
    } = stats;
    let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
    count("pilotfish_ring_records_total", "Records that the kernel programs put into the ring.", events);
    count("pilotfish_packets_total", "Packets that the kernel programs saw.", packets);
    let help = "Messages of many small frames of which only the beginning and the end were copied.";
    count("pilotfish_messages_of_rows_total", help, rows);
    let help = "Flows that a SYN began anew before their end was told.";
    count("pilotfish_flows_replaced_total", help, replaced);
    let help = "Ends of flows that found no room in the ring and were told from aside.";
    count("pilotfish_ends_aside_total", help, aside);
    for (why, total) in [("other_protocol", other), ("no_flow", stray)] {
        let help = "Packets of no flow: neither TCP nor UDP over IP; or of no known connection and without payload, or \
                    sent again of an exchange that was lost for want of room.";
        out.push(SelfMetric::counter("pilotfish_packets_without_flow_total", help, total).with("why", why));
    }
}

/// What the pipeline does. What it lost has its places of loss where it is counted.
pub fn pipeline(stats: PipelineStats, out: &mut Vec<SelfMetric>) {
    let PipelineStats {
        segments,
        // In `pilotfish_exchanges_total`, by protocol.
        exchanges: _,
        flows_opened,
        flows_closed,
        seeded,
        stale,
        table_full: _,
        holes: _,
        holes_bounded: _,
        unasked,
        forwarded_flows,
        forwarded_packets,
        forwarded_bytes,
        closed_early,
        address_late: _,
        left_out,
    } = stats;
    let mut count = |name, help, total| out.push(SelfMetric::counter(name, help, total));
    count("pilotfish_pipeline_segments_total", "Captured payloads that the agent has read.", segments);
    count("pilotfish_pipeline_flows_opened_total", "Flows that came into the agent's table.", flows_opened);
    count("pilotfish_pipeline_flows_closed_total", "Flows that left it.", flows_closed);
    let help = "Flows that were forgotten before the last packets of their end, because too many ended at once.";
    count("pilotfish_pipeline_flows_closed_early_total", help, closed_early);
    let help = "Flows that have ended and spoke a protocol that is not to be read.";
    count("pilotfish_pipeline_flows_left_out_total", help, left_out);
    let help = "Connections older than the agent that came into its table.";
    count("pilotfish_pipeline_flows_found_total", help, seeded);
    let help = "Captured payloads of flows that had already ended.";
    count("pilotfish_pipeline_stale_segments_total", help, stale);
    let help = "Responses of HTTP/1 servers that nothing had asked for, as a 408 to an idle connection: no exchanges.";
    count("pilotfish_http_unasked_responses_total", help, unasked);
    let help = "Flows that only passed through a namespace: none of its exchanges, and of no edge.";
    count("pilotfish_forwarded_flows_total", help, forwarded_flows);
    let help = "Packets of flows that only passed through a namespace, at each interface.";
    count("pilotfish_forwarded_packets_total", help, forwarded_packets);
    let help = "IP bytes of flows that only passed through a namespace, at each interface.";
    count("pilotfish_forwarded_bytes_total", help, forwarded_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::traffic::Traffic;
    use agent_api::Version;
    use std::time::Instant;

    #[test]
    fn what_is_lost_is_a_loss_and_the_rest_is_a_metric() {
        let (losses, board) = (Losses::default(), Board::new(Version::default(), Traffic::silent(), Instant::now()));
        let mut publisher = CountPublisher::new(&losses);
        let mut counted = Counted::default();
        counted.attach.over_limit = 3;
        counted.attach.failed_detaches = 2;
        (counted.attach.lingered, counted.attach.ended_late, counted.attach.ended_full) = (9, 7, 1);
        counted.node_ended = [1, 0];
        counted.attach.cut.addresses = 7;
        counted.tasks.refused = 4;
        counted.link.events_lost = 5;
        counted.link.events.create = 6;
        publisher.publish(counted, &board);
        let lost: Vec<String> = losses
            .rows()
            .iter()
            .filter(|row| row.total > 0)
            .map(|row| format!("{}/{} {}", row.stage, row.reason, row.total))
            .collect();
        let of_attach = ["attach/ended_full 1", "attach/ended_late 8", "attach/interfaces_full 3"];
        let of_containerd = ["containerd/events_full 5", "containerd/tasks_full 4"];
        assert_eq!(lost, [&of_attach[..], &of_containerd].concat());
        let shown: Vec<String> = board
            .counted
            .lock()
            .iter()
            .filter(|metric| metric.value > 0.0)
            .map(|metric| format!("{} {:?} {}", metric.name, metric.labels, metric.value))
            .collect();
        assert_eq!(
            shown,
            [
                r#"pilotfish_attach_cut_lists_total [("list", "addresses")] 7"#,
                "pilotfish_attach_lingered_total [] 9",
                "pilotfish_attach_failed_detaches_total [] 2",
                r#"pilotfish_containerd_events_total [("topic", "create")] 6"#,
            ]
        );
    }
}
