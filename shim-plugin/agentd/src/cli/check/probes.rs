//! The single questions of `pilotfish check`. Each tries the thing itself rather than guessing from
//! a version, and leaves nothing behind.

use super::line::Line;
use super::line::Verdict::{FallsBack, Missing, Ok as Fine};
use super::patience::within;
use crate::cli::privileges;
use crate::config::Config;
use crate::exit::in_full;
use crate::run::engine::Ahead;
use crate::run::quota::{self, Quota};
use crate::run::{alarm, engine, settings};
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Mode, Priority};
use capture_engine::kernel::Programs;
use flow_model::Slot;
use netns::Netns;
use netns_scanner::{SocketIterator, Source};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// For what has deadlines of its own, and reads files: longer than those of several questions in a row.
const LONG: Duration = Duration::from_secs(60);
/// An attach takes up to 16 ms.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn all(config: &Config) -> Vec<Line> {
    let mut lines = vec![kernel_version(), privileges(), btf(Path::new("/sys/kernel/btf/vmlinux"))];
    lines.extend(lockdown(&fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default()));
    let programs = match engine::load(&settings::kernel(config), Ahead::default()) {
        Ok(loaded) => {
            lines.push(Line::new("kernel programs", Fine, "loaded, and unloaded again", ""));
            Some(loaded)
        }
        Err(failure) => {
            let remedy =
                "the line above that is missing tells why; else report the verifier's words with your kernel version";
            lines.push(Line::new("kernel programs", Missing, failure.to_string(), remedy));
            None
        }
    };
    match &programs {
        Some(loaded) => lines.extend(attachments(&loaded.programs(), config.attach.mode)),
        None => lines.push(Line::new("attachment", Missing, "not tried, as the programs did not load", "")),
    }
    lines.push(super::node::line(config.attach.node, programs.as_ref().map(|loaded| &*loaded.kernel)));
    lines.extend([
        first_words(),
        scan_source(config),
        statistics(),
        bpffs(),
        cgroups(),
        quota(quota::find_here(&config.debug.proc)),
        descriptors(),
    ]);
    let [of_containerd, of_kubernetes, of_companion] = [config, config, config].map(Config::clone);
    lines.extend(within("containerd", LONG, move || super::containerd::lines(&of_containerd)));
    lines.extend(within("Kubernetes API", LONG, move || vec![super::kubernetes::line(&of_kubernetes)]));
    lines.extend(within("companion", LONG, move || super::companion::line(&of_companion).into_iter().collect()));
    lines.extend(super::running::line(&config.admin.socket));
    lines
}

fn kernel_version() -> Line {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0u32));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (verdict, remedy) = match version {
        (6.., 1..) | (7.., _) => (Fine, ""),
        (5, 8..) | (6, 0) => (FallsBack, "nobody has tried this agent on a kernel before 6.1; the lines below tell"),
        _ => (Missing, "BPF ring buffers came with Linux 5.8: use a newer kernel"),
    };
    Line::new("Linux", verdict, release, remedy)
}

fn privileges() -> Line {
    let lacking = privileges::missing();
    if lacking.is_empty() {
        return Line::new("privileges", Fine, "all needed capabilities are effective", "");
    }
    let names: Vec<String> =
        lacking.iter().map(|capability| format!("{} ({})", capability.name, capability.why)).collect();
    let remedy = "run as root, or give the service these capabilities (the unit pilotfish.service has them)";
    Line::new("privileges", Missing, format!("without {}", names.join(", ")), remedy)
}

fn btf(path: &Path) -> Line {
    let shown = path.display();
    // Not only whether it is there: it may be nobody's to read.
    match fs::File::open(path).and_then(|mut file| file.read_exact(&mut [0])) {
        Ok(()) => Line::new("BTF", Fine, shown.to_string(), ""),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "CONFIG_DEBUG_INFO_BTF gives it; the programs at the interfaces do without";
            Line::new("BTF", FallsBack, format!("{shown} is not there"), remedy)
        }
        Err(error) => {
            let remedy = "let the agent's account read it; the programs at the interfaces do without";
            Line::new("BTF", FallsBack, format!("{shown}: {error}"), remedy)
        }
    }
}

/// No line where nothing is locked down: the file then begins with `[none]`, or is not there.
fn lockdown(file: &str) -> Option<Line> {
    const WHAT: &str = "kernel lockdown";
    let level = file.split_once('[')?.1.split_once(']')?.0;
    match level {
        "none" => None,
        // Keeps BPF from writing to processes' memory, which nothing here does.
        "integrity" => Some(Line::new(WHAT, Fine, level, "")),
        _ => {
            let found = format!("{level}: the kernel lets no program of BPF read its memory");
            let remedy = "early news and the socket iterator do without; lockdown=integrity leaves them";
            Some(Line::new(WHAT, FallsBack, found, remedy))
        }
    }
}

/// Whether new containers are met before containerd tells of them.
fn first_words() -> Line {
    const WHAT: &str = "early news";
    match alarm::try_once() {
        Ok(()) => Line::new(WHAT, Fine, "the kernel tells of new containers before containerd does", ""),
        Err(why) => {
            let remedy = "new containers are met when containerd tells of them, some of them after their first packets";
            Line::new(WHAT, FallsBack, why, remedy)
        }
    }
}

/// In a namespace that is made for it and goes with it.
fn attachments(programs: &Arc<dyn Programs>, configured: Mode) -> Vec<Line> {
    let tries = [("TCX", Mode::Tcx), ("clsact", Mode::Clsact)];
    let mut results: Vec<(&'static str, Mode, Result<String, String>)> =
        tries.map(|(what, mode)| (what, mode, attach_once(programs.clone(), mode))).into();
    let any = results.iter().any(|(_, _, result)| result.is_ok());
    let line = |(what, mode, result): (&'static str, Mode, Result<String, String>)| match result {
        Ok(found) => Line::new(what, Fine, found, ""),
        Err(reason) if configured == mode => Line::new(what, Missing, reason, "write attach.mode = \"auto\""),
        Err(reason) if any => Line::new(what, FallsBack, reason, ""),
        Err(reason) => Line::new(what, Missing, reason, "one of TCX and clsact (CONFIG_NET_CLS_ACT) is needed"),
    };
    results.drain(..).map(line).collect()
}

fn attach_once(programs: Arc<dyn Programs>, mode: Mode) -> Result<String, String> {
    let netns = Netns::create().map_err(|error| format!("make a network namespace: {error}"))?;
    let (tell, told) = mpsc::channel();
    let config = AttachConfig { mode, include_loopback: true, ..AttachConfig::default() };
    // The receiver outlives the attacher; an event that comes after the answer is not missed.
    let attacher =
        Attacher::start(config, programs, move |event| drop(tell.send(event))).map_err(|error| error.to_string())?;
    attacher.attach(Slot(1), Arc::new(netns), Priority::Urgent).map_err(|error| error.to_string())?;
    let answer = match told.recv_timeout(PATIENCE) {
        Ok(AttachEvent::Attached { interfaces, took, .. }) if !interfaces.is_empty() => {
            Ok(format!("attached to lo of a namespace of its own in {:.1} ms", took.as_secs_f64() * 1e3))
        }
        Ok(AttachEvent::Failed { reason, .. }) => Err(reason),
        Ok(other) => Err(format!("unexpected: {other:?}")),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    };
    match attacher.shutdown(PATIENCE) {
        0 => answer,
        _ => Err("the programs could not be taken away again".to_owned()),
    }
}

/// Tries each source in a namespace of its own or on one socket, and says which one the scan uses.
fn scan_source(config: &Config) -> Line {
    const WHAT: &str = "scan source";
    const SIZE: &str = "one pass for all namespaces and the owner of each socket";
    let iterator = || SocketIterator::open().map(drop).map_err(in_full);
    let diag = || {
        let netns = Netns::create().map_err(|error| error.to_string())?;
        let found = netns.run(netns_scanner::dump_by_sock_diag).map_err(|error| error.to_string())?;
        found.map(drop).map_err(|error| error.to_string())
    };
    let one_by_one = "pods are looked into one by one, and connections of the node itself keep the node's name";
    match config.scan.source {
        Some(Source::Iterator) => match iterator() {
            Ok(()) => Line::new(WHAT, Fine, format!("iterator, as configured: {SIZE}"), ""),
            Err(why) => {
                Line::new(WHAT, FallsBack, format!("sock_diag; the iterator is configured, but: {why}"), one_by_one)
            }
        },
        Some(Source::SockDiag) => match diag() {
            Ok(()) => Line::new(WHAT, Fine, "sock_diag, as configured", ""),
            Err(why) => Line::new(WHAT, FallsBack, format!("procfs; sock_diag is configured, but: {why}"), ""),
        },
        Some(Source::Procfs) => Line::new(WHAT, Fine, "procfs, as configured; the dearest", ""),
        None => match (iterator(), diag()) {
            (Ok(()), Ok(())) => {
                Line::new(WHAT, Fine, format!("iterator: {SIZE}; sock_diag for one to three namespaces"), "")
            }
            (Ok(()), Err(why)) => Line::new(WHAT, FallsBack, format!("iterator; no sock_diag: {why}"), ""),
            (Err(why), Ok(())) => Line::new(WHAT, FallsBack, format!("sock_diag; no iterator: {why}"), one_by_one),
            (Err(why), Err(_)) => {
                Line::new(WHAT, FallsBack, format!("procfs; no iterator: {why}; no sock_diag"), one_by_one)
            }
        },
    }
}

fn statistics() -> Line {
    let on = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|value| value.trim() == "1");
    match on {
        true => Line::new("program run time", Fine, "kernel.bpf_stats_enabled = 1", ""),
        false => {
            let remedy = "`sysctl kernel.bpf_stats_enabled=1` while you want to know; it costs some 50 ns a packet";
            Line::new("program run time", FallsBack, "not counted: kernel.bpf_stats_enabled = 0", remedy)
        }
    }
}

fn bpffs() -> Line {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    match mounts.lines().find(|line| line.split(' ').nth(2) == Some("bpf")) {
        Some(line) => Line::new("bpffs", Fine, line.split(' ').nth(1).unwrap_or_default(), ""),
        None => Line::new("bpffs", FallsBack, "not mounted; nothing is pinned, so nothing needs it", ""),
    }
}

fn cgroups() -> Line {
    let has = |path: &str| Path::new(path).exists();
    let found = if has("/sys/fs/cgroup/cgroup.controllers") {
        "version 2"
    } else if has("/sys/fs/cgroup/unified/cgroup.procs") {
        "version 1, with version 2 at /sys/fs/cgroup/unified"
    } else {
        "version 1 or none"
    };
    Line::new("cgroups", Fine, format!("{found}; not used to find containers"), "")
}

/// Of whoever runs the check: as a service the agent has that of its unit.
fn quota(quota: Option<Quota>) -> Line {
    const WHAT: &str = "CPU quota";
    /// One of so many parts: with less, nobody has seen it answer its probes while it starts beside
    /// many containers. In whole numbers: 10 ms of 100 is a little less than a tenth in others.
    const LEAST: u32 = 10;
    /// Seconds of a processor that the verifier takes for the kernel programs, of interfaces and of the
    /// node's own sockets. Nothing is answered until they are paid for.
    const LOADING: f64 = 0.1;
    match quota {
        None => Line::new(WHAT, Fine, "none here", ""),
        Some(quota) if quota.time * LEAST < quota.period => {
            let found = format!(
                "{quota}: too little to answer probes in time; to load the kernel programs takes some {:.0} s",
                LOADING / quota.cpus()
            );
            Line::new(WHAT, FallsBack, found, "give it a tenth of a CPU or more (CPUQuota=10%, cpu: 100m)")
        }
        Some(quota) => Line::new(WHAT, Fine, format!("{quota}; background work is paced to a share of it"), ""),
    }
}

/// Two for each attached namespace, four with TCX.
fn descriptors() -> Line {
    const EACH: u64 = 4;
    const FEW: u64 = 2048;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        // The agent takes what the hard limit allows.
        Ok((_, hard)) if hard < FEW => {
            let remedy = format!("raise it (LimitNOFILE=) to {FEW} or more");
            Line::new("descriptors", FallsBack, format!("{hard}: enough for some {} namespaces", hard / EACH), remedy)
        }
        Ok((_, hard)) => Line::new("descriptors", Fine, format!("{hard}"), ""),
        Err(error) => Line::new("descriptors", FallsBack, error.to_string(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_too_tight_is_told_with_what_it_does_to_a_start() {
        let line = |hundredths| {
            let time = Duration::from_millis(hundredths);
            quota(Some(Quota { time, period: Duration::from_millis(100) }))
        };
        assert_eq!([quota(None).verdict, line(10).verdict, line(200).verdict], [Fine; 3]);
        let Line { verdict, found, remedy, .. } = line(5);
        assert_eq!(verdict, FallsBack);
        assert!(
            found.starts_with("0.05 CPUs (5 ms in each 100 ms): too little") && found.contains("some 2 s"),
            "{found}"
        );
        assert!(remedy.contains("CPUQuota=10%"), "{remedy}");
    }

    #[test]
    fn only_a_lockdown_that_keeps_something_from_us_falls_back() {
        let verdict = |file: &str| lockdown(file).map(|line| line.verdict);
        for none in ["", "[none] integrity confidentiality\n", "unexpected"] {
            assert_eq!(verdict(none), None, "{none}");
        }
        assert_eq!(verdict("none [integrity] confidentiality\n"), Some(Fine));
        assert_eq!(verdict("none integrity [confidentiality]\n"), Some(FallsBack));
    }

    #[test]
    fn btf_that_is_there_and_cannot_be_read_is_told_apart_from_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let (none, unreadable) = (btf(&dir.path().join("vmlinux")), btf(dir.path()));
        assert!(none.found.ends_with("/vmlinux is not there") && none.remedy.contains("CONFIG_DEBUG_INFO_BTF"));
        assert!(unreadable.found.contains("Is a directory") && unreadable.remedy.contains("let the agent's account"));
        let file = dir.path().join("btf");
        fs::write(&file, "x").expect("written");
        assert_eq!([none.verdict, unreadable.verdict, btf(&file).verdict], [FallsBack, FallsBack, Fine]);
    }
}
