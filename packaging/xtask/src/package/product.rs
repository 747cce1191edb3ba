//! What is packaged.

use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// `pilotfish`, for each node.
    Agent,
    /// `pilotfish-companion`, with both images, for a cluster.
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

    /// What the manifests of `packaging/kubernetes` ask for, in full.
    pub fn image(self) -> &'static str {
        match self {
            Product::Agent => "docker.io/library/pilotfish",
            Product::Companion => "docker.io/library/pilotfish-companion",
        }
    }

    /// What a container of its image runs.
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Product::Agent => &["pilotfish", "agent"],
            Product::Companion => &["pilotfish-companion", "serve"],
        }
    }

    /// Number of user and group of its container. The agent's needs capabilities, and Kubernetes gives them to
    /// root alone.
    pub fn user(self) -> u32 {
        match self {
            Product::Agent => 0,
            Product::Companion => 65_532,
        }
    }

    /// What is compiled into what its packages bring.
    pub fn programs(self) -> &'static [Product] {
        match self {
            Product::Agent => &[Product::Agent],
            Product::Companion => &[Product::Companion, Product::Agent],
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
