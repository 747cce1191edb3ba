//! Where watches write.

use crate::cluster::object::{Change, Resource};
use crate::cluster::{Cluster, Moment};
use flow_model::Ts;
use std::io;

/// Where watches write. In production: `Cluster`.
pub trait Table: Send + 'static {
    /// In the order in which one watch tells; those of different resources interleave.
    fn apply(&mut self, change: Change, now: Moment);

    /// How many there are of it, where the table knows.
    fn objects(&self, resource: Resource) -> Option<usize>;

    /// Called every minute or so.
    fn forget(&mut self, now: Ts);

    /// Appends the snapshot to `out`.
    ///
    /// # Errors
    /// The table cannot be encoded; the file of before is then kept.
    fn save(&self, out: &mut Vec<u8>) -> io::Result<()>;
}

impl Table for Cluster {
    fn apply(&mut self, change: Change, now: Moment) {
        Cluster::apply(self, change, now);
    }

    fn objects(&self, resource: Resource) -> Option<usize> {
        Some(Cluster::objects(self, resource))
    }

    fn forget(&mut self, now: Ts) {
        Cluster::forget(self, now);
    }

    fn save(&self, out: &mut Vec<u8>) -> io::Result<()> {
        Cluster::save(self, out)
    }
}
