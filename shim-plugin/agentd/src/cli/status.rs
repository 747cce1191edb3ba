//! `pilotfish status`: what the agent is attached to, what it lost, what it costs.

use super::output::{for_people, json, print};
use crate::cli::args::Output;
use crate::cli::table::{Align, age, bytes, latency, list, table};
use crate::exit::Failure;
use agent_api::{self as api, Client, Exchanges, Forwarded, Status};
use std::collections::BTreeMap;
use std::path::Path;

/// Of a namespace, that are shown. Most have two.
const ADDRESSES: usize = 6;

pub fn run(socket: &Path, output: Output) -> Result<(), Failure> {
    let status = Client::new(socket).status()?;
    match output {
        Output::Json => print(&json(&status)?),
        Output::Table => print(&page(&for_people(&status)?)),
    }
}

/// A line for each containerd that is there or missed.
fn links(containerd: &api::Containerd) -> String {
    let mut out = String::new();
    for link in &containerd.links {
        let api::ContainerdLink { socket, state, version, containers, reconnects, detail, .. } = link;
        match state.as_str() {
            "live" => out.push_str(&format!(
                "containerd {version} on {socket}, {containers} containers, {reconnects} reconnects\n"
            )),
            _ if !detail.is_empty() => out.push_str(&format!("containerd {state} on {socket}: {detail}\n")),
            _ => {}
        }
    }
    if out.is_empty() {
        out = format!("containerd: {}\n", containerd.detail);
    }
    out
}

fn scan(scan: &api::Scan) -> String {
    let api::Scan { done, total, failed, seeds, guessed, ended, source, iterator_refused, stale, late_reads: _ } = scan;
    let mut line = format!("scan: {done}/{total}, {seeds} connections found");
    if !source.is_empty() {
        line.push_str(&format!(" by {source}"));
    }
    if *guessed > 0 {
        line.push_str(&format!(", {guessed} of them taken for the server's end by their port"));
    }
    if *ended > 0 {
        line.push_str(&format!(", {ended} of them ended unseen since"));
    }
    if *failed > 0 {
        line.push_str(&format!(", {failed} failed"));
    }
    if *iterator_refused {
        line.push_str("; the kernel or our capabilities refuse the iterator");
    }
    if !stale.is_empty() {
        line.push_str(&format!("\nlate, shown as they were: {}", stale.join(", ")));
    }
    line.push('\n');
    line
}

fn kubernetes(api: &api::Kubernetes) -> String {
    let api::Kubernetes { link, detail, server, source, scope, scope_reason, requests, throttled, .. } = api;
    let mut line = match link.as_str() {
        "" | "off" => return "kubernetes: off\n".to_owned(),
        "none" => return format!("kubernetes: {detail}\n"),
        _ => format!("kubernetes {link} {detail}"),
    };
    line.truncate(line.trim_end().len());
    line.push_str(&format!("; {server} (from {source}), scope {scope}"));
    if !scope_reason.is_empty() {
        line.push_str(&format!(" ({scope_reason})"));
    }
    line.push_str(&format!(", {requests} requests"));
    if *throttled > 0 {
        line.push_str(&format!(", {throttled} of them waited"));
    }
    if !api.snapshot_error.is_empty() {
        line.push_str(&format!("\nnames are not kept for the next start: {}", api.snapshot_error));
    }
    line.push('\n');
    line
}

fn companion(companion: &api::Companion) -> String {
    let api::Companion { state, detail, join, address, version, series, pushes, cut, replicas, credential } = companion;
    let why = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let to = if address.is_empty() { join } else { address };
    match state.as_str() {
        // Nobody asked for one.
        "" => String::new(),
        "joined" => {
            let replicas = if *replicas > 1 { format!(" with {replicas} replicas") } else { String::new() };
            let own = if *credential { "; by a credential of its own" } else { "" };
            format!(
                "companion {version} at {to} joined{replicas}, {series} series, {pushes} pushes taken, {cut} cut{own}\n"
            )
        }
        _ => format!("companion {to} not joined{why}\n"),
    }
}

fn watches(watches: &[api::Watch]) -> String {
    let columns = [
        ("WATCH", Align::Left),
        ("STATE", Align::Left),
        ("OBJECTS", Align::Right),
        ("LAST EVENT", Align::Right),
        ("RESTARTS", Align::Right),
        ("RELISTS", Align::Right),
        ("FAILURES", Align::Right),
        ("LAST ERROR", Align::Left),
    ];
    let row = |watch: &api::Watch| {
        let api::Watch { resource, state, objects, age_s, complete, restarts, relists, failures, last_error, .. } =
            watch;
        vec![
            resource.clone(),
            state.clone(),
            if *complete { objects.to_string() } else { format!("{objects}+") },
            format!("{} ago", age(*age_s as u64)),
            restarts.to_string(),
            relists.to_string(),
            failures.to_string(),
            if last_error.is_empty() { "-".to_owned() } else { last_error.clone() },
        ]
    };
    table(&columns, &watches.iter().map(row).collect::<Vec<_>>())
}

fn node(node: &api::Node) -> String {
    let api::Node { observed, detail, cgroups } = node;
    let because = if detail.is_empty() { String::new() } else { format!("; {detail}") };
    if !observed {
        return format!("host network: not observed{because}\n");
    }
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for cgroup in cgroups {
        *states.entry(&cgroup.state).or_default() += 1;
    }
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let states = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
    format!("host network, by cgroup: {states}{because}\n")
}

fn cgroups(cgroups: &[api::Cgroup]) -> String {
    let columns = [
        ("SLOT", Align::Right),
        ("STATE", Align::Left),
        ("NAMESPACE", Align::Left),
        ("WORKLOAD", Align::Left),
        ("CGROUP", Align::Left),
        ("REASON", Align::Left),
    ];
    let row = |cgroup: &api::Cgroup| {
        let api::Cgroup { slot, path, state, reason, namespace, workload, attach_ms: _ } = cgroup;
        vec![slot.to_string(), state.clone(), namespace.clone(), workload.clone(), path.clone(), reason.clone()]
    };
    table(&columns, &cgroups.iter().map(row).collect::<Vec<_>>())
}

/// Why it stands as it does, and what it passed on.
fn reason(row: &api::Namespace) -> String {
    let passed = (row.forwarded > 0).then(|| format!("{} flows were passed on", row.forwarded));
    Some(row.reason.clone())
        .filter(|reason| !reason.is_empty())
        .into_iter()
        .chain(passed)
        .collect::<Vec<_>>()
        .join("; ")
}

fn page(status: &Status) -> String {
    let Status { version, pid, uptime_s, readiness, containerd, states, namespaces, losses, programs, .. } = status;
    let mut out = format!("pilotfish {} (pid {pid}), up {}\n", version.version, age(*uptime_s));
    out.push_str(if readiness.ready { "ready" } else { "not ready" });
    for (i, reason) in readiness.reasons.iter().enumerate() {
        let join = if i == 0 { ": " } else { "; " };
        out.push_str(&format!("{join}{}: {}", reason.part, reason.detail));
    }
    out.push('\n');
    out.push_str(&links(containerd));
    out.push_str(&kubernetes(&status.kubernetes));
    out.push_str(&companion(&status.companion));
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    out.push_str(&format!("namespaces: {}\n", states.join(", ")));
    out.push_str(&node(&status.node));
    out.push_str(&scan(&status.scan));
    out.push_str(&format!(
        "{} packets seen, {} records through a ring of {}, {} flows\nagent: {} resident, {:.1} s of CPU{}, {} descriptors\n",
        status.packets,
        status.events,
        bytes(status.ring_bytes),
        status.flows,
        bytes(status.process.rss_bytes),
        status.process.cpu_seconds,
        status.process.cpu_quota.map(|cpus| format!(" (quota: {cpus:.2} CPUs)")).unwrap_or_default(),
        status.process.descriptors,
    ));
    for Exchanges { reporter, counted, lost } in &status.exchanges {
        out.push_str(&format!("exchanges at the {reporter}: {counted} counted, {lost} lost\n"));
    }
    let Forwarded { flows, packets, bytes: passed } = status.forwarded;
    if flows > 0 {
        out.push_str(&format!(
            "passed on by namespaces that are no end of it: {flows} flows, {packets} packets, {}\n",
            bytes(passed)
        ));
    }
    if !namespaces.is_empty() {
        let columns = [
            ("SLOT", Align::Right),
            ("NETNS", Align::Left),
            ("STATE", Align::Left),
            ("NAMESPACE", Align::Left),
            ("WORKLOAD", Align::Left),
            ("ADDRESSES", Align::Left),
            ("REASON", Align::Left),
        ];
        let rows: Vec<Vec<String>> = namespaces
            .iter()
            .map(|row| {
                let state =
                    if row.mode.is_empty() { row.state.clone() } else { format!("{} ({})", row.state, row.mode) };
                vec![
                    row.slot.to_string(),
                    row.netns.clone(),
                    state,
                    row.namespace.clone(),
                    row.workload.clone(),
                    list(&row.addresses, ADDRESSES),
                    reason(row),
                ]
            })
            .collect();
        out.push('\n');
        out.push_str(&table(&columns, &rows));
    }
    if !status.kubernetes.watches.is_empty() {
        out.push('\n');
        out.push_str(&watches(&status.kubernetes.watches));
    }
    if !status.node.cgroups.is_empty() {
        out.push('\n');
        out.push_str(&cgroups(&status.node.cgroups));
    }
    if losses.iter().any(|loss| loss.total > 0) {
        let columns = [("LOST AT", Align::Left), ("REASON", Align::Left), ("COUNT", Align::Right), ("OF", Align::Left)];
        let rows: Vec<Vec<String>> = losses
            .iter()
            .filter(|loss| loss.total > 0)
            .map(|loss| {
                vec![loss.stage.to_string(), loss.reason.to_string(), loss.total.to_string(), loss.unit.to_string()]
            })
            .collect();
        out.push('\n');
        out.push_str(&table(&columns, &rows));
    } else {
        out.push_str("\nNothing was lost.\n");
    }
    if !programs.is_empty() {
        let columns = [
            ("PROGRAM", Align::Left),
            ("INTERFACES", Align::Right),
            ("RUNS", Align::Right),
            ("TIME", Align::Right),
            ("PER RUN", Align::Right),
        ];
        let rows: Vec<Vec<String>> = programs
            .iter()
            .map(|program| {
                let each = program.run_time_ns.checked_div(program.runs);
                // The kernel counts runs only while kernel.bpf_stats_enabled is set.
                let counted = Some(program.run_time_ns).filter(|_| program.runs > 0);
                vec![
                    program.name.clone(),
                    program.attached.to_string(),
                    program.runs.to_string(),
                    latency(counted),
                    latency(each),
                ]
            })
            .collect();
        out.push('\n');
        out.push_str(&table(&columns, &rows));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::{Containerd, LossRow, Namespace, Program, Readiness, Reason, Version};
    use expect_test::expect;

    #[test]
    fn whatever_others_wrote_stays_in_its_cell() {
        let evil = "x\x1b[2J\nready\u{202e}";
        let namespace = Namespace {
            workload: evil.into(),
            addresses: (0..27_000).map(|i: u32| std::net::Ipv4Addr::from(i).to_string()).collect(),
            reason: "r".repeat(70_000),
            ..Namespace::default()
        };
        let readiness = Readiness {
            ready: false,
            reasons: vec![Reason { part: "containerd".into(), degraded_only: true, detail: evil.into() }],
        };
        let status = Status { readiness, namespaces: vec![namespace], ..Status::default() };
        let page = page(&for_people(&status).expect("JSON"));
        assert!(page.chars().all(|c| c == '\n' || flow_model::is_plain(c)), "{page}");
        assert!(page.contains("\nnot ready: containerd: x\\u{1b}[2J\\nready\\u{202e}\n"), "{page}");
        assert!(page.contains("0.0.0.5 and 26994 more") && page.contains("r.. (69680 more characters)"), "{page}");
    }

    #[test]
    fn a_page_tells_states_reasons_losses_and_costs() {
        let namespace = |slot, state: &str, mode: &str, reason: &str| Namespace {
            slot,
            netns: format!("4:{slot}"),
            state: state.into(),
            mode: mode.into(),
            reason: reason.into(),
            namespace: "shop".into(),
            workload: "api".into(),
            addresses: vec!["10.0.0.1".into()],
            interfaces: vec!["eth0".into()],
            attach_ms: Some(1.5),
            forwarded: 0,
        };
        let watch = |resource: &str, objects| api::Watch {
            resource: resource.into(),
            state: "retrying".into(),
            objects,
            age_s: 12.9,
            ..api::Watch::default()
        };
        let status = Status {
            version: Version { version: "0.1.0".into(), ..Version::default() },
            pid: 42,
            uptime_s: 93_784,
            readiness: Readiness {
                ready: true,
                reasons: vec![Reason {
                    part: "netns".into(),
                    degraded_only: true,
                    detail: "1 namespaces failed".into(),
                }],
            },
            containerd: Containerd {
                connected: false,
                links: vec![
                    api::ContainerdLink {
                        socket: "/run/containerd/containerd.sock".into(),
                        state: "live".into(),
                        version: "1.6.20".into(),
                        containers: 2,
                        ..api::ContainerdLink::default()
                    },
                    api::ContainerdLink {
                        socket: "/run/k3s/containerd/containerd.sock".into(),
                        state: "down".into(),
                        detail: "connect: refused".into(),
                        ..api::ContainerdLink::default()
                    },
                    api::ContainerdLink { socket: "/d".into(), state: "absent".into(), ..Default::default() },
                ],
                ..Containerd::default()
            },
            states: [("attached".to_owned(), 1), ("failed".to_owned(), 1)].into(),
            namespaces: vec![
                namespace(1, "attached", "clsact", ""),
                namespace(2, "failed", "", "attach to eth0: no such device"),
            ],
            node: api::Node {
                observed: true,
                detail: String::new(),
                cgroups: vec![
                    api::Cgroup {
                        slot: 3,
                        path: "/sys/fs/cgroup/kubepods/x".into(),
                        state: "attached".into(),
                        namespace: "kube-system".into(),
                        workload: "etcd".into(),
                        ..api::Cgroup::default()
                    },
                    api::Cgroup {
                        slot: 4,
                        state: "unobserved".into(),
                        reason: "it is at the root".into(),
                        ..api::Cgroup::default()
                    },
                ],
            },
            exchanges: vec![Exchanges { reporter: "client".into(), counted: 20, lost: 3 }],
            losses: vec![LossRow {
                stage: "ring".into(),
                reason: "full".into(),
                unit: "message heads".into(),
                total: 3,
            }],
            kubernetes: api::Kubernetes {
                link: "unreachable".into(),
                detail: "for 12 s: connection refused".into(),
                server: "https://10.0.0.1:6443/".into(),
                source: "$KUBECONFIG".into(),
                scope: "cluster".into(),
                requests: 17,
                watches: vec![
                    api::Watch { complete: true, ..watch("pods", 312) },
                    api::Watch { failures: 2, last_error: "403 Forbidden".into(), ..watch("jobs", 0) },
                ],
                ..api::Kubernetes::default()
            },
            companion: api::Companion {
                state: "joined".into(),
                address: "10.96.0.7:10251".into(),
                version: "0.2.0".into(),
                series: 300,
                pushes: 12,
                cut: 1,
                ..api::Companion::default()
            },
            programs: vec![Program { name: "pilotfish_in".into(), attached: 1, runs: 100, run_time_ns: 25_000 }],
            ring_bytes: 8 << 20,
            packets: 1200,
            events: 80,
            flows: 17,
            ..Status::default()
        };
        expect![[r#"
            pilotfish 0.1.0 (pid 42), up 1d2h
            ready: netns: 1 namespaces failed
            containerd 1.6.20 on /run/containerd/containerd.sock, 2 containers, 0 reconnects
            containerd down on /run/k3s/containerd/containerd.sock: connect: refused
            kubernetes unreachable for 12 s: connection refused; https://10.0.0.1:6443/ (from $KUBECONFIG), scope cluster, 17 requests
            companion 0.2.0 at 10.96.0.7:10251 joined, 300 series, 12 pushes taken, 1 cut
            namespaces: 1 attached, 1 failed
            host network, by cgroup: 1 attached, 1 unobserved
            scan: 0/0, 0 connections found
            1200 packets seen, 80 records through a ring of 8.0MiB, 17 flows
            agent: 0B resident, 0.0 s of CPU, 0 descriptors
            exchanges at the client: 20 counted, 3 lost

            SLOT  NETNS  STATE              NAMESPACE  WORKLOAD  ADDRESSES  REASON
               1  4:1    attached (clsact)  shop       api       10.0.0.1
               2  4:2    failed             shop       api       10.0.0.1   attach to eth0: no such device

            WATCH  STATE     OBJECTS  LAST EVENT  RESTARTS  RELISTS  FAILURES  LAST ERROR
            pods   retrying      312     12s ago         0        0         0  -
            jobs   retrying       0+     12s ago         0        0         2  403 Forbidden

            SLOT  STATE       NAMESPACE    WORKLOAD  CGROUP                     REASON
               3  attached    kube-system  etcd      /sys/fs/cgroup/kubepods/x
               4  unobserved                                                    it is at the root

            LOST AT  REASON  COUNT  OF
            ring     full        3  message heads

            PROGRAM       INTERFACES  RUNS    TIME  PER RUN
            pilotfish_in           1   100  25.0us    250ns
        "#]]
        .assert_eq(&page(&status));
    }
}
