//! One question of the kernel that has no safe wrapper here.

use std::io;

/// The direction of a TCX attachment (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tcx {
    Ingress = 46,
    Egress = 47,
}

const BPF_PROG_QUERY: libc::c_long = 16;

/// The `query` member of `union bpf_attr`, with room for what later kernels added behind.
#[repr(C)]
#[derive(Debug, Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    _pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Ids of the programs attached by TCX to an interface of the calling thread's network namespace. A
/// kernel before 6.6 has none.
pub fn tcx_programs(ifindex: u32, direction: Tcx) -> io::Result<Vec<u32>> {
    // BPF_MPROG_MAX is 64: more cannot be attached.
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: direction as u32,
        prog_ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    // SAFETY: `query` is as large as said, lives over the call, and its only pointer is to `ids`,
    // which has room for `count` numbers.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if answer == 0 {
        return Ok(ids.into_iter().take(query.count as usize).collect());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
        error => Err(error),
    }
}
