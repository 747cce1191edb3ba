//! Two proxies on two nodes that are each other's upstream, through their Services: what the companion says of that
//! when it is told by real agents, and that it says nothing while the second one leads to a server. By command, for
//! ten minutes: `cargo test -p e2e --test kubernetes_nodes -- --ignored --nocapture lead_to_each_other`.

use super::PATIENCE;
use anyhow::{Context, Result, ensure};
use e2e::alone;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testbed::cluster::companion::{self, With, kubectl};
use testbed::cluster::{Cluster, kinds, objects, scene};
use testbed::until;

const GROUPS: [(&str, &str); 1] = [("traffic", "v1alpha1.traffic.pilotfish.io")];
/// The window that is looked at and the time for which it has to hold, and some pushes.
const LOOKED: Duration = Duration::from_secs(90 + 90 + 30);
/// So many hops end a request that goes in a circle: two connections of a proxy for each.
const CONNECTIONS: u32 = 128;

fn proxy(name: &str, node: &str, upstream: &str) -> Value {
    let conf = format!(
        "daemon off; master_process off; worker_processes 1; pid /tmp/nginx.pid; error_log /dev/null;\n\
         events {{ worker_connections {CONNECTIONS}; }}\n\
         http {{ access_log off; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;\n\
         fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;\n\
         server {{ listen 8080; location / {{ proxy_pass http://{upstream}:8080; }} }} }}\n"
    );
    let command = ["/bin/sh", "-c", "printf %s \"$0\" > /tmp/nginx.conf && exec /bin/nginx -c /tmp/nginx.conf", &conf];
    let mut object = scene::workload(&kinds::DEPLOYMENT, name, 1, &command);
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    object
}

/// What the companion holds for wrong, beyond remarks.
fn findings(cluster: &Cluster) -> Result<Vec<Value>> {
    let told: Value = serde_json::from_str(&kubectl(cluster, &["get", "findings", "-A", "-o", "json"])?)?;
    Ok(told["items"].as_array().into_iter().flatten().filter(|one| one["severity"] != "info").cloned().collect())
}

#[test]
#[ignore = "a measurement"]
fn proxies_that_lead_to_each_other_are_found_and_those_that_lead_to_a_server_are_fine() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(2, &companion::control(), |step| eprintln!("  {step}"))?;
    let archive = cluster.plane().dir().join("companion.tar");
    companion::make_image(&archive)?;
    companion::load(&cluster, &archive)?;
    companion::install(&cluster, With::Traffic)?;
    let agents = companion::join(&cluster)?;
    companion::aggregate(&cluster, &GROUPS)?;

    let client = cluster.plane().client();
    let mut at = Vec::new();
    for name in ["a", "b", "api"] {
        let service = objects::service(scene::NAMESPACE, name, &[("app", name)], 8080, false);
        let made = client.create(&kinds::SERVICE, &service)?;
        at.push(made["spec"]["clusterIP"].as_str().context("a ClusterIP")?.to_owned());
    }
    let [a, b, api] = <[String; 3]>::try_from(at).ok().context("three addresses")?;
    let deployment = |object: &Value| client.create(&kinds::DEPLOYMENT, object).map(drop);
    deployment(&scene::workload(&kinds::DEPLOYMENT, "api", 1, &["/bin/api"]))?;
    deployment(&proxy("b", "n2", &api))?;
    deployment(&proxy("a", "n1", &b))?;
    for name in ["api-", "a-", "b-"] {
        cluster.wait_pods(scene::NAMESPACE, name, 1, PATIENCE)?;
    }
    let asks = ["/bin/loadgen", "--rate", "1", "--connections", "1", "--target", &format!("{a}:8080")];
    deployment(&scene::workload(&kinds::DEPLOYMENT, "web", 1, &asks))?;
    cluster.wait_pods(scene::NAMESPACE, "web-", 1, PATIENCE)?;
    let began = Instant::now();
    while began.elapsed() < LOOKED {
        std::thread::sleep(Duration::from_secs(10));
        let found = findings(&cluster)?;
        ensure!(found.is_empty(), "nothing is wrong: {found:#?}");
    }
    eprintln!("  nothing was found while b leads to a server");

    // Somebody writes the wrong name.
    client.delete_gracefully(&kinds::DEPLOYMENT, Some(scene::NAMESPACE), "b")?;
    until("b is gone", PATIENCE, || {
        cluster.pods(scene::NAMESPACE).is_ok_and(|pods| pods.iter().all(|pod| !pod.name.starts_with("b-")))
    })?;
    deployment(&proxy("b", "n2", &a))?;
    cluster.wait_pods(scene::NAMESPACE, "b-", 1, PATIENCE)?;
    let (began, mut found) = (Instant::now(), Vec::new());
    until("the circle is found", LOOKED * 2, || {
        std::thread::sleep(Duration::from_secs(5));
        found = findings(&cluster).unwrap_or_default();
        found.iter().any(|one| one["summary"].as_str().is_some_and(|summary| summary.contains("goes in a circle")))
    })
    .with_context(|| {
        let edges: Vec<String> = agents.iter().map(|agent| agent.cli(&["edges"]).unwrap_or_default()).collect();
        format!("{found:#?}\n{}", edges.join("\n"))
    })?;
    for one in &found {
        eprintln!("  after {} s: {} {}", began.elapsed().as_secs(), one["severity"], one["summary"]);
    }
    drop(agents);
    ensure!(cluster.take_down()?.is_empty());
    Ok(())
}
