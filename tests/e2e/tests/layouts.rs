//! What a distribution of Kubernetes puts where: the sockets and kubeconfigs of k3s and of EKS's
//! nodes, at their own paths in a mount namespace, and an agent that is configured for none of them.
//! Needs root.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::place::Place;
use e2e::{PATIENCE, alone, exchanges, generator_spec, losses, wait_edge, wait_equation};
use std::fs;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, PodLabels, Testbed, scene, until};

/// As k3s writes its own, with nobody there.
const K3S: &str = "apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: default, user: {token: t}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
current-context: default
";

/// As the kubelet of an EKS node has it.
const KUBELET: &str = "apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}
contexts: [{name: kubelet, context: {cluster: kubernetes, user: kubelet}}]
current-context: kubelet
users:
- name: kubelet
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: aws
      args: [eks, get-token, --cluster-name, c, --region, eu-central-1]
";

/// `/run` with nothing but the testbed's containerd, in the directory `at`.
fn runs_at(bed: &Testbed, at: &str) -> Place {
    let dir = bed.dir().display();
    Place::new().mounts(format!("mount -t tmpfs run /run; mkdir -p {at}; mount --bind {dir} {at}"))
}

/// `/etc` as it is, and `file` at `path`.
fn etc_with(place: Place, file: &str, path: &str) -> Place {
    place.mounts(format!(
        "mount -t tmpfs etc /mnt; mkdir /mnt/upper /mnt/work
         mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work etc /etc
         mkdir -p $(dirname {path}); cp {file} {path}; chmod 600 {path}"
    ))
}

/// As the kubelet has a pod's sandbox made.
fn sandbox(name: &str, spec: ContainerSpec) -> ContainerSpec {
    let uid = format!("uid-{name}");
    spec.sandbox_of(&PodLabels { namespace: "shop".into(), name: name.into(), uid })
}

fn server(bed: &mut Testbed) -> Result<Container> {
    let server = bed.run(sandbox("cart-0", ContainerSpec::new("cart", &["/bin/api"])))?;
    scene::wait_listening(&server, 8080)?;
    Ok(server)
}

fn client(bed: &mut Testbed, name: &str, server: &Container, args: &[&str]) -> Result<Container> {
    let spec = generator_spec(name, server, args);
    bed.run(sandbox(&format!("{name}-0"), spec))
}

fn says(place: &Place, agent: &Agent, words: &[&str]) -> Result<()> {
    let (can_run, page) = place.check(agent.config())?;
    ensure!(can_run && words.iter().all(|word| page.contains(word)), "{words:?} are not all in:\n{page}");
    Ok(())
}

/// The agent is there before k3s and after it, and k3s's containerd restarts under load.
#[test]
fn k3s_before_and_after_the_agent() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let kubeconfig = bed.dir().join("k3s.yaml");
    fs::write(&kubeconfig, K3S)?;
    let place = runs_at(&bed, "/run/k3s/containerd");
    let place = etc_with(place, &kubeconfig.display().to_string(), "/etc/rancher/k3s/k3s.yaml");
    let options = AgentOptions { usual_sockets: true, under: place.under(), ..AgentOptions::default() };
    bed.containerd_mut().kill();
    let mut agent = Agent::start(&bed, &options)?;
    bed.containerd_mut().start_again()?;
    let server = server(&mut bed)?;
    let shopper = client(&mut bed, "shopper", &server, &["--rate", "300", "--connections", "4", "--for", "600"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &shopper)?;
    let counted = || exchanges(&agent, "shopper-0", "cart-0", "http", "client");
    for moment in ["before a restart", "after it"] {
        let before = counted();
        until(&format!("it counts {moment}"), PATIENCE, || counted() > before + 100)
            .with_context(|| agent.log_text())?;
        bed.containerd_mut().kill();
        let waits =
            || agent.get("/readyz").is_ok_and(|page| page.body().contains("/run/k3s/containerd/containerd.sock"));
        until("it says what it waits for", PATIENCE, waits)?;
        bed.containerd_mut().start_again()?;
        until("it is connected again", PATIENCE, || !waits())?;
    }
    let sent = scene::final_line(&bed, &shopper, PATIENCE)?["sent"].as_u64().context("what was sent")?;
    wait_edge(&agent, "shopper-0", "cart-0", "http", sent)?;
    ensure!(wait_equation(&agent, sent)? == [0, 0], "{}", losses(&agent));
    says(
        &place,
        &agent,
        &[
            "on /run/k3s/containerd/containerd.sock",
            "https://127.0.0.1:6443/ (from /etc/rancher/k3s/k3s.yaml) does not answer",
        ],
    )?;
    ensure!(agent.stop() == Some(0), "{}", agent.log_text());

    // And where k3s and its pods are there first.
    let late = client(&mut bed, "late", &server, &["--rate", "500", "--count", "200"])?;
    let agent = Agent::start(&bed, &options)?;
    agent.wait_attached_to("late-0", PATIENCE)?;
    scene::open_gate(&bed, &late)?;
    wait_edge(&agent, "late-0", "cart-0", "http", 200)
}

/// The kubelet's kubeconfig runs a program for its token: it is refused, and all else works.
#[test]
fn a_node_of_eks_whose_kubelet_has_a_program_for_its_token() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let kubeconfig = bed.dir().join("kubeconfig");
    fs::write(&kubeconfig, KUBELET)?;
    let place = runs_at(&bed, "/run/containerd");
    let more = format!("\n[kubernetes]\nkubeconfig = {kubeconfig:?}\n");
    let options = AgentOptions { usual_sockets: true, under: place.under(), more, ..AgentOptions::default() };
    let agent = Agent::start(&bed, &options)?;
    let server = server(&mut bed)?;
    let shopper = client(&mut bed, "shopper", &server, &["--rate", "500", "--count", "200"])?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &shopper)?;
    wait_edge(&agent, "shopper-0", "cart-0", "http", 200)?;
    ensure!(agent.get("/readyz")?.status == 200);
    says(
        &place,
        &agent,
        &[
            "on /run/containerd/containerd.sock",
            "it runs aws for credentials, which the agent does not",
            "agent-rbac.yaml",
        ],
    )
}
