//! Twenty honest pods, and a neighbour that does everything at once in half a core.

use crate::bed::Testbed;
use crate::container::{Container, ContainerSpec};
use crate::quota::Quota;
use crate::scene;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Honest pods: a server for each client.
pub const PAIRS: usize = 10;
/// Beside those that it makes itself: as many as once held up everybody's attach.
pub const ADDRESSES: u32 = 27_000;
/// Half a core: else the scheduler is measured.
const SHARE: u32 = 50;

/// What a client of the crowd sent, and to whom.
#[derive(Clone, Debug)]
pub struct Sent {
    pub client: String,
    pub server: String,
    pub requests: u64,
}

/// Pods that ask each other at a gentle rate.
#[derive(Debug)]
pub struct Crowd {
    pub servers: Vec<Container>,
    clients: Vec<Container>,
}

impl Crowd {
    /// Starts them; nothing is sent before [`Crowd::begin`].
    pub fn start(bed: &mut Testbed) -> Result<Crowd> {
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let server = bed.run(ContainerSpec::new(&format!("shop{pair}"), &["/bin/api"]))?;
            scene::wait_listening(&server, 8080)?;
            let target = format!("{}:8080", server.address);
            let command = ["/bin/loadgen", "--gate", "/conf/gate", "--target", &target, "--profile", "mixed"];
            let more = ["--connections", "2", "--rate", "30", "--for", "3600"];
            clients.push(bed.run(ContainerSpec::new(&format!("honest{pair}"), &[&command[..], &more].concat()))?);
            servers.push(server);
        }
        Ok(Crowd { servers, clients })
    }

    pub fn begin(&self, bed: &Testbed) -> Result<()> {
        self.clients.iter().try_for_each(|client| scene::open_gate(bed, client))
    }

    /// Ends the clients; what each of them sent, all of it answered.
    pub fn end(&self, bed: &Testbed, patience: Duration) -> Result<Vec<Sent>> {
        let sent = |(client, server): (&Container, &Container)| {
            let done = scene::final_line(bed, client, patience)?;
            ensure!(done["sent"] == done["answered"], "{}: {done}", client.name);
            let requests = done["sent"].as_u64().context("what was sent")?;
            Ok(Sent { client: client.name.clone(), server: server.name.clone(), requests })
        };
        self.clients.iter().zip(&self.servers).map(sent).collect()
    }
}

/// The neighbour, with a server of its own that it troubles.
#[derive(Debug)]
pub struct Neighbour {
    pub container: Container,
    pub sink: Container,
    quota: Quota,
}

impl Neighbour {
    /// Starts it with its many addresses; it does nothing before [`Neighbour::begin`].
    pub fn start(bed: &mut Testbed) -> Result<Neighbour> {
        let sink = bed.run(ContainerSpec::new("sink", &["/bin/api"]))?;
        scene::wait_listening(&sink, 8080)?;
        let target = format!("{}:8080", sink.address);
        let command = ["/bin/storm", "--gate", "/conf/gate", "--target", &target];
        let container = bed.run(ContainerSpec::new("neighbour", &command).may("CAP_NET_ADMIN"))?;
        // The container's own control group.
        let quota = Quota::new(bed, "neighbour", SHARE)?;
        Ok(Neighbour { container, sink, quota })
    }

    /// Gives it its addresses, at once and from outside.
    pub fn crowd_with_addresses(&self, bed: &Testbed) -> Result<()> {
        let line = |n: u32| format!("addr add 10.64.{}.{}/32 dev eth0\n", n / 250, 1 + n % 250);
        let file = bed.dir().join("addresses");
        fs::write(&file, (0..ADDRESSES).map(line).collect::<String>())?;
        let mut command = Command::new("ip");
        command.args(["-n", self.container.netns.name(), "-batch"]).arg(&file);
        crate::network::run(&mut command).map(drop)
    }

    pub fn begin(&self, bed: &Testbed) -> Result<()> {
        scene::open_gate(bed, &self.container)
    }

    /// How often it did each kind of thing.
    pub fn end(&self, bed: &Testbed, patience: Duration) -> Result<Value> {
        scene::final_line(bed, &self.container, patience)
    }

    #[must_use]
    pub fn throttled_ms(&self) -> u64 {
        self.quota.throttled_ms()
    }
}
