//! What is asked of the kernel here and has no safe wrapper.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The direction of a TCX attachment (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tcx {
    Ingress = 46,
    Egress = 47,
}

const BPF_PROG_LOAD: libc::c_long = 5;
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

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Debug, Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// The least that a traffic-control filter can be: a program that lets the next one decide.
pub fn program_that_passes() -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
    // r0 = TC_ACT_UNSPEC (-1); exit
    let instructions: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let licence = c"Dual BSD/GPL";
    let load = Load {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: 2,
        insns: instructions.as_ptr() as u64,
        license: licence.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `load` is as large as said; its pointers are to two instructions, as it says, and to
    // a text that ends with zero, and all of it lives over the call, which writes to none.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    match i32::try_from(fd) {
        // SAFETY: BPF_PROG_LOAD returned a new descriptor, which nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The calling thread runs before all ordinary threads (`SCHED_FIFO` 1), as the agent's do that
/// attach to what is new.
pub fn before_all_others() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: `parameters` is whole and outlives the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
