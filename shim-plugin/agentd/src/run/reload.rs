//! What SIGHUP does: the configuration is read again. What can change while the agent runs is taken
//! over, the rest is named. A configuration with faults changes nothing.

use crate::config::Config;
use crate::exit::Failure;
use crate::log::Level;
use std::fmt;

/// Reads the configuration from where it was read first.
pub type Read = Box<dyn Fn() -> Result<(Config, Vec<String>), Failure> + Send>;

pub struct Reload {
    read: Read,
    level: Level,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

impl Reload {
    #[must_use]
    pub fn new(read: Read, level: Level) -> Reload {
        Reload { read, level }
    }

    /// Brings `running` up to date.
    pub fn run(&self, running: &mut Config) {
        let (wanted, warnings) = match (self.read)() {
            Ok(read) => read,
            Err(failure) => return tracing::error!("the configuration stays as it is: {failure}"),
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let needs_restart = needs_restart(running, &wanted);
        if wanted.log.level != running.log.level {
            self.level.set(&wanted.log.level);
            tracing::info!(level = wanted.log.level, "log.level changed");
            running.log.level = wanted.log.level;
        }
        if wanted.capture.exclude_namespaces != running.capture.exclude_namespaces {
            let namespaces = wanted.capture.exclude_namespaces.join(", ");
            tracing::info!(namespaces, "capture.exclude_namespaces changed");
            running.capture.exclude_namespaces = wanted.capture.exclude_namespaces;
        }
        if wanted.l7 != running.l7 {
            let protocols: Vec<&str> = wanted.l7.protocols.iter().map(|wire| wire.as_str()).collect();
            tracing::info!(protocols = protocols.join(", "), "l7.protocols changed");
            running.l7 = wanted.l7;
        }
        if needs_restart.is_empty() {
            tracing::info!("the configuration was read again");
        } else {
            tracing::warn!(sections = needs_restart.join(", "), "changed, and taken over by a restart only");
        }
    }
}

/// Sections of which something changed that is read at the start only.
fn needs_restart(running: &Config, wanted: &Config) -> Vec<&'static str> {
    let mut log = wanted.log.clone();
    log.level.clone_from(&running.log.level);
    let mut capture = wanted.capture.clone();
    capture.exclude_namespaces.clone_from(&running.capture.exclude_namespaces);
    // Every section by name: a new one has to be thought of here. All of `l7` is taken over.
    let Config { containerd, kubernetes, companion, attach, scan, capture: _, l7: _, metrics, admin, log: _, debug } =
        wanted;
    let changed = [
        ("containerd", *containerd != running.containerd),
        ("kubernetes", *kubernetes != running.kubernetes),
        ("companion", *companion != running.companion),
        ("attach", *attach != running.attach),
        ("scan", *scan != running.scan),
        ("capture", capture != running.capture),
        ("metrics", *metrics != running.metrics),
        ("admin", *admin != running.admin),
        ("log", log != running.log),
        ("debug", *debug != running.debug),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reload(read: impl Fn() -> Result<(Config, Vec<String>), Failure> + Send + 'static) -> Config {
        let mut running = Config::default();
        Reload::new(Box::new(read), Level::default()).run(&mut running);
        running
    }

    #[test]
    fn a_level_changes_while_it_runs_and_an_address_does_not() {
        let mut wanted = Config::default();
        wanted.log.level = "debug".to_owned();
        wanted.admin.connections += 1;
        assert_eq!(needs_restart(&Config::default(), &wanted), ["admin"]);
        let running = reload(move || Ok((wanted.clone(), Vec::new())));
        assert_eq!(running.log.level, "debug");
        assert_eq!(running.admin, Config::default().admin);
    }

    #[test]
    fn who_is_left_out_changes_while_it_runs() {
        let mut wanted = Config::default();
        wanted.capture.exclude_namespaces.push("kube-system".to_owned());
        assert!(needs_restart(&Config::default(), &wanted).is_empty());
        let running = reload(move || Ok((wanted.clone(), Vec::new())));
        assert_eq!(running.capture.exclude_namespaces, ["kube-system"]);
    }

    #[test]
    fn a_faulty_configuration_changes_nothing() {
        let running = reload(|| Err(Failure::say(crate::exit::Exit::Usage, "line 3")));
        assert_eq!(running, Config::default());
    }
}
