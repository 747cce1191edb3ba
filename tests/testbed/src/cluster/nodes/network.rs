//! The network between the nodes: a bridge in a namespace of its own, and one link from there to
//! the machine, so that API server and nodes reach each other. Pods are routed: `10.77.<node>.0/24`
//! through the node.

use crate::network::{NETNS_DIR, Netns, ip};
use crate::sweep;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// 10.88.`subnet`.0/24: the machine has number 1, node n number 10 + n.
#[derive(Debug)]
pub(super) struct Management {
    subnet: u8,
    id: String,
    bridge: Netns,
}

const BRIDGE: &str = "mgmt0";

impl Management {
    pub fn create(id: &str) -> Result<Management> {
        // Held until the address is taken: clusters that start together each find another subnet.
        let _making = sweep::making()?;
        let taken = ip(&["-o", "-4", "addr", "show"])?;
        let subnet =
            (0..=255_u8).find(|n| !taken.contains(&format!(" 10.88.{n}."))).context("all of 10.88.0.0/16 is in use")?;
        let bridge = Netns::create(&format!("{id}-mgmt"))?;
        let management = Management { subnet, id: id.to_owned(), bridge };
        management.bridge.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        management.bridge.ip(&["link", "set", BRIDGE, "up"])?;
        // The only link in the machine's own namespace. It goes with its other end.
        let (link, peer) = (id, "machine");
        ip(&["link", "add", link, "type", "veth", "peer", "name", peer, "netns", management.bridge.name()])?;
        management.bridge.ip(&["link", "set", peer, "master", BRIDGE, "up"])?;
        ip(&["addr", "add", &format!("{}/24", management.machine()), "dev", link])?;
        ip(&["link", "set", link, "up"])?;
        Ok(management)
    }

    /// The machine's address among the nodes, where the API server listens.
    pub fn machine(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.subnet, 1)
    }

    /// Name of the bridge's namespace.
    pub fn bridge(&self) -> &str {
        self.bridge.name()
    }

    pub fn address_of(&self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.subnet, 10 + node)
    }

    /// The namespace of node `n` among `count`: its address, and the ways to the pods of the others.
    pub fn node(&self, n: u8, count: u8) -> Result<Netns> {
        let node = Netns::create(&format!("{}-n{n}", self.id))?;
        let port = format!("n{n}");
        self.bridge.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", node.name()])?;
        self.bridge.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        node.ip(&["addr", "add", &format!("{}/24", self.address_of(n)), "dev", "eth0"])?;
        node.ip(&["link", "set", "eth0", "up"])?;
        // A Service's address has to have a way before it is rewritten.
        node.ip(&["route", "add", "default", "via", &self.machine().to_string()])?;
        for other in (1..=count).filter(|other| *other != n) {
            node.ip(&["route", "add", &pod_range(other), "via", &self.address_of(other).to_string()])?;
        }
        Ok(node)
    }
}

pub(super) fn pod_range(node: u8) -> String {
    format!("10.77.{node}.0/24")
}

pub(super) fn netns_path(name: &str) -> PathBuf {
    PathBuf::from(NETNS_DIR).join(name)
}
