//! The in-kernel half and its door to user space.

pub mod stub;

pub use stub::{Programs, StubError};
