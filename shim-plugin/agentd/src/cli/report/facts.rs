//! The kernel and the machine, as far as they say why the agent works or does not: never a name of
//! the node, never the kernel's command line.

use super::part::{Form, Part};
use netns_scanner::deadline::Deadlines;
use nix::sys::utsname::uname;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

pub const FILE: &str = "kernel.txt";
/// Of one file. The configuration of a kernel has some 300 KiB.
const BYTES: u64 = 2 << 20;
/// `struct btf_header` begins with it, in the machine's order (linux/btf.h).
const BTF_MAGIC: u16 = 0xeb9f;
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Files of one line each.
const LINES: [&str; 12] = [
    "/proc/sys/kernel/bpf_stats_enabled",
    "/proc/sys/kernel/unprivileged_bpf_disabled",
    "/proc/sys/kernel/perf_event_paranoid",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/net/core/bpf_jit_enable",
    "/proc/sys/net/core/bpf_jit_harden",
    "/proc/sys/net/ipv4/conf/all/rp_filter",
    "/proc/sys/fs/file-nr",
    "/sys/kernel/security/lockdown",
    "/sys/kernel/security/lsm",
    "/sys/fs/cgroup/cgroup.controllers",
    "/proc/loadavg",
];
/// File, and how lines begin that are told of it.
const PICKED: [(&str, &[&str]); 4] = [
    ("/etc/os-release", &["PRETTY_NAME=", "VERSION_ID=", "ID="]),
    ("/proc/meminfo", &["MemTotal:", "MemAvailable:", "SwapTotal:"]),
    ("/proc/self/status", &["CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Cpus_allowed_list:"]),
    ("/proc/self/limits", &["Max open files", "Max locked memory", "Max realtime priority"]),
];
/// Of the kernel's configuration.
const OPTIONS: [&str; 12] = [
    "CONFIG_BPF",
    "CONFIG_CGROUP_BPF",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_FTRACE_SYSCALLS",
    "CONFIG_HZ=",
    "CONFIG_INET_DIAG",
    "CONFIG_NET_ACT_BPF",
    "CONFIG_NET_CLS",
    "CONFIG_NET_SCH_INGRESS",
    "CONFIG_PREEMPT",
    "CONFIG_SECURITY_LOCKDOWN",
    "CONFIG_UNIX_DIAG",
];
/// Kinds of file system whose mounts are told.
const MOUNTS: [&str; 5] = ["bpf", "cgroup", "cgroup2", "debugfs", "tracefs"];

/// `patience` is for each file.
pub fn part(patience: Duration) -> Part {
    let deadlines = Deadlines::default();
    let read = |path: &str| read(&deadlines, path, patience);
    let mut out = String::new();
    if let Ok(name) = uname() {
        let [release, version, machine] =
            [name.release(), name.version(), name.machine()].map(|text| text.to_string_lossy().into_owned());
        out.push_str(&format!("kernel: {release}\nversion: {version}\nmachine: {machine}\n"));
        out.push_str(&options(&release, &read));
    }
    out.push_str(&format!("processors: {}\n", told(std::thread::available_parallelism().map_err(|e| e.to_string()))));
    out.push_str(&format!("{BTF}: {}\n", told(btf(&deadlines, patience))));
    for path in LINES {
        out.push_str(&format!("{path}: {}\n", told(read(path).map(|text| text.trim().replace('\n', "; ")))));
    }
    for (path, beginnings) in PICKED {
        match read(path) {
            Ok(text) => out.push_str(&picked(&text, beginnings)),
            Err(why) => out.push_str(&format!("{path}: {why}\n")),
        }
    }
    match read("/proc/self/mounts") {
        Ok(text) => out.push_str(&mounts(&text)),
        Err(why) => out.push_str(&format!("/proc/self/mounts: {why}\n")),
    }
    Part::whole(FILE, Form::Text, out)
}

fn told<T: Display>(found: Result<T, String>) -> String {
    found.map_or_else(|why| why, |found| found.to_string())
}

fn read(deadlines: &Deadlines, path: &str, patience: Duration) -> Result<String, String> {
    let owned = path.to_owned();
    let bytes = deadlines.read("report", path, patience, move || bytes_of(&owned, BYTES));
    let bytes = bytes.map_err(|late| late.to_string())?.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes_of(path: &str, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How large it is, and whether it is what it should be.
fn btf(deadlines: &Deadlines, patience: Duration) -> Result<String, String> {
    let look = || -> io::Result<(u64, Vec<u8>)> { Ok((std::fs::metadata(BTF)?.len(), bytes_of(BTF, 4)?)) };
    let found = deadlines.read("report", BTF, patience, look).map_err(|late| late.to_string())?;
    let (size, head) = found.map_err(|error| error.to_string())?;
    let is_btf = head.first_chunk::<2>().is_some_and(|magic| u16::from_ne_bytes(*magic) == BTF_MAGIC);
    Ok(format!("{size} bytes, {}", if is_btf { "begins as BTF does" } else { "is no BTF" }))
}

/// The kernel tells its configuration itself, or its package does.
fn options(release: &str, read: &impl Fn(&str) -> Result<String, String>) -> String {
    let path = format!("/boot/config-{release}");
    let beside = format!("/lib/modules/{release}/config");
    match read(&path).or_else(|_| read(&beside)) {
        Ok(text) => picked(&text, &OPTIONS),
        Err(why) => format!("{path}: {why}\n"),
    }
}

fn picked(text: &str, beginnings: &[&str]) -> String {
    let wanted = |line: &&str| beginnings.iter().any(|beginning| line.starts_with(beginning));
    // Sets of capabilities are numbers; without a word for it they would pass for ids.
    let number = |line: String| if line.starts_with("Cap") { line.replacen(' ', " 0x", 1) } else { line };
    let one = |line: &str| number(line.split_whitespace().collect::<Vec<_>>().join(" ")) + "\n";
    text.lines().filter(wanted).map(one).collect()
}

/// Where they are, and how. Their sources may name somebody.
fn mounts(text: &str) -> String {
    let row = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (place, kind, how) = (words.next()?, words.next()?, words.next()?);
        MOUNTS.contains(&kind).then(|| format!("mount: {kind} {place} {how}\n"))
    };
    // A container's view of cgroups may have many.
    text.lines().filter_map(row).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_picked_by_how_they_begin() {
        assert_eq!(picked("MemTotal:   16 kB\nMemFree: 1 kB\n", &["MemTotal:"]), "MemTotal: 16 kB\n");
        assert_eq!(picked("CapEff:\t000001ff\n", &["CapEff:"]), "CapEff: 0x000001ff\n");
        assert_eq!(
            mounts("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n//nas/alice /mnt cifs rw 0 0\n"),
            "mount: cgroup2 /sys/fs/cgroup rw,nosuid\n"
        );
    }

    #[test]
    fn each_fact_is_told_or_why_it_is_not() {
        let part = part(Duration::from_secs(60));
        let text = part.content.expect("always something");
        assert!(text.starts_with("kernel: ") && text.contains("\nprocessors: "), "{text}");
        for path in LINES {
            assert!(text.contains(&format!("\n{path}: ")), "{path} in {text}");
        }
        let host = nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned();
        assert!(!text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == host), "{host} in {text}");
    }
}
