//! Cgroups of version 2: where they are mounted, and which one a process is in.

use crate::run::mountinfo::{Mount, mounts};
use std::path::{Path, PathBuf};

/// Where the cgroups are, and the cgroup that is there: "/" unless the agent sees only a part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    root: String,
}

/// Why nothing of a process can be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCgroup {
    #[error("the kernel tells no cgroup of version 2 for it")]
    None,
    #[error("its cgroups are of version 1, where programs cannot be attached; in version 2 it is at the root")]
    VersionOne,
    #[error("it is at the root of the cgroups, like the whole node")]
    Root,
    #[error("its cgroup is outside of what the agent sees: the agent has a cgroup namespace of its own")]
    Outside,
}

impl Hierarchy {
    /// From `/proc/self/mountinfo`.
    #[must_use]
    pub fn find(mountinfo: &str) -> Option<Hierarchy> {
        let of = |Mount { root, at, .. }: Mount| Hierarchy { mount: at, root };
        let all: Vec<Hierarchy> = mounts(mountinfo).filter(|mount| mount.kind == "cgroup2").map(of).collect();
        all.iter().find(|hierarchy| hierarchy.root == "/").or(all.first()).cloned()
    }

    /// The directory of the cgroup that a process is in, by its `/proc/<pid>/cgroup` (cgroups(7)).
    ///
    /// # Errors
    /// It has none that can be attached to.
    pub fn directory(&self, cgroup: &str) -> Result<PathBuf, NoCgroup> {
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).ok_or(NoCgroup::None)?;
        if path == "/" {
            let elsewhere = |line: &str| !line.starts_with("0::") && !line.ends_with(":/");
            return Err(if cgroup.lines().any(elsewhere) { NoCgroup::VersionOne } else { NoCgroup::Root });
        }
        // Both are told from the root of our cgroup namespace; above it there is nothing but "..".
        let below = match self.root.as_str() {
            "/" => Some(path),
            root => path.strip_prefix(root).filter(|rest| rest.starts_with('/')),
        };
        let below = below.ok_or(NoCgroup::Outside)?.trim_start_matches('/');
        if below.split('/').any(|part| part == "..") {
            return Err(NoCgroup::Outside);
        }
        Ok(self.mount.join(below))
    }

    /// Where systemd keeps the services of the node, one cgroup each.
    #[must_use]
    pub fn services(&self) -> PathBuf {
        self.mount.join("system.slice")
    }

    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str =
        "24 30 0:22 / /proc rw - proc proc rw\n29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n40 30 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn directory(mountinfo: &str, cgroup: &str) -> Result<PathBuf, NoCgroup> {
        Hierarchy::find(mountinfo).expect("mounted").directory(cgroup)
    }

    #[test]
    fn a_process_is_found_where_its_cgroup_is_mounted() {
        let pod = "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-8a3c5f.scope\n";
        let found = directory(UNIFIED, pod);
        assert_eq!(found, Ok("/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cri-containerd-8a3c5f.scope".into()));
        assert_eq!(
            directory(HYBRID, "3:cpu:/x\n0::/system.slice/a.service\n"),
            Ok("/sys/fs/cgroup/unified/system.slice/a.service".into())
        );
    }

    #[test]
    fn a_process_without_a_cgroup_of_its_own_is_told_why() {
        assert_eq!(directory(HYBRID, "3:cpu:/kubepods/pod1/8a3c5f\n0::/\n"), Err(NoCgroup::VersionOne));
        assert_eq!(directory(UNIFIED, "0::/\n"), Err(NoCgroup::Root));
        assert_eq!(directory(UNIFIED, "3:cpu:/x\n"), Err(NoCgroup::None));
        assert_eq!(directory(UNIFIED, "0::/../kubepods/x\n"), Err(NoCgroup::Outside));
        assert_eq!(Hierarchy::find("31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn an_agent_with_a_cgroup_namespace_finds_what_is_below_the_mount_that_it_was_given() {
        let mounted = "29 23 0:26 /../../.. /host/sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(directory(mounted, "0::/../../../kubepods/x\n"), Ok("/host/sys/fs/cg roup/kubepods/x".into()));
        assert_eq!(directory(mounted, "0::/../sibling\n"), Err(NoCgroup::Outside));
    }
}
