//! The process: flags, configuration, files that are read again, and what wires the parts.

pub mod api_service;
pub mod args;
pub mod config;
pub mod credential;
pub mod exit;
pub mod files;
pub mod kubectl;
pub mod load;
pub mod run;
pub mod secrets;
