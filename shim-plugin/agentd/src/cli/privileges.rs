//! What this process may do, as the kernel has it in `/proc/self/status`.

use std::fs;

/// A capability that the agent needs, by its bit (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    pub name: &'static str,
    bit: u32,
    pub why: &'static str,
}

const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;
const PERFMON: u32 = 38;

pub const NEEDED: [Capability; 5] = [
    Capability { name: "CAP_BPF", bit: BPF, why: "load the kernel programs" },
    Capability { name: "CAP_PERFMON", bit: PERFMON, why: "let the kernel programs compute with pointers" },
    Capability { name: "CAP_NET_ADMIN", bit: 12, why: "attach to interfaces" },
    Capability { name: "CAP_SYS_ADMIN", bit: SYS_ADMIN, why: "enter network namespaces" },
    Capability { name: "CAP_SYS_PTRACE", bit: 19, why: "open the namespaces of other users' processes" },
];

/// Needed capabilities that this process lacks.
#[must_use]
pub fn missing() -> Vec<Capability> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(&status)
}

fn missing_in(status: &str) -> Vec<Capability> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    // CAP_SYS_ADMIN includes what was split from it in Linux 5.8.
    let covered = |capability: &Capability| matches!(capability.bit, BPF | PERFMON) && has(SYS_ADMIN);
    NEEDED.into_iter().filter(|capability| !has(capability.bit) && !covered(capability)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(effective: &str) -> Vec<&'static str> {
        missing_in(&format!("Name:\tx\nCapEff:\t{effective}\n")).iter().map(|capability| capability.name).collect()
    }

    #[test]
    fn a_full_set_lacks_nothing_and_an_empty_one_everything() {
        assert_eq!(names("000001ffffffffff"), [""; 0]);
        assert_eq!(names("0000000000000000").len(), NEEDED.len());
        assert_eq!(missing_in("no such line").len(), NEEDED.len());
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon() {
        assert_eq!(names("0000000000281000"), [""; 0], "NET_ADMIN, SYS_PTRACE, SYS_ADMIN");
        assert_eq!(names("000000c000081000"), ["CAP_SYS_ADMIN"], "NET_ADMIN, SYS_PTRACE, PERFMON, BPF");
    }
}
