//! Turns packets into exchanges: loads the kernel programs, attaches them, reads their ring, keeps
//! the flow table, and feeds `l7`. Knows nothing of containers, names or metrics; what it finds
//! goes into a [`flow_model::Sink`].

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod attach;
pub mod event;
pub mod kernel;
pub mod pipeline;
pub mod replay;
