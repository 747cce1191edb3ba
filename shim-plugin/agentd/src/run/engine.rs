//! Loads the in-kernel half.

use crate::exit::{Exit, Failure};
use crate::run::alarm;
use capture_engine::kernel::{Alarm, Kernel, KernelConfig, LoadError, Programs, RingReader};
use std::sync::Arc;

/// The loaded programs with the one reader of their ring.
#[derive(Debug)]
pub struct Loaded {
    pub kernel: Arc<Kernel>,
    pub reader: RingReader,
    /// What hears of new containers, or why it cannot be had, where that was asked for.
    pub alarm: Option<Result<Alarm, String>>,
}

/// What else is loaded at once, and not when it is needed first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// What is for the node's own sockets.
    pub node: bool,
    /// What hears of new containers.
    pub alarm: bool,
}

impl Loaded {
    #[must_use]
    pub fn programs(&self) -> Arc<dyn Programs> {
        self.kernel.clone()
    }
}

/// # Errors
/// `NoPermission` when the kernel refuses or cannot; the text says which.
pub fn load(config: &KernelConfig, ahead: Ahead) -> Result<Loaded, Failure> {
    let refused = |error: LoadError| {
        let exit = match error {
            LoadError::RingSize(_) | LoadError::NoFlows => Exit::Usage,
            _ => Exit::NoPermission,
        };
        Failure::new(exit, error)
    };
    let kernel = Kernel::load(config).map_err(refused)?;
    if ahead.node
        && let Err(error) = kernel.load_node()
    {
        // Nothing else is the worse for it, and who needs it is told again.
        tracing::debug!(%error, "the node's own sockets are not seen");
    }
    let reader = kernel.reader().map_err(|error| Failure::new(Exit::Software, error))?;
    let reader =
        reader.ok_or_else(|| Failure::say(Exit::Software, "the ring of programs just loaded has a reader already"))?;
    let alarm = ahead.alarm.then(alarm::load_for_this_node);
    Ok(Loaded { kernel: Arc::new(kernel), reader, alarm })
}
