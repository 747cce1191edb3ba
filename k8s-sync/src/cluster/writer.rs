//! The writing side.

use crate::cluster::names::ClusterNames;
use crate::cluster::object::{Change, Resource};
use crate::figures::Figure;
use flow_model::Ts;
use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

/// One moment by two clocks: the observations' (the kernel's monotonic one), and the one that the API tells times by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub mono: Ts,
    pub wall: SystemTime,
}

/// Bounds of the table. What does not fit is refused and counted; what it would have named stays unknown.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub pods: usize,
    pub services: usize,
    pub slices: usize,
    pub nodes: usize,
    pub jobs: usize,
    /// Addresses in all EndpointSlices.
    pub endpoints: usize,
    /// How long it is remembered who held an address.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // 150,000 pods, 10,000 Services and 5,000 nodes are the largest cluster that Kubernetes supports.
        Limits {
            pods: 200_000,
            services: 20_000,
            slices: 50_000,
            nodes: 10_000,
            jobs: 50_000,
            endpoints: 400_000,
            keep: Duration::from_secs(10 * 60),
        }
    }
}

/// Why a snapshot could not be loaded.
#[derive(Debug)]
pub enum SnapshotError {
    Io(io::Error),
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

/// The one writer of the table.
#[derive(Debug)]
pub struct Cluster {
    names: ClusterNames,
}

impl Cluster {
    #[must_use]
    pub fn new(_limits: Limits) -> Cluster {
        Cluster { names: ClusterNames::default() }
    }

    /// Takes in what a watch told at `now`.
    pub fn apply(&mut self, _change: Change, _now: Moment) {}

    /// Forgets what ended longer than `Limits::keep` ago. Call it every minute or so.
    pub fn forget(&mut self, _now: Ts) {}

    #[must_use]
    pub fn names(&self) -> ClusterNames {
        self.names.clone()
    }

    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        self.names.figures()
    }

    /// How many of them are in the table.
    #[must_use]
    pub fn objects(&self, _resource: Resource) -> usize {
        0
    }

    /// Writes a snapshot; the caller replaces the old file by it atomically.
    pub fn save(&self, _out: &mut impl Write) -> io::Result<()> {
        Ok(())
    }

    /// The table as a snapshot had it. Its names are stale until the first list of their resource has ended.
    pub fn load(limits: Limits, _from: impl Read, _now: Moment) -> Result<Cluster, SnapshotError> {
        Ok(Cluster::new(limits))
    }
}
