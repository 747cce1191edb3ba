//! The service map: what a browser asks for, and the answers. Knows no connection and no clock.
//!
//! It knows no user either: whoever reaches it sees all. So it listens where `kubectl port-forward`
//! comes, and nobody else (docs/companion.md).

mod asked;
mod assets;
mod detail;
mod document;
mod guard;
mod wire;

pub use asked::Asked;
pub use assets::{Asset, POLICY, asset};
pub use detail::detail;
pub use document::{Document, EDGES, WORKLOADS};
pub use guard::{Guard, Refused};
