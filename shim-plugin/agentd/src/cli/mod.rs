//! The command line: one file per command, and what they share.

pub mod agent;
pub mod args;
pub mod check;
pub mod doctor;
pub mod edges;
pub mod golden;
pub mod identity;
pub mod moment;
pub mod output;
pub mod privileges;
pub mod report;
pub mod shell;
pub mod stat;
pub mod status;
pub mod table;
pub mod tap;
pub mod timeline;
pub mod top;
pub mod version;
