//! What there is, as constants: they depend on no data, so that nothing that fails here takes the
//! group away from the API server.

use super::answer::Answer;
use super::finding;
use super::kind::{GROUP, Kind, VERSION};
use serde_json::{Value, json};

/// A constant document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group,
    /// `/apis/GROUP/VERSION`
    Resources,
    /// `/openapi/v2`
    OpenApi2,
    /// `/openapi/v3`
    OpenApi3,
    /// `/openapi/v3/apis/GROUP/VERSION`
    OpenApi3Group,
    /// `/readyz`, `/livez` and `/healthz`
    Health,
}

impl Document {
    pub(super) fn at(path: &str) -> Option<Document> {
        Some(match path.trim_end_matches('/') {
            "/apis" => Document::Groups,
            "/apis/traffic.pilotfish.io" => Document::Group,
            "/apis/traffic.pilotfish.io/v1alpha1" => Document::Resources,
            "/openapi/v2" => Document::OpenApi2,
            "/openapi/v3" => Document::OpenApi3,
            "/openapi/v3/apis/traffic.pilotfish.io/v1alpha1" => Document::OpenApi3Group,
            "/readyz" | "/livez" | "/healthz" => Document::Health,
            _ => return None,
        })
    }
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub(super) fn answer(document: Document, accept_v2: bool) -> Answer {
    match document {
        Document::Groups if accept_v2 => Answer { content_type: AGGREGATED, ..Answer::json(aggregated()) },
        Document::Groups => Answer::json(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] })),
        Document::Group => Answer::json(group()),
        Document::Resources => Answer::json(resources()),
        Document::OpenApi2 => Answer::json(json!({
            "swagger": "2.0", "info": { "title": "pilotfish companion", "version": VERSION }, "paths": {},
            "definitions": schemas("#/definitions/"),
        })),
        Document::OpenApi3 => Answer::json(json!({
            "paths": { format!("apis/{GROUP}/{VERSION}"): {
                "serverRelativeURL": format!("/openapi/v3/apis/{GROUP}/{VERSION}?hash={}", env!("CARGO_PKG_VERSION")),
            } },
        })),
        Document::OpenApi3Group => Answer::json(json!({
            "openapi": "3.0.0", "info": { "title": "pilotfish companion", "version": VERSION }, "paths": paths(),
            "components": { "schemas": schemas("#/components/schemas/") },
        })),
        Document::Health => Answer::json(json!("ok")),
    }
}

fn group() -> Value {
    let version = json!({ "groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION });
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version,
    })
}

const VERBS: [&str; 3] = ["get", "list", "watch"];

fn short(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::WorkloadTraffic => &["wt"],
        Kind::Edge | Kind::NodeAgent | Kind::Finding => &[],
    }
}

fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::WorkloadTraffic => "workloadtraffic",
        Kind::Edge => "edge",
        Kind::NodeAgent => "nodeagent",
        Kind::Finding => "finding",
    }
}

/// `kubectl get pilotfish` shows the traffic of a namespace, and what is wrong in it.
fn categories(kind: Kind) -> &'static [&'static str] {
    if kind.is_namespaced() { &["pilotfish"] } else { &[] }
}

fn resources() -> Value {
    let one = |kind: Kind| {
        json!({
            "name": kind.resource(), "singularName": singular(kind), "namespaced": kind.is_namespaced(), "kind": kind.name(),
            "verbs": VERBS, "shortNames": short(kind), "categories": categories(kind),
        })
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": Kind::ALL.map(one),
    })
}

fn scope(kind: Kind) -> &'static str {
    if kind.is_namespaced() { "Namespaced" } else { "Cluster" }
}

fn aggregated() -> Value {
    let one = |kind: Kind| {
        json!({
            "resource": kind.resource(), "singularResource": singular(kind), "scope": scope(kind), "verbs": VERBS,
            "responseKind": { "group": GROUP, "version": VERSION, "kind": kind.name() },
            "shortNames": short(kind), "categories": categories(kind),
        })
    };
    let version = json!({ "version": VERSION, "freshness": "Current", "resources": Kind::ALL.map(one) });
    let item = json!({ "metadata": { "name": GROUP }, "versions": [version] });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [item],
    })
}

fn schema_name(kind: Kind) -> String {
    format!("io.pilotfish.traffic.{VERSION}.{}", kind.name())
}

/// Enough for `kubectl explain`.
fn schemas(prefix: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let number = |description: &str| json!({ "type": "number", "description": description });
    let object = |description: &str, properties: Value| json!({ "type": "object", "description": description, "properties": properties });
    let end = |description: &str| {
        let properties = json!({
            "name": text("Of the workload, or of who is outside."),
            "namespace": text("Where it has one."),
            "kind": text("Deployment, StatefulSet, External .."),
        });
        object(description, properties)
    };
    let golden = object(
        "What happened in the last minute, added up over the nodes.",
        json!({
            "requests": number("Exchanges."),
            "failures": number("Those that failed."),
            "requestsPerSecond": number("Rate."),
            "successRate": number("From 0 to 1; absent without requests."),
            "p50Seconds": number("Half of the answers were as quick; at most 1.1 % off."),
            "p95Seconds": number("As p50Seconds."),
            "p99Seconds": number("As p50Seconds."),
            "tcpConnections": number("Open now."),
            "bytes": number("IP bytes, both ways."),
        }),
    );
    let nodes = object(
        "The nodes whose agents saw a part of it. Fewer live than all: the figures say less than there is.",
        json!({ "live": number("Push now."), "all": number("Have a part.") }),
    );
    let mut all = serde_json::Map::new();
    for kind in Kind::ALL {
        let mut properties = json!({
            "apiVersion": text("traffic.pilotfish.io/v1alpha1"),
            "kind": text(kind.name()),
            "metadata": object("Name, namespace and labels.", json!({})),
        });
        let more = match kind {
            Kind::WorkloadTraffic => json!({ "golden": golden, "nodes": nodes, "workload": end("Who was asked.") }),
            Kind::Edge => json!({
                "golden": golden,
                "nodes": nodes,
                "client": end("Who asked."),
                "server": end("Who was asked."),
                "service": text("By which Service, where one is known."),
                "protocol": text("http, dns, rpc, db, .. tcp or udp where none is read."),
                "reporter": text("At which end it was seen: client or server."),
            }),
            Kind::NodeAgent => json!({
                "state": text("Live: it pushes. Silent: three pushes are missing. Ended: it said why. Absent: none has joined from this node."),
                "reason": text("Why nothing comes from it."),
                "version": text("Of the agent."),
                "series": number("Of it, kept by the companion."),
                "refusedSeries": number("Of these, those of workloads that have pods on other nodes alone: neither counted nor shown."),
                "refusedFindings": number("Findings of such workloads, which are not shown."),
            }),
            Kind::Finding => finding::properties(),
        };
        if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
            properties.extend(more);
        }
        let description = match kind {
            Kind::WorkloadTraffic => "What a workload did as a server in the last minute.",
            Kind::Edge => "Who asked whom in the last minute, and how that went.",
            Kind::NodeAgent => "Whether a node is told of: its agent, or that it has none.",
            Kind::Finding => {
                "What the agent of a node holds for wrong there. Those of the node itself are in namespace default, as its Events are."
            }
        };
        let mut schema = object(description, properties);
        schema["x-kubernetes-group-version-kind"] =
            json!([{ "group": GROUP, "version": VERSION, "kind": kind.name() }]);
        all.insert(schema_name(kind), schema);
        let list = object(
            "A list.",
            json!({ "items": { "type": "array", "items": { "$ref": format!("{prefix}{}", schema_name(kind)) } } }),
        );
        all.insert(format!("{}List", schema_name(kind)), list);
    }
    Value::Object(all)
}

/// kubectl explain finds the kind of a resource by its paths.
fn paths() -> Value {
    let mut all = serde_json::Map::new();
    for kind in Kind::ALL {
        let content = |name: String| {
            let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
            json!({ "200": { "description": "OK", "content": { "application/json": { "schema": schema } } } })
        };
        let operation = |action: &str, responses: Value| {
            json!({ "get": {
                "responses": responses,
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": { "group": GROUP, "version": VERSION, "kind": kind.name() },
            } })
        };
        let within = if kind.is_namespaced() { "namespaces/{namespace}/" } else { "" };
        let base = format!("/apis/{GROUP}/{VERSION}/{within}{}", kind.resource());
        all.insert(base.clone(), operation("list", content(format!("{}List", schema_name(kind)))));
        all.insert(format!("{base}/{{name}}"), operation("get", content(schema_name(kind))));
    }
    Value::Object(all)
}
