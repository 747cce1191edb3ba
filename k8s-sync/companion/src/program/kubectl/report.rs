//! `kubectl pilotfish check`: is the companion asked, who of its replicas is ready, and which nodes do not
//! push, or push what is not theirs.

use super::found::{Found, shown};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that are named; the others are counted.
const NAMED: usize = 20;
/// And of those that have a version, fewer.
const FEW: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// It could not be looked at.
    Unknown,
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty where nothing is to be done.
    remedy: String,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    checks: Vec<Line>,
}

/// As the API has it.
struct Agent<'a> {
    node: &'a str,
    state: &'a str,
    reason: &'a str,
    version: &'a str,
    refused: u64,
}

impl Report {
    /// Of the APIService, the EndpointSlices of the companion's Service, and the NodeAgents. `version`:
    /// of this program, which came with the companion.
    pub(super) fn of(service: &Found, slices: &Found, agents: &Found, version: &str) -> Report {
        let mut checks = vec![api(service), replicas(slices)];
        match agents {
            Found::There(list) => {
                let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
                let agents: Vec<Agent<'_>> = items.iter().map(Agent::of).collect();
                checks.extend(pushes(&agents));
                checks.extend(versions(&agents, version));
            }
            Found::None => checks.push(line("agents", Verdict::Error, "nobody answers for them", "see api")),
            Found::Failed(why) => checks.push(unknown("agents", why)),
        }
        Report { checks }
    }

    /// And of the Findings, which a companion of a version before does not have.
    pub(super) fn with_findings(mut self, findings: &Found) -> Report {
        match findings {
            Found::There(list) => self.checks.push(wrong(list["items"].as_array().map_or(&[], Vec::as_slice))),
            Found::None => {}
            Found::Failed(why) => self.checks.push(unknown("findings", why)),
        }
        self
    }

    /// As doctor's: 2 for errors, 1 for warnings alone, 3 where something could not be looked at.
    pub(super) fn code(&self) -> u8 {
        match self.checks.iter().map(|line| line.verdict).max() {
            None | Some(Verdict::Ok) => 0,
            Some(Verdict::Unknown) => 3,
            Some(Verdict::Warning) => 1,
            Some(Verdict::Error) => 2,
        }
    }

    pub(super) fn page(&self) -> String {
        let widest = self.checks.iter().map(|line| line.what.len()).max().unwrap_or(0);
        let mut page = String::new();
        for Line { what, verdict, found, remedy } in &self.checks {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Unknown => "unknown",
                Verdict::Warning => "warning",
                Verdict::Error => "ERROR",
            };
            page.push_str(&format!("{what:<widest$}  {verdict:<7}  {found}\n"));
            if !remedy.is_empty() {
                page.push_str(&format!("{:widest$}  {:7}  -> {remedy}\n", "", ""));
            }
        }
        page
    }

    pub(super) fn json(&self) -> String {
        // Of strings and a closed set: nothing can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn line(what: &'static str, verdict: Verdict, found: impl Into<String>, remedy: impl Into<String>) -> Line {
    Line { what, verdict, found: found.into(), remedy: remedy.into() }
}

fn unknown(what: &'static str, why: &str) -> Line {
    line(what, Verdict::Unknown, why, "")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn api(service: &Found) -> Line {
    let service = match service {
        Found::There(service) => service,
        Found::None => {
            let remedy = "pilotfish-companion api-service prints it (docs/install.md)";
            return line("api", Verdict::Error, "there is no APIService v1alpha1.traffic.pilotfish.io", remedy);
        }
        Found::Failed(why) => return unknown("api", why),
    };
    let conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    let available = conditions.into_iter().find(|condition| condition["type"] == "Available");
    match available {
        Some(available) if available["status"] == "True" => {
            line("api", Verdict::Ok, "the API server reaches the companion", "")
        }
        Some(available) => {
            let (reason, message) = (shown(text(available, "/reason")), shown(text(available, "/message")));
            let remedy = "no namespace of the cluster can be deleted while this lasts; where it does: kubectl delete \
                          apiservice v1alpha1.traffic.pilotfish.io";
            line("api", Verdict::Error, format!("{reason}: {message}"), remedy)
        }
        None => line("api", Verdict::Warning, "the API server has not looked yet", ""),
    }
}

fn replicas(slices: &Found) -> Line {
    let list = match slices {
        Found::There(list) => list,
        Found::None => return line("companion", Verdict::Error, "there is no Service of it", "kubectl apply -k"),
        Found::Failed(why) => return unknown("companion", why),
    };
    let slices = list["items"].as_array().into_iter().flatten();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    // A pod with addresses of both families is in two slices. Absent means ready, as the API says.
    let mut pods: BTreeMap<&str, bool> = BTreeMap::new();
    for endpoint in endpoints {
        *pods.entry(text(endpoint, "/targetRef/name")).or_default() |= endpoint["conditions"]["ready"] != false;
    }
    let (all, ready) = (pods.len(), pods.values().filter(|ready| **ready).count());
    let found = format!("{ready} of {all} replicas are ready");
    match ready {
        0 => line("companion", Verdict::Error, found, "kubectl -n pilotfish describe pods"),
        _ if ready < all => line("companion", Verdict::Warning, found, "kubectl -n pilotfish describe pods"),
        _ => line("companion", Verdict::Ok, found, ""),
    }
}

impl<'a> Agent<'a> {
    fn of(object: &'a Value) -> Agent<'a> {
        let count = |name: &str| object[name].as_u64().unwrap_or(0);
        Agent {
            node: text(object, "/metadata/name"),
            state: text(object, "/state"),
            reason: text(object, "/reason"),
            version: text(object, "/version"),
            refused: count("refusedSeries").saturating_add(count("refusedFindings")),
        }
    }
}

fn pushes(agents: &[Agent<'_>]) -> Vec<Line> {
    let (live, all) = (agents.iter().filter(|agent| agent.state == "Live").count(), agents.len());
    let found = format!("{live} of {all} nodes push");
    let mut lines = vec![match live == all && all > 0 {
        true => line("agents", Verdict::Ok, found, ""),
        false => line("agents", Verdict::Error, found, ""),
    }];
    let trouble: Vec<&Agent<'_>> = agents.iter().filter(|agent| agent.state != "Live" || agent.refused > 0).collect();
    for agent in trouble.iter().take(NAMED) {
        let (node, state, reason) = (shown(agent.node), shown(agent.state), shown(agent.reason));
        let (verdict, remedy) = match agent.state {
            "Live" => (Verdict::Warning, "its credential may be in other hands: docs/companion.md".to_owned()),
            "Absent" => (Verdict::Error, "install the agent there, with the cluster's join.toml".to_owned()),
            _ => (Verdict::Error, "`pilotfish status` on the node; one that is gone: kubectl delete node".to_owned()),
        };
        lines.push(line("", verdict, format!("{node}  {state}  {reason}"), remedy));
    }
    if let Some(more @ 1..) = trouble.len().checked_sub(NAMED) {
        lines.push(line("", Verdict::Error, format!("and {more} more: kubectl get nodeagents"), ""));
    }
    lines
}

fn versions(agents: &[Agent<'_>], own: &str) -> Option<Line> {
    let mut by_version: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for agent in agents.iter().filter(|agent| !agent.version.is_empty()) {
        by_version.entry(agent.version).or_default().insert(agent.node);
    }
    if by_version.is_empty() {
        return None;
    }
    let is_one = by_version.len() == 1 && by_version.contains_key(own);
    let of_version = |(version, nodes): (&&str, &BTreeSet<&str>)| {
        let named: Vec<String> = nodes.iter().take(FEW).map(|node| shown(node)).collect();
        let more = match nodes.len().saturating_sub(FEW) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} ({}{more})", shown(version), named.join(", "))
    };
    let found = by_version.iter().map(of_version).collect::<Vec<_>>().join("; ");
    Some(match is_one {
        true => line("versions", Verdict::Ok, own, ""),
        false => {
            let remedy = format!("this program is {own}; neighbouring versions work together: upgrade the oldest");
            line("versions", Verdict::Warning, found, remedy)
        }
    })
}

/// What agents hold for wrong is no fault of the companion or an agent: it is a warning, however bad it is.
fn wrong(findings: &[Value]) -> Line {
    let count = |severity: &str| findings.iter().filter(|finding| finding["severity"] == severity).count();
    let (errors, warnings) = (count("error"), count("warning"));
    let is_wrong = |finding: &&Value| matches!(text(finding, "/severity"), "error" | "warning");
    let nodes: BTreeSet<&str> = findings.iter().filter(is_wrong).map(|finding| text(finding, "/node")).collect();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let found =
        format!("{}, {} on {}", plural(errors, "error"), plural(warnings, "warning"), plural(nodes.len(), "node"));
    match errors + warnings {
        0 => line("findings", Verdict::Ok, "no errors, no warnings", ""),
        _ => line("findings", Verdict::Warning, found, "kubectl get findings -A; -o wide says what to do"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn service(status: &str) -> Found {
        let (reason, message) = ("FailedDiscoveryCheck", "x509: certificate signed by unknown authority");
        let condition = json!({ "type": "Available", "status": status, "reason": reason, "message": message });
        Found::There(json!({ "status": { "conditions": [condition] } }))
    }

    fn slices(ready: &[bool]) -> Found {
        let endpoint =
            |(n, ready)| json!({ "targetRef": { "name": format!("c-{n}") }, "conditions": { "ready": ready } });
        let endpoints: Vec<Value> = ready.iter().enumerate().map(endpoint).collect();
        // Of both families.
        Found::There(json!({ "items": [{ "endpoints": endpoints }, { "endpoints": endpoints }] }))
    }

    fn agent(node: &str, state: &str, reason: &str, version: &str) -> Value {
        json!({ "metadata": { "name": node }, "state": state, "reason": reason, "version": version, "refusedSeries": 0 })
    }

    fn agents(of: &[Value]) -> Found {
        Found::There(json!({ "items": of }))
    }

    #[test]
    fn all_is_well() {
        let live = ["n1", "n2"].map(|node| agent(node, "Live", "", "0.2.0"));
        let report = Report::of(&service("True"), &slices(&[true, true]), &agents(&live), "0.2.0");
        assert_eq!(
            report.page(),
            "api        ok       the API server reaches the companion\n\
             companion  ok       2 of 2 replicas are ready\n\
             agents     ok       2 of 2 nodes push\n\
             versions   ok       0.2.0\n"
        );
        assert_eq!(report.code(), 0);
        assert!(report.json().contains("\"verdict\": \"ok\""));
    }

    #[test]
    fn each_node_that_does_not_push_is_named_with_its_reason() {
        let mut liar = agent("n4", "Live", "5 series are of workloads that have no pod on this node", "0.2.0");
        liar["refusedSeries"] = json!(5);
        let of = [
            agent("n1", "Live", "", "0.2.0"),
            agent("n2", "Silent", "no push for 40 s", "0.1.0"),
            agent("n3", "Absent", "no agent has joined from this node\u{1b}[2J", ""),
            liar,
        ];
        let report = Report::of(&service("True"), &slices(&[true, false]), &agents(&of), "0.2.0");
        let page = report.page();
        for words in [
            "companion  warning  1 of 2 replicas are ready",
            "agents     ERROR    2 of 4 nodes push",
            "n2  Silent  no push for 40 s",
            "n3  Absent  no agent has joined from this node[2J\n",
            "warning  n4  Live  5 series are of workloads that have no pod on this node",
            "versions   warning  0.1.0 (n2); 0.2.0 (n1, n4)",
        ] {
            assert!(page.contains(words), "{words}\n{page}");
        }
        assert_eq!(report.code(), 2);
    }

    #[test]
    fn what_cannot_be_looked_at_is_said_and_what_is_not_there_is_an_error() {
        let forbidden = Found::of(false, b"", b"noise\nError from server (Forbidden): nodeagents is forbidden\n\n");
        let well = agents(&[agent("n1", "Live", "", "0.2.0")]);
        let report = Report::of(&forbidden, &slices(&[true]), &well, "0.2.0");
        assert!(
            report.page().starts_with("api        unknown  Error from server (Forbidden): nodeagents is forbidden\n")
        );
        assert_eq!(report.code(), 3);
        let none = Found::of(false, b"", b"Error from server (NotFound): apiservices \"v1alpha1\" not found\n");
        let no_kind = Found::of(false, b"", b"error: the server doesn't have a resource type \"nodeagents\"\n");
        assert_eq!((&none, &no_kind), (&Found::None, &Found::None));
        let report = Report::of(&none, &Found::None, &no_kind, "0.2.0");
        assert_eq!((report.code(), report.page().matches("ERROR").count()), (2, 3), "{}", report.page());
        let broken = Report::of(&service("False"), &slices(&[]), &agents(&[]), "0.2.0").page();
        assert!(broken.contains("FailedDiscoveryCheck: x509") && broken.contains("0 of 0"), "{broken}");
        assert_eq!(Found::of(true, b"no json", b""), Found::Failed("kubectl printed no JSON".to_owned()));
    }

    #[test]
    fn what_agents_hold_for_wrong_is_a_warning() {
        let finding = |severity: &str, node: &str| json!({ "severity": severity, "node": node });
        let live = agents(&[agent("n1", "Live", "", "0.2.0")]);
        let check = |findings: &Found| {
            let report = Report::of(&service("True"), &slices(&[true]), &live, "0.2.0").with_findings(findings);
            (report.page().lines().find(|line| line.starts_with("findings")).map(str::to_owned), report.code())
        };
        let of = |of: &[Value]| check(&agents(of));
        let all = [finding("error", "n1"), finding("info", "n1"), finding("warning", "n2"), finding("warning", "n2")];
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(of(&all), (said("findings   warning  1 error, 2 warnings on 2 nodes"), 1));
        let fine = said("findings   ok       no errors, no warnings");
        assert_eq!([of(&[]), of(&all[1..2])], [(fine.clone(), 0), (fine, 0)]);
        assert_eq!(check(&Found::None), (None, 0), "a companion of a version before");
        assert_eq!(check(&Found::Failed("refused".to_owned())), (said("findings   unknown  refused"), 3));
    }

    #[test]
    fn many_nodes_are_counted() {
        let of: Vec<Value> =
            (0..50).map(|n| agent(&format!("n{n}"), "Silent", "", if n < 49 { "0.1.0" } else { "0.3.0" })).collect();
        let page = Report::of(&service("True"), &slices(&[true]), &agents(&of), "0.2.0").page();
        assert!(page.contains("and 30 more: kubectl get nodeagents"), "{page}");
        assert!(page.contains("0.1.0 (n0, n1, n10 and 46 more); 0.3.0 (n49)"), "{page}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), ".{0,8}".prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![Just("items"), Just("endpoints"), Just("metadata"), Just("status"), Just("state")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key.prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_shown(a in any_json(), b in any_json(), c in any_json()) {
            let findings = Found::There(c.clone());
            let report = Report::of(&Found::There(a), &Found::There(b), &Found::There(c), "0.2.0");
            let report = report.with_findings(&findings);
            prop_assert!(report.page().chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert!(report.code() <= 3);
        }
    }
}
