//! The companion: takes the series that agents push, one copy for each node, and makes one table of
//! them, which a scraper, kubectl and whoever links this crate can read.
//!
//! Counts nothing itself and watches no traffic. It never dials an agent, and a read of it causes no
//! request to anybody.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod apis;
pub mod book;
pub mod cluster;
mod figure;
mod fleet;
pub mod map;
mod names;
mod placed;
pub mod serve;
mod session;
mod watched;

pub use figure::{Figure, Gap, Measure, Missing};
pub use fleet::{AgentRow, Config, Fleet, FleetCounts, KEPT, Only, Rows, Shown, Standing};
pub use names::{Name, Names};
pub use placed::{Here, Placed, Places};
pub use session::Session;
pub use watched::Watched;
