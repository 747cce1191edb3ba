//! Services of every type, met by packets: whatever leads to a workload has its name, once.

use crate::world::{NODE, OTHER_NODE, World, identity, spec, wait_edges, wait_named, wait_reached_by, within};
use anyhow::{Context, Result, ensure};
use e2e::{PATIENCE, alone};
use serde_json::{Value, json};
use std::net::IpAddr;
use testbed::cluster::{kinds, objects};
use testbed::{Netns, scene};

const NODE_ADDRESS: &str = "192.0.2.1";

impl World {
    /// A Service that is no ClusterIP, with these endpoints; as stored.
    fn service_of(&self, name: &str, more: &[(&str, Value)], endpoints: &[(IpAddr, &str)]) -> Result<Value> {
        let mut service = objects::service("default", name, &[("app", name)], 80, false);
        for (key, value) in more {
            service["spec"][*key] = value.clone();
        }
        let stored = self.plane.client().create(&kinds::SERVICE, &service)?;
        if !endpoints.is_empty() {
            self.endpoints(name, endpoints)?;
        }
        Ok(stored)
    }

    /// The pods' packets go through the node, whose address is the API's.
    fn through_the_node(&self, pods: &[&Netns]) -> Result<()> {
        for pod in pods {
            pod.ip(&["route", "add", "100.71.0.1/32", "dev", "eth0"])?;
            pod.ip(&["route", "del", "100.71.0.0/16", "dev", "eth0"])?;
        }
        self.bed.node().ip(&["addr", "add", &format!("{NODE_ADDRESS}/32"), "dev", "lo"])?;
        within(
            self.bed.node(),
            "echo 1 >/proc/sys/net/ipv4/ip_forward
             for i in all br0; do echo 0 >/proc/sys/net/ipv4/conf/$i/send_redirects; done",
        )
    }

    fn nat(&self, rule: &str) -> Result<()> {
        within(self.bed.node(), &format!("iptables -w -t nat -A {rule}"))
    }
}

fn node_port(service: &Value) -> Result<u16> {
    Ok(u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().context("a node port")?)?)
}

#[test]
fn a_node_s_port_leads_to_the_workload_whether_or_not_the_source_is_kept() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (open, local, web) =
        (world.deployment("open", "11111")?, world.deployment("local", "22222")?, world.deployment("web", "5c6b7")?);
    let open = world.pod("open-11111-aaaaa", &open, &["/bin/api"])?;
    let local = world.pod("local-22222-aaaaa", &local, &["/bin/api"])?;
    let kind = ("type", json!("NodePort"));
    let [open_at, local_at]: [IpAddr; 2] = [open.address.into(), local.address.into()];
    let any = world.service_of("any", std::slice::from_ref(&kind), &[(open_at, "open-11111-aaaaa")])?;
    let kept = [kind, ("externalTrafficPolicy", json!("Local"))];
    let kept = world.service_of("kept", &kept, &[(local_at, "local-22222-aaaaa")])?;
    let (any, kept) = (node_port(&any)?, node_port(&kept)?);
    let node: IpAddr = NODE_ADDRESS.parse()?;
    let to_any = world.client_pod("web-5c6b7-aaaaa", &web, node, any, &["--count", "20"])?;
    let to_kept = world.client_pod("web-5c6b7-bbbbb", &web, node, kept, &["--count", "30"])?;
    world.through_the_node(&[&open.netns, &local.netns, &to_any.netns, &to_kept.netns])?;
    world.nat(&format!("PREROUTING -d {NODE_ADDRESS} -p tcp --dport {any} -j DNAT --to {open_at}:8080"))?;
    world.nat(&format!("PREROUTING -d {NODE_ADDRESS} -p tcp --dport {kept} -j DNAT --to {local_at}:8080"))?;
    world.nat(&format!("POSTROUTING -d {open_at} -j SNAT --to-source {NODE_ADDRESS}"))?;
    agent.wait_attached(4, PATIENCE)?;
    for (address, port, service) in [(node, any, "any"), (node, kept, "kept"), (open_at, 8080, "any")] {
        wait_reached_by(&agent, address, port, service)?;
    }
    for client in [&to_any, &to_kept] {
        wait_named(&agent, client.address.into(), "Deployment", "web")?;
        world.run_to_end(client)?;
    }
    // Who comes by a node's port has the node's name at the server where the node translates it.
    wait_edges(
        &agent,
        &[
            "web (Deployment) > open (Deployment) by any, client: 20",
            &format!("{NODE} (Node) > open (Deployment) by any, server: 20"),
            "web (Deployment) > local (Deployment) by kept, client: 30",
            "web (Deployment) > local (Deployment) by kept, server: 30",
        ],
    )
}

#[test]
fn headless_services_and_both_families_of_one_lead_to_their_pods() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (store, both, web) =
        (world.deployment("store", "11111")?, world.deployment("both", "22222")?, world.deployment("web", "5c6b7")?);
    let listen = ["/bin/api", "--listen", "[::]:8080"];
    let headless = world.pod("store-11111-aaaaa", &store, &["/bin/api"])?;
    let dual = world.pod("both-22222-aaaaa", &both, &listen)?;
    let (four, six): (IpAddr, IpAddr) = (dual.address.into(), "fd00:71::22".parse()?);
    dual.netns.ip(&["addr", "add", &format!("{six}/64"), "dev", "eth0", "nodad"])?;
    world.has_addresses("both-22222-aaaaa", &both, &[four, six])?;
    let at: IpAddr = headless.address.into();
    world.service_of("store", &[("clusterIP", json!("None"))], &[(at, "store-11111-aaaaa")])?;
    let families = [("ipFamilyPolicy", json!("RequireDualStack"))];
    let stored = world.service_of("both", &families, &[(four, "both-22222-aaaaa")])?;
    world.endpoints("both", &[(six, "both-22222-aaaaa")])?;
    let ips = stored["spec"]["clusterIPs"].as_array().context("clusterIPs")?;
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    ensure!(ips.len() == 2 && ips[0].is_ipv4() && ips[1].is_ipv6(), "{ips:?}");
    for ip in &ips {
        wait_reached_by(&agent, *ip, 80, "both")?;
        wait_named(&agent, *ip, "Deployment", "both")?;
    }
    let mut clients = Vec::new();
    for (name, target, count) in [("aaaaa", at, "10"), ("bbbbb", four, "20"), ("ccccc", six, "30")] {
        let pod = format!("web-5c6b7-{name}");
        let client = world.client_pod(&pod, &web, target, 8080, &["--count", count])?;
        let mine: IpAddr = format!("fd00:71::{name}", name = &name[..4]).parse()?;
        client.netns.ip(&["addr", "add", &format!("{mine}/64"), "dev", "eth0", "nodad"])?;
        world.has_addresses(&pod, &web, &[client.address.into(), mine])?;
        wait_named(&agent, mine, "Deployment", "web")?;
        clients.push(client);
    }
    agent.wait_attached(5, PATIENCE)?;
    for (address, service) in [(at, "store"), (four, "both"), (six, "both")] {
        wait_reached_by(&agent, address, 8080, service)?;
    }
    for client in &clients {
        world.run_to_end(client)?;
    }
    wait_edges(
        &agent,
        &[
            "web (Deployment) > store (Deployment) by store, client: 10",
            "web (Deployment) > store (Deployment) by store, server: 10",
            "web (Deployment) > both (Deployment) by both, client: 50",
            "web (Deployment) > both (Deployment) by both, server: 50",
        ],
    )
}

#[test]
fn an_external_name_that_a_pod_looked_up_is_its_service() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let web = world.deployment("web", "5c6b7")?;
    let outside: IpAddr = "203.0.113.9".parse()?;
    let place = world.remote("elsewhere")?;
    let name = [("type", json!("ExternalName")), ("externalName", json!("www.demo.test"))];
    world.service_of("database", &name, &[])?;
    let dns = scene::dnsmasq(&mut world.bed, "203.0.113.9".parse()?)?;
    let client = world.client_pod("web-5c6b7-aaaaa", &web, outside, 8080, &["--count", "20"])?;
    client.netns.ip(&["route", "add", "203.0.113.9/32", "via", &place.address.to_string()])?;
    world.remote_netns(0).ip(&["addr", "add", "203.0.113.9/32", "dev", "lo"])?;
    agent.wait_attached(2, PATIENCE)?;
    wait_named(&agent, client.address.into(), "Deployment", "web")?;
    let server = dns.address.to_string();
    world.bed.exec(&client, &["/bin/busybox", "nslookup", "www.demo.test", &server])?;
    world.run_to_end(&client)?;
    // For the name it asks twice, once for each family.
    wait_edges(
        &agent,
        &[
            "web (Deployment) > database (Service) by database, client: 20",
            "web (Deployment) > dns (Container) by no Service, client: 2",
            "web (Deployment) > dns (Container) by no Service, server: 2",
        ],
    )
}

#[test]
fn a_pod_that_has_completed_leaves_its_address_and_pods_of_one_node_share_one() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent(None)?;
    let (new, web) = (world.deployment("new", "22222")?, world.deployment("web", "5c6b7")?);
    let done = world.cron_job("tick")?;
    let place = world.remote("elsewhere")?;
    world.remote_pod("tick-1-aaaaa", &done, &place)?;
    wait_named(&agent, place.address, "CronJob", "tick")?;
    // It keeps its address in the API for as long as its object is there.
    let ended = json!({"status": {"phase": "Succeeded"}});
    world.plane.client().patch_status(&kinds::POD, Some("default"), "tick-1-aaaaa", &ended)?;
    world.remote_pod("new-22222-aaaaa", &new, &place)?;
    wait_named(&agent, place.address, "Deployment", "new")?;

    // Two pods on the other node's network, told from each other by their ports.
    let node: IpAddr = "192.0.2.2".parse()?;
    world.remote_netns(0).ip(&["addr", "add", "192.0.2.2/32", "dev", "lo"])?;
    world.listens_too(0, 9090)?;
    let client = world.plane.client();
    for (name, port) in [("edge-33333-aaaaa", 8080), ("edge-b-44444-aaaaa", 9090)] {
        let owner = world
            .deployment(name.rsplitn(3, '-').nth(2).unwrap_or_default(), name.rsplit('-').nth(1).unwrap_or_default())?;
        let mut pod = spec(name, &owner, OTHER_NODE).on_host_network();
        pod.ports = vec![port];
        pod.addresses = vec![node];
        pod.create_running(client)?;
    }
    let mut clients = Vec::new();
    for (pod, target, port, count) in
        [("aaaaa", place.address, 8080, "10"), ("bbbbb", node, 8080, "20"), ("ccccc", node, 9090, "30")]
    {
        let client = world.client_pod(&format!("web-5c6b7-{pod}"), &web, target, port, &["--count", count])?;
        client.netns.ip(&["route", "add", "192.0.2.2/32", "via", &place.address.to_string()])?;
        wait_named(&agent, client.address.into(), "Deployment", "web")?;
        clients.push(client);
    }
    agent.wait_attached(3, PATIENCE)?;
    for (port, name) in [(8080, "edge"), (9090, "edge-b"), (7070, OTHER_NODE)] {
        let of_port = || identity(&agent, &format!("{node}:{port}")).map(|(_, found)| found.shown.name);
        testbed::until(&format!("port {port} is {name}"), PATIENCE, || of_port().is_ok_and(|found| found == name))
            .with_context(|| format!("{:?}", of_port()))?;
    }
    for client in &clients {
        world.run_to_end(client)?;
    }
    wait_edges(
        &agent,
        &[
            "web (Deployment) > new (Deployment) by no Service, client: 10",
            "web (Deployment) > edge (Deployment) by no Service, client: 20",
            "web (Deployment) > edge-b (Deployment) by no Service, client: 30",
        ],
    )
}

#[test]
fn in_scope_node_the_node_s_own_pods_are_named_and_others_are_not_guessed() -> Result<()> {
    let _alone = alone();
    let mut world = World::start()?;
    let agent = world.agent_with(None, "scope = \"node\"\n")?;
    let (here, there, web) =
        (world.deployment("here", "11111")?, world.deployment("there", "22222")?, world.deployment("web", "5c6b7")?);
    let server = world.pod("here-11111-aaaaa", &here, &["/bin/api"])?;
    let place = world.remote("elsewhere")?;
    world.remote_pod("there-22222-aaaaa", &there, &place)?;
    let near = world.client_pod("web-5c6b7-aaaaa", &web, server.address.into(), 8080, &["--count", "20"])?;
    let far = world.client_pod("web-5c6b7-bbbbb", &web, place.address, 8080, &["--count", "30"])?;
    agent.wait_attached(3, PATIENCE)?;
    wait_named(&agent, server.address.into(), "Deployment", "here")?;
    for client in [&near, &far] {
        wait_named(&agent, client.address.into(), "Deployment", "web")?;
        world.run_to_end(client)?;
    }
    wait_edges(
        &agent,
        &[
            "web (Deployment) > here (Deployment) by no Service, client: 20",
            "web (Deployment) > here (Deployment) by no Service, server: 20",
            "web (Deployment) > shared (Address) by no Service, client: 30",
        ],
    )
}
