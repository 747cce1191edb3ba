//! One file per command.

pub mod agent;
pub mod check;
pub mod edges;
pub mod identity;
pub mod output;
pub mod shell;
pub mod stat;
pub mod status;
pub mod version;
