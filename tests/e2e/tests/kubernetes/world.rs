//! A cluster of one real node: etcd and the API server, and pods that are real containers, or real
//! programs that stand for pods of another node. A pod's status is patched as a kubelet would.

use agent_api::{EdgeRow, Identity, Readiness};
use anyhow::{Context, Result};
use e2e::PATIENCE;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, Owner, PodSpec, User, kinds, objects};
use testbed::{
    Agent, AgentOptions, Container, ContainerSpec, Netns, PodLabels, Process, Testbed, built_binary, installed, until,
};

pub const NODE: &str = "this-node";
pub const OTHER_NODE: &str = "another-node";

pub struct World {
    // Dropped in this order: programs before their namespaces.
    remote: Vec<(Process, Arc<Netns>)>,
    pub bed: Testbed,
    pub plane: ControlPlane,
}

/// A pod of another node: nothing of it is on this one but its packets.
pub struct Remote {
    pub address: IpAddr,
}

impl World {
    pub fn start() -> Result<World> {
        World::start_with(&ControlPlaneOptions::default(), ["192.0.2.1".parse()?, "192.0.2.2".parse()?])
    }

    /// With these addresses of this node and of the other one.
    pub fn start_with(options: &ControlPlaneOptions, [this, other]: [IpAddr; 2]) -> Result<World> {
        let plane = ControlPlane::start(options)?;
        objects::create_node(plane.client(), NODE, this)?;
        objects::create_node(plane.client(), OTHER_NODE, other)?;
        Ok(World { remote: Vec::new(), bed: Testbed::start()?, plane })
    }

    /// An agent of this node with the rights that are shipped; `state` is where it keeps what it knows.
    pub fn agent(&self, state: Option<&Path>) -> Result<Agent> {
        self.agent_with(state, "")
    }

    /// The same with these lines in its section `[kubernetes]`.
    pub fn agent_with(&self, state: Option<&Path>, more: &str) -> Result<Agent> {
        let kubeconfig = self.plane.kubeconfig(User::Agent)?;
        let more = format!("\n[kubernetes]\nmode = \"on\"\nkubeconfig = {kubeconfig:?}\nnode = \"{NODE}\"\n{more}");
        let state = state.map(Path::to_owned);
        Agent::start(&self.bed, &AgentOptions { more, state, ..AgentOptions::default() })
    }

    /// A Deployment and its ReplicaSet; returns that, the owner of pods.
    pub fn deployment(&self, name: &str, hash: &str) -> Result<Owner> {
        let client = self.plane.client();
        let deployment = client.create(&kinds::DEPLOYMENT, &objects::deployment("default", name))?;
        let set =
            client.create(&kinds::REPLICA_SET, &objects::replica_set("default", &Owner::of(&deployment), hash))?;
        Ok(Owner::of(&set))
    }

    /// A CronJob and a Job of it.
    pub fn cron_job(&self, name: &str) -> Result<Owner> {
        let client = self.plane.client();
        let cron = client.create(&kinds::CRON_JOB, &objects::cron_job("default", name))?;
        let job =
            client.create(&kinds::JOB, &objects::job("default", &format!("{name}-1"), Some(&Owner::of(&cron))))?;
        Ok(Owner::of(&job))
    }

    /// A Service in front of these endpoints of port 8080; returns its ClusterIP.
    pub fn service(&self, name: &str, endpoints: &[(IpAddr, &str)]) -> Result<IpAddr> {
        let client = self.plane.client();
        let service = objects::service("default", name, &[("app", name)], 80, false);
        let stored = client.create(&kinds::SERVICE, &service)?;
        self.endpoints(name, endpoints)?;
        Ok(stored["spec"]["clusterIP"].as_str().context("a ClusterIP")?.parse()?)
    }

    pub fn endpoints(&self, service: &str, endpoints: &[(IpAddr, &str)]) -> Result<()> {
        let client = self.plane.client();
        let mut slice = objects::endpoint_slice("default", service, 8080, endpoints);
        // The controller names the pod by its uid, too.
        for (endpoint, (_, pod)) in slice["endpoints"].as_array_mut().into_iter().flatten().zip(endpoints) {
            let stored = client.read(&kinds::POD, Some("default"), pod)?;
            endpoint["targetRef"]["uid"] = stored["metadata"]["uid"].clone();
            // As pods of a StatefulSet have one, in front of a headless Service's name.
            endpoint["hostname"] = (*pod).into();
        }
        client.create(&kinds::ENDPOINT_SLICE, &slice).map(drop)
    }

    /// A pod on this node that runs `command` in a real container.
    pub fn pod(&mut self, name: &str, owner: &Owner, command: &[&str]) -> Result<Container> {
        let spec = spec(name, owner, NODE);
        let stored = self.plane.client().create(&kinds::POD, &spec.object())?;
        let labels = PodLabels {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: stored["metadata"]["uid"].as_str().context("a uid")?.to_owned(),
        };
        let container = self.bed.run(ContainerSpec::new(name, command).sandbox_of(&labels))?;
        if command[0] == "/bin/api" {
            until(&format!("{name} listens"), PATIENCE, || answers(&container.netns))?;
        }
        self.run_at(spec, &stored, container.address.into())?;
        Ok(container)
    }

    /// A pod of one container called `app`, without a sandbox of its own, that has a second to end.
    pub fn app(&mut self, name: &str, owner: &Owner, command: &[&str]) -> Result<Container> {
        self.app_with(name, owner, command, &Value::Null)
    }

    /// The same of `/bin/api`, with these probes.
    pub fn probed(&mut self, name: &str, owner: &Owner, probes: &Value) -> Result<Container> {
        let container = self.app_with(name, owner, &["/bin/api"], probes)?;
        until(&format!("{name} listens"), PATIENCE, || answers(&container.netns))?;
        Ok(container)
    }

    fn app_with(&mut self, name: &str, owner: &Owner, command: &[&str], probes: &Value) -> Result<Container> {
        let mut spec = spec(name, owner, NODE);
        spec.containers = vec!["app".to_owned()];
        let mut object = spec.object();
        object["spec"]["terminationGracePeriodSeconds"] = 1.into();
        for (probe, what) in probes.as_object().into_iter().flatten() {
            object["spec"]["containers"][0][probe] = what.clone();
        }
        let stored = self.plane.client().create(&kinds::POD, &object)?;
        let labels = PodLabels {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: stored["metadata"]["uid"].as_str().context("a uid")?.to_owned(),
        };
        let hash = name.split('-').nth(1).unwrap_or_default();
        let container = ContainerSpec::new(name, command).part_of(&labels, "app").label("pod-template-hash", hash);
        let container = self.bed.run(container)?;
        self.run_at(spec, &stored, container.address.into())?;
        Ok(container)
    }

    /// By when a deleted pod is to be gone.
    pub fn deleted_by(&self, name: &str) -> Result<SystemTime> {
        let stored = self.plane.client().read(&kinds::POD, Some("default"), name)?;
        let by = stored["metadata"]["deletionTimestamp"].as_str().context("it was deleted")?;
        let output = Command::new("date").args(["-u", "+%s", "-d", by]).output()?;
        let seconds = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// A generator that waits at its gate.
    pub fn client_pod(
        &mut self,
        name: &str,
        owner: &Owner,
        target: IpAddr,
        port: u16,
        args: &[&str],
    ) -> Result<Container> {
        let target = SocketAddr::new(target, port).to_string();
        let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--target", &target];
        command.extend_from_slice(args);
        self.pod(name, owner, &command)
    }

    /// A pod on this node that takes the address of one that is gone.
    pub fn pod_at(&mut self, name: &str, owner: &Owner, address: Ipv4Addr, command: &[&str]) -> Result<Container> {
        let mut container = self.pod(name, owner, command)?;
        let old = std::mem::replace(&mut container.address, address);
        let netns = &container.netns;
        // The other way round the new one would be a secondary of the old one, and go with it.
        netns.ip(&["addr", "del", &format!("{old}/16"), "dev", "eth0"])?;
        netns.ip(&["addr", "add", &format!("{address}/16"), "dev", "eth0"])?;
        let stored = self.plane.client().read(&kinds::POD, Some("default"), name)?;
        self.run_at(spec(name, owner, NODE), &stored, address.into())?;
        Ok(container)
    }

    /// A generator in a pod of this node that the API has not told of: its containers say whose it is.
    pub fn unknown_pod(&mut self, name: &str, hash: &str, target: IpAddr, args: &[&str]) -> Result<Container> {
        let target = format!("{target}:8080");
        let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--target", &target];
        command.extend_from_slice(args);
        let labels = PodLabels {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: "c0ffee00-0000-4000-8000-000000000000".to_owned(),
        };
        self.bed.run(ContainerSpec::new(name, &command).sandbox_of(&labels).label("pod-template-hash", hash))
    }

    /// A place on another node where an API server for pods listens on port 8080. No container of this node is there.
    pub fn remote(&mut self, name: &str) -> Result<Remote> {
        let (netns, address) = self.bed.new_pod_netns(name)?;
        let process = Process::start(name, &mut netns.command(&built_binary("api")?), &self.bed.log_file(name))?;
        self.bed.record_process(process.pid())?;
        until(&format!("{name} listens"), PATIENCE, || answers(&netns))?;
        self.remote.push((process, netns));
        Ok(Remote { address: address.into() })
    }

    /// A pod of another node that lives at that place.
    pub fn remote_pod(&self, name: &str, owner: &Owner, at: &Remote) -> Result<()> {
        let spec = spec(name, owner, OTHER_NODE);
        let stored = self.plane.client().create(&kinds::POD, &spec.object())?;
        self.run_at(spec, &stored, at.address)
    }

    /// Reports that this pod of this node has these addresses.
    pub fn has_addresses(&self, name: &str, owner: &Owner, addresses: &[IpAddr]) -> Result<()> {
        let stored = self.plane.client().read(&kinds::POD, Some("default"), name)?;
        let mut spec = spec(name, owner, NODE);
        spec.addresses = addresses.to_vec();
        let mut status = spec.running_status();
        status["status"]["startTime"] = stored["metadata"]["creationTimestamp"].clone();
        self.plane.client().patch_status(&kinds::POD, Some("default"), name, &status).map(drop)
    }

    /// The network namespace of the remote place that was made at this turn.
    pub fn remote_netns(&self, turn: usize) -> &Netns {
        &self.remote[turn].1
    }

    /// Has a second program answer on this port there.
    pub fn listens_too(&mut self, turn: usize, port: u16) -> Result<()> {
        let netns = Arc::clone(&self.remote[turn].1);
        let mut command = netns.command(&built_binary("api")?);
        command.args(["--listen", &format!("0.0.0.0:{port}")]);
        let process = Process::start("api", &mut command, &self.bed.log_file(&format!("remote-{port}")))?;
        self.bed.record_process(process.pid())?;
        until(&format!("port {port} listens"), PATIENCE, || testbed::scene::listens(process.pid(), port))?;
        self.remote.push((process, netns));
        Ok(())
    }

    fn run_at(&self, mut spec: PodSpec, stored: &Value, address: IpAddr) -> Result<()> {
        spec.addresses = vec![address];
        let mut status = spec.running_status();
        status["status"]["startTime"] = stored["metadata"]["creationTimestamp"].clone();
        self.plane.client().patch_status(&kinds::POD, Some("default"), &spec.name, &status).map(drop)
    }

    /// What kube-proxy and a routed CNI do: packets of these pods go through the node, which sends
    /// what is for the ClusterIP to a pod.
    pub fn proxy(&self, cluster_ip: IpAddr, to: IpAddr, pods: &[&Netns]) -> Result<()> {
        self.proxy_port((cluster_ip, 80), (to, 8080), pods)
    }

    /// The same of these ports.
    pub fn proxy_port(&self, (ip, port): (IpAddr, u16), to: (IpAddr, u16), pods: &[&Netns]) -> Result<()> {
        for pod in pods {
            pod.ip(&["route", "add", "100.71.0.1/32", "dev", "eth0"])?;
            pod.ip(&["route", "del", "100.71.0.0/16", "dev", "eth0"])?;
        }
        let script = format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward\n\
             for i in all br0; do echo 0 > /proc/sys/net/ipv4/conf/$i/send_redirects; done\n\
             {} 'add table ip cluster; add chain ip cluster services {{ type nat hook prerouting priority -100; }}; \
             add rule ip cluster services ip daddr {ip} tcp dport {port} dnat to {}'\n",
            installed("nft")?.display(),
            SocketAddr::from(to),
        );
        let mut command = self.bed.node().command(&installed("sh")?);
        let output = command.args(["-ec", &script]).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Lets a generator run and waits for its end.
    pub fn run_to_end(&self, generator: &Container) -> Result<()> {
        e2e::run_to_end(&self.bed, generator).map(drop)
    }
}

pub fn within(netns: &Netns, script: &str) -> Result<()> {
    let output = netns.command(Path::new("sh")).args(["-euc", script]).output()?;
    anyhow::ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn answers(netns: &Netns) -> bool {
    let ss = installed("ss").map(|ss| netns.command(&ss).args(["-Hltn", "sport = :8080"]).output());
    ss.is_ok_and(|output| output.is_ok_and(|output| !output.stdout.is_empty()))
}

pub fn spec(name: &str, owner: &Owner, node: &str) -> PodSpec {
    let spec = PodSpec::new(name, node, &[]).owned_by(owner).port(8080);
    match owner.kind.as_str() {
        // `<deployment>-<hash>`, as the controllers name it.
        "ReplicaSet" => spec.label("pod-template-hash", owner.name.rsplit('-').next().unwrap_or_default()),
        _ => spec,
    }
}

/// What `pilotfish identity` says, and how it ended.
pub fn identity(agent: &Agent, address: &str) -> Result<(i32, Identity)> {
    let mut command = Command::new(built_binary("pilotfish")?);
    let output = command.args(["identity", address, "-o", "json", "--socket"]).arg(&agent.socket).output()?;
    let code = output.status.code().context("ended by a signal")?;
    Ok((code, serde_json::from_slice(&output.stdout).unwrap_or_default()))
}

/// Waits until an edge to this address would have this name.
pub fn wait_named(agent: &Agent, address: IpAddr, kind: &str, name: &str) -> Result<()> {
    let mut last = Identity::default();
    until(&format!("{address} is {kind} {name}"), PATIENCE, || {
        last = identity(agent, &address.to_string()).map(|(_, found)| found).unwrap_or_default();
        last.shown.name == name && last.shown.kind == kind
    })
    .with_context(|| format!("{last:#?}\n{}", agent.log_text()))
}

/// Waits until an edge to this endpoint would have this Service.
pub fn wait_reached_by(agent: &Agent, address: IpAddr, port: u16, service: &str) -> Result<()> {
    let endpoint = SocketAddr::new(address, port).to_string();
    let mut last = Identity::default();
    until(&format!("{endpoint} is reached by {service}"), PATIENCE, || {
        last = identity(agent, &endpoint).map(|(_, found)| found).unwrap_or_default();
        last.service == service
    })
    .with_context(|| format!("{last:#?}\n{}", agent.log_text()))
}

/// Edges of a namespace with traffic in them: `client (kind) > server (kind) by service, reporter: requests`, sorted.
pub fn edges(agent: &Agent) -> Result<Vec<String>> {
    let rows: Vec<EdgeRow> = serde_json::from_str(&agent.cli(&["edges", "-n", "default", "-o", "json"])?)?;
    let line = |EdgeRow { src, dst, service, protocol: _, reporter, golden }: &EdgeRow| {
        let service = if service.is_empty() { "no Service" } else { service };
        let (src, dst) = [src, dst].map(|party| format!("{} ({})", party.name, party.kind)).into();
        format!("{src} > {dst} by {service}, {reporter}: {}", golden.requests)
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    Ok(lines)
}

/// Waits until these are all the edges that there are.
pub fn wait_edges(agent: &Agent, expected: &[&str]) -> Result<()> {
    let mut wanted: Vec<&str> = expected.to_vec();
    wanted.sort_unstable();
    let mut last = Vec::new();
    until("these edges, and no others", PATIENCE, || {
        last = edges(agent).unwrap_or_default();
        last == wanted
    })
    .with_context(|| format!("wanted {wanted:#?}\nfound {last:#?}\n{}", agent.log_text()))
}

/// The reasons that `/readyz` gives for a part, with 200.
pub fn degraded(agent: &Agent, part: &str) -> Result<Vec<String>> {
    let answer = agent.get("/readyz")?;
    anyhow::ensure!(answer.status == 200, "/readyz: {}", answer.status);
    let readiness: Readiness = serde_json::from_str(&answer.body())?;
    Ok(readiness.reasons.into_iter().filter(|reason| reason.part == part).map(|reason| reason.detail).collect())
}

pub const GRACE: Duration = Duration::from_secs(2);
