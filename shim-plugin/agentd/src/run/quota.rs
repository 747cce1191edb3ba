//! How much of the processors the kernel lets this process have: the quota of its cgroup, or of one
//! above it.

use crate::run::mountinfo::{Mount, mounts};
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The processor's time in each period. Who has used it waits for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub time: Duration,
    pub period: Duration,
}

impl Quota {
    /// In processors: 0.1 are 10 ms of each 100.
    #[must_use]
    pub fn cpus(self) -> f64 {
        self.time.as_secs_f64() / self.period.as_secs_f64()
    }

    /// `None` where one of them is zero, which the kernel does not take.
    fn of_micros(time: &str, period: &str) -> Option<Quota> {
        let micros = |text: &str| text.trim().parse().ok().filter(|micros| *micros > 0).map(Duration::from_micros);
        Some(Quota { time: micros(time)?, period: micros(period)? })
    }

    /// `cpu.max` of version 2: "10000 100000", or "max 100000".
    fn of_version_two(cpu_max: &str) -> Option<Quota> {
        let (time, period) = cpu_max.trim().split_once(' ')?;
        Quota::of_micros(time, period)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "{:.2} CPUs ({} ms in each {} ms)", self.cpus(), ms(self.time), ms(self.period))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The cgroup that may have a quota for this process, and those above it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    /// Where the outermost is that is seen.
    mount: PathBuf,
    /// Ours; `mount` or below it.
    own: PathBuf,
}

impl Place {
    /// The quotas from ours outwards.
    fn quotas<E>(&self, read: &impl Fn(&Path) -> Result<Option<String>, E>) -> Result<Vec<Quota>, E> {
        let seen = self.own.ancestors().take_while(|directory| directory.starts_with(&self.mount));
        let quotas: Result<Vec<_>, E> = seen.map(|directory| self.quota(directory, read)).collect();
        Ok(quotas?.into_iter().flatten().collect())
    }

    /// The root has none, and in version 2 none has one that was not given the controller.
    fn quota<E>(
        &self,
        directory: &Path,
        read: &impl Fn(&Path) -> Result<Option<String>, E>,
    ) -> Result<Option<Quota>, E> {
        let read = |file: &str| Ok(read(&directory.join(file))?.unwrap_or_default());
        Ok(match self.version {
            Version::One => Quota::of_micros(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
            Version::Two => Quota::of_version_two(&read("cpu.max")?),
        })
    }
}

/// By `/proc/self/mountinfo` and `/proc/self/cgroup` (cgroups(7)). A hybrid has both versions, and
/// the controller in one of them.
fn places(mountinfo: &str, cgroup: &str) -> Vec<Place> {
    let has = |list: &str| list.split(',').any(|word| word == "cpu");
    let path = |version| {
        cgroup.lines().find_map(|line| {
            let (_number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = if version == Version::Two { controllers.is_empty() } else { has(controllers) };
            is_it.then_some(path)
        })
    };
    let place = |Mount { root, at, kind, options }: Mount| {
        let version = match kind.as_str() {
            "cgroup2" => Version::Two,
            "cgroup" if has(&options) => Version::One,
            _ => return None,
        };
        // Where what is mounted is not above ours, we have a cgroup namespace of our own, or none of
        // its directories is ours: the mount is the best that there is.
        let below = match root.as_str() {
            "/" => path(version),
            root => path(version).and_then(|path| path.strip_prefix(root)),
        };
        let below = below.unwrap_or_default().trim_start_matches('/');
        let below = if below.split('/').any(|part| part == "..") { "" } else { below };
        let own = if below.is_empty() { at.clone() } else { at.join(below) };
        Some(Place { version, own, mount: at })
    };
    mounts(mountinfo).filter_map(place).collect()
}

/// The tightest quota that a process has; `None` without one. `own` is its directory in `/proc`, and
/// `read` says what is in a file: nothing where it cannot be read.
///
/// # Errors
/// Those of `read`.
pub fn find<E>(own: &Path, read: impl Fn(&Path) -> Result<Option<String>, E>) -> Result<Option<Quota>, E> {
    let text = |file: &str| Ok(read(&own.join(file))?.unwrap_or_default());
    let quotas: Result<Vec<_>, E> =
        places(&text("mountinfo")?, &text("cgroup")?).iter().map(|place| place.quotas(&read)).collect();
    Ok(tightest(quotas?.into_iter().flatten()))
}

/// As that, where nobody else waits for it.
#[must_use]
pub fn find_here(proc: &Path) -> Option<Quota> {
    let found = find(&proc.join("self"), |path| Ok::<_, Infallible>(fs::read_to_string(path).ok()));
    found.unwrap_or_default()
}

fn tightest(quotas: impl Iterator<Item = Quota>) -> Option<Quota> {
    quotas.min_by(|one, other| one.cpus().total_cmp(&other.cpus()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                          32 30 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                          40 30 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn check(mountinfo: &str, cgroup: &str, expected: &[(Version, &str)]) {
        let places = places(mountinfo, cgroup);
        let found: Vec<_> = places.iter().map(|place| (place.version, place.own.to_str().unwrap_or("?"))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_own_cgroup_is_where_the_controller_is() {
        let service = "0::/system.slice/pilotfish.service\n";
        check(UNIFIED, service, &[(Version::Two, "/sys/fs/cgroup/system.slice/pilotfish.service")]);
        let cgroup = "4:cpuset:/\n3:cpu,cpuacct:/system.slice/a\n0::/system.slice/a\n";
        let both = [
            (Version::One, "/sys/fs/cgroup/cpu,cpuacct/system.slice/a"),
            (Version::Two, "/sys/fs/cgroup/unified/system.slice/a"),
        ];
        check(HYBRID, cgroup, &both);
    }

    #[test]
    fn in_a_container_the_mount_is_the_outermost_that_is_seen() {
        // Without a cgroup namespace: the container's own cgroup is mounted.
        let mounted = "31 30 0:27 /docker/8a3c /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        check(mounted, "3:cpu:/docker/8a3c\n", &[(Version::One, "/sys/fs/cgroup/cpu")]);
        check(mounted, "3:cpu:/docker/8a3c/in\n", &[(Version::One, "/sys/fs/cgroup/cpu/in")]);
        check(mounted, "3:cpu:/elsewhere\n", &[(Version::One, "/sys/fs/cgroup/cpu")]);
        // With one, and moved out of it.
        check(UNIFIED, "0::/\n", &[(Version::Two, "/sys/fs/cgroup")]);
        check(UNIFIED, "0::/../other\n", &[(Version::Two, "/sys/fs/cgroup")]);
        check(UNIFIED, "", &[(Version::Two, "/sys/fs/cgroup")]);
        check("", "0::/\n", &[]);
    }

    #[test]
    fn what_the_kernel_writes_is_a_quota_or_none() {
        let quota =
            |time, period| Some(Quota { time: Duration::from_micros(time), period: Duration::from_micros(period) });
        assert_eq!(Quota::of_version_two("10000 100000\n"), quota(10_000, 100_000));
        assert_eq!(Quota::of_version_two("max 100000\n"), None);
        assert_eq!(Quota::of_version_two("0 100000\n"), None);
        assert_eq!(Quota::of_version_two(""), None);
        assert_eq!(Quota::of_micros("-1\n", "100000\n"), None);
        assert_eq!(Quota::of_micros("250000\n", "100000\n"), quota(250_000, 100_000));
        let ten = quota(10_000, 100_000).expect("a quota");
        assert_eq!(ten.to_string(), "0.10 CPUs (10 ms in each 100 ms)");
    }

    #[test]
    fn the_tightest_quota_counts_wherever_it_is() -> std::io::Result<()> {
        let tree = tempfile::tempdir()?;
        let slice = tree.path().join("slice");
        let own = slice.join("service");
        fs::create_dir_all(&own)?;
        let place = |version| Place { version, mount: tree.path().to_owned(), own: own.clone() };
        let read = |path: &Path| Ok::<_, Infallible>(fs::read_to_string(path).ok());
        let found = |version| {
            let quotas = place(version).quotas(&read).unwrap_or_default();
            tightest(quotas.into_iter()).map(|quota| quota.to_string())
        };
        assert_eq!([found(Version::One), found(Version::Two)], [None, None]);
        fs::write(own.join("cpu.max"), "50000 100000\n")?;
        fs::write(slice.join("cpu.max"), "2000 10000\n")?;
        fs::write(tree.path().join("cpu.max"), "max 100000\n")?;
        assert_eq!(found(Version::Two), Some("0.20 CPUs (2 ms in each 10 ms)".to_owned()));
        fs::write(own.join("cpu.cfs_quota_us"), "-1\n")?;
        fs::write(own.join("cpu.cfs_period_us"), "100000\n")?;
        assert_eq!(found(Version::One), None);
        fs::write(own.join("cpu.cfs_quota_us"), "5000\n")?;
        assert_eq!(found(Version::One), Some("0.05 CPUs (5 ms in each 100 ms)".to_owned()));
        Ok(())
    }
}
