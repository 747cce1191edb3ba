//! A share of a processor, kept by the kernel: a control group with a quota.

use crate::bed::Testbed;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A control group with a CPU quota: version 1's controller, or version 2's. Its testbed removes it.
#[derive(Debug)]
pub struct Quota(PathBuf);

impl Quota {
    /// `hundredths` of one processor, in periods of 100 ms.
    pub fn new(bed: &Testbed, name: &str, hundredths: u32) -> Result<Quota> {
        let (v1, v2) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let parent = if v1.is_dir() { v1 } else { v2 }.join(bed.id());
        let group = Quota(parent.join(name));
        fs::create_dir_all(&group.0).with_context(|| format!("make {}", group.0.display()))?;
        let micros = hundredths * 1000;
        if v1.is_dir() {
            fs::write(group.0.join("cpu.cfs_period_us"), "100000")?;
            fs::write(group.0.join("cpu.cfs_quota_us"), micros.to_string())?;
        } else {
            for above in [v2, parent.as_path()] {
                fs::write(above.join("cgroup.subtree_control"), "+cpu")
                    .with_context(|| format!("have {} hand out CPU", above.display()))?;
            }
            fs::write(group.0.join("cpu.max"), format!("{micros} 100000"))?;
        }
        Ok(group)
    }

    /// Where a process writes its id to be held to this.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Periods in which its processes ran, and those in which they had used all of it.
    #[must_use]
    pub fn periods(&self) -> (u64, u64) {
        let text = fs::read_to_string(self.0.join("cpu.stat")).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        (field("nr_periods ").unwrap_or(0), field("nr_throttled ").unwrap_or(0))
    }

    /// How long its processes were ready to run and were not let.
    #[must_use]
    pub fn throttled_ms(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("cpu.stat")).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        field("throttled_time ").map(|ns| ns / 1_000_000).or(field("throttled_usec ").map(|us| us / 1000)).unwrap_or(0)
    }
}
