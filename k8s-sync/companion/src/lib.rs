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
mod counts;
mod figure;
mod findings;
mod fleet;
mod looks;
mod loops;
pub mod map;
mod names;
mod node;
mod placed;
#[cfg(test)]
mod pods;
mod ran;
mod review;
pub mod serve;
mod session;
mod shown;
mod strangers;
mod taking;
mod told;
mod watched;

pub use counts::FleetCounts;
pub use figure::{Figure, Gap, Measure, Missing};
pub use findings::{Severity, Told};
pub use fleet::{Config, Fleet, KEPT};
pub use names::{Name, Names};
pub use placed::{Here, Placed, Places};
pub use ran::{LATELY, Ran, RanCounts, Verdict};
pub use review::{Bound, Wanted};
pub use session::Session;
pub use shown::{AgentRow, FindingRow, Only, Rows, Shown, Standing};
pub use watched::Watched;
