//! Whose a process is, by its cgroup and its name: a container, a service of the node, or itself.

use crate::Subject;

/// Length of a container's id as containerd, CRI-O and Docker make them.
const ID: usize = 64;
/// Of an id, that people read.
const SHORT: usize = 12;

/// `cgroup` and `comm` are the files of that name in `/proc/<pid>`.
pub fn subject(cgroup: &str, comm: &str) -> Subject {
    let of =
        |kind: &str, name: &str| Subject { namespace: String::new(), kind: kind.to_owned(), name: name.to_owned() };
    if let Some(id) = container(cgroup) {
        return of("Container", id.get(..SHORT).unwrap_or(id));
    }
    match parts(cgroup).filter_map(|part| part.strip_suffix(".service")).next_back() {
        Some(unit) => of("Service", unit),
        None => of("Process", comm.trim()),
    }
}

fn parts(cgroup: &str) -> impl DoubleEndedIterator<Item = &str> {
    let paths: Vec<&str> = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    paths.into_iter().flat_map(|path| path.split('/')).collect::<Vec<_>>().into_iter()
}

/// The id, bare or as the runtimes dress it: `cri-containerd-<id>.scope`, `...:cri-containerd:<id>`.
fn container(cgroup: &str) -> Option<&str> {
    parts(cgroup).find_map(|part| {
        let dressed = part.strip_suffix(".scope").unwrap_or(part);
        let id = dressed.rsplit(['-', ':']).next()?;
        (id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_by_its_id_and_what_is_none_by_its_unit_or_itself() {
        let id = "8a3c5f".repeat(10) + "abcd";
        let told = |cgroup: &str| {
            let Subject { namespace, kind, name } = subject(cgroup, "etcd\n");
            assert_eq!(namespace, "");
            format!("{kind} {name}")
        };
        for cgroup in [
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"),
            format!("12:cpu:/kubepods/besteffort/pod1/{id}\n0::/\n"),
            format!("0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}\n"),
            format!("0::/docker/{id}\n"),
        ] {
            assert_eq!(told(&cgroup), "Container 8a3c5f8a3c5f", "{cgroup}");
        }
        assert_eq!(told("0::/system.slice/kubelet.service\n"), "Service kubelet");
        assert_eq!(told("0::/user.slice\n"), "Process etcd");
        assert_eq!(told("garbage"), "Process etcd");
    }
}
