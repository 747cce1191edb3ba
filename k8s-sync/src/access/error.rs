//! Why there is no API server to ask.

use std::path::{Path, PathBuf};

/// Which source failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum NoAccess {
    /// The normal answer outside a cluster.
    #[error("no API server found (looked at {looked_at})")]
    NoneFound {
        /// Where was looked, as a list for people.
        looked_at: String,
    },
    /// A file that exists, or is named by one, could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Of the kubeconfig, token or certificate.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file above 1 MiB: no kubeconfig, token or certificate is as large.
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// Of the kubeconfig, token or certificate.
        path: PathBuf,
    },
    /// It was read, but is damaged or asks for what the agent does not do (`exec`, a proxy).
    #[error("{place}: {reason}")]
    Refused {
        /// A path, `$KUBECONFIG` or `service account`.
        place: String,
        /// What is wrong with it, for people.
        reason: String,
    },
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
