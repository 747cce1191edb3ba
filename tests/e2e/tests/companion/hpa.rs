//! The HPA without Prometheus: a real controller scales by what the companion adds up, and holds while
//! a node that runs pods says nothing.

use crate::world::{BACK, NODES, World};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testbed::cluster::kinds;
use testbed::cluster::objects::{self, Owner, PodSpec};
use testbed::{Container, PodLabels, scene, until};

const NAMESPACE: &str = "shop";
/// Requests a second at each of the two nodes.
const RATE: u64 = 20;
/// Of a replica: 40 requests a second are for 3, and those of one node alone would be for 2.
const TARGET: u64 = 15;
const REPLICAS: u64 = 3;
const METRIC: &str = "http_requests_per_second";
/// The controller looks each second; a hold is one when it has looked some times.
const LOOKS: Duration = Duration::from_secs(5);

/// The groups as an admin adds them, and Deployments whose pods run at both nodes. Returns generators at
/// their gates.
pub fn install(world: &mut World) -> Result<Vec<Container>> {
    let listed = world.kubectl(&["get", "apiservices", "-o", "json"])?;
    for (group, version) in [("custom-metrics", "v1beta2.custom"), ("external-metrics", "v1beta1.external")] {
        world.create(&world.companion.api_service(group, "companion", &listed)?)?;
        let service = format!("apiservice/{version}.metrics.k8s.io");
        world.kubectl(&["wait", "--for=condition=Available", "--timeout=90s", &service])?;
    }
    // Now another provider would be the second one.
    let listed = world.kubectl(&["get", "apiservices", "-o", "json"])?;
    let refused = world.companion.api_service("custom-metrics", "adapter", &listed);
    ensure!(refused.is_err_and(|error| error.to_string().contains("a cluster has one provider")), "taken over");

    let client = world.plane.client().clone();
    client.create(&kinds::NAMESPACE, &objects::namespace(NAMESPACE))?;
    let deployment = client.create(&kinds::DEPLOYMENT, &objects::deployment(NAMESPACE, "web"))?;
    client.create(&kinds::DEPLOYMENT, &objects::deployment(NAMESPACE, "worker"))?;
    for name in ["web", "worker"] {
        // There is nobody else who says so.
        let status = json!({ "status": { "replicas": 1 } });
        client.patch_status(&kinds::DEPLOYMENT, Some(NAMESPACE), name, &status)?;
    }
    let set = client.create(&kinds::REPLICA_SET, &objects::replica_set(NAMESPACE, &Owner::of(&deployment), "5d4c"))?;
    let (mut generators, mut endpoints) = (Vec::new(), Vec::new());
    for (place, node) in NODES.iter().enumerate() {
        let name = format!("web-5d4c-{place}");
        let pod = PodSpec::new(&name, node, &[]).in_namespace(NAMESPACE);
        let mut pod = pod.label("pod-template-hash", "5d4c").owned_by(&Owner::of(&set));
        let uid = client.create(&kinds::POD, &pod.object())?["metadata"]["uid"].clone();
        let labels = PodLabels {
            namespace: NAMESPACE.to_owned(),
            name: name.clone(),
            uid: uid.as_str().context("a uid")?.to_owned(),
        };
        let (rate, caller) = (RATE.to_string(), format!("caller{place}"));
        let (server, generator) = world.pair_of(place, &labels, &caller, &["--rate", &rate, "--for", "1200"])?;
        pod.addresses = vec![server.address.into()];
        client.patch_status(&kinds::POD, Some(NAMESPACE), &name, &pod.running_status())?;
        endpoints.push(json!({
            "addresses": [server.address], "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": name, "namespace": NAMESPACE, "uid": uid },
        }));
        generators.push(generator);
    }
    client.create(&kinds::SERVICE, &objects::service(NAMESPACE, "web", &[("app", "web")], 8080, false))?;
    let mut slice = objects::endpoint_slice(NAMESPACE, "web", 8080, &[]);
    slice["endpoints"] = endpoints.into();
    client.create(&kinds::ENDPOINT_SLICE, &slice)?;
    Ok(generators)
}

/// Down to the minimum at once, if anything said so.
fn autoscaler(name: &str, metric: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}\n  minReplicas: 1\n  \
         maxReplicas: 9\n  behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}\n  metrics:\n  - {metric}\n"
    )
}

/// By an object and by labels, and what a person reads of it.
pub fn scales_up(world: &mut World) -> Result<()> {
    world.start_autoscaler()?;
    let object = format!(
        "{{type: Object, object: {{describedObject: {{apiVersion: apps/v1, kind: Deployment, name: web}}, \
         metric: {{name: {METRIC}}}, target: {{type: AverageValue, averageValue: {TARGET}}}}}}}"
    );
    let labels = format!(
        "{{type: External, external: {{metric: {{name: {METRIC}, selector: {{matchLabels: {{service: web}}}}}}, \
         target: {{type: AverageValue, averageValue: {TARGET}}}}}}}"
    );
    world.apply(&autoscaler("web", &object))?;
    world.apply(&autoscaler("worker", &labels))?;
    for name in ["web", "worker"] {
        let mut seen = 0;
        until(&format!("{name} is scaled up"), BACK, || {
            seen = replicas(world, name).unwrap_or(0);
            seen == REPLICAS
        })
        .with_context(|| format!("{seen} replicas; {}", autoscaler_says(world, name)))?;
    }
    let shown = world.kubectl(&["get", "hpa", "-n", NAMESPACE])?;
    ensure!(shown.contains("(avg)") && !shown.contains("<unknown>"), "{shown}");
    for object in ["deployments.apps/web", "services/web", "workloadtraffic.traffic.pilotfish.io/web"] {
        let value = figure(world, object, METRIC)?;
        ensure!(value.ends_with('m'), "{object}: {value}");
        let p95 = figure(world, object, "http_request_duration_seconds_p95")?;
        ensure!(p95.ends_with('u') && p95 != "0u", "{object}: {p95}");
    }
    let path =
        format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/{METRIC}?labelSelector=workload%3Dweb");
    ensure!(world.kubectl(&["get", "--raw", &path])?.contains("ExternalMetricValueList"), "no external figure");
    // Rights are the API server's.
    let bob = world.kubectl(&["get", "--raw", &path, "--as", "bob"]);
    ensure!(bob.is_err_and(|error| error.to_string().contains("forbidden")), "bob reads figures");
    Ok(())
}

fn path(object: &str, metric: &str) -> String {
    format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{NAMESPACE}/{object}/{metric}")
}

fn figure(world: &World, object: &str, metric: &str) -> Result<String> {
    let told: Value = serde_json::from_str(&world.kubectl(&["get", "--raw", &path(object, metric)])?)?;
    Ok(told["items"][0]["value"].as_str().with_context(|| told.to_string())?.to_owned())
}

/// What kubectl prints where there is none.
fn missing(world: &World) -> String {
    let told = world.kubectl(&["get", "--raw", &path("deployments.apps/web", METRIC)]);
    told.map_or_else(|error| format!("{error:#}"), |_| String::new())
}

fn replicas(world: &World, name: &str) -> Option<u64> {
    let deployment = world.plane.client().read(&kinds::DEPLOYMENT, Some(NAMESPACE), name).ok()?;
    deployment["spec"]["replicas"].as_u64()
}

fn autoscaler_says(world: &World, name: &str) -> String {
    let conditions = ["get", "hpa", name, "-n", NAMESPACE, "-o", "jsonpath={.status.conditions}"];
    world.kubectl(&conditions).unwrap_or_else(|error| format!("{error:#}"))
}

/// Of both Deployments. None is ever fewer than the load is for.
fn lowest(world: &World) -> u64 {
    ["web", "worker"].into_iter().filter_map(|name| replicas(world, name)).min().unwrap_or(REPLICAS)
}

/// A node falls silent: replicas stay, for the load does. One without an agent is told of, too.
pub fn holds(world: &mut World) -> Result<()> {
    world.agents[1].kill();
    let mut told = String::new();
    let mut look = |world: &World| {
        told = missing(world);
        lowest(world) < REPLICAS || told.contains("node n2 runs pods of it, and it has been silent for ")
    };
    until("the node that is silent is named", BACK, || look(world))?;
    until("the autoscaler says so", BACK, || look(world) && autoscaler_says(world, "web").contains("node n2"))?;
    let since = Instant::now();
    until("the controller looks some times", BACK, || {
        look(world);
        since.elapsed() > LOOKS
    })?;
    ensure!(lowest(world) == REPLICAS, "{} replicas while a node was silent; {told}", lowest(world));
    let says = autoscaler_says(world, "worker");
    ensure!(says.contains("FailedGetExternalMetric") && says.contains("node n2"), "{says}");

    is_killed_and_back(world, 1, Duration::ZERO)?;
    uncovered(world)?;
    until("replicas are as before", BACK, || ["web", "worker"].map(|name| replicas(world, name)) == [Some(REPLICAS); 2])
        .with_context(|| autoscaler_says(world, "web"))
}

/// The agent of a node is killed and begins anew, without the names of its last run. Its connections
/// go on meanwhile, and the controller looks each second.
pub fn is_killed_and_back(world: &mut World, place: usize, after: Duration) -> Result<()> {
    world.agents[place].kill();
    std::thread::sleep(after);
    world.forget_names(place)?;
    world.agents[place].start_again(&world.bed)?;
    world.wait_joined(place)?;
    // It is not whole at once, and says so; the figures after that are.
    let mut figures = Vec::new();
    let (mut since, whole) = (None, Duration::from_secs(15));
    until("figures are told again, and hold", BACK, || {
        let told = ["deployments.apps/web", "services/web"].map(|object| figure(world, object, METRIC));
        if let [Ok(workload), Ok(service)] = told {
            figures.push(format!("{workload} {service}"));
            since.get_or_insert_with(Instant::now);
        }
        lowest(world) < REPLICAS || since.is_some_and(|since| since.elapsed() > whole)
    })
    .with_context(|| missing(world))?;
    ensure!(lowest(world) == REPLICAS, "{} replicas after a restart; {figures:?}", lowest(world));
    Ok(())
}

/// Nothing was ever scaled down: the load has been the same all the time.
fn was_never_scaled_down(world: &World) -> Result<()> {
    let events = ["get", "events", "-n", NAMESPACE, "--field-selector", "reason=SuccessfulRescale", "-o"];
    let told = world.kubectl(&[&events[..], &["jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]].concat())?;
    ensure!(told.contains("above target") && !told.contains("below target"), "{told}");
    Ok(())
}

fn uncovered(world: &World) -> Result<()> {
    let client = world.plane.client();
    objects::create_node(client, "n9", "192.0.2.9".parse()?)?;
    let set = client.read(&kinds::REPLICA_SET, Some(NAMESPACE), "web-5d4c")?;
    let pod = PodSpec::new("web-5d4c-9", "n9", &["10.77.0.9".parse()?]).in_namespace(NAMESPACE);
    pod.label("pod-template-hash", "5d4c").owned_by(&Owner::of(&set)).create_running(client)?;
    until("the node without an agent is named", BACK, || {
        missing(world).contains("node n9 runs pods of it, and no agent has joined from it")
    })?;
    // A node that was deleted is neither silent nor uncovered, though its pod is still there.
    client.delete(&kinds::NODE, None, "n9")?;
    until("a figure is told again", BACK, || figure(world, "deployments.apps/web", METRIC).is_ok())
        .with_context(|| missing(world))?;
    client.delete(&kinds::POD, Some(NAMESPACE), "web-5d4c-9")
}

/// Their load ends, and what scales by it.
pub fn end(world: &mut World, generators: &[Container]) -> Result<()> {
    was_never_scaled_down(world)?;
    world.kubectl(&["delete", "hpa", "--all", "-n", NAMESPACE])?;
    world.autoscaler = None;
    for generator in generators {
        scene::final_line(&world.bed, generator, e2e::PATIENCE)?;
    }
    Ok(())
}
