//! A cluster without IPv4: the API server, its kubeconfig, nodes, pods and Services have addresses
//! of IPv6 alone. What is left of IPv4 is the machine's own: the testbed's etcd, and where the agent
//! is asked for its figures.

use crate::world::{World, wait_edges, wait_named, wait_reached_by, within};
use anyhow::{Result, ensure};
use e2e::{PATIENCE, alone};
use std::net::{IpAddr, Ipv6Addr};
use testbed::Netns;
use testbed::cluster::ControlPlaneOptions;

const GATEWAY: &str = "fd00:71::1";

/// Its addresses go, and one of IPv6 comes, by which everything passes the node.
fn without_ipv4(pod: &Netns, address: IpAddr) -> Result<()> {
    within(
        pod,
        &format!(
            "for i in all eth0; do echo 0 >/proc/sys/net/ipv6/conf/$i/accept_redirects; done
             ip addr flush dev eth0
             ip addr add {address}/128 dev eth0 nodad
             ip -6 route add {GATEWAY}/128 dev eth0
             ip -6 route add default via {GATEWAY}"
        ),
    )
}

#[test]
fn a_cluster_without_ipv4_has_its_names_at_both_ends() -> Result<()> {
    let _alone = alone();
    let options = ControlPlaneOptions {
        address: Some(Ipv6Addr::LOCALHOST.into()),
        api_server_flags: vec!["--service-cluster-ip-range=fd00:96::/112".to_owned()],
        ..ControlPlaneOptions::default()
    };
    let mut world = World::start_with(&options, ["2001:db8::1".parse()?, "2001:db8::2".parse()?])?;
    ensure!(world.plane.url().starts_with("https://[::1]:"), "{}", world.plane.url());
    let agent = world.agent(None)?;
    let (store, web) = (world.deployment("store", "11111")?, world.deployment("web", "5c6b7")?);
    let (served, asking): (IpAddr, IpAddr) = ("fd00:71::11".parse()?, "fd00:71::22".parse()?);
    let server = world.pod("store-11111-aaaaa", &store, &["/bin/api", "--listen", "[::]:8080"])?;
    world.has_addresses("store-11111-aaaaa", &store, &[served])?;
    let service = world.service("store", &[(served, "store-11111-aaaaa")])?;
    ensure!(service.is_ipv6(), "{service}");
    let client = world.client_pod("web-5c6b7-aaaaa", &web, service, 80, &["--count", "30"])?;
    world.has_addresses("web-5c6b7-aaaaa", &web, &[asking])?;
    for (pod, address) in [(&server, served), (&client, asking)] {
        without_ipv4(&pod.netns, address)?;
    }
    within(
        world.bed.node(),
        &format!(
            "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
             ip addr add {GATEWAY}/128 dev br0 nodad
             ip -6 route add {served}/128 dev br0
             ip -6 route add {asking}/128 dev br0
             nft 'add table ip6 cluster; add chain ip6 cluster services {{ type nat hook prerouting priority -100; }};
                  add rule ip6 cluster services ip6 daddr {service} tcp dport 80 dnat to [{served}]:8080'"
        ),
    )?;
    agent.wait_attached(2, PATIENCE)?;
    wait_reached_by(&agent, service, 80, "store")?;
    wait_reached_by(&agent, served, 8080, "store")?;
    for (address, name) in [(service, "store"), (served, "store"), (asking, "web")] {
        wait_named(&agent, address, "Deployment", name)?;
    }
    wait_named(&agent, "2001:db8::2".parse()?, "Node", crate::world::OTHER_NODE)?;
    world.run_to_end(&client)?;
    wait_edges(
        &agent,
        &[
            "web (Deployment) > store (Deployment) by store, client: 30",
            "web (Deployment) > store (Deployment) by store, server: 30",
        ],
    )
}
