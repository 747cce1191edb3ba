//! Raw `bpf()` for an iterator of bare instructions: load, link, open a pass. And what a process does
//! without that only reads: descriptors and capabilities. And how the clock is kept.

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_ITER: u32 = 28;
const NAME: &[u8; 16] = b"pilotfish_socks\0";
/// The helpers that the program calls are for GPL programs; its source has this license, too.
const LICENSE: &[u8; 4] = b"GPL\0";

/// `BPF_PROG_LOAD` of `union bpf_attr`, up to `attach_prog_fd`.
#[derive(Default)]
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    core_relo_cnt: u32,
}

/// `link_create` without options.
#[derive(Default)]
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// A file whose reading runs `instructions` (8 bytes each) for every item of the iterator that the
/// kernel's BTF has as function `attach_to`.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_PERFMON, EINVAL or EACCES where the verifier refuses.
pub fn iterator(instructions: &[u8], attach_to: u32) -> Result<OwnedFd, Errno> {
    let count = u32::try_from(instructions.len() / 8).map_err(|_| Errno::E2BIG)?;
    let program = load(&ProgLoad {
        prog_type: BPF_PROG_TYPE_TRACING,
        insn_cnt: count,
        insns: instructions.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        prog_name: *NAME,
        expected_attach_type: BPF_TRACE_ITER,
        attach_btf_id: attach_to,
        ..ProgLoad::default()
    })?;
    let fd = |of: &OwnedFd| of.as_fd().as_raw_fd().cast_unsigned();
    let link = bpf(
        BPF_LINK_CREATE,
        &LinkCreate { prog_fd: fd(&program), attach_type: BPF_TRACE_ITER, ..LinkCreate::default() },
    )?;
    // The pass keeps the link, and the link the program.
    bpf(BPF_ITER_CREATE, &IterCreate { link_fd: fd(&link), flags: 0 })
}

/// The verifier gives up with `EAGAIN` when a signal is pending for the thread, which stop and
/// continue are, too (`do_check` in kernel/bpf/verifier.c). 16 attempts: several signals a second
/// would have to arrive to use them up.
fn load(program: &ProgLoad) -> Result<OwnedFd, Errno> {
    for _ in 1..16 {
        match bpf(BPF_PROG_LOAD, program) {
            Err(Errno::EAGAIN) => {}
            loaded => return loaded,
        }
    }
    bpf(BPF_PROG_LOAD, program)
}

/// A command that answers with a new descriptor.
fn bpf<T>(command: libc::c_long, attr: &T) -> Result<OwnedFd, Errno> {
    // SAFETY: `attr` is a `repr(C)` struct without padding that starts as the kernel's union for
    // `command` does, and outlives the call; what it points to (instructions, license) is borrowed
    // by the caller until then. The kernel only reads it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    let fd = Errno::result(result).and_then(|fd| i32::try_from(fd).map_err(|_| Errno::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// To see processes of other users where `/proc` is mounted with `hidepid` (linux/capability.h).
pub(crate) const CAP_SYS_PTRACE: u32 = 19;
/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`; the process itself is 0.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Closes every descriptor that the process has besides standard input, output and error. Before
/// Linux 5.9, which has no such call, those stay that were inherited: none of ours, which are all
/// closed by the start of a program.
pub(crate) fn close_above_standard_error() {
    // SAFETY: no descriptor above 2 is owned by anything in this process yet: it has just begun, and
    // its caller has opened nothing.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// Gives away all capabilities but this one, which it need not have.
///
/// # Errors
/// The kernel refuses, which it has no reason to.
pub(crate) fn keep_only(capability: u32) -> Result<(), Errno> {
    let header = CapHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: the header is as the kernel has it, and `data` has room for the two entries that this
    // version fills; both outlive the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let [low, _] = data;
    let kept = low.permitted & (1 << capability);
    let data = [CapData { effective: kept, permitted: kept, inheritable: 0 }, CapData::default()];
    // SAFETY: as above; the kernel only reads both.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Of `struct timex`, what is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timex {
    pub status: i32,
    pub max_error_us: i64,
    /// Microseconds, or nanoseconds where the status says so.
    pub offset: i64,
}

/// Asks and sets nothing.
///
/// # Errors
/// As the kernel has it.
pub(crate) fn adjtimex() -> Result<Timex, Errno> {
    // SAFETY: `timex` is a struct of integers, for which zeros are values; without `modes` nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: it is the struct that this call fills, and outlives it.
    Errno::result(unsafe { libc::adjtimex(&raw mut timex) })?;
    Ok(Timex { status: timex.status, max_error_us: timex.maxerror, offset: timex.offset })
}
