//! What an agent holds for wrong is shown by kubectl: a client that has to ask for names again.

use crate::world::{BACK, NODES, World};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testbed::{Container, until};

const CLIENT: &str = "asks-again";
const PLACE: usize = 1;
/// Hears every question and answers none.
const DEAF: &str = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('0.0.0.0', 53))\n\
                    while True: s.recv(512)";
const ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
                    metadata: {name: bob, namespace: shop}\n\
                    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: pilotfish-traffic-view}\n\
                    subjects: [{kind: User, name: bob, apiGroup: rbac.authorization.k8s.io}]\n";

/// It goes on until this is dropped.
pub struct Wrong(Vec<Child>);

impl Drop for Wrong {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn within(container: &Container, program: &str, arguments: &[&str]) -> Result<Child> {
    let mut command: Command = container.netns.command(Path::new(program));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| program.to_owned())
}

/// Four resolvers ask, nobody answers, and they ask again from the same port.
pub fn begin(world: &mut World) -> Result<Wrong> {
    let (deaf, client) = (world.idle(PLACE, "deaf")?, world.idle(PLACE, CLIENT)?);
    for name in ["deaf", CLIENT] {
        world.agents[PLACE].wait_attached_to(name, BACK)?;
    }
    let mut wrong = Wrong(vec![within(&deaf, "python3", &["-c", DEAF])?]);
    let question = r"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03api\x04demo\x04test\x00\x00\x01\x00\x01";
    let script = format!(
        "while :; do exec 3<>/dev/udp/{}/53; printf '{question}' >&3; sleep 2.3; printf '{question}' >&3; done",
        deaf.address
    );
    for _ in 0..4 {
        wrong.0.push(within(&client, "bash", &["-c", &script])?);
    }
    Ok(wrong)
}

fn shown(world: &World) -> Result<String> {
    world.kubectl(&["get", "findings", "-n", "shop", "--sort-by=.since", "-o", "wide"])
}

/// By namespace, to who may view that.
pub fn are_shown(world: &World) -> Result<()> {
    let mut table = String::new();
    until("kubectl shows what is wrong", BACK, || {
        table = shown(world).unwrap_or_else(|error| format!("{error:#}"));
        table.contains("dns-retry")
    })
    .with_context(|| format!("{table}\n{}", world.agents[PLACE].cli(&["status"]).unwrap_or_default()))?;
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(head[..7] == ["NAME", "SEVERITY", "WORKLOAD", "NODE", "AGENT", "SINCE", "MESSAGE"], "{table}");
    let row = table.lines().find(|line| line.contains("dns-retry")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().take(5).collect();
    ensure!(cells[0].starts_with("dns-retry.asks-again-"), "{table}");
    ensure!(cells[1..] == ["error", CLIENT, NODES[PLACE], "Live"], "{table}");
    let described = world.kubectl(&["describe", "finding", cells[0], "-n", "shop"])?;
    for words in ["Evidence:", "shop/asks-again", "Do:"] {
        ensure!(described.contains(words), "{words}\n{described}");
    }
    ensure!(world.own("pilotfish_companion_findings", &[("severity", "error")]) >= 1);
    // The role of the manifests, in one namespace.
    world.apply(ROLE)?;
    let as_bob = |more: &[&str]| world.kubectl(&[&["get", "findings", "--as", "bob"], more].concat());
    let mut told = String::new();
    until("bob may read shop", BACK, || {
        told = as_bob(&["-n", "shop"]).unwrap_or_else(|error| format!("{error:#}"));
        told.contains("dns-retry")
    })
    .context(told)?;
    ensure!(as_bob(&["-A"]).is_err_and(|error| error.to_string().contains("forbidden")), "bob sees all namespaces");
    Ok(())
}

/// To a companion that was started again.
pub fn are_told_again(world: &World) -> Result<()> {
    until("what is wrong is shown again", BACK, || shown(world).is_ok_and(|table| table.contains("dns-retry")))
}
