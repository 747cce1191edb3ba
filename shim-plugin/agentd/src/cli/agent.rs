//! `pilotfish agent`.

use crate::cli::privileges;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::log;
use crate::run::app::App;
use crate::run::descriptors;
use crate::run::reload::{self, Reload};

/// Runs until a signal or the end of a part. What goes wrong is logged, once, here.
pub fn run(config: Config, warnings: &[String], read: reload::Read) -> Exit {
    let reload = Reload::new(read, log::start(&config.log));
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    descriptors::raise();
    match permitted().and_then(|()| App::build(config, reload)).and_then(App::run) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            tracing::error!(exit_code = failure.exit.code(), "{failure}");
            failure.exit
        }
    }
}

fn permitted() -> Result<(), Failure> {
    let lacking = privileges::missing();
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<String> =
        lacking.iter().map(|capability| format!("{} ({})", capability.name, capability.why)).collect();
    let text = format!(
        "missing {}; run it as root, or with these capabilities; `pilotfish check` tells more",
        names.join(", ")
    );
    Err(Failure::say(Exit::NoPermission, text))
}
