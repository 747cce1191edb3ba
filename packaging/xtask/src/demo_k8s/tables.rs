//! What kubectl shows of the demo.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::cluster::companion::kubectl;
use testbed::cluster::{Cluster, kinds, scene};

/// Pods of `api` that the scene begins with.
pub const REPLICAS: u64 = 2;
/// Requests a second for a pod: `api` gets some 60, which are for three.
const TARGET: u64 = 25;

/// As docs/companion.md shows one.
pub fn autoscaler() -> String {
    let api = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"});
    let metric = json!({
        "describedObject": api, "metric": {"name": "http_requests_per_second"},
        "target": {"type": "AverageValue", "averageValue": TARGET.to_string()},
    });
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "api", "namespace": scene::NAMESPACE},
        "spec": {
            "scaleTargetRef": api, "minReplicas": REPLICAS, "maxReplicas": 4,
            "metrics": [{"type": "Object", "object": metric}],
        },
    })
    .to_string()
}

/// Pods that `api` is to have.
pub fn replicas(cluster: &Cluster) -> Result<u64> {
    let api = cluster.plane().client().read(&kinds::DEPLOYMENT, Some(scene::NAMESPACE), "api")?;
    api["spec"]["replicas"].as_u64().context("replicas of api")
}

/// Each as a person would ask for it.
pub fn page(cluster: &Cluster) -> Result<String> {
    let mut page = String::new();
    for command in ["get workloadtraffic -A", "get edges", "get hpa", "get nodeagents", "get findings -A"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        // What cannot be told now is, a moment later.
        let told = kubectl(cluster, &arguments).unwrap_or_else(|error| format!("{error:#}"));
        let told = if told.trim().is_empty() { "No resources found" } else { told.trim_end() };
        page += &format!("$ kubectl {command}\n{told}\n\n");
    }
    Ok(page.trim_end().to_owned())
}

/// What agents hold for wrong, beyond remarks: severity, name and message.
pub fn findings(cluster: &Cluster) -> Result<Vec<String>> {
    let told: Value = serde_json::from_str(&kubectl(cluster, &["get", "findings", "-A", "-o", "json"])?)?;
    let all = told["items"].as_array().context("items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let beyond = all.iter().filter(|finding| finding["severity"] != "info");
    Ok(beyond
        .map(|finding| {
            let [severity, name, summary] =
                [&finding["severity"], &finding["metadata"]["name"], &finding["summary"]].map(text);
            format!("{severity} {name}: {summary}")
        })
        .collect())
}
