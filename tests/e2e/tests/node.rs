//! The node itself: containers on its network and its services, seen at their cgroups, beside pods
//! that are seen at their interfaces. The agent runs in the testbed's node namespace, which is the
//! host's namespace for it. Needs cgroup v2, alone or beside version 1.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::node_agent::NodeAgent;
use e2e::{PATIENCE, alone, api, generator, run_to_end};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testbed::{Container, ContainerSpec, Process, Service, Testbed, address_of, built_binary, installed, scene, until};

/// A service of the node: an API server on this port.
fn api_service(bed: &Testbed, name: &str, port: u16) -> Result<Service> {
    let program = built_binary("api")?.display().to_string();
    let service = Service::start(bed, name, &[&program, "--listen", &format!("0.0.0.0:{port}")])?;
    until(&format!("{name} listens"), PATIENCE, || scene::listens(service.pid(), port))?;
    Ok(service)
}

fn node_server(bed: &mut Testbed, name: &str) -> Result<Container> {
    let server = bed.run(ContainerSpec::new(name, &["/bin/api"]).on_the_node())?;
    scene::wait_listening(&server, 8080)?;
    Ok(server)
}

fn node_client(bed: &mut Testbed, name: &str, target: &str, args: &[&str]) -> Result<Container> {
    let mut command = vec!["/bin/loadgen", "--gate", "/conf/gate", "--target", target];
    command.extend_from_slice(args);
    bed.run(ContainerSpec::new(name, &command).on_the_node())
}

#[test]
fn both_ends_of_what_a_pod_and_the_node_ask_each_other_are_counted_once_with_their_names() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let (pod, host) = (api(&mut bed, "shop")?, node_server(&mut bed, "gate")?);
    let at = format!("{}:8080", pod.address);
    let from_host = node_client(&mut bed, "kubelet", &at, &["--count", "300", "--profile", "mixed"])?;
    let from_pod = generator(&mut bed, "customer", &host, &["--count", "200", "--connections", "4"])?;
    agent.wait_pods(2)?;
    agent.wait_cgroup("gate")?;
    agent.wait_cgroup("kubelet")?;
    run_to_end(&bed, &from_host)?;
    run_to_end(&bed, &from_pod)?;
    for reporter in ["client", "server"] {
        agent.wait_requests(reporter, "kubelet", "shop", 300)?;
        agent.wait_requests(reporter, "customer", "gate", 200)?;
        assert_eq!(agent.all(reporter), (500, 0), "{}", agent.edges());
    }
    bed.stop(from_host, Duration::from_secs(2))?;
    until("the cgroup of what ended is forgotten", PATIENCE, || agent.cgroup("kubelet").is_none())
}

#[test]
fn what_the_node_only_forwards_is_not_counted_a_second_time() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    // Something of the node is observed while pods talk through it.
    let _host = node_server(&mut bed, "gate")?;
    agent.wait_cgroup("gate")?;
    let outside = Outside::new(&bed)?;
    let server = api(&mut bed, "shop")?;
    let inside = generator(&mut bed, "customer", &server, &["--count", "400"])?;
    let target = format!("{}:8080", outside.address);
    let args = ["/bin/loadgen", "--gate", "/conf/gate", "--target", &target, "--count", "250"];
    let leaving = bed.run(ContainerSpec::new("traveller", &args))?;
    agent.wait_pods(3)?;
    run_to_end(&bed, &inside)?;
    run_to_end(&bed, &leaving)?;
    for reporter in ["client", "server"] {
        agent.wait_requests(reporter, "customer", "shop", 400)?;
    }
    until("all is counted", PATIENCE, || agent.all("client") == (650, 0)).with_context(|| agent.edges())?;
    assert_eq!(agent.all("server"), (400, 0), "{}", agent.edges());
    Ok(())
}

/// A host behind the node, to which pods are routed.
struct Outside {
    name: String,
    address: String,
    _server: Process,
}

impl Outside {
    fn new(bed: &Testbed) -> Result<Outside> {
        let name = format!("{}-hsout", bed.id());
        let ip = |args: &[&str]| -> Result<()> {
            let output = Command::new("ip").args(args).output()?;
            ensure!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        ip(&["netns", "add", &name])?;
        bed.node().ip(&["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        bed.node().ip(&["addr", "add", "100.72.0.1/24", "dev", "uplink"])?;
        bed.node().ip(&["link", "set", "uplink", "up"])?;
        ip(&["-n", &name, "addr", "add", "100.72.0.2/24", "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &name, "route", "add", "default", "via", "100.72.0.1"])?;
        let mut forward = bed.node().command(Path::new("sh"));
        ensure!(forward.args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).status()?.success());
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).arg(built_binary("api")?);
        let server = Process::start("api", &mut command, &bed.log_file("outside"))?;
        bed.record_process(server.pid())?;
        Ok(Outside { name, address: "100.72.0.2".to_owned(), _server: server })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[test]
fn services_are_named_by_their_unit_whether_they_were_there_or_start_later() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let name = |what: &str| format!("hs{what}-{}", std::process::id());
    let (early, late, ask) = (name("early"), name("late"), name("ask"));
    let _early = api_service(&bed, &early, 8081)?;
    let agent = NodeAgent::start(&bed, "")?;
    agent.wait_cgroup(&early)?;
    let _late = api_service(&bed, &late, 8082)?;
    agent.wait_cgroup(&late)?;
    let pod = api(&mut bed, "shop")?;
    agent.wait_pods(1)?;
    // From a service to a pod, and to another service by the node's own address.
    let gate = bed.dir().join("hs-gate").display().to_string();
    let load = built_binary("loadgen")?.display().to_string();
    for (number, (server, target, count)) in
        [("shop", format!("{}:8080", pod.address), 40), (&*late, format!("{}:8082", address_of(1)), 60)]
            .into_iter()
            .enumerate()
    {
        let (unit, gate) = (format!("{ask}-{number}"), format!("{gate}-{number}"));
        let args = [&*load, "--gate", &gate, "--target", &target, "--count", &count.to_string()];
        let _client = Service::start(&bed, &unit, &args)?;
        agent.wait_cgroup(&unit)?;
        std::fs::write(&gate, "")?;
        for reporter in ["client", "server"] {
            agent.wait_requests(reporter, &unit, server, count)?;
        }
    }
    assert_eq!(agent.all("client"), (100, 0), "{}", agent.edges());
    Ok(())
}

#[test]
fn a_service_that_restarts_at_once_is_observed_in_its_new_cgroup() -> Result<()> {
    let _alone = alone();
    let bed = Testbed::start()?;
    let (shop, ask) = (format!("rsshop-{}", std::process::id()), format!("rsask-{}", std::process::id()));
    let load = built_binary("loadgen")?.display().to_string();
    let start = || api_service(&bed, &shop, 8083);
    // On a node the slice is never empty, and stays.
    let _other = Service::start(&bed, &format!("rsother-{}", std::process::id()), &["sleep", "1000"])?;
    let mut service = start()?;
    let agent = NodeAgent::start(&bed, "")?;
    agent.wait_cgroup(&shop)?;
    let cgroup = || agent.status().ok()?.node.cgroups.into_iter().find(|row| row.workload == shop);
    let attached = |slot: u32| cgroup().is_some_and(|row| row.slot != slot && row.state == "attached");
    for _ in 0..3 {
        let before = cgroup().context("it is there")?.slot;
        drop(service);
        service = start()?;
        until("the new cgroup is attached", PATIENCE, || attached(before))
            .with_context(|| format!("{:?}\n{}", agent.status().map(|status| status.node), agent.log_text()))?;
    }
    let gate = bed.dir().join("rs-gate").display().to_string();
    let target = format!("{}:8083", address_of(1));
    let _client = Service::start(&bed, &ask, &[&load, "--gate", &gate, "--target", &target, "--count", "20"])?;
    agent.wait_cgroup(&ask)?;
    std::fs::write(&gate, "")?;
    agent.wait_requests("server", &ask, &shop, 20)
}

#[test]
fn connections_older_than_the_agent_are_open_from_the_first_scrape_and_counted_from_their_next_message() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    const EACH: usize = 7;
    let each = EACH.to_string();
    let node = address_of(1).to_string();
    // The pod's address is the next one that is given.
    let host = bed.run(ContainerSpec::new("gate", &["/bin/hold", &address_of(2).to_string(), &each]).on_the_node())?;
    let pod = bed.run(ContainerSpec::new("shop", &["/bin/hold", &node, &each]))?;
    ensure!(pod.address == address_of(2), "{}", pod.address);
    let held = |container: &Container| {
        let output = container.output();
        output.contains("connected") && output.contains("accepted")
    };
    until("both hold their connections", PATIENCE, || held(&host) && held(&pod))?;
    let agent = NodeAgent::start(&bed, "")?;
    let edges = [("gate", "shop"), ("shop", "gate")];
    let open = || {
        let all = edges.iter().flat_map(|(client, server)| {
            ["client", "server"].map(|reporter| agent.open(reporter, client, server).unwrap_or_default())
        });
        all.collect::<Vec<f64>>()
    };
    // Before the scan is over a connection may be missing, but none may be there that is not.
    until("all are open", PATIENCE, || {
        let now = open();
        assert!(now.iter().all(|open| *open <= EACH as f64), "{now:?}");
        now == [EACH as f64; 4]
    })
    .with_context(|| format!("{:?}\n{}\n{:?}", open(), agent.log_text(), agent.status()))?;
    for container in [&host, &pod] {
        kill(Pid::from_raw(i32::try_from(container.pid)?), Signal::SIGUSR1)?;
    }
    for (client, server) in edges {
        for reporter in ["client", "server"] {
            agent.wait_requests(reporter, client, server, EACH as u64)?;
        }
    }
    assert_eq!((agent.all("client"), agent.all("server")), ((14, 0), (14, 0)), "{}", agent.edges());
    // The pod goes on holding its ends; those of the node are gone with its container.
    bed.stop(host, Duration::ZERO)?;
    until("none of the node's ends is open", PATIENCE, || matches!(open()[..], [0.0, _, _, 0.0]))
        .with_context(|| format!("{:?}", open()))
}

#[test]
fn connections_older_than_the_agent_that_close_without_a_byte_are_open_no_longer() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let node = address_of(1).to_string();
    let host = bed.run(ContainerSpec::new("gate", &["/bin/hold", &address_of(2).to_string(), "7"]).on_the_node())?;
    let pod = bed.run(ContainerSpec::new("shop", &["/bin/hold", &node, "7"]))?;
    let held = |container: &Container| {
        let output = container.output();
        output.contains("connected") && output.contains("accepted")
    };
    until("both hold their connections", PATIENCE, || held(&host) && held(&pod))?;
    let agent = NodeAgent::start(&bed, "")?;
    let open = || {
        [("client", "gate", "shop"), ("server", "gate", "shop"), ("client", "shop", "gate"), ("server", "shop", "gate")]
            .map(|(reporter, client, server)| agent.open(reporter, client, server).unwrap_or_default())
    };
    until("all are open", PATIENCE, || open() == [7.0; 4]).with_context(|| format!("{:?}", agent.status()))?;
    // Who answers in the pod closes as well, and nothing but FINs was ever seen of it; who asks
    // there keeps its ends, half closed as they are.
    bed.stop(host, Duration::ZERO)?;
    until("what closed is open no longer", PATIENCE, || open() == [0.0, 0.0, 7.0, 0.0])
        .with_context(|| format!("{:?} {:?}", open(), agent.status()))?;
    // What the status says is copied a few times a second.
    until("it is told how many", PATIENCE, || agent.status().is_ok_and(|status| status.scan.ended == 7))
        .with_context(|| format!("{:?}", agent.status()))
}

#[test]
fn a_connection_that_the_node_closes_first_is_closed() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let pod = api(&mut bed, "shop")?;
    let at = format!("{}:8080", pod.address);
    let client = node_client(&mut bed, "prober", &at, &["--count", "50", "--per-connection"])?;
    agent.wait_pods(1)?;
    agent.wait_cgroup("prober")?;
    run_to_end(&bed, &client)?;
    for reporter in ["client", "server"] {
        agent.wait_requests(reporter, "prober", "shop", 50)?;
        until("none is open", PATIENCE, || agent.open(reporter, "prober", "shop") == Some(0.0))
            .with_context(|| format!("{reporter}: {:?}", agent.open(reporter, "prober", "shop")))?;
    }
    Ok(())
}

#[test]
fn a_connection_whose_address_the_node_translates_is_one_flow() -> Result<()> {
    let _alone = alone();
    let nft = installed("nft")?;
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "")?;
    let pod = api(&mut bed, "shop")?;
    // What kube-proxy does for a Service: another destination, and another source that hides the port.
    let rules = format!(
        "table ip hs {{\nchain out {{\ntype nat hook output priority -100;\nip daddr 10.96.0.10 tcp dport 80 dnat to {0}:8080\n}}\n\
         chain post {{\ntype nat hook postrouting priority 100;\nip daddr {0} masquerade fully-random\n}}\n}}\n",
        pod.address
    );
    let rules_file = bed.dir().join("hs.nft");
    std::fs::write(&rules_file, rules)?;
    ensure!(bed.node().command(&nft).arg("-f").arg(&rules_file).status()?.success(), "nft");
    bed.node().ip(&["route", "add", "10.96.0.0/16", "dev", testbed::BRIDGE])?;
    let client = node_client(&mut bed, "kubelet", "10.96.0.10:80", &["--count", "80"])?;
    agent.wait_pods(1)?;
    agent.wait_cgroup("kubelet")?;
    let sent = run_to_end(&bed, &client)?;
    assert_eq!(sent["answered"], 80);
    until("each is counted once at each end", PATIENCE, || {
        agent.all("client") == (80, 0) && agent.all("server") == (80, 0)
    })
    .with_context(|| agent.edges())
}

#[test]
fn what_cannot_be_observed_says_why() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = NodeAgent::start(&bed, "[attach]\nnode = false\n")?;
    let _host = node_server(&mut bed, "gate")?;
    until("the container is known", PATIENCE, || agent.status().is_ok_and(|s| s.containerd.connected))?;
    let status = agent.status()?;
    assert_eq!((status.node.observed, status.node.cgroups), (false, vec![]));
    assert!(agent.pid() > 0);
    Ok(())
}
