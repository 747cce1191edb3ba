//! Pages between those who make them and those who read them.
//!
//! A page is a snapshot: what was counted and what was lost belong to one moment. So it is made at
//! once, never piece by piece as a slow reader takes it, and one page serves all who come within
//! the second. It is kept compressed and handed out in pieces.

mod packed;
mod shared;
mod shelf;

pub use packed::{Form, Packer};
pub use shared::{Refused, SharedPages};
pub use shelf::{SHARED, Shelf, Ticket};
