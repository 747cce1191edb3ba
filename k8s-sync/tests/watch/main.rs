//! The watches against a real etcd and a real API server, and against the faults that a proxy in
//! front of it has at a wish.
//!
//! Counts and orderings only; where the real figure is minutes, the server's or the agent's times
//! are shortened and the story is the same. The long figures are those of `cargo xtask bench k8s`.
//! Needs no root.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)]

mod bed;
mod faults;
mod many;
mod rights;
mod streams;
