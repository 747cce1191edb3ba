//! `pilotfish agent`.

use crate::config::Config;
use crate::exit::{Exit, Failure};

pub fn run(_config: Config, _warnings: &[String]) -> Result<Exit, Failure> {
    Ok(Exit::Ok)
}
