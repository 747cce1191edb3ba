//! The agent on a node: its network namespace, its containerd, its name, and a kubeconfig.

use super::node::Node;
use crate::agent::{Agent, AgentOptions, free_port};
use crate::cluster::control::ControlPlane;
use crate::process::Process;
use crate::programs::built_binary;
use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;

impl Node {
    /// Starts the agent on this node and waits until it is ready. With `kubeconfig` it has a
    /// `[kubernetes]` section with that and the node's name; without, that is left to
    /// `options.more`. It answers on the node's own address, which the machine reaches.
    pub fn start_agent(
        &self,
        plane: &ControlPlane,
        kubeconfig: Option<&Path>,
        options: &AgentOptions,
    ) -> Result<Agent> {
        let mut agent = self.spawn_agent(plane, kubeconfig, options)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// As [`Node::start_agent`], but returns before it is ready.
    pub fn spawn_agent(
        &self,
        plane: &ControlPlane,
        kubeconfig: Option<&Path>,
        options: &AgentOptions,
    ) -> Result<Agent> {
        let admin = SocketAddr::new(self.address().into(), free_port()?);
        let name = format!("agent-{}-{}", self.name(), admin.port());
        let (config, socket) = (self.dir().join(format!("{name}.toml")), self.dir().join(format!("{name}.sock")));
        let mut text = options.to_toml(&[self.containerd_socket()], admin, &socket);
        if let Some(kubeconfig) = kubeconfig {
            text += &format!("\n[kubernetes]\nmode = \"on\"\nkubeconfig = {kubeconfig:?}\nnode = {:?}\n", self.name());
        }
        std::fs::write(&config, text)?;
        let (log, state) = (plane.place.log(&name), options.state.clone());
        let process = self.run_agent(plane, &config, &name, state.as_deref())?;
        Ok(Agent { process, config, log, state, admin, socket })
    }

    /// After [`Agent::kill`] or [`Agent::stop`]: the same configuration again.
    pub fn start_agent_again(&self, plane: &ControlPlane, agent: &mut Agent) -> Result<()> {
        let name = agent.config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        agent.process = self.run_agent(plane, &agent.config, &name, agent.state.as_deref())?;
        agent.wait_ready()
    }

    fn run_agent(&self, plane: &ControlPlane, config: &Path, name: &str, state: Option<&Path>) -> Result<Process> {
        let mut command = self.command(&built_binary("pilotfish")?);
        command.arg("agent").arg("--config").arg(config);
        command.env_remove("KUBECONFIG").env_remove("NODE_NAME").env_remove("KUBERNETES_SERVICE_HOST");
        if let Some(state) = state {
            command.env("STATE_DIRECTORY", state);
        }
        plane.place.start(name, &mut command)
    }
}
