//! `pilotfish doctor`: what is wrong on this node now, whose it is, and what to do.

mod server;

use super::output::{json, print};
use crate::cli::args::{DoctorArgs, Output};
use crate::cli::privileges;
use crate::exit::{Exit, Failure};
use crate::findings;
use crate::run::{drops, process};
use agent_api::{AskError, Cgroup, Client, Kubernetes, Namespace, Timeline};
use doctor::drops::BeginsToCount;
use doctor::{Asked, Check, CheckId, Finding, NotMade, Report, Severity, Thresholds, examine};
use flow_model::{rfc3339, shown};
use serde::Serialize;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

/// Findings that a page shows; `-o json` has them all.
const MOST: usize = 20;
/// Clients of a finding that a page names.
const CLIENTS: usize = 4;
/// Capabilities of the agent that a look does without: it attaches nothing.
const NOT_NEEDED: &str = "CAP_NET_ADMIN";

/// Whether an agent told what the workloads are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Agent {
    /// ready, not_ready, absent or unreachable
    agent: &'static str,
    /// Why it did not tell; empty where it did.
    agent_detail: String,
}

/// The document of `-o json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    node: String,
    at: String,
    window_s: f64,
    #[serde(flatten)]
    agent: &'a Agent,
    findings: Vec<Told<'a>>,
    fine: &'a [CheckId],
    not_made: &'a [NotMade],
    looked: &'a doctor::Looked,
}

#[derive(Serialize)]
struct Told<'a> {
    since: String,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// What the configuration says of where to ask.
pub struct Places {
    /// Of the agent.
    pub socket: PathBuf,
    /// How the API server is reached.
    pub kubeconfig: Option<PathBuf>,
}

/// `places` are asked for only where they are needed.
pub fn run(args: &DoctorArgs, places: impl FnOnce() -> Result<Places, Failure>) -> Result<Exit, Failure> {
    if let Some(id) = args.explain {
        print(&explained(&id.check()))?;
        return Ok(Exit::Ok);
    }
    let wanted = |id: &CheckId| args.id.is_none_or(|only| only == *id);
    // The node as a whole is no namespace's; who asks for it by name is told all the same.
    let of_all = |id: &CheckId| args.namespace.is_none() || args.id.is_some() || !id.is_of_node();
    let mut checks: Vec<CheckId> = CheckId::on_demand().filter(wanted).filter(of_all).collect();
    let mut of_history: Vec<CheckId> = findings::MADE.into_iter().filter(wanted).collect();
    if !checks.is_empty() {
        permitted()?;
    }
    let Places { socket, kubeconfig } = places()?;
    let client = Client::new(&socket);
    let (agent, namespaces, of_the_node, kubernetes) = ask(&client);
    if args.id.is_none() && !kubernetes.as_ref().is_none_or(has_cluster) {
        // Nothing is told of pods where there are none.
        of_history.retain(|id| !findings::WITH_CLUSTER.contains(id));
        checks.retain(|id| !findings::WITH_CLUSTER.contains(id));
    }
    let helper: Option<fn() -> Command> = Some(process::reader);
    let api_server = match &kubernetes {
        _ if !checks.contains(&CheckId::ApiStorm) => Err(String::new()),
        Some(kubernetes) => server::by_agent(&client, kubernetes),
        None => server::by_files(kubeconfig),
    };
    let names = drops::names(&namespaces);
    let drops: Option<BeginsToCount> = Some(drops::begin);
    let mut asked = Asked { checks, since: args.since, names, helper, drops, api_server, ..Asked::default() };
    let mut nowhere = None;
    if let Some(wanted) = &args.namespace {
        asked.names.retain(|_, subject| subject.namespace == *wanted);
        asked.only = Some(asked.names.keys().copied().collect());
        if asked.names.is_empty() {
            nowhere = Some(no_workload(wanted, &agent));
        }
    }
    let mut report = match nowhere {
        Some(reason) if !of_node_alone(&asked.checks) => not_made(&asked, &reason),
        // It would wait for its window, for nothing.
        _ if asked.checks.is_empty() => not_made(&asked, ""),
        _ => examine(&asked),
    };
    let on_the_node = |wanted: &String| of_the_node.iter().filter(|cgroup| cgroup.namespace == *wanted).count();
    passed_over(&mut report, args.namespace.as_ref().map_or(0, on_the_node));
    if !of_history.is_empty() {
        report = with_history(report, &of_history, args, kubernetes.as_ref(), client.timeline(Some(args.since)));
    }
    match args.output {
        Output::Json => print(&document(&report, &agent)?)?,
        Output::Table => print(&page(&report, &agent))?,
    }
    Ok(exit(&report))
}

fn permitted() -> Result<(), Failure> {
    let lacking = privileges::missing().into_iter().filter(|capability| capability.name != NOT_NEEDED);
    let names: Vec<&str> = lacking.map(|capability| capability.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!("missing {}: run it as root, or with these capabilities", names.join(", "));
    Err(Failure::say(Exit::NoPermission, text))
}

/// With what the agent's timeline says.
fn with_history(
    report: Report,
    checks: &[CheckId],
    args: &DoctorArgs,
    kubernetes: Option<&Kubernetes>,
    timeline: Result<Timeline, AskError>,
) -> Report {
    let timeline = match timeline {
        Ok(timeline) => timeline,
        Err(error) => {
            let reason = match kubernetes {
                Some(_) => crate::exit::in_full(error),
                None => "what happened before is known to an agent alone, and none answered".to_owned(),
            };
            let not_made = checks.iter().map(|id| NotMade { id: *id, reason: reason.clone() }).collect();
            return report.with(&[], Vec::new(), not_made);
        }
    };
    let (made, blind): (Vec<CheckId>, Vec<CheckId>) = checks
        .iter()
        .partition(|id| !findings::OF_CLUSTER.contains(id) || kubernetes.is_some_and(|of| of.link == "connected"));
    let reason = match kubernetes.map(|of| of.detail.as_str()) {
        None | Some("") => "no API server tells of the pods".to_owned(),
        Some(detail) => format!("no API server tells of the pods: {detail}"),
    };
    let mut not_made: Vec<NotMade> = blind.into_iter().map(|id| NotMade { id, reason: reason.clone() }).collect();
    let looks = |id: &CheckId| match id {
        CheckId::DnsSearch => timeline.searches.is_some(),
        CheckId::DnsRetry => timeline.retries.is_some(),
        CheckId::RetryStorm => timeline.storms.is_some(),
        CheckId::ApiStorm => timeline.api.is_some(),
        _ => true,
    };
    let (made, older): (Vec<CheckId>, Vec<CheckId>) = made.into_iter().partition(looks);
    let reason = "the agent is of an older version, and does not look".to_owned();
    not_made.extend(older.into_iter().map(|id| NotMade { id, reason: reason.clone() }));
    let (made, untold): (Vec<CheckId>, Vec<CheckId>) =
        made.into_iter().partition(|id| !findings::OF_PROBES.contains(id) || timeline.probes.is_some());
    let reason = "nobody told which probes the pods of this node have".to_owned();
    not_made.extend(untold.into_iter().map(|id| NotMade { id, reason: reason.clone() }));
    let mut found = findings::of(&timeline, &Thresholds::default());
    found.retain(|finding| {
        made.contains(&finding.id) && args.namespace.as_ref().is_none_or(|wanted| *wanted == finding.subject.namespace)
    });
    report.with(&made, found, not_made)
}

/// Whether there is one, whether or not it answers now.
fn has_cluster(kubernetes: &Kubernetes) -> bool {
    !matches!(kubernetes.link.as_str(), "" | "off" | "none")
}

/// How it is with the agent, the namespaces that it knows, what it knows on the node's own network,
/// and how it stands with Kubernetes; None where it does not answer.
fn ask(client: &Client) -> (Agent, Vec<Namespace>, Vec<Cgroup>, Option<Kubernetes>) {
    match client.status() {
        Ok(status) => {
            let agent = if status.readiness.ready { "ready" } else { "not_ready" };
            let agent = Agent { agent, agent_detail: String::new() };
            (agent, status.namespaces, status.node.cgroups, Some(status.kubernetes))
        }
        Err(error) => {
            let agent = if matches!(error, AskError::NoAgent(_)) { "absent" } else { "unreachable" };
            (Agent { agent, agent_detail: crate::exit::in_full(error) }, Vec::new(), Vec::new(), None)
        }
    }
}

fn no_workload(namespace: &str, agent: &Agent) -> String {
    if agent.agent_detail.is_empty() {
        format!("no workload of the namespace {namespace} has a network of its own on this node")
    } else {
        "which workloads are of a namespace is known to an agent alone, and none answered".to_owned()
    }
}

/// Nothing was looked at.
fn not_made(asked: &Asked, reason: &str) -> Report {
    let not_made = asked.checks.iter().map(|id| NotMade { id: *id, reason: reason.to_owned() }).collect();
    let (findings, fine) = (Vec::new(), Vec::new());
    let (looked, throttled) = (doctor::Looked::default(), Vec::new());
    Report { window_s: 0.0, findings, fine, not_made, looked, throttled }
}

/// No namespace has to be known for these.
fn of_node_alone(checks: &[CheckId]) -> bool {
    !checks.is_empty() && checks.iter().all(|id| id.is_of_node())
}

/// A look into a namespace's own networks misses its workloads on the node's: no check of it is fine.
fn passed_over(report: &mut Report, count: usize) {
    if count > 0 {
        let reason = format!("{count} of its workloads are on the node's own network: look without -n");
        report.not_made.extend(report.fine.drain(..).map(|id| NotMade { id, reason: reason.clone() }));
    }
}

fn exit(report: &Report) -> Exit {
    match report.findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Error) => Exit::Errors,
        Some(Severity::Warning) => Exit::Warnings,
        Some(Severity::Info) | None if report.not_made.is_empty() => Exit::Ok,
        Some(Severity::Info) | None => Exit::NotMade,
    }
}

fn document(report: &Report, agent: &Agent) -> Result<String, Failure> {
    let at = SystemTime::now();
    let since = |finding: &Finding| rfc3339(at.checked_sub(finding.held).unwrap_or(SystemTime::UNIX_EPOCH));
    json(&Document {
        schema: "pilotfish.doctor/1",
        node: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        at: rfc3339(at),
        window_s: report.window_s,
        agent,
        findings: report.findings.iter().map(|finding| Told { since: since(finding), finding }).collect(),
        fine: &report.fine,
        not_made: &report.not_made,
        looked: &report.looked,
    })
}

fn explained(check: &Check) -> String {
    let Check { id, sees, found_by, threshold, remedy } = check;
    let mut out = format!("{id}\n  seen as    {sees}\n  found by   {found_by}\n  a finding  {threshold}\n");
    out.push_str(match id {
        CheckId::DnsSearch | CheckId::DnsRetry | CheckId::RetryStorm => {
            "  looked at  what the agent counted in its last 30 s\n"
        }
        CheckId::ApiStorm => {
            "  looked at  what the agent counted in its last 5 min; processes that hold a TCP socket\n"
        }
        CheckId::Drops => "  looked at  every packet that the kernel drops while it is looked at\n",
        id if findings::MADE.contains(id) => "  looked at  what the agent saw within --since: `pilotfish timeline`\n",
        id if id.is_of_node() => "  looked at  the node as a whole\n",
        _ => "  looked at  processes that hold a TCP or UDP socket, their cgroups and network namespaces\n",
    });
    for (at, what) in remedy.iter().enumerate() {
        out.push_str(&format!("  {:<9}  {what}\n", if at == 0 { "do" } else { "" }));
    }
    out
}

fn page(report: &Report, agent: &Agent) -> String {
    let mut out = String::new();
    for finding in report.findings.iter().take(MOST) {
        out.push_str(&told(finding));
    }
    if report.findings.len() > MOST {
        out.push_str(&format!("and {} findings more; `-o json` has them all\n", report.findings.len() - MOST));
    }
    out.push_str(&summary(report));
    let doctor::Looked { namespaces, processes, sockets, left_out } = &report.looked;
    if *sockets > 0 {
        out.push_str(&format!(
            "looked at {sockets} sockets of {processes} processes in {namespaces} network namespaces, twice in {} s\n",
            report.window_s
        ));
    }
    for (bound, count) in left_out {
        out.push_str(&format!("left out: {count} {bound}\n"));
    }
    if !agent.agent_detail.is_empty() {
        let detail = shown(&agent.agent_detail);
        out.push_str(&format!("workloads are called by container or process: {detail}\n"));
    }
    out
}

fn told(finding: &Finding) -> String {
    let Finding { id, severity, subject, places, summary, remedy, certainty, hurt, .. } = finding;
    let word = match severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARN",
        Severity::Info => "INFO",
    };
    let whose = match subject.namespace.as_str() {
        "" => format!("{} {}", subject.kind, subject.name),
        namespace => format!("{namespace}/{}", subject.name),
    };
    let places = if *places == 1 { String::new() } else { format!("  (in {places} places)") };
    let sure = match certainty {
        doctor::Certainty::Measured => "",
        doctor::Certainty::Likely => " (likely)",
    };
    let mut out = format!("{word:<5}  {id:<15}  {}{places}\n", shown(&whose));
    out.push_str(&format!("       evidence  {}{sure}\n", shown(summary)));
    if !hurt.is_empty() {
        let clients = hurt.iter().take(CLIENTS).map(|hurt| format!("{} {}", shown(&hurt.client), hurt.requests));
        let more = if hurt.len() > CLIENTS { format!(", and {} more", hurt.len() - CLIENTS) } else { String::new() };
        out.push_str(&format!("       requests  {}{more}\n", clients.collect::<Vec<_>>().join(", ")));
    }
    for (at, what) in remedy.iter().enumerate() {
        out.push_str(&format!("       {:<8}  {what}\n", if at == 0 { "do" } else { "" }));
    }
    out
}

/// How many of what, and what was not looked at: the line that a person reads last.
fn summary(report: &Report) -> String {
    let count = |wanted| report.findings.iter().filter(|finding| finding.severity == wanted).count();
    let several = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let by_severity = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "info")];
    let counts: Vec<String> = by_severity
        .into_iter()
        .filter(|(severity, _)| count(*severity) > 0)
        .map(|(severity, what)| several(count(severity), what))
        .collect();
    let mut out = match (report.findings.len(), report.not_made.is_empty()) {
        (0, true) => "nothing found. ".to_owned(),
        (0, false) => "nothing found, but not everything was looked at. ".to_owned(),
        (found, _) => format!("{}: {}. ", several(found, "finding"), counts.join(", ")),
    };
    let ids: Vec<&str> = report.fine.iter().map(|id| id.as_str()).collect();
    match ids.as_slice() {
        [] => out.push_str("0 checks fine"),
        ids => out.push_str(&format!("{} fine: {}", several(ids.len(), "check"), ids.join(", "))),
    }
    out.push('\n');
    for NotMade { id, reason } in &report.not_made {
        out.push_str(&format!("not made, or not everywhere: {id} ({})\n", shown(reason)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use doctor::Subject;
    use expect_test::expect;
    use std::time::Duration;

    fn finding(id: CheckId, severity: Severity, name: &str) -> Finding {
        let subject = Subject { namespace: "shop".into(), kind: "Workload".into(), name: name.into() };
        let held = Duration::from_secs(2);
        Finding::new(id, severity, &subject, held, "70 SYNs dropped\x1b[2J".into()).with("overflows", 70_u64)
    }

    fn report(findings: Vec<Finding>, fine: &[CheckId], not_made: &[CheckId]) -> Report {
        let not_made = not_made.iter().map(|id| NotMade { id: *id, reason: "permission denied".into() }).collect();
        let looked = doctor::Looked { namespaces: 3, processes: 5, sockets: 9, left_out: [("sockets", 4)].into() };
        Report { window_s: 2.0, findings, fine: fine.to_vec(), not_made, looked, throttled: Vec::new() }
    }

    fn ready() -> Agent {
        Agent { agent: "ready", agent_detail: String::new() }
    }

    #[test]
    fn a_page_tells_what_whose_why_and_what_to_do_and_nothing_that_a_terminal_obeys() {
        let mut other = finding(CheckId::DeadPeer, Severity::Warning, "web");
        (other.places, other.certainty) = (2, doctor::Certainty::Likely);
        other.hurt = (1..=6).map(|n| doctor::Hurt { client: format!("shop/c{n}"), requests: n }).collect();
        other.subject = Subject { kind: "Process".into(), name: "a\nb".into(), ..Subject::default() };
        let findings = vec![finding(CheckId::ListenOverflow, Severity::Error, "api"), other];
        let absent = Agent { agent: "absent", agent_detail: "no agent answers on /x".into() };
        expect![[r#"
            ERROR  listen-overflow  shop/api
                   evidence  70 SYNs dropped\u{1b}[2J
                   do        the process accepts too slowly: give it more CPU or more replicas
                             or raise its backlog and net.core.somaxconn of its namespace: both, the smaller one counts
            WARN   dead-peer        Process a\nb  (in 2 places)
                   evidence  70 SYNs dropped\u{1b}[2J (likely)
                   requests  shop/c1 1, shop/c2 2, shop/c3 3, shop/c4 4, and 2 more
                   do        set TCP_USER_TIMEOUT (20 s) on such connections, or HTTP/2 pings, or keepalive
                             restarting the client frees it at once
            2 findings: 1 error, 1 warning. 1 check fine: udp-drop
            not made, or not everywhere: self-call (permission denied)
            looked at 9 sockets of 5 processes in 3 network namespaces, twice in 2 s
            left out: 4 sockets
            workloads are called by container or process: no agent answers on /x
        "#]]
        .assert_eq(&page(&report(findings, &[CheckId::UdpDrop], &[CheckId::SelfCall]), &absent));
    }

    #[test]
    fn what_was_not_made_is_no_part_of_what_is_fine() {
        let nothing = report(vec![], &[CheckId::UdpDrop, CheckId::DeadPeer], &[]);
        assert_eq!(summary(&nothing), "nothing found. 2 checks fine: udp-drop, dead-peer\n");
        let blind = report(vec![], &[], &[CheckId::SelfCall]);
        assert_eq!(
            summary(&blind),
            "nothing found, but not everything was looked at. 0 checks fine\n\
             not made, or not everywhere: self-call (permission denied)\n"
        );
        let many = vec![finding(CheckId::UdpDrop, Severity::Warning, "api"); MOST + 2];
        assert!(page(&report(many, &[], &[]), &ready()).contains("\nand 2 findings more; `-o json` has them all\n"));
    }

    #[test]
    fn the_exit_code_is_the_worst_that_was_found() {
        let of = |severities: &[Severity], not_made: &[CheckId]| {
            let found = severities.iter().map(|severity| finding(CheckId::UdpDrop, *severity, "api")).collect();
            exit(&report(found, &[], not_made)).code()
        };
        let (info, warning, error) = (Severity::Info, Severity::Warning, Severity::Error);
        assert_eq!(
            [of(&[], &[]), of(&[info], &[]), of(&[info, warning], &[]), of(&[error, warning], &[])],
            [0, 0, 1, 2]
        );
        let blind = [CheckId::SelfCall];
        assert_eq!([of(&[], &blind), of(&[info], &blind), of(&[warning], &blind), of(&[error], &blind)], [3, 3, 1, 2]);
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let report = report(vec![finding(CheckId::UdpDrop, Severity::Error, "api")], &[CheckId::DeadPeer], &[]);
        let text = document(&report, &ready()).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["schema"], "pilotfish.doctor/1");
        assert_eq!((&value["agent"], &value["window_s"]), (&"ready".into(), &2.0.into()));
        let found = &value["findings"][0];
        assert_eq!((&found["id"], &found["severity"]), (&"udp-drop".into(), &"error".into()));
        assert_eq!((&found["subject"]["name"], &found["evidence"]["overflows"]), (&"api".into(), &70.into()));
        assert!(found["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{text}");
        assert_eq!((&value["fine"], &value["not_made"]), (&serde_json::json!(["dead-peer"]), &serde_json::json!([])));
        assert_eq!(value["looked"]["left_out"], serde_json::json!({"sockets": 4}));
    }

    #[test]
    fn workloads_on_the_nodes_own_network_are_not_passed_over_in_silence() {
        let mut report = report(vec![], &[CheckId::UdpDrop], &[]);
        passed_over(&mut report, 0);
        assert_eq!(exit(&report), Exit::Ok);
        passed_over(&mut report, 2);
        assert_eq!((exit(&report), report.fine.len()), (Exit::NotMade, 0));
        assert!(summary(&report).contains("udp-drop (2 of its workloads are on the node's own network"));
    }

    #[test]
    fn every_check_is_explained() {
        for id in CheckId::ALL {
            let text = explained(&id.check());
            assert!(text.starts_with(id.as_str()) && text.contains("\n  do         "), "{text}");
        }
    }
}
