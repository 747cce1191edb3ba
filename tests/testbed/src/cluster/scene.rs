//! Workloads for the demo and the end-to-end tests, one of each kind that names have to be found for:
//!
//! | client | server |
//! |---|---|
//! | Deployment `frontend` | Service `api`: Deployment `api`, two pods on different nodes where there are two |
//! | Deployment `api` | Service `redis`: Deployment `redis` |
//! | Deployment `worker` | a pod of StatefulSet `store`, behind the headless Service `store`, by its own address |
//! | CronJob `tick` (a Job of it runs at once) | Service `api` |
//! | DaemonSet `edge`, on the nodes' own network | Service `api` |

use super::kinds;
use super::nodes::{Cluster, IMAGE};
use super::objects::{self, Owner};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::Duration;

pub const NAMESPACE: &str = "default";

/// A step of the scene may start images, addresses and programs on a machine that others use, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clients' requests a second, each: many enough to see, few enough for two processors.
const RATE: &str = "20";

/// Starts all of it, servers before their clients, and waits until every pod is ready. `progress`
/// is told what comes next.
pub fn start(cluster: &Cluster, mut progress: impl FnMut(&str)) -> Result<()> {
    let client = cluster.plane().client();
    let create = |kind, object: Value| client.create(kind, &object).map(drop).context(format!("create {}", kind.kind));
    // Before the pods, which find a Service's address in their environment.
    for (name, port, headless) in [("redis", 6379, false), ("api", 8080, false), ("store", 8080, true)] {
        create(&kinds::SERVICE, objects::service(NAMESPACE, name, &[("app", name)], port, headless))?;
    }
    progress("starting redis, two pods of api, a StatefulSet");
    let redis = ["/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    create(&kinds::DEPLOYMENT, workload(&kinds::DEPLOYMENT, "redis", 1, &redis))?;
    create(&kinds::STATEFUL_SET, workload(&kinds::STATEFUL_SET, "store", 1, &["/bin/api"]))?;
    cluster.wait_pods(NAMESPACE, "redis-", 1, PATIENCE)?;
    let api = ["/bin/api", "--redis", "$(REDIS_SERVICE_HOST):6379"];
    create(&kinds::DEPLOYMENT, workload(&kinds::DEPLOYMENT, "api", 2, &api))?;
    cluster.wait_pods(NAMESPACE, "api-", 2, PATIENCE)?;
    let store = cluster.wait_pods(NAMESPACE, "store-", 1, PATIENCE)?;
    let store = store.first().and_then(|pod| pod.address).context("a ready pod has an address")?;
    progress("starting frontend, worker, a CronJob, a pod on each node's own network");
    let load =
        |target: &str| ["/bin/loadgen", "--rate", RATE, "--connections", "4", "--target", target].map(str::to_owned);
    let (to_api, to_store) = (load("$(API_SERVICE_HOST):8080"), load(&format!("{store}:8080")));
    create(&kinds::DEPLOYMENT, workload(&kinds::DEPLOYMENT, "frontend", 1, &to_api))?;
    create(&kinds::DEPLOYMENT, workload(&kinds::DEPLOYMENT, "worker", 1, &to_store))?;
    let mut edge = workload(&kinds::DAEMON_SET, "edge", 1, &to_api);
    edge["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    create(&kinds::DAEMON_SET, edge)?;
    let once = ["/bin/loadgen", "--rate", RATE, "--count", "100", "--target", "$(API_SERVICE_HOST):8080"];
    let mut pod = pod_spec(&once);
    pod["restartPolicy"] = "Never".into();
    let job = json!({"template": {"metadata": {"labels": {"app": "tick"}}, "spec": pod}});
    let mut cron = objects::cron_job(NAMESPACE, "tick");
    cron["spec"]["jobTemplate"]["spec"] = job.clone();
    let cron = client.create(&kinds::CRON_JOB, &cron)?;
    // What the controller does at each full minute, and `kubectl create job --from` at any time.
    let mut now = objects::job(NAMESPACE, "tick-now", Some(&Owner::of(&cron)));
    now["spec"] = job;
    create(&kinds::JOB, now)?;
    for (prefix, count) in [("frontend-", 1), ("worker-", 1), ("edge-", cluster.nodes().len())] {
        cluster.wait_pods(NAMESPACE, prefix, count, PATIENCE)?;
    }
    Ok(())
}

fn pod_spec<S: AsRef<str>>(command: &[S]) -> Value {
    let command: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
    json!({
        // busybox and others do not listen to SIGTERM as a first process.
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": command}],
    })
}

/// A Deployment, StatefulSet or DaemonSet called `name`, its pods on as many nodes as there are.
#[must_use]
pub fn workload<S: AsRef<str>>(kind: &kinds::Kind, name: &str, replicas: u32, command: &[S]) -> Value {
    let mut pod = pod_spec(command);
    let selector = json!({"matchLabels": {"app": name}});
    if *kind != kinds::DAEMON_SET {
        pod["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector,
        }]);
    }
    let mut object = json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": selector, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}},
    });
    if *kind != kinds::DAEMON_SET {
        object["spec"]["replicas"] = replicas.into();
    }
    if *kind == kinds::STATEFUL_SET {
        object["spec"]["serviceName"] = name.into();
    }
    object
}
