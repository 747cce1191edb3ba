//! Why there is no API server to ask.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum NoAccess {
    /// The normal answer outside a cluster.
    #[error("no API server found (looked at {looked_at})")]
    NoneFound { looked_at: String },
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge { path: PathBuf },
    #[error("{place}: {reason}")]
    Refused { place: String, reason: String },
}

impl NoAccess {
    /// Whether that is what one expects outside a cluster, and no fault of anyone.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        matches!(self, NoAccess::NoneFound { .. })
    }
}

pub(super) fn read_error(path: &Path, source: std::io::Error) -> NoAccess {
    NoAccess::Read { path: path.to_owned(), source }
}
