//! What may be wrong with a snapshot.

use std::fmt;
use std::io;

/// Why a snapshot could not be loaded.
#[derive(Debug)]
pub enum SnapshotError {
    /// The reader that was passed in failed.
    Io(io::Error),
    /// Cut short, a wrong checksum, or values that no table has; says which.
    Damaged(&'static str),
    /// Of another version of the program.
    Version(u32),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io(_) => out.write_str("read the snapshot of the cluster's names"),
            SnapshotError::Damaged(what) => write!(out, "the snapshot of the cluster's names is damaged: {what}"),
            SnapshotError::Version(version) => write!(out, "the snapshot of the cluster's names has version {version}"),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SnapshotError::Io(error) => Some(error),
            SnapshotError::Damaged(_) | SnapshotError::Version(_) => None,
        }
    }
}
