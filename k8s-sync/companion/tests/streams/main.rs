//! Agents and a companion over real TLS connections on loopback.
#![forbid(unsafe_code)]

mod bed;
mod cluster;
mod credentials;
mod joining;
mod names;
mod pace;
mod raw;
mod refused;
mod replicas;
mod slow;
mod tokens;
