//! A real API server with its aggregation layer, two nodes (two containerds, an agent for each), and
//! one companion process that all of them know.

use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, generator_spec};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use testbed::cluster::binaries::{Program, find};
use testbed::cluster::{ControlPlane, ControlPlaneOptions, User, objects};
use testbed::{
    Agent, AgentOptions, Companion, Container, ContainerSpec, Exposition, PodLabels, Process, Testbed, apply_manifests,
    built_binary, scene, until,
};

pub const NODES: [&str; 2] = ["n1", "n2"];
pub const POD: &str = "companion-0";
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/kubernetes/companion-hpa");
/// A companion that was restarted, or a ticket that changed, is found again within 10 s; what waits
/// on top of that is a busy machine.
pub const BACK: Duration = Duration::from_secs(90);

/// A sample without its value.
pub type Name = (String, Vec<(String, String)>);

pub struct World {
    // Dropped in this order: programs before their namespaces.
    pub agents: Vec<Agent>,
    pub companion: Companion,
    pub autoscaler: Option<Process>,
    pub bed: Testbed,
    pub plane: ControlPlane,
    kubectl: PathBuf,
}

impl World {
    pub fn start() -> Result<World> {
        let plane = ControlPlane::start(&ControlPlaneOptions { aggregation: true, ..ControlPlaneOptions::default() })?;
        for (i, node) in NODES.iter().enumerate() {
            objects::create_node(plane.client(), node, format!("192.0.2.{}", i + 1).parse()?)?;
        }
        let mut bed = Testbed::start()?;
        bed.add_containerd()?;
        let kubectl = find(Program::Kubectl)?;
        // Who may not read which nodes have joined lets nobody in.
        let kubeconfig = apply_manifests(&plane)?;
        let companion = Companion::start(&bed, &kubeconfig, POD)?;
        let (agents, autoscaler) = (Vec::new(), None);
        let mut world = World { agents, companion, autoscaler, bed, plane, kubectl };
        for place in 0..NODES.len() {
            let agent = world.agent(place)?;
            world.agents.push(agent);
        }
        Ok(world)
    }

    /// Of the node with this containerd.
    fn agent(&self, place: usize) -> Result<Agent> {
        let (node, join) = (NODES[place], self.join_file(place));
        std::fs::write(&join, self.companion.join_toml()?)?;
        // Ten looks of an agent at what is wrong are 50 seconds.
        let more = format!(
            "\n[companion]\njoin = {join:?}\n\n[kubernetes]\nmode = \"off\"\nnode = \"{node}\"\n\n\
             [debug]\nwindow = \"5s\"\n"
        );
        let sockets = vec![self.bed.containerd_at(place).socket()];
        let state = self.state(place);
        std::fs::create_dir_all(&state)?;
        let options = AgentOptions { sockets, more, state: Some(state), ..AgentOptions::default() };
        Agent::start(&self.bed, &options)
    }

    /// What the agent of this node keeps between its runs.
    pub fn state(&self, place: usize) -> PathBuf {
        self.bed.dir().join(format!("state-{}", NODES[place]))
    }

    /// As on a node whose agent has kept no names yet.
    pub fn forget_names(&self, place: usize) -> Result<()> {
        match std::fs::remove_file(self.state(place).join("cluster-names")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn join_file(&self, place: usize) -> PathBuf {
        self.bed.dir().join(format!("join-{place}.toml"))
    }

    /// What the testbed has instead of a kube-proxy, and then the APIService.
    pub fn install(&self) -> Result<()> {
        // As whoever installs a later version: of what the companion has written nothing is lost.
        self.kubectl(&["apply", "--server-side", "-k", MANIFESTS])?;
        self.kubectl(&["-n", "pilotfish", "delete", "service", "companion"])?;
        let outside = "apiVersion: v1\nkind: Service\nmetadata: {name: companion, namespace: pilotfish}\n\
                       spec: {type: ExternalName, externalName: localhost}\n";
        self.apply(outside)?;
        self.create(&self.companion.api_service("traffic", "companion", "")?)?;
        let available = ["wait", "--for=condition=Available", "--timeout=90s"];
        self.kubectl(&[&available[..], &["apiservice/v1alpha1.traffic.pilotfish.io"]].concat()).map(drop)
    }

    /// As an admin who has a kubeconfig.
    pub fn join(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(built_binary("pilotfish-companion")?);
        let output = command.arg("join").args(arguments).arg("--kubeconfig").arg(self.plane.kubeconfig(User::Admin)?);
        let output = output.output()?;
        ensure!(output.status.success(), "join {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.plane.kubeconfig(User::Admin)?);
        command.arg("--cache-dir").arg(self.bed.dir().join("kubectl")).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        ensure!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.feed("apply", manifest)
    }

    /// What is there already is no one's to replace.
    pub fn create(&self, manifest: &str) -> Result<()> {
        self.feed("create", manifest)
    }

    pub fn start_autoscaler(&mut self) -> Result<()> {
        self.autoscaler = Some(self.plane.start_autoscaler()?);
        Ok(())
    }

    fn feed(&self, verb: &str, manifest: &str) -> Result<()> {
        let mut child = self.command(&[verb, "-f", "-"])?.stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin")?.write_all(manifest.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "kubectl {verb}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// A server and a generator at its gate, both pods of the node with this containerd.
    pub fn pair(&mut self, place: usize, name: &str, args: &[&str]) -> Result<Container> {
        let (server, client) = (format!("{name}-server"), format!("{name}-client"));
        Ok(self.pair_of(place, &pod(&server), &client, args)?.1)
    }

    /// The same with a server that is this pod.
    pub fn pair_of(
        &mut self,
        place: usize,
        server: &PodLabels,
        client: &str,
        args: &[&str],
    ) -> Result<(Container, Container)> {
        let spec = ContainerSpec::new(&server.name, &["/bin/api"]).sandbox_of(server).run_by(place);
        let server = self.bed.run(spec)?;
        scene::wait_listening(&server, 8080)?;
        let client = self.bed.run(generator_spec(client, &server, args).sandbox_of(&pod(client)).run_by(place))?;
        Ok((server, client))
    }

    /// A pod that does nothing by itself.
    pub fn idle(&mut self, place: usize, name: &str) -> Result<Container> {
        let spec = ContainerSpec::new(name, &["/bin/sleep", "10000"]);
        self.bed.run(spec.sandbox_of(&pod(name)).run_by(place))
    }

    pub fn wait_joined(&self, place: usize) -> Result<()> {
        let agent = &self.agents[place];
        let joined = || agent.metrics().is_ok_and(|metrics| metrics.count("pilotfish_join_joined", &[]) == 1);
        until(&format!("{} has joined", NODES[place]), BACK, joined)
            .with_context(|| agent.cli(&["status"]).unwrap_or_default())
            .with_context(|| self.companion.log_text())
    }

    /// Waits until the companion shows what each agent shows, sample by sample, and nothing twice.
    pub fn wait_equal(&self) -> Result<()> {
        let mut told = String::new();
        until("the companion shows what the agents show", BACK, || {
            told = self.difference().unwrap_or_else(|error| Some(format!("{error:#}"))).unwrap_or_default();
            told.is_empty()
        })
        .context(told)
    }

    fn difference(&self) -> Result<Option<String>> {
        let page = self.companion.scrape()?;
        let all: Vec<Name> = page.samples.iter().map(|sample| name(sample, "")).collect();
        let distinct: BTreeSet<&Name> = all.iter().collect();
        ensure!(distinct.len() == all.len(), "a series twice");
        for (node, agent) in NODES.iter().zip(&self.agents) {
            let own = agent.metrics()?;
            let of_node = |sample: &&testbed::Sample| sample.label("node") == *node;
            let shown: Vec<(Name, f64)> =
                page.samples.iter().filter(of_node).map(|sample| (name(sample, "node"), sample.value)).collect();
            let families: BTreeSet<&str> = shown.iter().map(|((name, _), _)| name.as_str()).collect();
            let expected: Vec<(Name, f64)> = own
                .samples
                .iter()
                .filter(|sample| families.contains(sample.name.as_str()))
                .map(|sample| (name(sample, ""), sample.value))
                .collect();
            if shown.is_empty() {
                return Ok(Some(format!("nothing of {node}")));
            }
            for (one, other, whose) in [(&shown, &expected, "companion"), (&expected, &shown, "agent")] {
                if let Some((name, value)) = one.iter().find(|sample| !other.contains(sample)) {
                    return Ok(Some(format!("{node}: the {whose} alone has {name:?} {value}")));
                }
            }
        }
        Ok(None)
    }

    /// Exchanges of a node that the companion shows, from both ends; `None` while it shows none.
    pub fn counted(&self, node: &str) -> Option<u64> {
        let page = self.companion.scrape().ok()?;
        let counted = page.count("pilotfish_exchanges_total", &[("node", node)]);
        (counted > 0).then_some(counted)
    }

    /// Requests a second of each edge, as the API server hands them on.
    pub fn rates(&self) -> Result<Vec<f64>> {
        let list = self.plane.client().get("/apis/traffic.pilotfish.io/v1alpha1/edges")?;
        let items = list["items"].as_array().context("items")?;
        Ok(items.iter().filter_map(|edge| edge["golden"]["requestsPerSecond"].as_f64()).collect())
    }

    pub fn own(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.companion.scrape().map_or(0, |page: Exposition| page.count(name, labels))
    }

    pub fn wait_own(&self, name: &str, labels: &[(&str, &str)], is_so: impl Fn(u64) -> bool) -> Result<()> {
        let mut seen = 0;
        until(&format!("{name} {labels:?}"), BACK, || {
            seen = self.own(name, labels);
            is_so(seen)
        })
        .with_context(|| format!("it is {seen}\n{}", self.companion.log_text()))
    }

    pub fn attached(&self, place: usize, namespaces: u64) -> Result<()> {
        self.agents[place].wait_attached(namespaces, PATIENCE)
    }
}

fn pod(name: &str) -> PodLabels {
    PodLabels { namespace: "shop".to_owned(), name: name.to_owned(), uid: format!("uid-{name}") }
}

fn name(sample: &testbed::Sample, without: &str) -> Name {
    let labels = sample.labels.iter().filter(|(name, _)| *name != without);
    (sample.name.clone(), labels.map(|(name, value)| (name.clone(), value.clone())).collect())
}
