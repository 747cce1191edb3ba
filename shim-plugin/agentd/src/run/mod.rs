//! The agent as it runs: its parts, what wires them, and in which order they come and go.

pub mod app;
pub mod containers;
pub mod engine;
pub mod figures;
pub mod kubernetes;
pub mod parts;
pub mod pipeline_thread;
pub mod process;
pub mod reload;
pub mod saved;
pub mod scan;
