//! Where a process's resources are accounted, and what the files there say. Pure: the text of
//! `/proc/<pid>/cgroup` in, a path below `/sys/fs/cgroup` out.

use crate::history::Periods;
use crate::read::text::named;

/// Where kills for memory are counted.
#[must_use]
pub fn oom_file(cgroup: &str) -> Option<String> {
    file(cgroup, "memory", "memory.oom_control", "memory.events")
}

/// Where the periods of the CPU limit are counted.
#[must_use]
pub fn cpu_file(cgroup: &str) -> Option<String> {
    file(cgroup, "cpu", "cpu.stat", "cpu.stat")
}

/// Of a `cpu.stat`; None where the CPU is not limited.
#[must_use]
pub fn periods(stat: &str) -> Option<Periods> {
    let all = named(stat, "nr_periods").filter(|all| *all > 0)?;
    Some(Periods { all, throttled: named(stat, "nr_throttled")? })
}

/// In which file, by the first version where that has the controller, else by the second.
fn file(cgroup: &str, controller: &str, v1: &str, v2: &str) -> Option<String> {
    let fields = |line: &'_ str| {
        let mut fields = line.splitn(3, ':');
        Some((fields.next()?.to_owned(), fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    let lines: Vec<_> = cgroup.lines().filter_map(fields).collect();
    let of_v1 = lines.iter().find(|(_, names, _)| names.split(',').any(|name| name == controller));
    let of_v2 = || lines.iter().find(|(number, names, _)| number == "0" && names.is_empty());
    let (directory, path, file) = match of_v1 {
        // Where several share a mount, each is a link to it.
        Some((_, _, path)) => (controller, path, v1),
        None => ("", &of_v2()?.2, v2),
    };
    // A path that leads out of our own cgroup namespace has no place below the mount.
    let outside = path.split('/').any(|part| part == "..");
    // The root has no such file, and what it counts is nobody's.
    let is_root = path.trim_matches('/').is_empty();
    (!outside && !is_root).then(|| format!("{directory}{path}/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_accounted_by_the_first_version_where_that_has_it_and_never_outside() {
        let v1 = "4:memory:/kubepods/pod1/c1\n1:cpu:/\n0::/x\n";
        assert_eq!(oom_file(v1).as_deref(), Some("memory/kubepods/pod1/c1/memory.oom_control"));
        assert_eq!(oom_file("0::/kubepods/c1\n").as_deref(), Some("/kubepods/c1/memory.events"));
        for none in ["0::/\n", "4:memory:/\n0::/x\n", "0::/../../other\n", "4:memory:/..\n", "", "garbage"] {
            assert_eq!(oom_file(none), None, "{none}");
        }
    }

    #[test]
    fn periods_are_counted_where_the_cpu_is_limited() {
        let v1 = "4:memory:/kubepods/pod1/c1\n1:cpu,cpuacct:/kubepods/pod1/c1\n0::/x\n";
        assert_eq!(cpu_file(v1).as_deref(), Some("cpu/kubepods/pod1/c1/cpu.stat"));
        assert_eq!(cpu_file("0::/kubepods/c1\n").as_deref(), Some("/kubepods/c1/cpu.stat"));
        assert_eq!(cpu_file("2:cpuacct:/a\n0::/b\n").as_deref(), Some("/b/cpu.stat"));
        let stat = "usage_usec 100\nuser_usec 70\nnr_periods 31\nnr_throttled 30\nthrottled_usec 9\n";
        assert_eq!(periods(stat), Some(Periods { all: 31, throttled: 30 }));
        assert_eq!([periods("nr_periods 0\nnr_throttled 0\n"), periods("usage_usec 1\n"), periods("")], [None; 3]);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "([0-9:,/. \\n]|cpu|memory|nr_periods|\\PC){0,200}") {
            let _ = (oom_file(&text), cpu_file(&text), periods(&text));
        }
    }
}
