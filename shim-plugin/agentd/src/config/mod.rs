//! Everything that can be configured. Precedence: flag, environment, file, default. All faults are found in one go.

mod default;
mod fault;
mod given;
mod keys;
mod load;
mod sections;
mod value;

pub use fault::Faults;
pub use given::given;
#[cfg(test)]
pub use keys::KEYS;
pub use load::{Flags, load, read_file};
pub use sections::{Config, Kubernetes, KubernetesMode, Log, LogFormat};
pub use value::Given;
