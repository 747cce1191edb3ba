//! Names replaced by masks: the same name by the same mask everywhere in one report.
//!
//! A mask is drawn at random and is kept only as long as the report is made, so nobody who has it
//! can find the name by trying names.

mod forms;
mod kind;
mod patterns;
mod table;

pub use forms::{apply, learn};
pub use kind::Kind;
pub use table::Masks;

#[cfg(test)]
mod tests;
