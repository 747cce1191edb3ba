//! The tiny program that sits on an interface: it says which namespace a packet is in and hands over to the shared program.

use flow_model::{Direction, Slot};
use std::os::fd::OwnedFd;

/// What goes onto the interfaces of a namespace. The attachment side knows no more of the kernel half than this.
pub trait Programs: Send + Sync {
    /// A `SCHED_CLS` program that marks packets as seen in `slot` and runs the shared program of `dir`. It returns "next" on every
    /// path and does nothing once the agent is gone. Close the descriptor after attaching: the attachment holds the program.
    ///
    /// # Errors
    /// When the kernel refuses the program (missing `CAP_BPF` or `CAP_NET_ADMIN`, out of memory).
    fn stub(&self, slot: Slot, dir: Direction) -> Result<OwnedFd, StubError>;
}

#[derive(Debug, thiserror::Error)]
#[error("load the program pilotfish_stub for slot {} ({dir:?})", slot.0)]
pub struct StubError {
    pub slot: Slot,
    pub dir: Direction,
    #[source]
    pub source: std::io::Error,
}
