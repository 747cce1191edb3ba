//! What this program is.

use agent_api::Version;
use capture_engine::kernel::Kernel;

#[must_use]
pub fn own() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("PILOTFISH_COMMIT").unwrap_or_default().to_owned(),
        kernel_object: format!("{:016x}", Kernel::object_hash()),
    }
}
