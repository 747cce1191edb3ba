//! Real nodes: a kubelet's pods reach each other across nodes and through a Service, and nothing is
//! left of them. Needs root and, once, the minutes that Kubernetes' programs take to build.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed::cluster::{Cluster, ClusterOptions, ControlPlaneOptions, Owner, PodView, kinds, objects, scene};
use testbed::{sweep, until, until_some};

const PATIENCE: Duration = Duration::from_secs(120);

/// Namespaces and control groups that the pods of a node have on the machine now.
fn traces(cluster: &Cluster) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for node in cluster.nodes() {
        for id in node.ctr(&["tasks", "ls", "-q"])?.lines() {
            let groups = ["", "memory", "unified"].map(|root| PathBuf::from("/sys/fs/cgroup").join(root));
            all.extend(groups.map(|root| root.join("k8s.io").join(id)).into_iter().filter(|group| group.exists()));
        }
    }
    Ok(all)
}

#[test]
fn pods_of_two_nodes_reach_each_other_and_leave_nothing() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(2, &ControlPlaneOptions::default(), |step| eprintln!("  {step}"))?;
    let client = cluster.plane().client().clone();
    let deployment = |name, command: &[&str]| scene::workload(&kinds::DEPLOYMENT, name, 2, command);
    client.create(&kinds::DEPLOYMENT, &deployment("api", &["/bin/api"]))?;
    client.create(&kinds::DEPLOYMENT, &deployment("shell", &["/bin/sleep", "1000000"]))?;
    let service =
        client.create(&kinds::SERVICE, &objects::service("default", "api", &[("app", "api")], 8080, false))?;
    let pods = cluster.wait_pods("default", "api-", 2, PATIENCE)?;
    let shells = cluster.wait_pods("default", "shell-", 2, PATIENCE)?;
    assert_ne!(pods[0].node, pods[1].node, "one on each node");
    let owner = Owner::of(&client.read(&kinds::POD, None, &pods[0].name)?["metadata"]["ownerReferences"][0].clone());
    assert_eq!(owner.kind, "ReplicaSet");

    client.create(&kinds::SERVICE, &objects::service("default", "all", &[("app", "api")], 8080, true))?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let by_address = pods.iter().filter_map(|pod| Some(pod.address?.to_string())).chain([address]);
    // A Service by the short name and the long one, and a headless one.
    let by_name = ["api", "api.default.svc.cluster.local", "all"].map(str::to_owned);
    let targets: Vec<String> = by_address.chain(by_name).collect();
    for shell in &shells {
        for target in &targets {
            let server = format!("{target}:8080");
            let get = ["exec", &shell.name, "--", "/bin/loadgen", "--target", &server, "--count", "5"];
            let mut last = String::new();
            let answered = until("an answer", Duration::from_secs(30), || {
                last = cluster.kubectl(&get).unwrap_or_else(|error| format!("{error:#}"));
                last.contains("\"answered\":5")
            });
            answered
                .map_err(|error| error.context(format!("{} on {} asks {server}: {last}", shell.name, shell.node)))?;
        }
    }

    // Off the network, a node is told to be not ready; its pods go on.
    let node = &cluster.nodes()[1];
    node.set_connected(false)?;
    let status = || {
        let object = client.read(&kinds::NODE, None, "n2").ok()?;
        let all = object["status"]["conditions"].as_array()?.clone();
        all.into_iter().find(|one| one["type"] == "Ready")?["status"].as_str().map(str::to_owned)
    };
    until("n2 is missed", PATIENCE, || status().as_deref() == Some("Unknown"))?;
    node.set_connected(true)?;
    until("n2 is back", PATIENCE, || status().as_deref() == Some("True"))?;
    let names = |pods: &[PodView]| pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
    let after = until_some("the same pods", PATIENCE, || cluster.wait_pods("default", "api-", 2, PATIENCE).ok())?;
    assert_eq!(names(&after), names(&pods));

    let found = traces(&cluster)?;
    assert!(found.len() >= 4, "a sandbox and a container for each: {found:?}");
    cluster.plane_mut().kill_api_server();
    // Without an API server, nothing ends in order.
    assert_eq!(cluster.take_down()?, Vec::<String>::new());
    let left: Vec<&PathBuf> = found.iter().filter(|path| path.exists()).collect();
    assert_eq!(left, Vec::<&PathBuf>::new());
    Ok(())
}

#[test]
fn with_few_addresses_a_new_pod_has_the_address_of_one_that_is_gone() -> anyhow::Result<()> {
    let options = ClusterOptions { nodes: 1, control: ControlPlaneOptions::default(), pod_addresses: Some(2) };
    let cluster = Cluster::start_with(&options, |step| eprintln!("  {step}"))?;
    let client = cluster.plane().client();
    let sleeper = |name| scene::workload(&kinds::DEPLOYMENT, name, 1, &["/bin/sleep", "1000000"]);
    let mut addresses = Vec::new();
    for name in ["first", "second", "third"] {
        client.create(&kinds::DEPLOYMENT, &sleeper(name))?;
        addresses.extend(cluster.wait_pods("default", name, 1, PATIENCE)?.first().and_then(|pod| pod.address));
        client.delete_gracefully(&kinds::DEPLOYMENT, None, name)?;
        cluster.wait_pods("default", name, 0, PATIENCE)?;
    }
    assert_eq!((addresses.len(), addresses[0]), (3, addresses[2]), "{addresses:?}");
    assert_ne!(addresses[0], addresses[1]);
    // Who has a certificate needs no token.
    let jane = cluster.plane().kubeconfig_with_certificate("jane", &["system:masters"])?;
    assert_eq!(cluster.kubectl_with(&jane, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?, "jane");
    assert_eq!(cluster.take_down()?, Vec::<String>::new());
    Ok(())
}

/// The other half of the next test: only does something when that one runs it.
#[test]
fn run_that_will_be_killed() -> anyhow::Result<()> {
    let Some(note) = common::note() else { return Ok(()) };
    let cluster = Cluster::start(1, &ControlPlaneOptions::default(), |_| ())?;
    let left = scene::workload(&kinds::DEPLOYMENT, "left", 1, &["/bin/sleep", "1000000"]);
    cluster.plane().client().create(&kinds::DEPLOYMENT, &left)?;
    cluster.wait_pods("default", "left-", 1, PATIENCE)?;
    let mut lines = vec![cluster.plane().id().to_owned(), cluster.plane().dir().display().to_string()];
    lines.extend(traces(&cluster)?.iter().map(|path| path.display().to_string()));
    common::tell(&note, &lines)?;
    until("killed", Duration::from_secs(300), || false)
}

#[test]
fn a_killed_run_is_swept_with_its_nodes_and_pods() -> anyhow::Result<()> {
    let lines = common::killed_run("the run has a pod", Duration::from_secs(300))?;
    let mut lines = lines.iter().map(String::as_str);
    let (id, dir) = (lines.next().unwrap_or_default(), Path::new(lines.next().unwrap_or_default()));
    let traces: Vec<&Path> = lines.map(Path::new).collect();
    assert!(!traces.is_empty() && traces.iter().all(|path| path.exists()), "the pod outlives who made it");
    assert!(sweep::sweep()?.contains(&id.to_owned()));
    assert_eq!(sweep::leftovers(id, dir), Vec::<String>::new());
    assert!(traces.iter().all(|path| !path.exists()), "{traces:?}");
    Ok(())
}
