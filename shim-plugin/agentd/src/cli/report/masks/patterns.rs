//! What is a name by its shape, whoever knows it: addresses, hosts, ids.

use super::kind::{Kind, PLAIN, is_word};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Words behind the last dot of what is a file or one of ours, and no host.
const ENDINGS: [&str; 32] = [
    "c",
    "conf",
    "controllers",
    "crt",
    "current",
    "d",
    "db",
    "events",
    "gz",
    "h",
    "high",
    "json",
    "key",
    "log",
    "low",
    "max",
    "md",
    "mount",
    "o",
    "pem",
    "pid",
    "procs",
    "rs",
    "scope",
    "slice",
    "so",
    "sock",
    "stat",
    "toml",
    "txt",
    "yaml",
    "yml",
];
/// Words before the first dot of a sysctl or of a key of the configuration.
const BEGINNINGS: [&str; 15] = [
    "admin",
    "attach",
    "capture",
    "companion",
    "containerd",
    "debug",
    "fs",
    "kernel",
    "kubernetes",
    "log",
    "metrics",
    "net",
    "scan",
    "user",
    "vm",
];
/// Units that say nothing of the node's owner.
const UNITS: [&str; 6] = [
    "containerd.service",
    "docker.service",
    "k3s.service",
    "k3s-agent.service",
    "kubelet.service",
    "pilotfish.service",
];
/// An id that is shortened for people has as many digits.
const SHORT_ID: usize = 12;
/// Characters between the words of a name.
const BETWEEN: [char; 3] = ['.', '_', '-'];
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// What begins at `rest` (its bytes, and of what kind), if it is any of these. `done` is the text
/// before it.
pub fn at(done: &str, rest: &str) -> Option<(usize, Kind)> {
    let first = *rest.as_bytes().first()?;
    let before = done.chars().next_back();
    // Names of cgroups have a pod's id right behind the word "pod".
    let begins = before.is_none_or(|c| !c.is_ascii_hexdigit() || c == 'd');
    if begins
        && first.is_ascii_hexdigit()
        && let Some(bytes) = uuid(rest).or_else(|| long_id(rest))
    {
        return Some((bytes, Kind::Id));
    }
    if before.is_some_and(is_word) || before == Some(':') && first == b':' {
        return None;
    }
    if first.is_ascii_hexdigit() || rest.starts_with("::") {
        let run = run_of(rest, |byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
        if let Some(found) = ipv6_or_mac(run) {
            return found;
        }
    }
    if !first.is_ascii_alphanumeric() {
        return None;
    }
    let run = run_of(rest, |byte| byte.is_ascii_alphanumeric() || BETWEEN.contains(&char::from(byte)));
    let run = run.trim_end_matches(BETWEEN);
    let follows = rest.get(run.len()..).unwrap_or_default();
    // What is within a longer word was looked at with it.
    let is_within =
        done.trim_end_matches(BETWEEN).len() < done.len() && done.trim_end_matches(BETWEEN).ends_with(is_word);
    let whole = if is_within { None } else { host(run).or_else(|| with_port(run, follows)) };
    whole.or_else(|| ipv4(run)).or_else(|| short_id(run))
}

fn run_of(rest: &str, is_of_it: impl Fn(u8) -> bool) -> &str {
    let length = rest.bytes().position(|byte| !is_of_it(byte)).unwrap_or(rest.len());
    rest.get(..length).unwrap_or_default()
}

/// Eight, four, four, four and twelve digits, with the same dash or underscore between them.
fn uuid(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let between = *bytes.get(UUID[0])?;
    if between != b'-' && between != b'_' {
        return None;
    }
    let mut at = 0;
    for (group, digits) in UUID.into_iter().enumerate() {
        if group > 0 {
            if bytes.get(at) != Some(&between) {
                return None;
            }
            at += 1;
        }
        if !bytes.get(at..at + digits)?.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// A container's id in full, or a digest.
fn long_id(rest: &str) -> Option<usize> {
    let digits = run_of(rest, |byte| byte.is_ascii_hexdigit()).len();
    (digits >= 64).then_some(digits)
}

/// A word of twelve and more lower-case digits of which some are letters and some are none.
fn short_id(run: &str) -> Option<(usize, Kind)> {
    let word = run_of(run, |byte| byte.is_ascii_alphanumeric());
    let all = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let both = word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    (word.len() >= SHORT_ID && all && both).then_some((word.len(), Kind::Id))
}

/// None where it is neither; Some(None) where it is one that tells nothing.
fn ipv6_or_mac(run: &str) -> Option<Option<(usize, Kind)>> {
    if run.bytes().filter(|byte| *byte == b':').count() < 2 {
        return None;
    }
    let mac = run.split(':').count() == 6 && run.split(':').all(|pair| pair.len() == 2 && !pair.contains('.'));
    if mac {
        return Some(Some((run.len(), Kind::Address)));
    }
    // A sentence may go on behind it.
    let mut text = run;
    let ip: Ipv6Addr = loop {
        match text.parse() {
            Ok(ip) => break ip,
            Err(_) => text = text.strip_suffix(['.', ':'])?,
        }
    };
    Some((!is_plain(IpAddr::V6(ip))).then_some((text.len(), Kind::Address)))
}

/// The name of a host, or a unit.
fn host(run: &str) -> Option<(usize, Kind)> {
    let (_, last) = run.rsplit_once('.')?;
    let first = run.split('.').next().unwrap_or_default();
    let is_host = last.len() >= 2 && last.bytes().all(|byte| byte.is_ascii_alphabetic());
    let tells = [ENDINGS.contains(&last), BEGINNINGS.contains(&first), UNITS.contains(&run), PLAIN.contains(&run)];
    (is_host && tells == [false; 4]).then_some((run.len(), Kind::Host))
}

/// Four numbers at the beginning.
fn ipv4(run: &str) -> Option<(usize, Kind)> {
    let digits = run_of(run, |byte| byte.is_ascii_digit() || byte == b'.').trim_end_matches('.');
    let ip: Ipv4Addr = digits.parse().ok()?;
    (!is_plain(IpAddr::V4(ip))).then_some((digits.len(), Kind::Address))
}

/// `host:8080`.
fn with_port(run: &str, follows: &str) -> Option<(usize, Kind)> {
    let port = run_of(follows.strip_prefix(':')?, |byte| byte.is_ascii_digit());
    let is_host = run.starts_with(|c: char| c.is_ascii_alphabetic())
        && !run.contains('.')
        && (2..=5).contains(&port.len())
        && !PLAIN.contains(&run);
    is_host.then_some((run.len(), Kind::Host))
}

/// The node's own, or none at all.
fn is_plain(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}
