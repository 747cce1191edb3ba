//! What is packaged.

use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// `pilotfish`, for each node.
    Agent,
    /// `pilotfish-companion`, with its image, for a cluster.
    Companion,
}

impl Product {
    /// What the program and the packages are called.
    pub fn name(self) -> &'static str {
        match self {
            Product::Agent => "pilotfish",
            Product::Companion => "pilotfish-companion",
        }
    }

    pub fn krate(self) -> &'static str {
        match self {
            Product::Agent => "agentd",
            Product::Companion => "companion",
        }
    }

    /// The crate's directory.
    pub fn directory(self) -> &'static str {
        match self {
            Product::Agent => "shim-plugin/agentd",
            Product::Companion => "k8s-sync/companion",
        }
    }

    /// Where the files of its packages are put together.
    pub fn stage(self, root: &Path) -> PathBuf {
        root.join("target/package").join(match self {
            Product::Agent => "stage",
            Product::Companion => "companion",
        })
    }
}
