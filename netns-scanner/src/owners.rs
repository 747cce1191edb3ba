//! Who holds a socket of the node: a container by the name of its cgroup, a unit of systemd, or a
//! process by its own name. Two small files are read for each process that is asked about, with a
//! deadline each; nothing is walked.

use crate::deadline::{Deadlines, PATIENCE};
use crate::socket::{Socket, SocketState};
use flow_model::Endpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Processes asked about in one look. A node runs some tens that have sockets in its own namespace;
/// each costs some 20 us.
const PROCESSES: usize = 2048;

/// A socket of the node's own namespace and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owned {
    /// The socket's own end. For a listening one the address may be unspecified; the port is never
    /// 0.
    pub local: Endpoint,
    /// In state LISTEN; otherwise it is an open connection.
    pub listening: bool,
    /// Of one process that holds it; several give an entry each.
    pub owner: Owner,
}

/// Who holds a socket, as exactly as `/proc/<pid>/cgroup` and `comm` tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Id of a container that was asked about.
    Container(String),
    /// A unit without its suffix, or the name of a process.
    Process(String),
}

/// Owners of TCP sockets. `containers` are the ids that are known to share the node's namespace.
/// Reads `/proc`: not on a thread that others wait for.
#[must_use]
pub fn read(sockets: &[Socket], containers: &BTreeSet<String>, proc: &Path, deadlines: &Deadlines) -> Vec<Owned> {
    let mut by_process: BTreeMap<u32, Vec<&Socket>> = BTreeMap::new();
    let named = |socket: &&Socket| {
        matches!(socket.state, SocketState::Open | SocketState::Listening)
            && socket.pid != 0
            && socket.tuple.local.port != 0
    };
    for socket in sockets.iter().filter(named) {
        by_process.entry(socket.pid).or_default().push(socket);
    }
    let mut out = BTreeSet::new();
    for (pid, sockets) in by_process.into_iter().take(PROCESSES) {
        let Some(owner) = owner_of(pid, containers, proc, deadlines) else { continue };
        out.extend(sockets.iter().map(|socket| Owned {
            local: socket.tuple.local,
            listening: socket.state == SocketState::Listening,
            owner: owner.clone(),
        }));
    }
    out.into_iter().collect()
}

/// None when the process is gone, or its files are late.
fn owner_of(pid: u32, containers: &BTreeSet<String>, proc: &Path, deadlines: &Deadlines) -> Option<Owner> {
    let directory = proc.join(pid.to_string());
    let text = |name: &str| deadlines.text("owner", &directory.join(name), PATIENCE).ok()?.ok();
    let cgroup = text("cgroup")?;
    if let Some(container) = container_in(&cgroup, containers) {
        return Some(Owner::Container(container));
    }
    let command = text("comm").map(|comm| comm.trim().to_owned()).unwrap_or_default();
    named(unit_in(&cgroup), &command).map(Owner::Process)
}

/// The unit's name, unless the process has a longer form of it (k3s.service runs k3s-server).
fn named(unit: Option<&str>, command: &str) -> Option<String> {
    match unit {
        Some(unit) if command.starts_with(unit) => Some(command.to_owned()),
        Some(unit) => Some(unit.to_owned()),
        None => (!command.is_empty()).then(|| command.to_owned()),
    }
}

/// `/proc/<pid>/cgroup`: a line `number:controllers:path` for each hierarchy.
fn paths(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

/// A part of a path that is a known container's id, bare or as the runtimes dress it (`cri-containerd-<id>.scope`).
fn container_in(cgroup: &str, containers: &BTreeSet<String>) -> Option<String> {
    let parts = paths(cgroup).flat_map(|path| path.split('/'));
    let bare = |part: &str| -> Option<String> {
        let dressed = part.strip_suffix(".scope").unwrap_or(part);
        // systemd's driver separates prefix and id by a dash, CRI's path by a colon.
        let ids =
            [Some(dressed), dressed.rsplit_once('-').map(|(_, id)| id), dressed.rsplit_once(':').map(|(_, id)| id)];
        ids.into_iter().flatten().find(|id| containers.contains(*id)).map(str::to_owned)
    };
    parts.filter(|part| !part.is_empty()).find_map(bare)
}

/// A service's name, or a longer form of it by which its first process goes.
#[must_use]
pub fn name_of_service(unit: &str, command: &str) -> String {
    named(Some(unit), command.trim()).unwrap_or_else(|| unit.to_owned())
}

fn unit_in(cgroup: &str) -> Option<&str> {
    paths(cgroup).flat_map(|path| path.split('/')).filter_map(|part| part.strip_suffix(".service")).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::{FiveTuple, Transport};
    use std::fs;
    use std::time::Duration;

    const ID: &str = "8a3c5f";

    fn owner(cgroup: &str, comm: &str) -> Option<Owner> {
        let known = BTreeSet::from([ID.to_owned(), "my-web".to_owned()]);
        match container_in(cgroup, &known) {
            Some(id) => Some(Owner::Container(id)),
            None => named(unit_in(cgroup), comm).map(Owner::Process),
        }
    }

    #[test]
    fn a_container_is_told_by_the_name_of_its_cgroup() {
        for cgroup in [
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-8a3c5f.scope\n",
            "12:cpu:/kubepods/besteffort/pod1/8a3c5f\n0::/\n",
            "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:8a3c5f\n",
        ] {
            assert_eq!(owner(cgroup, "etcd"), Some(Owner::Container(ID.to_owned())), "{cgroup}");
        }
        assert_eq!(owner("0::/default/my-web\n", "nginx"), Some(Owner::Container("my-web".to_owned())));
    }

    #[test]
    fn what_is_no_container_is_named_by_its_unit_or_by_itself() {
        let process = |name: &str| Some(Owner::Process(name.to_owned()));
        assert_eq!(owner("0::/system.slice/kubelet.service\n", "kubelet"), process("kubelet"));
        assert_eq!(owner("0::/system.slice/k3s.service\n", "k3s-server"), process("k3s-server"));
        assert_eq!(owner("0::/system.slice/ssh.service\n", "(other)"), process("ssh"));
        assert_eq!(owner("1:name=systemd:/\n0::/\n", "python3"), process("python3"));
        assert_eq!(owner("garbage", ""), None);
    }

    #[test]
    fn a_file_that_hangs_leaves_one_process_unnamed_and_is_counted() {
        let proc = tempfile::tempdir().expect("temporary directory");
        for (pid, comm) in [("7", "etcd"), ("8", "sshd")] {
            let directory = proc.path().join(pid);
            fs::create_dir(&directory).expect("directory");
            fs::write(directory.join("comm"), comm).expect("file");
            fs::write(directory.join("cgroup"), "0::/\n").expect("file");
        }
        // Opening a FIFO that nobody writes to hangs like a file of a file system that does not answer.
        let fifo = proc.path().join("7/cgroup");
        fs::remove_file(&fifo).expect("file");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("FIFO");
        let socket = |pid, port| Socket {
            netns_ino: 1,
            pid,
            cgroup_id: 0,
            tuple: FiveTuple {
                transport: Transport::Tcp,
                local: Endpoint { ip: "0.0.0.0".parse().expect("address"), port },
                remote: Endpoint { ip: "0.0.0.0".parse().expect("address"), port: 0 },
            },
            state: SocketState::Listening,
            waiting: 0,
            v6only: false,
            accepted: None,
        };
        let deadlines = Deadlines::default();
        let owned = read(&[socket(7, 2379), socket(8, 22)], &BTreeSet::new(), proc.path(), &deadlines);
        let names: Vec<(u16, Owner)> = owned.into_iter().map(|owned| (owned.local.port, owned.owner)).collect();
        assert_eq!(names, [(22, Owner::Process("sshd".to_owned()))]);
        assert_eq!(deadlines.late_reads().get("owner"), Some(&1));
        // Lets the thread end that hangs there.
        let _ = deadlines.read("test", "the other end", Duration::from_secs(60), move || {
            drop(fs::OpenOptions::new().write(true).open(fifo));
        });
    }
}
