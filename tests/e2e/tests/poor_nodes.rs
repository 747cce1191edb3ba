//! Nodes that are poor, strict or strange: the agent is ready there or says why not, `pilotfish
//! check` names what is missing and what to do, and each exchange is counted. Needs root.
#![forbid(unsafe_code)]

use agent_api::Client;
use anyhow::{Context, Result, ensure};
use e2e::place::Place;
use e2e::{PATIENCE, alone, api, generator, losses, run_to_end, wait_edge, wait_equation};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use testbed::{Agent, AgentOptions, Container, ContainerSpec, Testbed};

const REQUESTS: u64 = 200;

/// A shop and a customer who was there before the agent, one who comes later, and an agent in its place.
struct Node {
    bed: Testbed,
    server: Container,
    early: Container,
}

impl Node {
    fn start() -> Result<Node> {
        let mut bed = Testbed::start()?;
        // Whoever the agent is, its socket is here.
        fs::set_permissions(bed.dir(), Permissions::from_mode(0o777))?;
        let server = api(&mut bed, "shop")?;
        let early = generator(&mut bed, "early", &server, &["--rate", "500", "--count", &REQUESTS.to_string()])?;
        Ok(Node { bed, server, early })
    }

    fn agent(&self, place: &Place, options: AgentOptions) -> Result<Agent> {
        Agent::start(&self.bed, &AgentOptions { under: place.under(), ..options })
    }

    /// Both customers are counted to the last request.
    fn counts(&mut self, agent: &Agent) -> Result<()> {
        let late =
            generator(&mut self.bed, "late", &self.server, &["--rate", "500", "--count", &REQUESTS.to_string()])?;
        for customer in [&self.early, &late] {
            agent.wait_attached_to(&customer.name, PATIENCE)?;
            run_to_end(&self.bed, customer)?;
            wait_edge(agent, &customer.name, "shop", "http", REQUESTS)?;
        }
        let lost = wait_equation(agent, 2 * REQUESTS)?;
        ensure!(lost == [0, 0], "{}", losses(agent));
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bed.dir().join(name)
    }

    /// A file that only those with every right may open.
    fn shut(&self, name: &str) -> Result<PathBuf> {
        let file = self.file(name);
        fs::write(&file, "shut")?;
        fs::set_permissions(&file, Permissions::from_mode(0o000))?;
        Ok(file)
    }
}

/// The lines of `check` about `what`, with what to do.
fn about(page: &str, what: &str) -> String {
    let mut lines = page.lines().skip_while(|line| !line.starts_with(what));
    let first = lines.next().unwrap_or_default().to_owned();
    let rest = lines.take_while(|line| line.starts_with(' ') || line.starts_with(what));
    rest.fold(first, |all, line| format!("{all}\n{line}"))
}

/// `check` finds that the agent can run, and says each of these about a thing.
fn check_says(place: &Place, agent: &Agent, expected: &[(&str, &[&str])]) -> Result<()> {
    let (can_run, page) = place.check(agent.config())?;
    ensure!(can_run, "{page}");
    for (what, words) in expected {
        let said = about(&page, what);
        ensure!(words.iter().all(|word| said.contains(word)), "{what}: {words:?} are not all in:\n{said}\n\n{page}");
    }
    Ok(())
}

#[test]
fn without_btf_what_needs_it_falls_back() -> Result<()> {
    let _alone = alone();
    let mut node = Node::start()?;
    let place = Place::new().mounts("mount -t tmpfs none /sys/kernel/btf");
    let agent = node.agent(&place, AgentOptions::default())?;
    node.counts(&agent)?;
    check_says(
        &place,
        &agent,
        &[
            ("BTF", &["falls back", "/sys/kernel/btf/vmlinux is not there", "CONFIG_DEBUG_INFO_BTF"]),
            ("early news", &["falls back", "read the kernel's BTF", "when containerd tells of them"]),
            ("scan source", &["falls back", "no iterator"]),
        ],
    )
}

/// `/proc` shows a process to its own account and to one group; few descriptors, no locked memory.
#[test]
fn the_units_account_and_system_calls_suffice_where_proc_hides_processes() -> Result<()> {
    let _alone = alone();
    let mut node = Node::start()?;
    let place = Place::new()
        .mounts("mount -t proc -o hidepid=invisible,gid=61234 proc /proc")
        .limit("nofile=1024")
        .limit("memlock=0")
        .as_the_unit(&[])?
        .filtered();
    let agent = node.agent(&place, AgentOptions::default())?;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let has = |line: &str| status.lines().any(|it| it == line);
    ensure!(has("Seccomp:\t2") && has("NoNewPrivs:\t1") && !has("Uid:\t0\t0\t0\t0"), "{status}");
    node.counts(&agent)?;
    check_says(
        &place,
        &agent,
        &[
            ("privileges", &["ok"]),
            ("early news", &["ok"]),
            ("scan source", &["ok"]),
            ("descriptors", &["falls back", "1024: enough for some 256 namespaces", "LimitNOFILE"]),
            ("containerd", &["ok"]),
        ],
    )
}

#[test]
fn cgroups_of_version_one_alone_leave_out_only_what_the_node_runs() -> Result<()> {
    let _alone = alone();
    let mut node = Node::start()?;
    let place =
        Place::new().mounts("for at in $(awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts); do umount $at; done");
    let agent = node.agent(&place, AgentOptions::default())?;
    node.counts(&agent)?;
    check_says(
        &place,
        &agent,
        &[("host network", &["falls back", "cgroups of version 2 are not mounted", "cgroup v2 is what is needed"])],
    )
}

/// All file systems but one directory for its socket. What it would keep is not kept, and that is said.
#[test]
fn a_read_only_root_costs_the_counters_of_the_last_run() -> Result<()> {
    let _alone = alone();
    let mut node = Node::start()?;
    let state = node.file("kept");
    fs::create_dir(&state)?;
    let (dir, kept) = (node.bed.dir().display(), state.display());
    let place = Place::new().mounts(format!(
        "mount --bind {dir} {dir}; mount --bind {kept} {kept}; mount -o remount,bind,ro {kept}; mount -o remount,bind,ro /"
    ));
    let mut agent = node.agent(&place, AgentOptions { state: Some(state), ..AgentOptions::default() })?;
    node.counts(&agent)?;
    check_says(&place, &agent, &[("running agent", &["ok", "ready"])])?;
    ensure!(agent.stop() == Some(0), "{}", agent.log_text());
    ensure!(agent.log_text().contains("counters are not kept"), "{}", agent.log_text());
    Ok(())
}

/// As SELinux or a container's masks refuse single files.
#[test]
fn files_that_are_refused_cost_what_they_would_have_told() -> Result<()> {
    let _alone = alone();
    let mut node = Node::start()?;
    let refused = node.bed.run(ContainerSpec::new("refused", &["/bin/sleep", "10000"]))?;
    let (shut, kubeconfig) = (node.shut("shut")?, node.shut("kubeconfig")?);
    let shut_dir = node.file("shut.d");
    fs::create_dir(&shut_dir)?;
    fs::set_permissions(&shut_dir, Permissions::from_mode(0o000))?;
    let place = Place::new()
        .mounts(format!("mount --bind {} /sys/kernel/btf/vmlinux", shut.display()))
        .mounts(format!("mount --bind {} /proc/{}/ns", shut_dir.display(), refused.pid))
        .as_the_unit(&["CAP_DAC_READ_SEARCH"])?;
    let more = format!("\n[kubernetes]\nkubeconfig = {kubeconfig:?}\n");
    let agent = node.agent(&place, AgentOptions { more, ..AgentOptions::default() })?;
    node.counts(&agent)?;
    check_says(
        &place,
        &agent,
        &[
            ("BTF", &["falls back", "/sys/kernel/btf/vmlinux: Permission denied", "let the agent's account read it"]),
            ("scan source", &["falls back", "Permission denied"]),
            ("Kubernetes API", &["waits", &kubeconfig.display().to_string(), "Permission denied"]),
        ],
    )?;
    let status = Client::new(&agent.socket).status()?;
    let row = status.namespaces.iter().find(|row| row.workload == refused.name).context("its row")?;
    ensure!(row.state == "failed" && row.reason.contains("permission denied"), "{row:?}");
    let ready = agent.get("/readyz")?;
    ensure!(ready.status == 200 && ready.body().contains("could not be attached"), "{}", ready.body());
    Ok(())
}

/// Its containerd's socket is root's alone: it waits, and says whose fault it is.
#[test]
fn a_containerd_that_may_not_be_asked_is_said_to_be_that() -> Result<()> {
    let _alone = alone();
    let node = Node::start()?;
    let place = Place::new()
        .mounts(format!("chmod 600 {}", node.bed.containerd().socket().display()))
        .as_the_unit(&["CAP_DAC_READ_SEARCH"])?;
    let agent = Agent::spawn(&node.bed, &AgentOptions { under: place.under(), ..AgentOptions::default() })?;
    testbed::until("it says what it waits for", PATIENCE, || {
        agent.get("/readyz").is_ok_and(|page| page.body().contains("Permission denied"))
    })
    .with_context(|| agent.get("/readyz").map(|page| page.body()).unwrap_or_default())?;
    check_says(&place, &agent, &[("containerd", &["waits", "Permission denied", "let the agent's account use it"])])
}

#[test]
fn pods_without_ipv6_are_counted_as_any() -> Result<()> {
    let _alone = alone();
    let mut node = Node::start()?;
    for container in [node.server.clone(), node.early.clone()] {
        let mut command = container.netns.command("sh".as_ref());
        let off = "for conf in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $conf; done";
        ensure!(command.args(["-ec", off]).status()?.success());
    }
    let agent = node.agent(&Place::new(), AgentOptions::default())?;
    node.counts(&agent)
}
