//! What the agent says of itself and of the traffic: to probes, scrapers, systemd and the command line.

pub mod admin;
pub mod board;
pub mod companion;
pub mod counts;
pub mod doors;
pub mod identity;
pub mod known;
pub mod kubernetes;
pub mod notify;
pub mod pages;
pub mod pressure;
pub mod pulse;
pub mod self_metrics;
pub mod tap;
pub mod traffic;
