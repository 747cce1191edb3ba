//! Is sent == counted + lost{reason}, to the unit, for the client's and the server's reporter? At
//! half load beside the client's own latencies (`half_load.rs`), or with traffic of a profile
//! (`profiles.rs`, `hostile.rs`) that is hard to count.

mod bare;
mod equation;
mod half_load;
mod hostile;
mod profiles;
mod rtnl;

use anyhow::Result;
use clap::Args;
use profiles::Profile;

#[derive(Debug, Args)]
pub struct Options {
    /// What is hard to count; none: half load, and latencies
    #[arg(long)]
    profile: Option<Profile>,
    /// Exchanges of a profile; each has a number that takes about a minute
    #[arg(long, requires = "profile")]
    requests: Option<u64>,
    /// Requests of a profile a second, at most; none: as many as both ends can, of which the ring may refuse some
    #[arg(long, requires = "profile")]
    rate: Option<f64>,
    /// Containers that are started before the hostile neighbour begins, and as many beside it
    #[arg(long, requires = "profile", default_value_t = 100)]
    starts: u32,
    #[command(flatten)]
    half_load: half_load::HalfLoad,
}

pub fn run(options: &Options) -> Result<()> {
    match options.profile {
        None => half_load::run(&options.half_load),
        Some(profile) => profiles::run(profile, options.requests, options.rate, options.starts),
    }
}
