//! Where the agent's words go: standard error as text or JSON, or the journal with its fields.

mod plain;

use crate::config::{Log, LogFormat};
use nix::sys::stat::fstat;
use plain::Plain;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How much is said, as long as the process lives.
#[derive(Debug, Default)]
pub struct Level(Option<reload::Handle<EnvFilter, Registry>>);

impl Level {
    /// What is no filter was refused when it was read.
    pub fn set(&self, level: &str) {
        let Level(Some(handle)) = self else { return };
        if let Ok(filter) = EnvFilter::try_new(level) {
            // Fails only when logging has ended.
            let _ = handle.reload(filter);
        }
    }
}

/// Starts logging. Where the journal was asked for and is not there, text goes to standard error and says so.
pub fn start(log: &Log) -> Level {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let text = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed();
    let journald =
        || tracing_journald::layer().map(|layer| layer.with_syslog_identifier("pilotfish".to_owned()).boxed());
    let mut missing = None;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => text(),
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Journald => journald().unwrap_or_else(|error| {
            missing = Some(error);
            text()
        }),
        LogFormat::Auto if connected_to_journal() => journald().unwrap_or_else(|_| text()),
        LogFormat::Auto => text(),
    };
    // Fails only when logging was started before, in a test.
    let _ = tracing_subscriber::registry().with(Plain(layer).with_filter(filter)).try_init();
    if let Some(error) = missing {
        tracing::warn!(%error, "no journal here: logging to standard error");
    }
    Level(Some(handle))
}

/// systemd's test: `JOURNAL_STREAM` names the device and inode that standard error was connected to (systemd.exec(5)).
fn connected_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(std::io::stderr()).is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}
