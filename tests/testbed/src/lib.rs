//! A small node made of real things: a containerd of its own, containers in network namespaces of
//! their own, real servers, and the agent that watches them. Shared by the end-to-end tests, the
//! benchmarks and the demo.
//!
//! It never touches the machine's own containerd, adds no link to the machine's own network
//! namespace ([`cluster`], which has real Kubernetes nodes, adds one), and removes what it made on
//! drop, on a signal, and (`sweep`) after a run that was killed. It knows nothing of the agent's
//! insides: it runs the binary and reads what it serves.

#![deny(unsafe_code)]

mod agent;
mod bed;
pub mod cluster;
mod companion;
mod container;
mod containerd;
pub mod crowd;
pub mod docker;
mod exposition;
mod fetch;
mod fuse;
pub mod http;
mod known;
mod lossy;
mod native;
mod network;
mod process;
mod programs;
mod quota;
mod rootfs;
mod running;
pub mod scene;
mod service;
#[allow(unsafe_code, reason = "a signal handler can only be set with it")]
pub mod signals;
pub mod sweep;
#[allow(unsafe_code, reason = "raw bpf()")]
pub mod sys;
mod wait;

pub use agent::{Agent, AgentOptions};
pub use bed::Testbed;
pub use companion::{Companion, Home, apply_manifests};
pub use container::{Container, ContainerSpec, PodLabels};
pub use containerd::Containerd;
pub use exposition::{Exposition, Sample};
pub use fetch::{Response, fetch, fetch_fresh, fetch_unix};
pub use fuse::SilentFiles;
pub use known::Known;
pub use lossy::LossyContainerd;
pub use native::NativeHistogram;
pub use network::{BRIDGE, Netns, address_of, filters_in};
pub use process::{Process, Stat, cpu_of_processor};
pub use programs::{built_binary, installed};
pub use quota::Quota;
pub use service::{Service, ServiceCgroup};
pub use wait::{until, until_some};
