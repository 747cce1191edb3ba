//! Removing a testbed, by this process or by a later one after a kill -9: everything is found again
//! from the directory and the id, and only processes that belong to that directory are ended.

use crate::network::{NETNS_DIR, ip};
use crate::process::start_time;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PREFIX: &str = "pft";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Held by the process that owns a testbed's directory; the kernel lets go of it when that process
/// ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held, never read")] File);

/// One for root and one for each other user, who has no rights in root's.
pub(crate) fn base() -> PathBuf {
    let user = nix::unistd::geteuid();
    let name = if user.is_root() { "pilotfish-testbed".to_owned() } else { format!("pilotfish-testbed-{user}") };
    std::env::temp_dir().join(name)
}

/// Held while a directory is made or looked at, so that a sweep does not find one before it is locked.
pub(crate) fn making() -> Result<Lock> {
    fs::create_dir_all(base())?;
    let lock = File::create(base().join("making"))?;
    lock.lock().context("lock the directory of testbeds")?;
    Ok(Lock(lock))
}

pub(crate) fn new_directory() -> Result<(String, PathBuf, Lock)> {
    let base = base();
    fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
    let _making = making()?;
    for n in 0..1000 {
        let id = format!("{PREFIX}{:x}-{n}", std::process::id());
        let dir = base.join(&id);
        match fs::create_dir(&dir) {
            Ok(()) => {
                let lock = locked(&dir)?;
                return Ok((id, dir, lock));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("create {}", dir.display())),
        }
    }
    bail!("no free name in {}", base.display())
}

/// A directory that `sweep` does not look at: its name is not one of those that are counted up.
pub(crate) fn named_directory(id: &str) -> Result<(PathBuf, Lock)> {
    let dir = base().join(id);
    let _making = making()?;
    fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
    let lock = locked(&dir)?;
    Ok((dir, lock))
}

fn locked(dir: &Path) -> Result<Lock> {
    let lock = File::create(dir.join("lock"))?;
    lock.try_lock().context("lock a directory that was just made")?;
    Ok(Lock(lock))
}

pub(crate) fn record_process(dir: &Path, pid: u32) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(dir.join("processes"))?;
    let started = start_time(pid).unwrap_or_default();
    writeln!(file, "{pid} {started}").context("record a process")
}

/// Removes what runs left behind whose process is gone. Returns their ids.
pub fn sweep() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    let Ok(entries) = fs::read_dir(base()) else { return Ok(swept) };
    let _making = making()?;
    for entry in entries.flatten() {
        let (dir, id) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if !id.starts_with(PREFIX) {
            continue;
        }
        // No lock file: killed between two of its first lines, nothing else was made yet. A file
        // that is locked has a living owner.
        let lock = File::open(dir.join("lock"));
        if lock.as_ref().is_ok_and(|file| file.try_lock().is_err()) {
            continue;
        }
        remove(&id, &dir)?;
        swept.push(id);
    }
    Ok(swept)
}

/// Ends its processes, deletes its namespaces, cgroups, mounts and files. May be called again.
pub(crate) fn remove(id: &str, dir: &Path) -> Result<()> {
    for pid in recorded(dir) {
        end(pid);
    }
    for pid in with_argument(dir, CONFIG) {
        end(pid);
    }
    // Their shims make them, and name them nowhere else.
    let cgroups = cgroups_of_pods(dir);
    // A shim is ended after its container's first process, so that it reaps it; with that process,
    // its whole pid namespace ends.
    for shim in with_argument(dir, SOCKET) {
        for child in children_of(shim) {
            end(child);
        }
        until("containers end", Duration::from_secs(10), || children_of(shim).is_empty()).ok();
        end(shim);
    }
    let patience = Duration::from_secs(10);
    wait_gone("processes of the testbed end", patience, || processes_of(dir));
    for socket in shim_sockets(dir) {
        fs::remove_file(socket).ok();
    }
    for name in netns_of(id) {
        ip(&["netns", "del", &name]).ok();
    }
    for mount in mounts_below(dir) {
        umount2(&mount, MntFlags::MNT_DETACH).ok();
    }
    wait_gone("cgroups become empty", patience, || {
        let ours = cgroups.iter().filter(|cgroup| cgroup.exists()).cloned().chain(cgroups_of(id));
        ours.filter(|cgroup| fs::remove_dir(cgroup).is_err()).collect()
    });
    // Their parent is everybody's: only what is empty can be removed.
    for parent in cgroups.iter().filter_map(|cgroup| cgroup.parent()) {
        fs::remove_dir(parent).ok();
    }
    // A namespace ends, and its links with it, a moment after its last user.
    wait_gone("links end", patience, || links_named(id));
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

/// As `until`, but not cut short by a signal: what is removed after a Ctrl-C is removed in full.
fn wait_gone<T>(_what: &str, patience: Duration, rest: impl Fn() -> Vec<T>) {
    let started = std::time::Instant::now();
    while !rest().is_empty() && started.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is still there of a testbed, in words.
#[must_use]
pub fn leftovers(id: &str, dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    found.extend(processes_of(dir).into_iter().map(|pid| format!("process {pid}")));
    found.extend(netns_of(id).into_iter().map(|name| format!("network namespace {name}")));
    found.extend(mounts_below(dir).into_iter().map(|mount| format!("mount {}", mount.display())));
    found.extend(cgroups_of(id).into_iter().map(|cgroup| format!("cgroup {}", cgroup.display())));
    found.extend(links_named(id).into_iter().map(|link| format!("link {link}")));
    if dir.exists() {
        found.push(format!("directory {}", dir.display()));
    }
    found
}

fn end(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}

/// Recorded processes that are still the same ones: a pid is reused, a pid with its start time is not.
fn recorded(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("processes")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (pid, started) = line.split_once(' ')?;
            let pid = pid.parse().ok()?;
            (start_time(pid)? == started.parse::<u64>().ok()?).then_some(pid)
        })
        .collect()
}

pub(crate) fn processes_of(dir: &Path) -> Vec<u32> {
    let mut all = recorded(dir);
    all.extend(with_argument(dir, CONFIG));
    all.extend(with_argument(dir, SOCKET));
    all
}

/// What a containerd, and what each of its shims, has among its arguments: in the testbed's
/// directory, or in that of one of its nodes.
const CONFIG: &str = "containerd.toml";
const SOCKET: &str = "containerd.sock";

fn all_processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// containerd or shim processes that were started with a path below `dir` that ends so as one of their arguments.
fn with_argument(dir: &Path, name: &str) -> Vec<u32> {
    let is_ours = |word: &[u8]| {
        let path = Path::new(OsStr::from_bytes(word));
        path.starts_with(dir) && path.file_name().is_some_and(|last| last == name)
    };
    all_processes()
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.next().is_some_and(|program| String::from_utf8_lossy(program).contains("containerd"))
                && words.any(is_ours)
                && start_time(*pid).is_some()
        })
        .collect()
}

fn children_of(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|task| {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// Sockets of shims are outside containerd's state directory; each task's directory names its own.
fn shim_sockets(dir: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let tasks = below.chain([dir.to_owned()]).map(|containerd| containerd.join("state/io.containerd.runtime.v2.task"));
    let namespaces = tasks.flat_map(|tasks| fs::read_dir(tasks).into_iter().flatten().flatten());
    namespaces
        .flat_map(|namespace| fs::read_dir(namespace.path()).into_iter().flatten().flatten())
        .filter_map(|task| fs::read_to_string(task.path().join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

fn netns_of(id: &str) -> Vec<String> {
    let prefix = format!("{id}-");
    fs::read_dir(NETNS_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// Deepest first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(4).map(PathBuf::from))
        .filter(|mount| mount.starts_with(dir))
        .collect();
    mounts.sort();
    mounts.reverse();
    mounts
}

/// The testbed's cgroups in every hierarchy (v1, hybrid or v2), deepest first.
fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    let tops = hierarchies.chain([PathBuf::from(CGROUPS)]).map(|root| root.join(id)).filter(|top| top.is_dir());
    let mut all = Vec::new();
    for top in tops {
        all.extend(fs::read_dir(&top).into_iter().flatten().flatten().map(|e| e.path()).filter(|path| path.is_dir()));
        all.push(top);
    }
    all
}

/// cgroups of the containers that CRI started on the nodes of a cluster: `/k8s.io/<id>`, beside
/// those of everybody else's pods. Deepest first.
fn cgroups_of_pods(dir: &Path) -> Vec<PathBuf> {
    let nodes = fs::read_dir(dir).into_iter().flatten().flatten();
    let tasks = nodes.map(|node| node.path().join("state/io.containerd.runtime.v2.task/k8s.io"));
    let ids = tasks.flat_map(|tasks| fs::read_dir(tasks).into_iter().flatten().flatten().map(|task| task.file_name()));
    let ids: Vec<_> = ids.collect();
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    let parents: Vec<PathBuf> = hierarchies.chain([PathBuf::from(CGROUPS)]).map(|root| root.join("k8s.io")).collect();
    parents
        .iter()
        .flat_map(|parent| ids.iter().map(move |id| parent.join(id)))
        .filter(|cgroup| cgroup.is_dir())
        .collect()
}

/// Links of the machine's own namespace with the id in their name; a testbed makes none, a cluster with nodes one.
fn links_named(id: &str) -> Vec<String> {
    fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(id))
        .collect()
}
