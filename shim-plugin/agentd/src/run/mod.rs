//! The agent as it runs: its parts, what wires them, and in which order they come and go.

pub mod alarm;
pub mod app;
pub mod companion;
pub mod containers;
pub mod descriptors;
pub mod ends;
pub mod engine;
pub mod kernel_stats;
pub mod kubernetes;
pub mod names;
pub mod node_ports;
pub mod orders;
pub mod own_news;
pub mod pipeline_thread;
pub mod process;
pub mod reload;
pub mod running;
pub mod saved;
pub mod scan;
pub mod settings;
pub mod signals;
pub mod sweep;
pub mod timeline;
pub mod upkeep;
