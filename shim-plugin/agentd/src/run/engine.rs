//! Loads the in-kernel half.

use crate::config::Config;
use crate::exit::{Exit, Failure};
use capture_engine::kernel::{Kernel, KernelConfig, LoadError, Programs, RingReader};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The loaded programs with the one reader of their ring.
#[derive(Debug)]
pub struct Loaded {
    pub kernel: Arc<Kernel>,
    pub reader: RingReader,
}

impl Loaded {
    #[must_use]
    pub fn programs(&self) -> Arc<dyn Programs> {
        self.kernel.clone()
    }
}

/// # Errors
/// `NoPermission` when the kernel refuses or cannot; the text says which.
pub fn load(config: &Config) -> Result<Loaded, Failure> {
    let ranges = |ports: &[(u16, u16)]| -> Vec<RangeInclusive<u16>> { ports.iter().map(|(a, b)| *a..=*b).collect() };
    let wanted = KernelConfig {
        ring_bytes: config.capture.ring_bytes,
        flows: config.capture.flows,
        head_bytes: config.capture.head_bytes,
        include_ports: ranges(&config.capture.ports),
        exclude_ports: ranges(&config.capture.exclude_ports),
        loopback: config.attach.loopback,
        ..KernelConfig::default()
    };
    let refused = |error: LoadError| {
        let exit = match error {
            LoadError::RingSize(_) | LoadError::NoFlows => Exit::Usage,
            _ => Exit::NoPermission,
        };
        Failure::new(exit, error)
    };
    let kernel = Kernel::load(&wanted).map_err(refused)?;
    let reader = kernel.reader().map_err(|error| Failure::new(Exit::Software, error))?;
    let reader =
        reader.ok_or_else(|| Failure::say(Exit::Software, "the ring of programs just loaded has a reader already"))?;
    Ok(Loaded { kernel: Arc::new(kernel), reader })
}
