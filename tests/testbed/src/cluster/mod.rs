//! A real Kubernetes cluster on one machine.
//!
//! ```no_run
//! use testbed::cluster::{ControlPlane, ControlPlaneOptions, PodSpec, User, kinds, objects};
//!
//! # fn main() -> anyhow::Result<()> {
//! // etcd and an API server, on the loopback, in a directory of their own. Gone after the drop. No root.
//! let mut plane = ControlPlane::start(&ControlPlaneOptions { min_request_timeout: Some(5), ..Default::default() })?;
//! let kubeconfig = plane.kubeconfig(User::Agent)?; // for the agent: exactly the rights of packaging/kubernetes
//! let client = plane.client(); // the administrator, JSON in and out
//!
//! // A pod without a kubelet: created with its node's name, its status patched as a kubelet would.
//! PodSpec::new("web", "node-1", &["10.1.2.3".parse()?]).port(80).create_running(client)?;
//! client.create(&kinds::SERVICE, &objects::service("default", "web", &[("app", "web")], 80, false))?;
//! assert_eq!(client.list(&kinds::POD, None)?.len(), 1);
//!
//! // What was asked, by whom: the audit log, one entry for each request.
//! let mark = plane.audit().mark();
//! plane.restart_api_server()?;
//! assert!(plane.audit().counts(User::Agent.name(), mark)?.is_empty());
//! # drop(kubeconfig);
//! # Ok(())
//! # }
//! ```
//!
//! More of it: [`ControlPlane::freeze`] and `thaw` (SIGSTOP, SIGCONT), `kill_api_server` and
//! `start_api_server` (same port, same data), `compact` (of etcd), `set_agent_rights` (403 and
//! back), `new_agent_token` and `revoke` (401), `rotate_authority`, and [`bulk`] for 100,000 pods.
//! [`Cluster`] has whole nodes besides (names of Services included), and [`Node::start_agent`]
//! starts an agent on one. What a real server cannot be made to do, [`Fault`] does in front of it.
//! The programs come from [`binaries`]: the first use builds them.

mod api_server;
mod audit;
pub mod binaries;
mod build;
pub mod bulk;
mod certs;
mod client;
pub mod companion;
mod control;
mod controllers;
mod etcd;
mod fault;
pub mod kept;
pub mod kinds;
mod kubeconfig;
pub mod manifest;
mod nodes;
pub mod objects;
mod place;
mod program;
pub mod scene;

pub use audit::{Audit, Mark, Request};
pub use client::{Client, Refused, Reply};
pub use control::{ControlPlane, ControlPlaneOptions};
pub use etcd::Etcd;
pub use fault::{Act, Door, Fault, On, Seen};
pub use kubeconfig::{AGENT_USER, User};
pub use nodes::{Cluster, ClusterOptions, IMAGE, Node, PodView};
pub use objects::{Owner, PodSpec};
