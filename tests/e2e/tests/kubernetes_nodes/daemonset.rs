//! The agent as a DaemonSet, by the steps of docs/install.md: its image is loaded, the manifests are
//! applied as they are shipped, the pods join by their own tokens. Beside an agent of the host neither
//! starts, and when the DaemonSet is deleted nothing stays behind.

use super::PATIENCE;
use super::companion::scrape;
use agent_api::{EdgeRow, Status};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use testbed::cluster::companion::{done, kubectl, load};
use testbed::cluster::{Cluster, Node, kinds, scene};
use testbed::{Agent, AgentOptions, Exposition, built_binary, filters_in, installed, until, until_some};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/agent");
/// For nodes that are laid out otherwise, and what each changes in the pod (RFC 6901).
const OTHERS: [(&str, &str, &str); 3] = [
    ("k3s", "/volumes/0/hostPath/path", "/run/k3s/containerd"),
    ("bottlerocket", "/containers/0/securityContext/seLinuxOptions/type", "control_t"),
    ("selinux", "/containers/0/securityContext/seLinuxOptions/type", "spc_t"),
];
const NAMESPACE: &str = "pilotfish";
/// What the Job sends, after its pod is attached to.
const SENT: u64 = 300;

/// Made while other things are waited for.
pub struct Image {
    make: Child,
    archive: PathBuf,
}

pub fn make_image(cluster: &Cluster) -> Result<Image> {
    let archive = cluster.plane().dir().join("agent.tar");
    let mut make = Command::new(built_binary("xtask")?);
    make.args(["image", "--agent", "--binary"]).arg(built_binary("pilotfish")?).arg("--output").arg(&archive);
    Ok(Image { make: make.stdin(Stdio::null()).spawn()?, archive })
}

/// `agents` are the host's, and push to the companion at `address`.
pub fn takes_the_place_of(cluster: &Cluster, agents: Vec<Agent>, image: Image, address: &str) -> Result<()> {
    let Image { mut make, archive } = image;
    ensure!(make.wait()?.success(), "no image of the agent was made");
    load(cluster, &archive)?;
    let [mut stays, mut goes] = <[Agent; 2]>::try_from(agents).ok().context("an agent on each node")?;
    let [first, second] = cluster.nodes() else { anyhow::bail!("two nodes") };
    ensure!(goes.stop() == Some(0), "{}", goes.log_text());
    kubectl(cluster, &["apply", "--server-side", "-k", MANIFESTS])?;
    for (place, path, value) in OTHERS {
        let manifests = format!("{MANIFESTS}-{place}");
        let dry = ["apply", "--server-side", "--dry-run=server", "-o", "json", "-k", &manifests];
        let taken: Value = serde_json::from_str(&kubectl(cluster, &dry)?)?;
        let mut items = taken["items"].as_array().into_iter().flatten();
        let agents = items.find(|item| item["kind"] == "DaemonSet").context("the DaemonSet")?;
        let found = agents["spec"]["template"]["spec"].pointer(path);
        ensure!(found.is_some_and(|found| found == value), "{place}: {agents:#}");
    }
    refused_beside(cluster, first, &stays)?;
    pod_ready_on(cluster, second)?;
    refuses_an_agent_of_the_host(cluster, second)?;
    eprintln!("  neither an agent's pod nor the host's starts beside the other");
    ensure!(stays.stop() == Some(0), "{}", stays.log_text());
    // The kubelet would try again by itself, later and later.
    let refused = pod_on(cluster, first)?.context("a pod on the first node")?;
    kubectl(cluster, &["-n", NAMESPACE, "delete", "pod", "--wait=false", &name(&refused)])?;
    let counts = start_job(cluster)?;
    pod_ready_on(cluster, first)?;
    for node in cluster.nodes() {
        joined(cluster, node)?;
    }
    counted_whole(cluster, &counts, address)?;
    eprintln!("  its pods have joined, and count what a Job sends");
    nothing_stays(cluster)
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The agent's pod there, if it is not on its way out.
fn pod_on(cluster: &Cluster, node: &Node) -> Result<Option<Value>> {
    let pods = cluster.plane().client().list(&kinds::POD, Some(NAMESPACE))?;
    let is_it = |pod: &Value| {
        pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pilotfish"
            && pod["spec"]["nodeName"] == node.name()
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    Ok(pods.into_iter().find(is_it))
}

fn pod_ready_on(cluster: &Cluster, node: &Node) -> Result<()> {
    let mut last = Value::Null;
    until(&format!("the agent's pod on {} is ready", node.name()), PATIENCE, || {
        last = pod_on(cluster, node).ok().flatten().unwrap_or_default();
        last["status"]["containerStatuses"][0]["ready"] == true
    })
    .with_context(|| {
        let log = kubectl(cluster, &["-n", NAMESPACE, "logs", &name(&last)]);
        format!("{:#}\n{}", last["status"], log.unwrap_or_else(|error| format!("{error:#}")))
    })
}

/// `kubectl exec` in the pod of that node.
fn exec(cluster: &Cluster, node: &Node, command: &[&str]) -> Result<String> {
    let pod = pod_on(cluster, node)?.with_context(|| format!("a pod on {}", node.name()))?;
    let name = name(&pod);
    kubectl(cluster, &[&["-n", NAMESPACE, "exec", &name, "--"], command].concat())
}

/// The pod beside an agent of the host ends with the documented code, and says beside whom.
fn refused_beside(cluster: &Cluster, node: &Node, agent: &Agent) -> Result<()> {
    let ended = until_some("the pod beside an agent of the host is refused", PATIENCE, || {
        let pod = pod_on(cluster, node).ok().flatten()?;
        let status = &pod["status"]["containerStatuses"][0];
        let states = ["lastState", "state"].map(|state| status[state]["terminated"].clone());
        states.into_iter().find(|ended| !ended.is_null())
    })?;
    let said = ended["message"].as_str().unwrap_or_default();
    let named = format!("another agent (pid {}) works with /run/containerd", agent.pid());
    ensure!(ended["exitCode"] == 64 && said.contains(&named), "{ended:#}");
    ensure!(agent.get("/readyz")?.status == 200, "the host's goes on");
    Ok(())
}

/// And the other way round.
fn refuses_an_agent_of_the_host(cluster: &Cluster, node: &Node) -> Result<()> {
    let refused = node.start_agent(cluster.plane(), None, &AgentOptions::default());
    let said = format!("{:#}", refused.err().context("an agent of the host starts beside a pod")?);
    let named = format!("works with {}", node.dir().display());
    ensure!(said.contains("ended with Some(64)") && said.contains("another agent (pid "), "{said}");
    ensure!(said.contains(&named), "{said}");
    Ok(())
}

/// By the token of its pod, and nothing else.
fn joined(cluster: &Cluster, node: &Node) -> Result<()> {
    let mut last = String::new();
    until(&format!("the agent's pod on {} has joined", node.name()), PATIENCE, || {
        last = exec(cluster, node, &["pilotfish", "status", "-o", "json"]).unwrap_or_else(|error| format!("{error:#}"));
        let status: Option<Status> = serde_json::from_str(&last).ok();
        status.is_some_and(|status| status.companion.state == "joined" && !status.companion.credential)
    })
    .with_context(|| last)
}

/// A pod that sends so many requests to the Service `api`, after a while; returns the Job's name.
fn start_job(cluster: &Cluster) -> Result<String> {
    let name = "counts";
    let send = format!("sleep 4; exec /bin/loadgen --rate 200 --count {SENT} --target $API_SERVICE_HOST:8080");
    let mut object = scene::workload(&kinds::DEPLOYMENT, name, 1, &["/bin/sh", "-c", &send]);
    let mut template = object["spec"]["template"].take();
    template["spec"]["restartPolicy"] = json!("Never");
    template["spec"]["topologySpreadConstraints"] = Value::Null;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": scene::NAMESPACE}, "spec": {"template": template},
    });
    cluster.plane().client().create(&kinds::JOB, &job)?;
    Ok(name.to_owned())
}

/// What the Job sent is what the agent beside it counts, and what the companion shows.
fn counted_whole(cluster: &Cluster, job: &str, address: &str) -> Result<()> {
    let by_agent = |node: &Node| -> Result<u64> {
        let rows = exec(cluster, node, &["pilotfish", "edges", "-n", scene::NAMESPACE, "-o", "json"])?;
        let rows: Vec<EdgeRow> = serde_json::from_str(&rows)?;
        let of_job = rows.iter().filter(|row| row.src.name == job && row.reporter == "client");
        Ok(of_job.map(|row| row.golden.requests).sum())
    };
    let mut last = Vec::new();
    until(&format!("the agents count the {SENT} of {job}"), PATIENCE, || {
        last = cluster.nodes().iter().map(|node| by_agent(node).unwrap_or(0)).collect();
        last.iter().sum::<u64>() == SENT
    })
    .with_context(|| format!("{last:?}"))?;
    // As the manifests say it: of whichever node.
    let table = kubectl(cluster, &["-n", NAMESPACE, "exec", "ds/pilotfish", "--", "pilotfish", "edges"])?;
    ensure!(table.contains("SRC") && table.contains("api"), "{table}");
    let mut shown = 0;
    let of_job = [("client_workload", job)];
    until("the companion shows as many", PATIENCE, || {
        let page = scrape(cluster, address).unwrap_or_default();
        shown = Exposition::parse(&page).count("http_client_request_duration_seconds_count", &of_job);
        shown == SENT
    })
    .with_context(|| format!("{shown}"))
}

/// No program, socket or file. What its pods had attached to is looked at before they go and after.
fn nothing_stays(cluster: &Cluster) -> Result<()> {
    let mut namespaces = Vec::new();
    for node in cluster.nodes() {
        let tasks = node.ctr(&["tasks", "ls"])?;
        let pids = tasks.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
        namespaces.extend(pids.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))));
    }
    let filtered = || -> usize {
        let filters = namespaces.iter().filter_map(|netns| filters_in(netns).ok());
        filters.filter(|filters| !filters.is_empty()).count()
    };
    ensure!(filtered() > 0, "its programs are in {namespaces:?}");
    kubectl(cluster, &["delete", "-k", MANIFESTS])?;
    until("its pods are gone", PATIENCE, || {
        cluster.pods(NAMESPACE).is_ok_and(|pods| pods.iter().all(|pod| !pod.name.starts_with("pilotfish-")))
    })?;
    let mut left = Vec::new();
    // The kernel frees them a moment later.
    until("no program of it is in the kernel", PATIENCE, || {
        left = programs().unwrap_or_else(|error| vec![format!("{error:#}")]);
        left.is_empty()
    })
    .with_context(|| format!("{left:?}"))?;
    ensure!(filtered() == 0, "filters stay in {namespaces:?}");
    for node in cluster.nodes() {
        let find = ["/run", "/var/lib", "-xdev", "-iname", "*pilotfish*", "-not", "-path", "*/pods/*"];
        let found = done(node.command(&installed("find")?).args(find))?;
        ensure!(found.is_empty(), "{} keeps {found}", node.name());
    }
    Ok(())
}

/// Of the agent, that are loaded.
fn programs() -> Result<Vec<String>> {
    let listed = done(Command::new(installed("bpftool")?).args(["-j", "prog", "show"]))?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let names = listed.iter().filter_map(|program| program["name"].as_str());
    Ok(names.filter(|name| name.starts_with("pilotfish")).map(str::to_owned).collect())
}
