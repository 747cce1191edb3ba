//! Two namespaces with a veth pair: `pod` has the programs on its end, `peer` is whom it talks to.

use aya_obj::generated::{bpf_attr, bpf_cmd};
use capture_engine::kernel::{Kernel, Programs};
use flow_model::{Direction, Slot};
use netns::Netns;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Bed {
    pod_name: String,
    peer_name: String,
    pub pod: Netns,
    pub peer: Netns,
    bpffs: tempfile::TempDir,
}

pub fn sh(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().expect("sh");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Bed {
    pub fn new() -> Bed {
        assert!(nix::unistd::geteuid().is_root(), "the kernel tests make network namespaces: run them as root");
        let id = format!("pfk-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (pod, peer) = (format!("{id}-pod"), format!("{id}-peer"));
        sh(&format!(
            "ip netns add {pod}; ip netns add {peer}
             ip -n {pod} link add eth0 type veth peer name eth0 netns {peer}
             for at in '{pod} 1' '{peer} 2'; do set -- $at
                 ip -n $1 addr add 10.77.0.$2/24 dev eth0
                 ip -n $1 addr add fd77::$2/64 dev eth0 nodad
                 ip -n $1 link set eth0 up; ip -n $1 link set lo up
             done"
        ));
        let bpffs = tempfile::Builder::new().prefix("pfk-bpffs-").tempdir().expect("a directory");
        let none: Option<&str> = None;
        nix::mount::mount(Some("bpf"), bpffs.path(), Some("bpf"), nix::mount::MsFlags::empty(), none)
            .expect("mount a bpffs");
        let open = |name: &str| Netns::open_path(Path::new("/run/netns").join(name).as_path()).expect("a namespace");
        Bed { pod: open(&pod), peer: open(&peer), pod_name: pod, peer_name: peer, bpffs }
    }

    /// The stubs of `slot` as clsact filters on the pod's interface.
    pub fn attach(&self, kernel: &Kernel, slot: Slot) {
        sh(&format!("tc -n {} qdisc add dev eth0 clsact", self.pod_name));
        for (dir, hook) in [(Direction::Ingress, "ingress"), (Direction::Egress, "egress")] {
            let at = self.pin(&kernel.stub(slot, dir).expect("a stub"), hook);
            sh(&format!("tc -n {} filter add dev eth0 {hook} bpf da object-pinned {}", self.pod_name, at.display()));
        }
    }

    fn pin(&self, program: &OwnedFd, name: &str) -> PathBuf {
        let at = self.bpffs.path().join(name);
        let path = CString::new(at.to_str().expect("a path")).expect("a path");
        // SAFETY: a union of integers; the path outlives the call.
        let result = unsafe {
            let mut attr: bpf_attr = std::mem::zeroed();
            attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
            attr.__bindgen_anon_4.bpf_fd = program.as_raw_fd() as u32;
            libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_OBJ_PIN as libc::c_int, &raw mut attr, size_of::<bpf_attr>())
        };
        assert_eq!(result, 0, "pin at {}: {}", at.display(), std::io::Error::last_os_error());
        at
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.bpffs.path(), nix::mount::MntFlags::MNT_DETACH);
        for name in [&self.pod_name, &self.peer_name] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}
